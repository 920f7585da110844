//! How Redis is started, with TLS or without.

use std::process::Command;

use super::Server;
use crate::Result;
use crate::certificates;

pub(super) fn command(server: &Server) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &server.port.to_string()]).arg("--dir").arg(&server.folder);
    command
}

/// One that speaks TLS and nothing else, to whoever has a certificate or has none. An option may change that
/// (`--tls-auth-clients yes`).
pub(super) fn command_tls(server: &Server) -> Result<Command> {
    let certificates = certificates::obtain()?;
    let mut command = command(server);
    command.args(["--port", "0", "--tls-port", &server.port.to_string(), "--tls-auth-clients", "optional"]);
    command.arg("--tls-ca-cert-file").arg(certificates.join("ca.pem"));
    command.arg("--tls-cert-file").arg(certificates.join("server.pem"));
    command.arg("--tls-key-file").arg(certificates.join("server.key"));
    Ok(command)
}

/// With all that a client has to know, as Celery wants it.
pub(super) fn url_tls(server: &Server) -> String {
    let certificates = certificates::obtain().unwrap_or_default();
    let ca = certificates.join("ca.pem");
    format!("rediss://127.0.0.1:{}/0?ssl_cert_reqs=required&ssl_ca_certs={}", server.port, ca.display())
}
