//! How memcached is started.

use std::process::Command;

use super::Server;

pub(super) fn command(server: &Server) -> Command {
    let mut command = Command::new("memcached");
    // As root it wants to be told whom to become; it is as harmless as we are.
    command.args(["-l", "127.0.0.1", "-u", "root", "-m", "64", "-p", &server.port.to_string()]);
    command
}
