//! One subscription: a channel of the server, or for replies a list.
//!
//! Has a connection of its own. Redis closes one that listens to channels and reads too slowly, which
//! must not be the one by which tasks come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dial::redis::Dialer;
use redis::{PushInfo, PushKind, Value};
use taskhost_core::Publication;
use taskhost_core::protocol::envelope;
use tokio::task::JoinHandle;
use tracing::warn;

use super::RedisOptions;
use super::connection::Connection;
use super::failure::Failure;
use super::link::Link;
use super::script;
use crate::broadcast::{Inbox, Subscription, Topic};
use crate::letters::Letters;
use crate::port::BrokerError;

/// How long one question for replies waits at the server.
const QUESTION_MAX: Duration = Duration::from_secs(1);
/// Most replies that one more question takes.
const REPLIES_MAX: usize = 100;
/// After how many lives of a queue its binding may be deleted, and the least time: those of kombu.
const BINDING_LIVES: u32 = 2;
const BINDING_LIFE_MIN: Duration = Duration::from_secs(3600);

pub(super) struct RedisInbox {
    letters: Arc<Letters>,
    link: Arc<Link>,
    /// Listens as long as it is there.
    connection: Mutex<Option<Connection>>,
    replies: Option<Replies>,
}

/// A queue for replies, which is a list like any other.
struct Replies {
    bindings: String,
    binding: String,
    lists: Vec<String>,
    /// Fetches them.
    fetching: JoinHandle<()>,
}

impl RedisInbox {
    pub(super) async fn open(dialer: &Dialer, link: &Arc<Link>, subscription: &Subscription) -> Result<Self, Failure> {
        let letters = Arc::<Letters>::default();
        link.signals.add_letters(&letters);
        let heard = Arc::downgrade(&letters);
        let hear = move |info| {
            if let Some(letters) = heard.upgrade() {
                hear(&letters, info);
            }
        };
        let connection = Connection::open(dialer, &link.options, hear).await?;
        let Subscription { topic, exchange, routing_key, .. } = subscription;
        let replies = match topic {
            Topic::Mailboxes | Topic::Events => {
                let pattern = link.layout.heard(exchange, routing_key);
                connection.run(redis::cmd("PSUBSCRIBE").arg(pattern)).await?;
                None
            }
            Topic::Replies => Some(Replies::open(link, &connection, &letters, subscription).await?),
        };
        Ok(Self { letters, link: Arc::clone(link), connection: Mutex::new(Some(connection)), replies })
    }

    /// Hears no more. False if it did not before.
    fn stop(&self) -> bool {
        self.letters.close();
        if let Some(replies) = &self.replies {
            replies.fetching.abort();
        }
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

#[async_trait]
impl Inbox for RedisInbox {
    async fn next(&self) -> Result<Option<Vec<Publication>>, BrokerError> {
        self.letters.take().await
    }

    fn dropped(&self) -> u64 {
        self.letters.dropped()
    }

    async fn close(&self) {
        if self.stop()
            && let Some(replies) = &self.replies
            && let Err(failure) = replies.delete(&self.link).await
        {
            // They expire.
            self.link.note(failure);
        }
    }
}

impl Drop for RedisInbox {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Replies {
    /// Makes the queue as kombu makes one that expires, and begins to read it.
    async fn open(
        link: &Link,
        connection: &Connection,
        letters: &Arc<Letters>,
        subscription: &Subscription,
    ) -> Result<Self, Failure> {
        let Subscription { exchange, routing_key, queue, expires, .. } = subscription;
        let layout = &link.layout;
        let (bindings, binding) = (layout.bindings(exchange), layout.direct_binding(routing_key, queue));
        let life = expires.map_or(BINDING_LIFE_MIN, |expires| BINDING_LIFE_MIN.max(expires * BINDING_LIVES));
        let mut call = script::call(&script::BIND, &[&bindings, &layout.binding_deadlines()]);
        call.arg(&binding).arg(exchange).arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        link.connection.call::<Value>(&script::BIND, &call).await?;
        let lists = layout.lists(queue);
        let fetching = fetch(connection.clone(), Arc::clone(letters), lists.clone(), question(&link.options));
        Ok(Self { bindings, binding, lists, fetching: tokio::spawn(fetching) })
    }

    async fn delete(&self, link: &Link) -> Result<(), Failure> {
        let mut commands = redis::Pipeline::with_capacity(2);
        commands.cmd("SREM").arg(&self.bindings).arg(&self.binding).ignore();
        commands.cmd("DEL").arg(&self.lists).ignore();
        link.connection.run_all(&commands).await.map(drop)
    }
}

/// Shorter than what a lost server is given.
fn question(options: &RedisOptions) -> Duration {
    QUESTION_MAX.min(options.socket_timeout / 2)
}

/// Fetches replies until the connection is lost.
async fn fetch(connection: Connection, letters: Arc<Letters>, lists: Vec<String>, patience: Duration) {
    let mut wait = redis::cmd("BRPOP");
    wait.arg(&lists).arg(patience.as_secs_f64());
    while !letters.ended() {
        let fetched = async {
            let Value::Array(first) = connection.run(&wait).await? else { return Ok(()) };
            let [Value::BulkString(list), Value::BulkString(text)] = first.as_slice() else {
                return Err(Failure::strange("BRPOP"));
            };
            put(&letters, text, "a queue of replies");
            // Those of a whole fleet come together.
            let mut more = redis::cmd("RPOP");
            if let Value::Array(texts) = connection.run(more.arg(list).arg(REPLIES_MAX)).await? {
                for text in &texts {
                    if let Value::BulkString(text) = text {
                        put(&letters, text, "a queue of replies");
                    }
                }
            }
            Ok(())
        };
        if let Err(failure) = fetched.await {
            letters.lose(&failure.to_string());
        }
    }
}

/// Hears what the server says by itself.
fn hear(letters: &Letters, info: PushInfo) {
    match (info.kind, info.data.as_slice()) {
        (PushKind::Disconnection, _) => letters.lose("the server closed the connection"),
        (PushKind::PMessage, [_, Value::BulkString(channel), Value::BulkString(text)]) => {
            put(letters, text, &format!("channel `{}`", String::from_utf8_lossy(channel)));
        }
        _ => {}
    }
}

fn put(letters: &Letters, text: &[u8], origin: &str) {
    match envelope::decode(text) {
        Ok(envelope::Envelope { message, route, .. }) => letters.put(Publication { message, route }),
        Err(reason) => warn!(error = %reason, "what came by {origin} is no message ({reason})"),
    }
}
