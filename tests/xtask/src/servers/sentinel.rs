//! How Redis with Sentinels is started: a master, a replica, and three who watch them.
//!
//! They make the replica a master when the master is gone for [`DOWN_AFTER_MS`]; `control` tells who it is, kills it,
//! or has them change roles.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{POLL, Server, free_ports};
use crate::Result;
use crate::debian;
use crate::group::Group;

/// What they call the master.
const NAME: &str = "mymaster";
/// Of the servers, and of the Sentinels.
const PASSWORD: &str = "secret";
const SENTINEL_PASSWORD: &str = "guard";

/// Long enough for servers on a machine that is busy with tests.
const DOWN_AFTER_MS: u32 = 2_000;
const FAILOVER_TIMEOUT_MS: u32 = 6_000;
const READY_TIMEOUT: Duration = Duration::from_secs(60);

const SERVERS: usize = 2;
const ALL: usize = 5;

/// Two servers and three Sentinels, each at its port.
pub(super) struct Set {
    ports: [u16; ALL],
    running: [Option<Group>; ALL],
}

pub(super) fn is_installed() -> bool {
    debian::in_path("redis-server") && debian::in_path("redis-cli")
}

impl Set {
    pub(super) fn new() -> Result<Set> {
        Ok(Set { ports: free_ports()?, running: Default::default() })
    }

    /// All that is said of it in one URL. What is behind the `?` clients of Python have in options of their own.
    pub(super) fn url(&self) -> String {
        let hosts: Vec<String> =
            self.ports[SERVERS..].iter().map(|port| format!("sentinel://:{PASSWORD}@127.0.0.1:{port}/0")).collect();
        let kwargs = format!("%7B%22password%22%3A%22{SENTINEL_PASSWORD}%22%7D");
        format!("{}?master_name={NAME}&sentinel_kwargs={kwargs}", hosts.join(";"))
    }

    /// Starts those that do not run, and waits until all know each other. The options are of the servers.
    pub(super) fn start(&mut self, server: &Server, options: &[String]) -> Result<()> {
        for (index, port) in self.ports.into_iter().enumerate() {
            if self.running[index].is_some() {
                continue;
            }
            let mut command =
                if index < SERVERS { self.server(server, port, options)? } else { self.sentinel(server, port)? };
            let log = server.folder.join(format!("output-{port}.log"));
            let file = fs::File::options().create(true).append(true).open(&log);
            let file = file.map_err(|error| format!("open {}: {error}", log.display()))?;
            command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
            self.running[index] = Some(Group::start(&mut command)?);
        }
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.is_ready() {
            if Instant::now() > deadline {
                return Err(format!("the Sentinels do not find each other; see {}", server.folder.display()));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        for group in &mut self.running {
            if let Some(mut group) = group.take() {
                group.stop();
            }
        }
    }

    pub(super) fn kill(&mut self) {
        self.running = Default::default();
    }

    /// `master` gives its port; `kill-master` kills it and gives its port; `failover` has the replica take its place.
    pub(super) fn control(&mut self, words: &[String]) -> Result<String> {
        let master = self.master().ok_or("no Sentinel names a master")?;
        match words.first().map(String::as_str) {
            Some("master") => {}
            Some("kill-master") => {
                let index = self.ports.iter().position(|port| *port == master).ok_or("the master is not ours")?;
                self.running[index] = None;
            }
            Some("failover") => {
                // One that has just come back is no good replica yet.
                let deadline = Instant::now() + READY_TIMEOUT;
                let ask = || ask(self.ports[SERVERS], SENTINEL_PASSWORD, &["SENTINEL", "FAILOVER", NAME]);
                while ask().as_deref() != Some("OK") {
                    if Instant::now() > deadline {
                        return Err("the Sentinels do not change the master".to_owned());
                    }
                    thread::sleep(POLL);
                }
            }
            _ => return Err("Sentinels know master, kill-master and failover".to_owned()),
        }
        Ok(master.to_string())
    }

    fn master(&self) -> Option<u16> {
        self.ports[SERVERS..].iter().find_map(|port| {
            let answer = ask(*port, SENTINEL_PASSWORD, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])?;
            answer.lines().nth(1)?.parse().ok()
        })
    }

    /// All Sentinels see each other, and a master that has its replica.
    fn is_ready(&self) -> bool {
        let sees_all = |port: &u16| {
            let Some(answer) = ask(*port, SENTINEL_PASSWORD, &["SENTINEL", "MASTER", NAME]) else { return false };
            let lines: Vec<&str> = answer.lines().collect();
            let is = |name: &str, value: &str| lines.chunks_exact(2).any(|pair| pair == [name, value]);
            is("flags", "master") && is("num-slaves", "1") && is("num-other-sentinels", "2")
        };
        let is_followed =
            |port: u16| ask(port, PASSWORD, &["INFO", "replication"]).is_some_and(|info| info.contains("state=online"));
        self.ports[SERVERS..].iter().all(sees_all) && self.master().is_some_and(is_followed)
    }

    fn server(&self, server: &Server, port: u16, options: &[String]) -> Result<Command> {
        let folder = server.folder.join(port.to_string());
        fs::create_dir_all(&folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        command.args(["--port", &port.to_string(), "--requirepass", PASSWORD, "--masterauth", PASSWORD]);
        command.arg("--dir").arg(&folder).args(options);
        // One that comes back follows whoever is the master now.
        let master = self.master().unwrap_or(self.ports[0]);
        if port != master {
            command.args(["--replicaof", &format!("127.0.0.1 {master}")]);
        }
        Ok(command)
    }

    /// A Sentinel writes what it learns into its file.
    fn sentinel(&self, server: &Server, port: u16) -> Result<Command> {
        let path = server.folder.join(format!("sentinel-{port}.conf"));
        if !path.exists() {
            let configuration = format!(
                "bind 127.0.0.1\n\
                 port {port}\n\
                 dir {folder}\n\
                 requirepass {SENTINEL_PASSWORD}\n\
                 sentinel sentinel-pass {SENTINEL_PASSWORD}\n\
                 sentinel monitor {NAME} 127.0.0.1 {master} 2\n\
                 sentinel auth-pass {NAME} {PASSWORD}\n\
                 sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n",
                folder = server.folder.display(),
                master = self.ports[0],
            );
            fs::write(&path, configuration).map_err(|error| format!("write {}: {error}", path.display()))?;
        }
        let mut command = Command::new("redis-server");
        command.arg(path).arg("--sentinel");
        Ok(command)
    }
}

/// The answer to a command, a word a line; none if there is none.
fn ask(port: u16, password: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new("redis-cli");
    command.env("REDISCLI_AUTH", password).args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(words);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.starts_with("(error)") && !text.starts_with("ERR")).then_some(text)
}
