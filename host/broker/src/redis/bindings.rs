//! Which queues a message goes to: kombu's binding tables, remembered for a moment.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhost_core::{ExchangeKind, Queue};
use tokio::time::Instant;

use super::connection::Connection;
use super::failure::Failure;
use super::layout::Layout;
use crate::kombu;

/// How long a table is believed. One in which nothing is found is read again at once.
const TABLE_AGE_MAX: Duration = Duration::from_secs(5);
/// How many tables are remembered; with more, all are forgotten.
const TABLES_MAX: usize = 1000;

/// What is known about exchanges.
pub(super) struct Bindings {
    layout: Layout,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: HashMap<String, (Instant, Arc<[Binding]>)>,
    /// What we declared ourselves: by exchange and as it was described.
    declared: Vec<Queue>,
    fanouts: HashSet<String>,
}

struct Binding {
    routing_key: String,
    is_pattern: bool,
    queue: String,
}

impl Bindings {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the binding of a queue where kombu looks for it, and remembers it.
    pub(super) async fn declare(&self, connection: &Connection, queue: &Queue) -> Result<(), Failure> {
        if queue.exchange.name.is_empty() {
            return Ok(());
        }
        if queue.exchange.kind == ExchangeKind::Headers {
            return Err(Failure::permanent("there are no headers exchanges on Redis"));
        }
        self.write(connection, std::slice::from_ref(queue)).await?;
        let mut state = self.state();
        if queue.exchange.kind == ExchangeKind::Fanout {
            state.fanouts.insert(queue.exchange.name.clone());
        }
        state.tables.remove(&queue.exchange.name);
        if !state.declared.contains(queue) {
            state.declared.push(queue.clone());
        }
        Ok(())
    }

    /// Writes all bindings again, as they may have been evicted.
    pub(super) async fn refresh(&self, connection: &Connection) -> Result<(), Failure> {
        let declared = self.state().declared.clone();
        self.write(connection, &declared).await
    }

    async fn write(&self, connection: &Connection, queues: &[Queue]) -> Result<(), Failure> {
        let mut commands = redis::Pipeline::with_capacity(2 * queues.len());
        for queue in queues {
            let (exchange, member) = (&queue.exchange.name, self.layout.binding(queue));
            commands.cmd("SADD").arg(self.layout.bindings(exchange)).arg(&member).ignore();
            commands.cmd("SADD").arg(self.layout.permanent_bindings(exchange)).arg(&member).ignore();
        }
        if commands.is_empty() {
            return Ok(());
        }
        connection.run_all(&commands).await.map(drop)
    }

    /// True if messages for this exchange go to whoever listens, not to queues.
    pub(super) fn is_fanout(&self, exchange: &str) -> bool {
        // Remote control and events of Celery are fanout exchanges on Redis.
        let is_celerys = exchange == "celeryev" || (exchange.ends_with(".pidbox") && !exchange.starts_with("reply."));
        is_celerys || self.state().fanouts.contains(exchange)
    }

    /// The queues for a message; none if nothing is bound.
    pub(super) async fn lookup(
        &self,
        connection: &Connection,
        exchange: &str,
        routing_key: &str,
    ) -> Result<Vec<String>, Failure> {
        if exchange.is_empty() {
            return Ok(if routing_key.is_empty() { Vec::new() } else { vec![routing_key.to_owned()] });
        }
        if let Some(table) = self.remembered(exchange) {
            let found = matching(&table, routing_key);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let table = self.read(connection, exchange).await?;
        let found = matching(&table, routing_key);
        if found.is_empty() && exchange.starts_with("reply.") && exchange.ends_with(".pidbox") {
            // The name that kombu's mailbox gives to a client's queue (kombu/pidbox.py).
            return Ok(vec![format!("{routing_key}.{exchange}")]);
        }
        Ok(found)
    }

    fn remembered(&self, exchange: &str) -> Option<Arc<[Binding]>> {
        let state = self.state();
        let (read, table) = state.tables.get(exchange)?;
        (read.elapsed() < TABLE_AGE_MAX).then(|| Arc::clone(table))
    }

    async fn read(&self, connection: &Connection, exchange: &str) -> Result<Arc<[Binding]>, Failure> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.layout.bindings(exchange));
        let mut members: HashSet<String> = connection.ask(&command).await?;
        let mut state = self.state();
        let declared = state.declared.iter().filter(|queue| queue.exchange.name == exchange);
        members.extend(declared.map(|queue| self.layout.binding(queue)));
        let table: Arc<[Binding]> = members
            .iter()
            .filter_map(|member| {
                let (routing_key, pattern, queue) = self.layout.split_binding(member)?;
                let is_pattern = !pattern.is_empty();
                Some(Binding { routing_key: routing_key.to_owned(), is_pattern, queue: queue.to_owned() })
            })
            .collect();
        if state.tables.len() >= TABLES_MAX {
            state.tables.clear();
        }
        state.tables.insert(exchange.to_owned(), (Instant::now(), Arc::clone(&table)));
        Ok(table)
    }
}

fn matching(table: &[Binding], routing_key: &str) -> Vec<String> {
    let mut queues: Vec<String> = table
        .iter()
        .filter(|binding| match binding.is_pattern {
            true => kombu::matches_topic(&binding.routing_key, routing_key),
            false => binding.routing_key == routing_key,
        })
        .map(|binding| binding.queue.clone())
        .collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}
