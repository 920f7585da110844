//! How RabbitMQ is started: with an epmd of its own, so that none is left behind as a daemon.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Server;
use crate::Result;
use crate::certificates;
use crate::debian;
use crate::group::Group;

/// The one on PATH changes to the user `rabbitmq`, who cannot write our folder.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

pub(super) fn is_installed() -> bool {
    Path::new(PROGRAMS).join("rabbitmq-server").exists() && debian::in_path("epmd")
}

/// Runs `rabbitmqctl` with these arguments.
pub(super) fn control(server: &Server, arguments: &[String]) -> Result<String> {
    let mut command = Command::new(Path::new(PROGRAMS).join("rabbitmqctl"));
    environment(server, &mut command);
    let output = command.args(["-q", "-n", &node(server)]).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("start rabbitmqctl: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("rabbitmqctl {}: {}{text}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

pub(super) fn command(server: &mut Server) -> Result<Command> {
    if server.epmd.is_none() {
        // Erlang would start this one as a daemon, which outlives us.
        let mut epmd = Command::new("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &server.erlang_ports[1].to_string()]);
        epmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        server.epmd = Some(Group::start(&mut epmd)?);
    }
    let mut command = Command::new(Path::new(PROGRAMS).join("rabbitmq-server"));
    environment(server, &mut command);
    let file = |name: &str| server.folder.join(name);
    command
        .env("RABBITMQ_NODENAME", node(server))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", server.port.to_string())
        .env("RABBITMQ_DIST_PORT", server.erlang_ports[0].to_string())
        .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
        .env("RABBITMQ_LOG_BASE", file("log"))
        .env("RABBITMQ_PID_FILE", file("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced"))
        // Local only, and no spinning while idle, since others need the processor.
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
        );
    Ok(command)
}

/// One that speaks TLS and nothing else, to whoever has a certificate or has none; `lines` are more of its configuration,
/// such as `ssl_options.fail_if_no_peer_cert=true`. Clients may log in with a certificate (EXTERNAL).
pub(super) fn command_tls(server: &mut Server, lines: &[String]) -> Result<Command> {
    let port = server.port;
    let mut command = command(server)?;
    // These would make a listener without TLS.
    command.env_remove("RABBITMQ_NODE_IP_ADDRESS").env_remove("RABBITMQ_NODE_PORT");
    let certificates = certificates::obtain()?;
    let certificates = certificates.display();
    let mut configuration = format!(
        "listeners.tcp = none\n\
         listeners.ssl.default = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {certificates}/ca.pem\n\
         ssl_options.certfile = {certificates}/server.pem\n\
         ssl_options.keyfile = {certificates}/server.key\n\
         ssl_options.verify = verify_peer\n\
         auth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = AMQPLAIN\n\
         auth_mechanisms.3 = EXTERNAL\n\
         ssl_cert_login_from = common_name\n"
    );
    for line in lines {
        configuration.push_str(line);
        configuration.push('\n');
    }
    for (name, text) in [("rabbitmq.conf", &*configuration), ("plugins", "[rabbitmq_auth_mechanism_ssl].\n")] {
        let path = server.folder.join(name);
        fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(command)
}

fn node(server: &Server) -> String {
    format!("taskhost{}@localhost", server.port)
}

/// What a broker and its tools must agree on; the cookie lies in the home folder.
fn environment(server: &Server, command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RABBITMQ_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", &server.folder)
        .env("RABBITMQ_CONF_ENV_FILE", server.folder.join("environment"))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", server.erlang_ports[1].to_string());
}
