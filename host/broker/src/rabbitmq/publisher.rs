//! Publishes, on a connection of its own that is opened when it is first needed.
//!
//! A broker that is short of memory blocks whoever publishes; consumers and their acknowledgements
//! must not wait behind that. Each call has a channel to itself while it lasts, since returned messages
//! can be told apart by channel only.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{MaybeDone, maybe_done};
use futures_util::{Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event};
use taskhost_core::{HeaderValue, Publication, Route};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::channel;
use super::convert;
use super::failure::{Failure, lost, timely};
use super::{Connector, Role};
use crate::port::BrokerError;

/// How long the broker may take to confirm what one call publishes.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(30);

/// Most publications on their way at once in one call: bounds what lapin buffers for us.
pub(super) const PIPELINE_MAX: usize = 256;

/// Most calls that publish at once. A broker allows about two thousand channels a connection.
const CHANNELS_MAX: usize = 64;

/// How often to look, while a confirmation is waited for, whether the broker blocks us.
const CONFIRM_STEP: Duration = Duration::from_secs(1);

/// How often to look whether the broker still blocks us.
const BLOCKED_POLL: Duration = Duration::from_millis(50);

pub(super) struct Publisher {
    connector: Connector,
    line: tokio::sync::Mutex<State>,
}

enum State {
    Unopened,
    Open(Arc<Line>),
    Closed,
}

/// The connection and its channels that are not in use.
struct Line {
    connection: Connection,
    /// Says so when the broker blocks us.
    _telling: Telling,
    idle: Mutex<Vec<Channel>>,
    permits: Semaphore,
    unconfirmed: tokio::sync::Mutex<Option<Channel>>,
}

impl Publisher {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, line: tokio::sync::Mutex::new(State::Unopened) }
    }

    /// Publishes all of these, and waits until each is confirmed.
    pub(super) async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let Some(first) = publications.first() else { return Ok(()) };
        let line = self.ready_line(&first.route).await?;
        let publications = self.suited(publications);
        self.confirmed(&line, &first.route, line.publish(&publications)).await
    }

    /// Publishes all of these, and says of each whether it was taken. An error means that it is not known of
    /// any. If one was returned, it may be another one of these than the one that says so.
    pub(super) async fn publish_each(
        &self,
        publications: &[Publication],
    ) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        let Some(first) = publications.first() else { return Ok(Vec::new()) };
        let line = self.ready_line(&first.route).await?;
        let publications = self.suited(publications);
        self.confirmed(&line, &first.route, line.publish_each(&publications)).await
    }

    /// Publishes all of these, and waits only until they are written to the connection.
    pub(super) async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let Some(first) = publications.first() else { return Ok(()) };
        let line = self.ready_line(&first.route).await?;
        match tokio::time::timeout(PUBLISH_DEADLINE, line.send_unconfirmed(&self.suited(publications))).await {
            Ok(result) => result,
            Err(_) => Err(publish_error(&first.route, Failure::TimedOut(PUBLISH_DEADLINE))),
        }
    }

    /// As the broker understands them.
    fn suited<'a>(&self, publications: &'a [Publication]) -> Cow<'a, [Publication]> {
        let peer = self.connector.peer;
        if peer.expiration_is_a_span && peer.keeps_empty_tables {
            return Cow::Borrowed(publications);
        }
        let mut publications = publications.to_vec();
        for Publication { message, .. } in &mut publications {
            if !peer.expiration_is_a_span {
                message.properties.expiration = None;
            }
            if !peer.keeps_empty_tables {
                message.headers.0.retain(|(_, value)| !matches!(value, HeaderValue::Map(table) if table.is_empty()));
            }
        }
        Cow::Owned(publications)
    }

    /// Waits for the end of a publication, but not for ever.
    async fn confirmed<T>(
        &self,
        line: &Line,
        route: &Route,
        publishing: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let mut publishing = std::pin::pin!(publishing);
        let mut left = PUBLISH_DEADLINE;
        while !left.is_zero() {
            let step = left.min(CONFIRM_STEP);
            if let Ok(result) = tokio::time::timeout(step, &mut publishing).await {
                return result;
            }
            // A broker that blocks us has stopped reading in the midst of what we sent, and will read on: who
            // gave up now and published again would publish twice. A dead connection ends this by heartbeats.
            let waits = self.connector.options.waits_while_blocked && line.connection.status().blocked();
            left = if waits { PUBLISH_DEADLINE } else { left - step };
        }
        let failure = match line.connection.status().blocked() {
            true => Failure::Blocked { may_have_been_sent: true },
            false => Failure::TimedOut(PUBLISH_DEADLINE),
        };
        Err(publish_error(route, failure))
    }

    /// The connection, when it lets us publish. What lapin buffers for a blocked one is published when it is
    /// free again, however long after we have given up on it: so nothing is handed to it before.
    async fn ready_line(&self, route: &Route) -> Result<Arc<Line>, BrokerError> {
        let deadline = Instant::now() + PUBLISH_DEADLINE;
        let late = |failure| publish_error(route, failure);
        let opening = tokio::time::timeout_at(deadline, self.line()).await;
        let line = opening.map_err(|_| late(Failure::TimedOut(PUBLISH_DEADLINE)))??;
        while line.connection.status().blocked() {
            if Instant::now() >= deadline {
                return Err(late(Failure::Blocked { may_have_been_sent: false }));
            }
            tokio::time::sleep(BLOCKED_POLL).await;
        }
        Ok(line)
    }

    pub(super) async fn close(&self) {
        let state = std::mem::replace(&mut *self.line.lock().await, State::Closed);
        if let State::Open(line) = state {
            super::close(&line.connection).await;
        }
    }

    async fn line(&self) -> Result<Arc<Line>, BrokerError> {
        let mut state = self.line.lock().await;
        match &*state {
            State::Closed => return Err(lost("it was closed")),
            State::Open(line) if line.connection.status().connected() => return Ok(Arc::clone(line)),
            State::Open(_) | State::Unopened => {}
        }
        let connection = self.connector.connect(Role::Publish).await?;
        let events = connection.events_listener();
        let line = Arc::new(Line {
            connection,
            _telling: Telling(tokio::spawn(tell(events))),
            idle: Mutex::default(),
            permits: Semaphore::new(CHANNELS_MAX),
            unconfirmed: tokio::sync::Mutex::default(),
        });
        *state = State::Open(Arc::clone(&line));
        Ok(line)
    }
}

/// Ends with its line.
struct Telling(JoinHandle<()>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Line {
    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let mut result = Ok(());
        for part in publications.chunks(PIPELINE_MAX) {
            for each in self.publish_each(part).await? {
                result = result.and(each);
            }
            if !matches!(result, Ok(()) | Err(BrokerError::Unroutable { .. })) {
                return result;
            }
        }
        result
    }

    async fn publish_each(&self, part: &[Publication]) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        let _permit = self.permits.acquire().await.map_err(lost)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let channel = match idle.filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.confirming_channel().await.map_err(lost)?,
        };
        let results = publish_part(&channel, part).await?;
        // A channel that is not put back here is closed by being dropped.
        if results.iter().all(|result| matches!(result, Ok(()) | Err(BrokerError::Unroutable { .. }))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        }
        Ok(results)
    }

    async fn confirming_channel(&self) -> Result<Channel, Failure> {
        let channel = channel::open(&self.connection).await?;
        timely(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let mut unconfirmed = self.unconfirmed.lock().await;
        let channel = match unconfirmed.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => channel::open(&self.connection).await.map_err(lost)?,
        };
        for part in publications.chunks(PIPELINE_MAX) {
            let mut sending = Vec::with_capacity(part.len());
            for publication in part {
                let send = Box::pin(send(&channel, publication, false)?);
                sending.push(started(send).await);
            }
            for mut send in sending {
                (&mut send).await;
                // An error here is the end of the channel: a missing exchange, or a lost connection.
                if let Some(Err(error)) = Pin::new(&mut send).take_output()
                    && !self.connection.status().connected()
                {
                    return Err(lost(error));
                }
            }
        }
        *unconfirmed = Some(channel);
        Ok(())
    }
}

/// Tells the operator when the broker blocks us, and when no longer.
async fn tell(events: impl Stream<Item = Event>) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => warn!(
                reason,
                "the broker blocks whoever publishes ({reason}): tasks that publish wait for it and stay unacknowledged, all others go on"
            ),
            Event::ConnectionUnblocked => info!("the broker blocks publishers no longer"),
            _ => {}
        }
    }
}

/// Sends all of these and then waits for all confirmations.
async fn publish_part(
    channel: &Channel,
    publications: &[Publication],
) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
    let mut sending = Vec::with_capacity(publications.len());
    for publication in publications {
        let send = send(channel, publication, true)?;
        let confirmed = Box::pin(async { send.await?.await });
        sending.push((publication, started(confirmed).await));
    }
    let mut results = Vec::with_capacity(sending.len());
    let mut unexplained = Vec::new();
    for (index, (publication, mut confirmed)) in sending.into_iter().enumerate() {
        (&mut confirmed).await;
        let confirmation = Pin::new(&mut confirmed).take_output().expect("it was awaited once");
        if matches!(confirmation, Ok(Confirmation::Nack(None))) {
            unexplained.push(index);
        }
        results.push(judge(&publication.route, confirmation));
    }
    explain(channel, publications, &mut results, &unexplained).await;
    Ok(results)
}

/// Finds out which of those that were not accepted had nowhere to go. RabbitMQ returns a message and then
/// confirms it; Qpid says first that it does not accept it and then returns it, which lapin tells with whatever is
/// confirmed next.
async fn explain(
    channel: &Channel,
    publications: &[Publication],
    results: &mut [Result<(), BrokerError>],
    unexplained: &[usize],
) {
    let route_of = |result: &Result<(), BrokerError>| match result {
        Err(BrokerError::Unroutable { exchange, routing_key }) => Some((exchange.clone(), routing_key.clone())),
        _ => None,
    };
    let mut returned: Vec<_> = results.iter().filter_map(route_of).collect();
    for &index in unexplained {
        let Route { exchange, routing_key } = &publications[index].route;
        let route = (exchange.clone(), routing_key.clone());
        if !returned.contains(&route) {
            returned.extend(late_return(channel).await);
        }
        if returned.contains(&route) {
            results[index] = Err(BrokerError::Unroutable { exchange: route.0, routing_key: route.1 });
        }
    }
}

/// The route of a message that was returned after it was confirmed, if there is one: it comes with the confirmation of
/// one that nobody gets.
async fn late_return(channel: &Channel) -> Option<(String, String)> {
    let nowhere = ShortString::from(uuid::Uuid::new_v4().to_string());
    let options = BasicPublishOptions { mandatory: false, immediate: false };
    let sent = channel.basic_publish(ShortString::default(), nowhere, options, &[], BasicProperties::default()).await;
    match sent.ok()?.await.ok()? {
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            Some((returned.exchange.to_string(), returned.routing_key.to_string()))
        }
        Confirmation::Ack(None) | Confirmation::Nack(None) | Confirmation::NotRequested => None,
    }
}

/// Polls a future once. lapin's publications are queued, in order, when they are first polled.
pub(super) async fn started<F: Future + Unpin>(future: F) -> MaybeDone<F> {
    let mut future = maybe_done(future);
    let _ = futures_util::poll!(&mut future);
    future
}

pub(super) fn send(
    channel: &Channel,
    publication: &Publication,
    mandatory: bool,
) -> Result<impl Future<Output = lapin::Result<lapin::PublisherConfirm>>, BrokerError> {
    let Publication { message, route } = publication;
    let refuse = |error: lapin::types::ShortStringError| publish_error(route, Failure::Refused(error.to_string()));
    let exchange = ShortString::try_new(route.exchange.as_str()).map_err(refuse)?;
    let routing_key = ShortString::try_new(route.routing_key.as_str()).map_err(refuse)?;
    let properties: BasicProperties = convert::properties(message).map_err(refuse)?;
    let options = BasicPublishOptions { mandatory, immediate: false };
    Ok(channel.basic_publish(exchange, routing_key, options, &message.body, properties))
}

fn judge(route: &Route, confirmation: lapin::Result<Confirmation>) -> Result<(), BrokerError> {
    let nacked = "the broker did not accept it (its queue may be full)";
    match confirmation {
        Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(()),
        // With a confirmation for many, lapin may attach the message to another one of the same call.
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => Err(BrokerError::Unroutable {
            exchange: returned.exchange.to_string(),
            routing_key: returned.routing_key.to_string(),
        }),
        Ok(Confirmation::Nack(None)) => {
            let Route { exchange, routing_key } = route.clone();
            Err(BrokerError::Publish { exchange, routing_key, source: nacked.into(), transient: true })
        }
        Err(error) => {
            let failure = Failure::Amqp(error);
            if failure.is_missing() && !route.exchange.is_empty() {
                let Route { exchange, routing_key } = route.clone();
                return Err(BrokerError::Unroutable { exchange, routing_key });
            }
            Err(publish_error(route, failure))
        }
    }
}

pub(super) fn publish_error(route: &Route, failure: Failure) -> BrokerError {
    let Route { exchange, routing_key } = route.clone();
    let transient = failure.is_transient();
    BrokerError::Publish { exchange, routing_key, source: failure.into(), transient }
}
