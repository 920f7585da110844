//! The servers that are shared by all lanes: emptied and filled before a worker runs, asked while it does.

use std::path::Path;
use std::time::Duration;

use broker::ConnectOptions;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use redis::aio::MultiplexedConnection;
use rusqlite::OpenFlags;

use crate::contender::{EMBEDDED_FILE, EMBEDDED_URL};
use crate::lane::Setting;
use crate::publish::{self, QUEUE};
use crate::{Result, WorkerArgs, process};

/// How long RabbitMQ is left alone after it was filled, to finish what it put off.
const SETTLE: Duration = Duration::from_secs(1);
/// Keys read together when results are checked.
const KEYS_MAX: usize = 1_000;

pub(crate) struct Services {
    channel: Channel,
    redis: MultiplexedConnection,
    /// Their processes, if we can see them.
    pub(crate) rabbitmq_pid: Option<u32>,
    pub(crate) redis_pid: Option<u32>,
    /// Channels live as long as their connection.
    _connection: Connection,
}

impl Services {
    pub(crate) async fn connect(args: &WorkerArgs) -> Result<Self> {
        let connection = Connection::connect(&args.amqp, ConnectionProperties::default()).await?;
        let mut redis = redis::Client::open(args.redis.as_str())?.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
        Ok(Self {
            channel: connection.create_channel().await?,
            redis,
            rabbitmq_pid: rabbitmq_pid(&args.amqp),
            redis_pid: info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok()),
            _connection: connection,
        })
    }

    /// Empties everything, then publishes so many tasks; afterwards exactly these wait.
    pub(crate) async fn fill(&mut self, setting: Setting, tasks: u64, folder: &Path) -> Result<()> {
        publish::prepare_queue(&self.channel).await?;
        redis::cmd("FLUSHDB").exec_async(&mut self.redis).await?;
        match setting {
            Setting::Results | Setting::Ignored => {
                publish::to_rabbitmq(&self.channel, tasks, setting == Setting::Ignored).await?;
                let waiting = self.waiting().await?;
                if waiting != tasks {
                    return Err(format!("{waiting} messages wait after {tasks} were published").into());
                }
            }
            Setting::Embedded => {
                let url = EMBEDDED_URL.replace(EMBEDDED_FILE, &folder.join(EMBEDDED_FILE).to_string_lossy());
                let broker = broker::connect(&url, &ConnectOptions::default()).await?;
                publish::to_broker(&*broker, tasks, false).await?;
                broker.close().await;
            }
        }
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// How many messages nobody has taken.
    pub(crate) async fn waiting(&self) -> Result<u64> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await?;
        Ok(queue.message_count().into())
    }

    /// How many results are stored, whatever they say.
    pub(crate) async fn results(&mut self) -> Result<u64> {
        Ok(redis::cmd("DBSIZE").query_async(&mut self.redis).await?)
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
    pub(crate) async fn problem(&mut self, setting: Setting, tasks: u64, folder: &Path) -> Result<Option<String>> {
        let (left, results, successes, expected) = match setting {
            Setting::Results => (self.waiting().await?, self.results().await?, self.successes().await?, tasks),
            Setting::Ignored => (self.waiting().await?, self.results().await?, self.successes().await?, 0),
            Setting::Embedded => {
                let file = open(folder)?;
                let count = |query| count(&file, query);
                let left = count("SELECT count(*) FROM kombu_message")?;
                let results = count("SELECT count(*) FROM celery_taskmeta")?;
                (left, results, count("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'")?, tasks)
            }
        };
        let mut problems = Vec::new();
        if left != 0 {
            problems.push(format!("{left} messages are left"));
        }
        if (results, successes) != (expected, expected) {
            problems.push(format!("{results} results, {successes} of them SUCCESS, instead of {expected}"));
        }
        Ok((!problems.is_empty()).then(|| problems.join(", ")))
    }
}

/// The embedded file, for reading.
pub(crate) fn open(folder: &Path) -> Result<rusqlite::Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(rusqlite::Connection::open_with_flags(folder.join(EMBEDDED_FILE), flags)?)
}

/// The number that a query answers.
pub(crate) fn count(file: &rusqlite::Connection, query: &str) -> Result<u64> {
    Ok(file.query_row(query, (), |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// RabbitMQ tells its process id only to its own tools. xtask gives each server a folder that ends with its port, and
/// Erlang is told the home folder on its command line.
fn rabbitmq_pid(url: &str) -> Option<u32> {
    let port = url.rsplit_once(':')?.1.split('/').next()?;
    process::find(&["beam", &format!("-{port}\0")])
}
