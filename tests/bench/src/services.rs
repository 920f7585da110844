//! The servers that are shared by all lanes: emptied and filled before a worker runs, asked while it does.

use std::path::Path;
use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use redis::aio::MultiplexedConnection;
use rusqlite::OpenFlags;

use crate::contender::{EMBEDDED_FILE, broker_database};
use crate::database::Database;
use crate::lane::{Broker, Results, Setting};
use crate::publish::{self, QUEUE};
use crate::sqs::Queue;
use crate::{Result, WorkerArgs, process};

/// How long RabbitMQ is left alone after it was filled, to finish what it put off.
const SETTLE: Duration = Duration::from_secs(1);
/// Keys read together when results are checked.
const KEYS_MAX: usize = 1_000;
/// Where kombu's layout keeps what a worker has taken and not acknowledged.
const UNACKED: &str = "unacked";
/// Celery keeps rows with which it is done, and makes them invisible.
const LEFT: &str = "(visible OR owner IS NOT NULL)";

pub(crate) struct Services {
    channel: Channel,
    /// The database of results, and that of messages.
    redis: MultiplexedConnection,
    redis_broker: MultiplexedConnection,
    redis_broker_url: String,
    /// The embedded file of the lane that is being measured.
    file: Option<rusqlite::Connection>,
    postgresql: Database,
    mysql: Database,
    sqs: Queue,
    sqs_url: String,
    /// Their processes, if we can see them.
    pub(crate) rabbitmq_pid: Option<u32>,
    pub(crate) redis_pid: Option<u32>,
    /// What they are, for people.
    pub(crate) versions: String,
    /// Channels live as long as their connection.
    _connection: Connection,
}

impl Services {
    pub(crate) async fn connect(args: &WorkerArgs) -> Result<Self> {
        let connection = Connection::connect(&args.amqp, ConnectionProperties::default()).await?;
        let redis_broker_url = broker_database(&args.redis);
        let mut redis = redis::Client::open(args.redis.as_str())?.get_multiplexed_async_connection().await?;
        let redis_broker = redis::Client::open(redis_broker_url.as_str())?.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
        let info = |name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        let rabbitmq_pid = rabbitmq_pid(&args.amqp);
        let mut postgresql = Database::connect(&args.postgresql).await?;
        let mut mysql = Database::connect(&args.mysql).await?;
        let versions = format!(
            "RabbitMQ {}, Redis {}, SQLite {}, {}, {}",
            rabbitmq_version().as_deref().unwrap_or("of unknown version"),
            info("redis_version:").as_deref().unwrap_or("of unknown version"),
            rusqlite::version(),
            postgresql.version().await?,
            mysql.version().await?,
        );
        Ok(Self {
            channel: connection.create_channel().await?,
            redis_pid: info("process_id:").and_then(|pid| pid.parse().ok()),
            redis,
            redis_broker,
            redis_broker_url,
            file: None,
            postgresql,
            mysql,
            sqs: Queue::connect(&args.sqs).await?,
            sqs_url: args.sqs.clone(),
            rabbitmq_pid,
            versions,
            _connection: connection,
        })
    }

    /// Empties everything, then publishes so many tasks; afterwards exactly these wait.
    pub(crate) async fn fill(&mut self, setting: Setting, tasks: u64, folder: &Path) -> Result<()> {
        self.channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
        redis::cmd("FLUSHALL").exec_async(&mut self.redis).await?;
        self.file = None;
        if let Some(database) = self.database(setting) {
            database.clear().await?;
        }
        let ignore_result = setting.results == Results::Ignored;
        match setting.broker {
            Broker::Classic | Broker::Quorum => {
                publish::prepare_queue(&self.channel, setting.broker == Broker::Quorum).await?;
                publish::to_rabbitmq(&self.channel, tasks, ignore_result).await?;
            }
            Broker::Redis => publish::to_broker(&self.redis_broker_url, tasks, ignore_result).await?,
            Broker::Embedded => {
                let path = folder.join(EMBEDDED_FILE);
                publish::to_broker(&url(&path), tasks, ignore_result).await?;
                self.file = Some(open(&path)?);
            }
            Broker::Sqs => {
                self.sqs.clear().await?;
                publish::to_broker(&self.sqs_url, tasks, ignore_result).await?;
            }
        }
        tokio::time::sleep(SETTLE).await;
        let waiting = self.waiting(setting).await?;
        if waiting != tasks {
            return Err(format!("{waiting} messages wait after {tasks} were published").into());
        }
        Ok(())
    }

    /// How many of so many tasks are done, or at least taken.
    pub(crate) async fn done(&mut self, setting: Setting, tasks: u64) -> Result<u64> {
        match setting {
            // Rows are never deleted meanwhile, so the largest id is their number; the worker makes the table.
            Setting { broker: Broker::Embedded, results: Results::Beside } => {
                Ok(self.count("SELECT coalesce(max(id), 0) FROM celery_taskmeta").unwrap_or(0))
            }
            // Rows go in the order of their ids; to count them all takes too long.
            Setting { broker: Broker::Embedded, results: Results::Ignored } => {
                let first = format!("SELECT coalesce(min(id), {tasks} + 1) - 1 FROM kombu_message WHERE {LEFT}");
                self.count(&first)
            }
            Setting { results: Results::Beside, .. } => Ok(redis::cmd("DBSIZE").query_async(&mut self.redis).await?),
            Setting { results: Results::Ignored, .. } => Ok(tasks.saturating_sub(self.waiting(setting).await?)),
            Setting { results: Results::PostgreSql, .. } => self.postgresql.results().await,
            Setting { results: Results::MySql, .. } => self.mysql.results().await,
        }
    }

    /// How many messages nobody has taken; of the embedded file, which nobody has acknowledged.
    async fn waiting(&mut self, setting: Setting) -> Result<u64> {
        match setting.broker {
            Broker::Classic | Broker::Quorum => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let queue = self.channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await?;
                Ok(queue.message_count().into())
            }
            Broker::Redis => Ok(redis::cmd("LLEN").arg(QUEUE).query_async(&mut self.redis_broker).await?),
            Broker::Embedded => self.count(&format!("SELECT count(*) FROM kombu_message WHERE {LEFT}")),
            Broker::Sqs => Ok(self.sqs.depth().await?.waiting),
        }
    }

    fn database(&mut self, setting: Setting) -> Option<&mut Database> {
        match setting.results {
            Results::PostgreSql => Some(&mut self.postgresql),
            Results::MySql => Some(&mut self.mysql),
            Results::Beside | Results::Ignored => None,
        }
    }

    /// How many results of Redis say SUCCESS.
    async fn successes(&mut self) -> Result<u64> {
        let mut successes = 0;
        let mut cursor = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg("celery-task-meta-*").arg("COUNT").arg(KEYS_MAX);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut self.redis).await?;
            if !keys.is_empty() {
                let documents: Vec<Option<String>> = redis::cmd("MGET").arg(&keys).query_async(&mut self.redis).await?;
                let good = |document: &&String| document.contains(r#""status": "SUCCESS""#);
                successes += documents.iter().flatten().filter(good).count() as u64;
            }
            if next == 0 {
                return Ok(successes);
            }
            cursor = next;
        }
    }

    /// What is wrong after a worker that was given so many tasks has ended; nothing, if all is well.
    pub(crate) async fn problem(&mut self, setting: Setting, tasks: u64) -> Result<Option<String>> {
        let left = self.waiting(setting).await?;
        let unacknowledged: u64 = match setting.broker {
            Broker::Sqs => self.sqs.depth().await?.taken,
            _ => redis::cmd("HLEN").arg(UNACKED).query_async(&mut self.redis_broker).await?,
        };
        let (results, successes) = match (setting.results, setting.broker) {
            (Results::PostgreSql, _) => (self.postgresql.results().await?, self.postgresql.successes().await?),
            (Results::MySql, _) => (self.mysql.results().await?, self.mysql.successes().await?),
            (_, Broker::Embedded) => {
                // The table is made by whoever writes the first result.
                let results = self.count("SELECT count(*) FROM celery_taskmeta").unwrap_or(0);
                (results, self.count("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'").unwrap_or(0))
            }
            _ => (redis::cmd("DBSIZE").query_async(&mut self.redis).await?, self.successes().await?),
        };
        let expected = if setting.results == Results::Ignored { 0 } else { tasks };
        let mut problems = Vec::new();
        if left + unacknowledged != 0 {
            problems.push(format!("{} messages are left", left + unacknowledged));
        }
        if (results, successes) != (expected, expected) {
            problems.push(format!("{results} results, {successes} of them SUCCESS, instead of {expected}"));
        }
        Ok((!problems.is_empty()).then(|| problems.join(", ")))
    }

    /// The number that a query of the embedded file answers.
    fn count(&self, query: &str) -> Result<u64> {
        let file = self.file.as_ref().ok_or("there is no embedded file")?;
        Ok(file.prepare_cached(query)?.query_row((), |row| row.get::<_, i64>(0))?.unsigned_abs())
    }
}

fn open(path: &Path) -> Result<rusqlite::Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(rusqlite::Connection::open_with_flags(path, flags)?)
}

fn url(path: &Path) -> String {
    format!("sqlite:///{}", path.display())
}

/// RabbitMQ tells its process id only to its own tools. xtask gives each server a folder that ends with its port, and
/// Erlang is told the home folder on its command line.
fn rabbitmq_pid(url: &str) -> Option<u32> {
    let port = url.rsplit_once(':')?.1.split('/').next()?;
    process::find(&["beam", &format!("-{port}\0")])
}

/// The version of Debian's package, which xtask starts.
fn rabbitmq_version() -> Option<String> {
    let names = std::fs::read_dir("/usr/lib/rabbitmq/lib").ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| Some(name.to_str()?.strip_prefix("rabbitmq_server-")?.to_owned())).max()
}
