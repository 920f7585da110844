//! How the emulator of SQS is started: moto's server, from PyPI.

use std::process::Command;

use super::Server;
use crate::Result;
use crate::certificates;
use crate::debian::Installed;
use crate::python::{self, Packages, Python};

/// Starts moto, of which one request at a time is served.
const PROGRAM: &str = include_str!("../../../fixtures/sqs_server.py");

const REQUIREMENTS: &str = include_str!("../../../fixtures/requirements-moto.txt");

const PACKAGES: Packages = Packages { name: "moto", requirements: REQUIREMENTS, probe: "import moto.server" };

pub(super) fn fetch() -> Result<Installed> {
    Ok(match python::obtain_with(&PACKAGES)? {
        Python::Ready(_) => Installed::Yes,
        Python::Missing(reason) => Installed::No(reason),
    })
}

pub(super) fn command(server: &Server) -> Result<Command> {
    let interpreter = match python::obtain_with(&PACKAGES)? {
        Python::Ready(interpreter) => interpreter,
        Python::Missing(reason) => return Err(reason),
    };
    let mut command = Command::new(interpreter);
    command.args(["-c", PROGRAM, "-H", "127.0.0.1", "-p", &server.port.to_string()]);
    Ok(command)
}

/// One that speaks TLS and nothing else.
pub(super) fn command_tls(server: &Server) -> Result<Command> {
    let certificates = certificates::obtain()?;
    let mut command = command(server)?;
    command.arg("-c").arg(certificates.join("server.pem")).arg("-k").arg(certificates.join("server.key"));
    Ok(command)
}
