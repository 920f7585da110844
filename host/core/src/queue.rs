//! What a queue looks like at the broker, for when it has to be created.
//!
//! Says nothing about a queue that exists: its arguments are never fought.

use std::collections::BTreeMap;

use crate::name::{NameError, NodeName, QueueName};

/// A queue with the exchange and the binding that bring messages into it (kombu's `Queue`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: QueueName,
    pub kind: QueueKind,
    /// `x-max-priority`: without it RabbitMQ knows no priorities.
    pub max_priority: Option<u8>,
    pub exchange: Exchange,
    /// The key of the binding. A broadcast queue has none.
    pub routing_key: String,
    /// `x-match` and headers, for a headers exchange.
    pub binding_arguments: Vec<(String, String)>,
    /// Every worker gets each message: the queue at the broker has a name of its own for this connection,
    /// and goes with it (kombu's `Broadcast`).
    pub broadcast: bool,
}

/// `x-queue-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    Classic,
    Quorum,
}

/// An exchange, durable as Celery's are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    pub name: String,
    pub kind: ExchangeKind,
}

/// How an exchange finds queues for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    Direct,
    Topic,
    Fanout,
    Headers,
}

impl Queue {
    /// The queue that one worker alone takes tasks from (celery/utils/nodenames.py `worker_direct`).
    pub fn direct(node: &NodeName) -> Result<Self, NameError> {
        let name = QueueName::parse(&format!("{node}.dq2"))?;
        let exchange = Exchange { name: "C.dq2".to_owned(), kind: ExchangeKind::Direct };
        Ok(Self { exchange, routing_key: node.to_string(), ..Self::named(name) })
    }

    /// What Celery makes of a queue of which it knows only the name: a classic durable queue, bound to a
    /// direct exchange of the same name with the name as key.
    ///
    /// celery/app/amqp.py `Queues.new_missing`.
    pub fn named(name: QueueName) -> Self {
        let text = name.to_string();
        Self {
            name,
            kind: QueueKind::Classic,
            max_priority: None,
            exchange: Exchange { name: text.clone(), kind: ExchangeKind::Direct },
            routing_key: text,
            binding_arguments: Vec::new(),
            broadcast: false,
        }
    }
}

impl From<QueueName> for Queue {
    fn from(name: QueueName) -> Self {
        Self::named(name)
    }
}

/// The queues that are defined, and what all others look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    defined: BTreeMap<QueueName, Queue>,
    kind: QueueKind,
    max_priority: Option<u8>,
}

impl Queues {
    /// None is defined so far; all are of this kind.
    pub fn new(kind: QueueKind, max_priority: Option<u8>) -> Self {
        Self { defined: BTreeMap::new(), kind, max_priority }
    }

    /// From now on the queue of that name is this one.
    pub fn define(&mut self, queue: Queue) {
        self.defined.insert(queue.name.clone(), queue);
    }

    /// True if the queue is defined.
    pub fn defines(&self, name: &QueueName) -> bool {
        self.defined.contains_key(name)
    }

    /// True if no queue is defined.
    pub fn is_empty(&self) -> bool {
        self.defined.is_empty()
    }

    /// What queues are that do not say otherwise.
    pub fn kind(&self) -> QueueKind {
        self.kind
    }

    /// The queue of that name, as it is defined or as the defaults say.
    pub fn get(&self, name: &QueueName) -> Queue {
        self.defined.get(name).cloned().unwrap_or_else(|| self.plain(name, self.kind))
    }

    /// A queue of which only the name is known, and its kind.
    pub fn plain(&self, name: &QueueName, kind: QueueKind) -> Queue {
        // Quorum queues know priorities by themselves or not at all; RabbitMQ refuses the argument.
        let max_priority = self.max_priority.filter(|_| kind == QueueKind::Classic);
        Queue { kind, max_priority, ..Queue::named(name.clone()) }
    }
}

impl Default for Queues {
    /// As Celery has them.
    fn default() -> Self {
        Self::new(QueueKind::Classic, None)
    }
}
