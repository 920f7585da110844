//! A server of a test's own, to be stopped and killed: `xtask serve` does the work.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::settings;

/// A private server, which ends when this value or this process does.
pub struct Server {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub url: String,
}

impl Server {
    /// Starts one and waits until it is ready; none if the shared one is missing too, which is said.
    #[track_caller]
    pub fn rabbitmq() -> Option<Server> {
        settings::required(settings::AMQP)?;
        Server::start("rabbitmq")
    }

    /// As [`Server::rabbitmq`], with TLS. [`Server::start_again_with`] takes lines of its configuration.
    #[track_caller]
    pub fn rabbitmq_tls() -> Option<Server> {
        settings::required(settings::AMQPS)?;
        Server::start("rabbitmq-tls")
    }

    /// As [`Server::rabbitmq`].
    #[track_caller]
    pub fn qpid() -> Option<Server> {
        settings::required(settings::QPID)?;
        Server::start("qpid")
    }

    /// As [`Server::rabbitmq`]. It forgets everything when it is stopped.
    #[track_caller]
    pub fn redis() -> Option<Server> {
        settings::required(settings::REDIS)?;
        Server::start("redis")
    }

    /// As [`Server::redis`], with TLS. [`Server::start_again_with`] takes options such as `--tls-auth-clients yes`.
    #[track_caller]
    pub fn redis_tls() -> Option<Server> {
        settings::required(settings::REDISS)?;
        Server::start("redis-tls")
    }

    /// A Redis master with its replica and three Sentinels. [`Server::control`] takes `master`, `kill-master` and
    /// `failover`, and [`Server::start_again`] starts what was killed.
    #[track_caller]
    pub fn sentinels() -> Option<Server> {
        settings::required(settings::SENTINEL)?;
        Server::start("redis-sentinel")
    }

    /// As [`Server::rabbitmq`].
    #[track_caller]
    pub fn postgresql() -> Option<Server> {
        settings::required(settings::POSTGRESQL)?;
        Server::start("postgresql")
    }

    /// As [`Server::rabbitmq`].
    #[track_caller]
    pub fn mariadb() -> Option<Server> {
        settings::required(settings::MARIADB)?;
        Server::start("mariadb")
    }

    /// As [`Server::redis`].
    #[track_caller]
    pub fn memcached() -> Option<Server> {
        settings::required(settings::MEMCACHED)?;
        Server::start("memcached")
    }

    /// An emulator, as [`Server::redis`].
    #[track_caller]
    pub fn sqs() -> Option<Server> {
        settings::required(settings::SQS)?;
        Server::start("sqs")
    }

    #[track_caller]
    fn start(name: &str) -> Option<Server> {
        let xtask = settings::required_path(settings::XTASK)?;
        let mut command = Command::new(xtask);
        // Out of the reach of Ctrl-C, since it has to tidy up after us.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child =
            command.args(["serve", name]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start");
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it was piped above"));
        let mut server = Server { child, commands, answers, url: String::new() };
        server.url = server.answer("ready");
        Some(server)
    }

    /// Stops it in an orderly way; its data stay.
    #[track_caller]
    pub fn stop(&mut self) {
        self.ask("stop");
    }

    /// Ends it as a crash would.
    #[track_caller]
    pub fn kill(&mut self) {
        self.ask("kill");
    }

    /// Starts it again with the same ports and data, and waits until it is ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.ask("start");
    }

    /// As [`Server::start_again`], with more words in its command line.
    #[track_caller]
    pub fn start_again_with(&mut self, options: &str) {
        self.ask(&format!("start {options}"));
    }

    /// `rabbitmqctl` with these words.
    #[track_caller]
    pub fn control(&mut self, words: &str) -> String {
        self.ask(&format!("control {words}"))
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("it is there until the drop");
        writeln!(commands, "{command}").expect("xtask serve runs");
        self.answer("ok")
    }

    // xtask has deadlines of its own for everything it does.
    #[track_caller]
    fn answer(&mut self, good: &str) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("xtask serve runs");
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
            (word, text) if word == good => text.replace(" | ", "\n"),
            (_, text) => panic!("the server failed: {}", text.replace(" | ", "\n")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.child.wait();
    }
}
