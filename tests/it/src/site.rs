//! The place of one test: a folder, a queue, and the URLs of a broker and a result store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{self, Client};
use crate::host::{self, Ended, Host};
use crate::process::{Process, Stream};
use crate::settings;

/// What carries the messages and keeps the results.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Engine {
    RabbitMqRedis,
    RabbitMqRpc,
    /// Redis for both.
    Redis,
    /// One SQLite file and no server.
    Embedded,
    /// What a test names by itself ([`Site::on`]).
    Other,
}

/// Everything a host and its clients need to meet, and to meet nobody else.
pub struct Site {
    pub engine: Engine,
    pub queue: String,
    /// As clients write them.
    pub broker: String,
    pub backend: String,
    /// As hosts are told, if they are to go another way than clients: through a proxy, say.
    pub host_broker: Option<String>,
    pub host_backend: Option<String>,
    /// Settings of Celery's that clients and Python workers have besides, by their names there: options of a transport, say.
    /// Hosts are told in `host.toml`.
    pub celery_settings: Value,
    /// What hosts and Python workers find in their environment besides.
    pub environment: Vec<(String, String)>,
    /// The plugins folder of its workers.
    pub plugins: String,
    binary: PathBuf,
    python: PathBuf,
    folder: TempDir,
    hosts: AtomicUsize,
}

impl Site {
    /// Prepares one with the demo plugin in its plugins folder; none if this machine lacks something, which is said.
    pub fn open(engine: Engine) -> Option<Site> {
        let (broker, backend) = match engine {
            Engine::RabbitMqRedis => (settings::required(settings::AMQP)?, settings::required(settings::REDIS)?),
            Engine::RabbitMqRpc => (settings::required(settings::AMQP)?, "rpc://".to_owned()),
            Engine::Redis => (settings::required(settings::REDIS)?, settings::required(settings::REDIS)?),
            Engine::Embedded => (String::new(), String::new()),
            Engine::Other => panic!("whoever names servers opens the site with `Site::on`"),
        };
        Site::with_urls(engine, broker, backend)
    }

    /// As [`Site::open`], on a broker of the test's own.
    pub fn with_broker(broker: &str) -> Option<Site> {
        Site::with_urls(Engine::RabbitMqRedis, broker.to_owned(), settings::required(settings::REDIS)?)
    }

    /// As [`Site::open`], with a Redis of the test's own for both.
    pub fn with_redis(url: &str) -> Option<Site> {
        Site::with_urls(Engine::Redis, url.to_owned(), url.to_owned())
    }

    /// As [`Site::open`], with results in a Redis of the test's own.
    pub fn with_results(backend: &str) -> Option<Site> {
        Site::with_urls(Engine::RabbitMqRedis, settings::required(settings::AMQP)?, backend.to_owned())
    }

    /// As [`Site::open`], with any broker and any result backend.
    pub fn on(broker: &str, backend: &str) -> Option<Site> {
        Site::with_urls(Engine::Other, broker.to_owned(), backend.to_owned())
    }

    fn with_urls(engine: Engine, broker: String, backend: String) -> Option<Site> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (binary, python) = (settings::required_path(settings::HOST)?, settings::required_path(settings::PYTHON)?);
        let demo = settings::required_path(settings::DEMO)?;
        let queue = format!("it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder =
            tempfile::Builder::new().prefix("taskhost-it-").tempdir().expect("the temporary folder is writable");
        let mut site = Site {
            engine,
            queue,
            broker,
            backend,
            host_broker: None,
            host_backend: None,
            celery_settings: Value::Object(serde_json::Map::new()),
            environment: Vec::new(),
            plugins: "plugins".to_owned(),
            binary,
            python,
            folder,
            hosts: AtomicUsize::new(0),
        };
        if engine == Engine::Embedded {
            let file = site.path("host.db");
            site.broker = format!("sqla+sqlite:///{}", file.display());
            site.backend = format!("db+sqlite:///{}", file.display());
        }
        copy_plugin(&demo, &site.path("plugins/demo"));
        Some(site)
    }

    /// A path in the site's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the site's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below a folder")).expect("the temporary folder is writable");
        fs::write(&path, text).expect("the temporary folder is writable");
        path
    }

    /// Starts a worker on the site's plugins and queue, and waits until it is ready.
    #[track_caller]
    pub fn host(&self, options: &[&str]) -> Host {
        let node = self.next_node();
        Host::start(&node, &mut self.run_command(&node, options))
    }

    /// As [`Site::host`], under a name of the test's own.
    #[track_caller]
    pub fn host_named(&self, node: &str, options: &[&str]) -> Host {
        Host::start(node, &mut self.run_command(node, options))
    }

    /// As [`Site::host`], without waiting.
    #[track_caller]
    pub fn launch_host(&self, options: &[&str]) -> Host {
        let node = self.next_node();
        Host::launch(&node, &mut self.run_command(&node, options))
    }

    fn next_node(&self) -> String {
        format!("{}-{}@localhost", self.queue, self.hosts.fetch_add(1, Ordering::Relaxed))
    }

    fn run_command(&self, node: &str, options: &[&str]) -> Command {
        let mut command = host::command(&self.binary, self.folder.path());
        command
            .args(["run", "--plugins", &self.plugins, "-n", node, "-Q", &self.queue])
            .args(self.urls())
            .args(options)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The options that name broker and results; the embedded file in the current folder needs none.
    fn urls(&self) -> Vec<&str> {
        match self.engine {
            Engine::Embedded if self.host_broker.is_none() => Vec::new(),
            _ => {
                let broker = self.host_broker.as_ref().unwrap_or(&self.broker);
                vec!["-b", broker, "-r", self.host_backend.as_ref().unwrap_or(&self.backend)]
            }
        }
    }

    /// Runs a command of the binary to its end in the site's folder, with the site's URLs.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Ended {
        let arguments = [arguments, &self.urls()].concat();
        self.bare_command(&arguments)
    }

    /// Runs a command of the binary to its end in the site's folder.
    #[track_caller]
    pub fn bare_command(&self, arguments: &[&str]) -> Ended {
        host::run(&self.binary, self.folder.path(), arguments)
    }

    /// As [`Site::bare_command`], with what its hosts find in their environment, and with the time that a compiler may need.
    #[track_caller]
    pub fn environment_command(&self, arguments: &[&str]) -> Ended {
        let mut command = host::command(&self.binary, self.folder.path());
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(&format!("host {}", arguments.join(" ")), &mut command);
        let status = process.wait_within(crate::process::COMPILER_PATIENCE);
        Ended { status, out: process.written(Stream::Out), err: process.written(Stream::Err) }
    }

    /// Starts a command of the binary that does not end by itself.
    #[track_caller]
    pub fn start_command(&self, arguments: &[&str]) -> Process {
        let name = format!("host {}", arguments.join(" "));
        Process::start(&name, host::command(&self.binary, self.folder.path()).args(arguments))
    }

    /// Runs a Celery client with this code to its end and gives what it emitted last.
    #[track_caller]
    pub fn client(&self, code: &str) -> Value {
        self.start_client(code).finish()
    }

    /// Starts a Celery client with this code.
    #[track_caller]
    pub fn start_client(&self, code: &str) -> Client {
        let more = self.celery_settings.to_string();
        let settings = [&self.settings()[..], &[("SETTINGS", &more)]].concat();
        Client::start(&self.python, self.folder.path(), &settings, code)
    }

    /// Starts Celery's own command line with these words, in the site's folder and with its URLs.
    #[track_caller]
    pub fn start_celery(&self, words: &[&str]) -> Process {
        self.write("site_settings.json", &self.celery_settings.to_string());
        self.write("site_settings.py", "import json\nglobals().update(json.load(open('site_settings.json')))\n");
        let mut command = Command::new(&self.python);
        command
            .args(["-E", "-s", "-u", "-m", "celery", "--no-color", "--config", "site_settings", "-b", &self.broker])
            .args(["--result-backend", &self.backend])
            .args(words)
            .current_dir(self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start_group(&format!("celery {}", words.join(" ")), &mut command)
    }

    /// As [`Site::start_celery`], to its end.
    #[track_caller]
    pub fn celery(&self, words: &[&str]) -> Ended {
        let mut process = self.start_celery(words);
        let status = process.wait();
        Ended { status, out: process.written(Stream::Out), err: process.written(Stream::Err) }
    }

    /// Starts a Python worker with the demo plugin's tasks on the site's queue, and waits until it is ready.
    #[track_caller]
    pub fn python_worker(&self, options: &[&str]) -> Process {
        let environment = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let more = self.celery_settings.to_string();
        let settings: Vec<_> = self.settings().into_iter().chain(environment).chain([("SETTINGS", &*more)]).collect();
        client::start_worker(&self.python, self.folder.path(), &settings, options)
    }

    /// Starts a Python program of the folder of fixtures, which finds these in its environment.
    #[track_caller]
    pub fn start_fixture(&self, name: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Process {
        let mut command = client::fixture(&self.python, name, self.folder.path(), environment);
        Process::start_group(name, command.args(arguments))
    }

    /// Puts another plugin into the plugins folder: a component, beside which its manifest lies.
    pub fn add_plugin(&self, name: &str, component: &Path) {
        copy_plugin(component, &self.path("plugins").join(name));
    }

    fn settings(&self) -> [(&str, &str); 3] {
        [("BROKER", &self.broker), ("BACKEND", &self.backend), ("QUEUE", &self.queue)]
    }

    /// The queue that is this site's alone.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn copy_plugin(component: &Path, folder: &Path) {
    fs::create_dir_all(folder).expect("the temporary folder is writable");
    for file in [component.to_owned(), component.with_file_name("plugin.toml")] {
        let name = file.file_name().expect("it is a file");
        fs::copy(&file, folder.join(name)).unwrap_or_else(|error| panic!("copy {}: {error}", file.display()));
    }
}
