//! Private servers for tests and measurements: on free ports, with their own data, gone with us.
//!
//! No default port, no service of the machine and no configuration of it is used.

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::Result;
use crate::debian;
use crate::group::Group;

/// The one on PATH changes to the user `rabbitmq`, who cannot write our folder.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin";
/// RabbitMQ takes 6 s on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    RabbitMq,
    Redis,
}

impl Kind {
    pub(crate) fn parse(name: &str) -> Result<Kind> {
        match name {
            "rabbitmq" => Ok(Kind::RabbitMq),
            "redis" => Ok(Kind::Redis),
            other => Err(format!("no server is called `{other}`; there are: rabbitmq, redis")),
        }
    }

    /// The Debian package that it comes in.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Kind::RabbitMq => "rabbitmq-server",
            Kind::Redis => "redis-server",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        match self {
            Kind::RabbitMq => Path::new(RABBITMQ).join("rabbitmq-server").exists() && debian::in_path("epmd"),
            Kind::Redis => debian::in_path("redis-server"),
        }
    }
}

/// A server of our own, which keeps its ports and data while it is stopped. Dropping it leaves nothing behind.
pub(crate) struct Server {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    /// Where Erlang nodes talk to each other, and where they find each other.
    erlang_ports: [u16; 2],
    running: Option<Group>,
    epmd: Option<Group>,
}

impl Server {
    pub(crate) fn new(kind: Kind) -> Result<Server> {
        let [port, distribution, epmd] = free_ports()?;
        let folder = env::temp_dir().join(format!("taskhost-{}-{}-{port}", kind.package(), process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
        Ok(Server { kind, folder, port, erlang_ports: [distribution, epmd], running: None, epmd: None })
    }

    /// Starts it, again after a stop, and waits until it answers. The options are more words of its command line.
    pub(crate) fn start(&mut self, options: &[String]) -> Result<()> {
        let mut command = match self.kind {
            Kind::RabbitMq => self.rabbitmq()?,
            Kind::Redis => self.redis(),
        };
        let log = self.folder.join("output.log");
        let file = fs::File::options().create(true).append(true).open(&log);
        let file = file.map_err(|error| format!("open {}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| format!("open {}: {error}", log.display()))?;
        command.args(options).stdin(Stdio::null()).stdout(file).stderr(errors);
        let group = self.running.insert(Group::start(&mut command)?);
        let deadline = Instant::now() + START_TIMEOUT;
        while !answers(self.kind, self.port) {
            if group.ended().is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{} does not start; it says:\n{}", self.kind.package(), log.trim()));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        match self.kind {
            Kind::RabbitMq => format!("amqp://guest:guest@127.0.0.1:{}//", self.port),
            Kind::Redis => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    /// Asks it to end; what it keeps on disk will be there after the next start.
    pub(crate) fn stop(&mut self) {
        if let Some(mut group) = self.running.take() {
            group.stop();
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Runs `rabbitmqctl` with these arguments.
    pub(crate) fn control(&self, arguments: &[String]) -> Result<String> {
        let mut command = Command::new(Path::new(RABBITMQ).join("rabbitmqctl"));
        self.erlang_environment(&mut command);
        let output = command.args(["-q", "-n", &self.node()]).args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("start rabbitmqctl: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("rabbitmqctl {}: {}{text}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn redis(&self) -> Command {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--port", &self.port.to_string()]).arg("--dir").arg(&self.folder);
        command
    }

    fn rabbitmq(&mut self) -> Result<Command> {
        if self.epmd.is_none() {
            // Erlang would start this one as a daemon, which outlives us.
            let mut epmd = Command::new("epmd");
            epmd.args(["-address", "127.0.0.1", "-port", &self.erlang_ports[1].to_string()]);
            epmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.epmd = Some(Group::start(&mut epmd)?);
        }
        let mut command = Command::new(Path::new(RABBITMQ).join("rabbitmq-server"));
        self.erlang_environment(&mut command);
        let file = |name: &str| self.folder.join(name);
        command
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.erlang_ports[0].to_string())
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

    fn node(&self) -> String {
        format!("taskhost{}@localhost", self.port)
    }

    /// What a broker and its tools must agree on; the cookie lies in the home folder.
    fn erlang_environment(&self, command: &mut Command) {
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("RABBITMQ_") {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", &self.folder)
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("environment"))
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.erlang_ports[1].to_string());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        self.epmd = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// True if a server speaks its protocol at this port.
fn answers(kind: Kind, port: u16) -> bool {
    let (question, answer): (&[u8], u8) = match kind {
        Kind::RabbitMq => (b"AMQP\x00\x00\x09\x01", 1), // a method frame: connection.start
        Kind::Redis => (b"PING\r\n", b'+'),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut first = [0];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(question).is_ok()
        && stream.read_exact(&mut first).is_ok()
        && first[0] == answer
}

/// Ports nobody listens at, below the range that outgoing connections take theirs from: a server that is
/// stopped must find its port free when it starts again.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Processes that choose at the same time start at different places.
    let start = (process::id().wrapping_mul(7919) ^ time.subsec_nanos()) as u16;
    let mut ports = [0; N];
    let mut found = 0;
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => ports[found] = port,
            Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
            Err(error) => return Err(format!("look for a free port: {error}")),
        }
        found += 1;
        if found == N {
            return Ok(ports);
        }
    }
    Err("no free port".to_owned())
}
