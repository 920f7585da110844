//! Sends what nobody waits for, on a connection of its own that is opened when it is first needed; where no tasks
//! are consumed, on the one that is there.
//!
//! A broker slows down whoever publishes to queues that are read too slowly, by not reading from his
//! connection. That must hit neither tasks nor the tasks' own publications, so nothing else goes this way,
//! and nobody waits until it is through.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::options::BasicQosOptions;
use lapin::{Channel, Connection};
use taskhost_core::{Publication, Route};
use tokio::task::JoinHandle;

use super::channel;
use super::declare::Declarer;
use super::failure::{Failure, lost, timely};
use super::peer::Peer;
use super::publisher::{PIPELINE_MAX, publish_error, send, started};
use super::{Connector, Role, Session};
use crate::broadcast::Topic;
use crate::port::BrokerError;

/// How long messages may take to be written before we go on without them.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// How many exchanges are remembered: with more, somebody makes them up, and all are looked for again.
const DECLARED_MAX: usize = 100;

pub(super) struct Announcer {
    connector: Connector,
    role: Role,
    line: tokio::sync::Mutex<State>,
}

enum State {
    Unopened,
    Open(Box<Line>),
    Closed,
}

struct Line {
    connection: Arc<Connection>,
    channel: Option<Channel>,
    /// Exchanges that were found, or made, while the channel lasted.
    declared: HashSet<String>,
    /// The last messages, if they are not written yet.
    sending: Option<Sending>,
    /// The last channel came to an end, of which nobody was told why: what is sent next asks for it.
    doubtful: bool,
}

/// Ends with its line.
struct Sending(JoinHandle<Result<(), BrokerError>>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Announcer {
    pub(super) fn new(connector: Connector, role: Role) -> Self {
        Self { connector, role, line: tokio::sync::Mutex::new(State::Unopened) }
    }

    /// Sends all of these. Does not wait for long if the broker does not read; then the next call is an error,
    /// until these are through.
    pub(super) async fn send(
        &self,
        session: &Session,
        topic: Topic,
        publications: Vec<Publication>,
    ) -> Result<(), BrokerError> {
        let Some(first) = publications.first() else { return Ok(()) };
        let route = first.route.clone();
        let mut state = self.line.lock().await;
        let line = self.open(&mut state, session).await?;
        let failed = |failure| publish_error(&route, failure);
        if line.connection.status().blocked() {
            return Err(failed(Failure::Blocked { may_have_been_sent: false }));
        }
        if let Some(mut before) = line.sending.take() {
            if !before.0.is_finished() {
                line.sending = Some(before);
                return Err(failed(Failure::TimedOut(SEND_PATIENCE)));
            }
            line.judge((&mut before.0).await.map_err(lost)?)?;
        }
        let channel = line.ready(topic, &publications).await.map_err(failed)?;
        let sending = send_all(channel, publications, line.doubtful);
        let sending = line.sending.insert(Sending(tokio::spawn(sending)));
        match tokio::time::timeout(SEND_PATIENCE, &mut sending.0).await {
            // It goes on by itself.
            Err(_) => Ok(()),
            Ok(sent) => {
                line.sending = None;
                line.judge(sent.map_err(lost)?)
            }
        }
    }

    async fn open<'a>(&self, state: &'a mut State, session: &Session) -> Result<&'a mut Line, BrokerError> {
        let takes_tasks = session.takes_tasks.load(Ordering::SeqCst);
        let may_be = |connection: &Arc<Connection>| !takes_tasks || !Arc::ptr_eq(connection, &session.connection);
        match state {
            State::Closed => return Err(lost("it was closed")),
            State::Open(line) if line.connection.status().connected() && may_be(&line.connection) => {}
            State::Open(_) | State::Unopened => {
                let connection = match takes_tasks {
                    true => Arc::new(self.connector.connect(self.role).await?),
                    false if session.connection.status().connected() => Arc::clone(&session.connection),
                    false => return Err(lost("the broker closed it")),
                };
                let (channel, declared, sending, doubtful) = (None, HashSet::new(), None, false);
                *state = State::Open(Box::new(Line { connection, channel, declared, sending, doubtful }));
            }
        }
        match state {
            State::Open(line) => Ok(line),
            State::Closed | State::Unopened => unreachable!("it was opened above"),
        }
    }

    /// By which it sends now.
    #[cfg(test)]
    pub(super) async fn connection(&self) -> Option<Arc<Connection>> {
        match &*self.line.lock().await {
            State::Open(line) => Some(Arc::clone(&line.connection)),
            State::Unopened | State::Closed => None,
        }
    }

    pub(super) async fn close(&self) {
        let state = std::mem::replace(&mut *self.line.lock().await, State::Closed);
        if let State::Open(line) = state {
            super::close(&line.connection).await;
        }
    }
}

impl Line {
    /// A channel, when all the exchanges are there.
    async fn ready(&mut self, topic: Topic, publications: &[Publication]) -> Result<Channel, Failure> {
        let usable = self.channel.take().filter(|channel| channel.status().connected());
        // A channel ends when an exchange is missing, since somebody has deleted one that we had found, or
        // when we may not write to it, which is told when it is too late.
        self.doubtful |= usable.is_none() && !self.declared.is_empty();
        if usable.is_none() || self.declared.len() > DECLARED_MAX {
            self.declared.clear();
        }
        for Publication { route: Route { exchange, .. }, .. } in publications {
            if !self.declared.contains(exchange) {
                Declarer::new(&self.connection, Peer::RABBITMQ).ensure_topic(exchange, topic).await?;
                self.declared.insert(exchange.clone());
            }
        }
        let channel = match usable {
            Some(channel) => channel,
            None => channel::open(&self.connection).await?,
        };
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// What could not be sent is an error only if nothing can be sent any more, or never could.
    fn judge(&mut self, sent: Result<(), BrokerError>) -> Result<(), BrokerError> {
        match sent {
            Ok(()) => {
                self.doubtful = false;
                Ok(())
            }
            Err(error) if !self.connection.status().connected() => Err(lost(error)),
            Err(error) if !error.is_transient() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns when all of these are written to the connection and, if that is to be asked, when the broker has
/// taken them or refused one.
async fn send_all(channel: Channel, publications: Vec<Publication>, asks: bool) -> Result<(), BrokerError> {
    for part in publications.chunks(PIPELINE_MAX) {
        let mut sending = Vec::with_capacity(part.len());
        for publication in part {
            let future = Box::pin(send(&channel, publication, false)?);
            sending.push((publication, started(future).await));
        }
        for (publication, mut sent) in sending {
            (&mut sent).await;
            if let Some(Err(error)) = Pin::new(&mut sent).take_output() {
                let failure = Failure::Amqp(error);
                // Nobody has listened there since somebody deleted the exchange.
                return if failure.is_missing() { Ok(()) } else { Err(publish_error(&publication.route, failure)) };
            }
        }
    }
    let (true, Some(last)) = (asks, publications.last()) else { return Ok(()) };
    // Any question will do: it is answered after what came before it on this channel.
    match timely(channel.basic_qos(0, BasicQosOptions { global: false })).await {
        Err(failure) if !failure.is_missing() => Err(publish_error(&last.route, failure)),
        _ => Ok(()),
    }
}
