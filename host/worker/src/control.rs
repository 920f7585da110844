//! The desk where remote control is answered: by the dispatcher, by what is known of this process, or by whoever
//! knows the configuration.
//!
//! Has never heard of brokers: the mailbox and the worker's own socket bring what is asked here.

use std::sync::Arc;

use async_trait::async_trait;
use taskhost_core::control::{Command, ControlError, error, ok};
use taskhost_core::dispatcher::Shutdown;
use taskhost_core::protocol::content::MapWriter;
use taskhost_core::{Json, NodeName, TaskId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::announce::Announcer;
use crate::answers::Question;
use crate::process;

/// How long the worker may take to answer. Whoever asks has given up long before.
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// What is known elsewhere.
#[async_trait]
pub trait Facts: Send + Sync {
    /// The settings under Celery's names, secrets masked: those that somebody gave, or all.
    fn conf(&self, with_defaults: bool) -> Json;
    /// The program, the machine and the settings, as text for bug reports.
    fn report(&self) -> String;
    /// The broker, as kombu tells a connection.
    fn broker(&self) -> Json;
    /// Soft and hard time limit of this worker in seconds; zero is none.
    fn time_limits(&self) -> [f64; 2];
    /// Loads the plugins that have changed, unless that is not allowed.
    async fn restart_pool(&self) -> Result<(), RestartRefused>;
}

/// Nothing was loaded anew.
#[derive(Debug, thiserror::Error)]
pub enum RestartRefused {
    /// The operator does not want it (`worker.pool_restarts`).
    #[error("Pool restarts not enabled")]
    NotEnabled,
    #[error("{0}")]
    Failed(String),
}

/// Who answers.
pub struct Desk {
    pub node: NodeName,
    pub announcer: Arc<Announcer>,
    pub facts: Arc<dyn Facts>,
    /// The way to the dispatcher.
    pub questions: mpsc::Sender<Question>,
    /// The way to the end of this worker.
    pub shutdowns: mpsc::Sender<Shutdown>,
    pub started: Instant,
}

impl Desk {
    /// Does what a method says and answers; a worker that is told to stop does not, as in Celery.
    pub async fn answer(&self, method: &str, arguments: &Json) -> Option<Json> {
        debug!("pidbox received method {method}({arguments})");
        let command = match Command::parse(method, arguments) {
            Ok(command) => command,
            Err(error) => {
                warn!("pidbox command error: {method}: {error}");
                return Some(error.reply());
            }
        };
        Some(match command {
            Command::Ping => ok("pong"),
            Command::Clock => Json::object([("clock", self.announcer.lamport().now())]),
            Command::Report => ok(&self.facts.report()),
            Command::Conf { with_defaults } => self.facts.conf(with_defaults),
            Command::Stats => self.stats().await,
            Command::Hello { from, revoked } => self.hello(from, revoked).await,
            Command::MemorySample => match process::memory() {
                Some(bytes) => Json::text(&process::human_bytes(bytes)),
                None => error("this system does not say how much memory a process has"),
            },
            Command::MemoryDump => error("there are no samples of memory: `memsample` says what there is now"),
            Command::ObjectGraph => error("there are no Python objects in this worker"),
            Command::EnableEvents => match self.announcer.switch_task_events(true) {
                true => {
                    info!("Events of group {{task}} enabled by remote.");
                    ok("task events enabled")
                }
                false => ok("task events already enabled"),
            },
            Command::DisableEvents => match self.announcer.switch_task_events(false) {
                true => {
                    info!("Events of group {{task}} disabled by remote.");
                    ok("task events disabled")
                }
                false => ok("task events already disabled"),
            },
            Command::Heartbeat => {
                debug!("Heartbeat requested by remote.");
                self.announcer.heartbeat();
                Json::null()
            }
            Command::PoolRestart => match self.facts.restart_pool().await {
                Ok(()) => ok("reload started"),
                Err(refused @ RestartRefused::NotEnabled) => {
                    ControlError::raised("ValueError", refused.to_string()).reply()
                }
                Err(RestartRefused::Failed(reason)) => error(&reason),
            },
            Command::Election => Json::null(),
            Command::Shutdown { reason } => {
                warn!("{reason}");
                // It stops already, if nobody hears this.
                let _ = self.shutdowns.send(Shutdown::Warm).await;
                return None;
            }
            command => {
                let said = say(&command);
                let answer = self.ask(command).await;
                if answer.get("error").is_none() {
                    said.iter().for_each(|line| info!("{line}"));
                }
                answer
            }
        })
    }

    /// What only the dispatcher knows.
    pub(crate) async fn ask(&self, command: Command) -> Json {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.questions.send(Question { command, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(ANSWER_MAX, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) => error("the worker is stopping"),
            Err(_) => error("the worker did not answer in time"),
        }
    }

    /// celery/worker/control.py `hello`
    async fn hello(&self, from: String, revoked: Vec<TaskId>) -> Json {
        if from == self.node.as_str() {
            return Json::null();
        }
        info!("sync with {from}");
        let revoked = self.ask(Command::Hello { from, revoked }).await;
        if revoked.get("error").is_some() {
            return revoked;
        }
        let mut answer = MapWriter::new();
        answer.put("revoked", &revoked).put("clock", &self.announcer.lamport().forward());
        answer.finish()
    }

    /// celery/worker/worker.py `stats`
    async fn stats(&self) -> Json {
        let known = self.ask(Command::Stats).await;
        if known.get("error").is_some() {
            return known;
        }
        let part = |key: &str| known.get(key).unwrap_or_else(Json::null);
        let pid = std::process::id();
        let mut pool = MapWriter::new();
        pool.put("implementation", "taskhost:Sandbox")
            .put("max-concurrency", &part("concurrency"))
            .put("processes", &Json::array([pid]))
            .put("max-tasks-per-child", "N/A")
            .put("put-guarded-by-semaphore", &false)
            .put("timeouts", &Json::array(self.facts.time_limits()))
            .put("writes", "N/A");
        let mut stats = MapWriter::new();
        stats
            .put("total", &part("total"))
            .put("pid", &pid)
            // Python converts this one to a text.
            .put("clock", &self.announcer.lamport().now().to_string())
            .put("uptime", &self.started.elapsed().as_secs())
            .put("pool", &pool.finish())
            .put("broker", &self.facts.broker())
            .put("prefetch_count", &part("prefetch_count"));
        for key in ["autoscaler", "quiet", "paused_queues"] {
            stats.put_some(key, known.get(key).as_ref());
        }
        stats.put("rusage", &process::usage());
        stats.finish()
    }
}

/// What is logged about a command that was carried out, in Celery's words where it has them.
fn say(command: &Command) -> Option<String> {
    let seconds =
        |limit: Option<std::time::Duration>| limit.map_or("None".to_owned(), |it| it.as_secs_f64().to_string());
    Some(match command {
        Command::Revoke { ids, terminate: None } => {
            let ids: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
            format!("Tasks flagged as revoked: {}", ids.join(", "))
        }
        Command::RevokeByStamps { shown, .. } => format!("Tasks with these stamps flagged as revoked: {shown}"),
        Command::Unrevoke(ids) => {
            let ids: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
            format!("Tasks no longer revoked: {}", ids.join(", "))
        }
        Command::RateLimit { task, disabled: true, .. } => format!("Rate limits disabled for tasks of type {task}"),
        Command::RateLimit { task, rate, .. } => {
            let rate = rate.map_or("0".to_owned(), |rate| rate.to_string());
            format!("New rate limit for tasks of type {task}: {rate}.")
        }
        Command::TimeLimit { task, hard, soft } => {
            format!("New time limits for tasks of type {task}: soft={} hard={}", seconds(*soft), seconds(*hard))
        }
        Command::AddConsumer(queue) => format!("Started consuming from {}", queue.name),
        Command::CancelConsumer(queue) => format!("Canceling queue {queue}"),
        Command::PauseQueue(queue) => format!("Queue {queue} paused by remote"),
        Command::ResumeQueue(queue) => format!("Queue {queue} resumed by remote"),
        Command::Quiet => "Quiet by remote: no more tasks are taken".to_owned(),
        Command::Unquiet => "No longer quiet: tasks are taken again".to_owned(),
        Command::PoolGrow(by) => format!("Pool grown by {by} by remote"),
        Command::PoolShrink(by) => format!("Pool shrunk by {by} by remote"),
        Command::Autoscale { .. } => "Autoscale changed by remote".to_owned(),
        _ => return None,
    })
}
