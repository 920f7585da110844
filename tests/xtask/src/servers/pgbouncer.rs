//! How a pgbouncer in front of a PostgreSQL of its own is started: it lends connections by the transaction.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Server, postgresql};
use crate::Result;

/// Debian keeps it out of the PATH of ordinary users.
const PROGRAM: &str = "/usr/sbin/pgbouncer";
/// Connections to a database: fewer than all tests together have, so they share them.
const POOL_SIZE: u32 = 10;

pub(super) fn is_installed() -> bool {
    Path::new(PROGRAM).exists() && postgresql::is_installed()
}

pub(super) fn command(server: &Server) -> Result<Command> {
    let behind = server.behind.as_ref().ok_or("there is no PostgreSQL behind it")?;
    let (users, settings) = (server.folder.join("users.txt"), server.folder.join("pgbouncer.ini"));
    let text = format!(
        "[databases]\n\
         * = host=127.0.0.1 port={}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {}\n\
         pool_mode = transaction\n\
         default_pool_size = {POOL_SIZE}\n\
         max_client_conn = 1000\n",
        behind.port,
        server.port,
        users.display(),
    );
    let write =
        |file: &Path, text: &str| fs::write(file, text).map_err(|error| format!("write {}: {error}", file.display()));
    write(&users, &format!("\"{}\" \"{}\"\n", postgresql::USER, postgresql::PASSWORD))?;
    write(&settings, &text)?;
    let mut command = postgresql::as_its_user(Path::new(PROGRAM));
    command.arg(&settings);
    Ok(command)
}
