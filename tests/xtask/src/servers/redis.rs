//! How Redis is started.

use std::process::Command;

use super::Server;

pub(super) fn command(server: &Server) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &server.port.to_string()]).arg("--dir").arg(&server.folder);
    command
}
