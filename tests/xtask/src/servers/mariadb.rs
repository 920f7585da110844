//! How MariaDB is started.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use super::{Server, reach};
use crate::Result;
use crate::debian;
use crate::python::run;

/// Debian keeps it out of the PATH of ordinary users.
const PROGRAM: &str = "/usr/sbin/mariadbd";
const USER: &str = "taskhost";
const PASSWORD: &str = "secret";
const DATABASE: &str = "celery";

pub(super) fn is_installed() -> bool {
    Path::new(PROGRAM).exists() && debian::in_path("mariadb-install-db")
}

pub(super) fn url(server: &Server) -> String {
    format!("db+mysql+pymysql://{USER}:{PASSWORD}@127.0.0.1:{}/{DATABASE}", server.port)
}

pub(super) fn command(server: &Server) -> Result<Command> {
    let data = server.folder.join("data");
    if !data.exists() {
        let mut make = Command::new("mariadb-install-db");
        make.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        run(make.arg(user()).arg(option("datadir", &data)))?;
    }
    let first = server.folder.join("first.sql");
    let statements = format!(
        "CREATE DATABASE IF NOT EXISTS {DATABASE};\n\
         CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON *.* TO '{USER}'@'%';\n"
    );
    fs::write(&first, statements).map_err(|error| format!("write {}: {error}", first.display()))?;
    let mut command = Command::new(PROGRAM);
    command.arg("--no-defaults").arg(user()).arg(option("datadir", &data)).arg(option("init-file", &first));
    command.arg(option("socket", &server.folder.join("socket"))).arg(option("pid-file", &server.folder.join("pid")));
    command.args(["--bind-address=127.0.0.1", "--innodb-flush-method=fsync"]).arg(format!("--port={}", server.port));
    Ok(command)
}

/// True if it greets: it speaks first.
pub(super) fn answers(port: u16) -> bool {
    let Some(mut stream) = reach(port) else { return false };
    let mut greeting = [0; 5];
    // Three bytes of length, a number, and the version of the protocol.
    stream.read_exact(&mut greeting).is_ok() && greeting[4] == 10
}

/// It becomes nobody else, since our folder is ours.
fn user() -> &'static str {
    "--user=root"
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
