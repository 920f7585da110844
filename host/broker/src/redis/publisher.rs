//! Puts messages into the lists of their queues, or on the channels of their exchanges.

use redis::Pipeline;
use taskhost_core::protocol::envelope;
use taskhost_core::{Publication, Route};
use uuid::Uuid;

use super::bindings::Bindings;
use super::connection::Connection;
use super::failure::Failure;
use super::layout::Layout;
use crate::broadcast::Topic;
use crate::port::BrokerError;

/// Most messages, and about how many bytes, that are sent in one go.
const BATCH_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// How long replies stay for somebody who has asked and does not read. Nobody else would delete them if he is
/// gone.
const REPLY_EXPIRES_MS: u32 = 60_000;

/// The publishing side of a broker.
pub(super) struct Publisher {
    pub(super) connection: Connection,
}

/// Commands that are not sent yet.
#[derive(Default)]
struct Batch {
    commands: Pipeline,
    messages: usize,
    bytes: usize,
    /// Where the last message went: the next for the same list needs no command of its own.
    list: Option<String>,
}

/// Why something was not published, and which of them.
pub(super) enum Unpublished<'a> {
    Failed(&'a Route, Failure),
    /// The others were published.
    Unroutable(&'a Route),
}

impl Publisher {
    /// Publishes all for which there is a queue.
    pub(super) async fn publish<'a>(
        &self,
        publications: &'a [Publication],
        layout: &Layout,
        bindings: &Bindings,
    ) -> Result<(), Unpublished<'a>> {
        let mut batch = Batch::default();
        let mut unroutable = None;
        for publication in publications {
            let route = &publication.route;
            let failed = |failure| Unpublished::Failed(route, failure);
            if !self.add(&mut batch, publication, layout, bindings).await.map_err(failed)? {
                unroutable.get_or_insert(route);
            }
            if batch.messages >= BATCH_MAX || batch.bytes >= BATCH_BYTES_MAX {
                self.send(&mut batch).await.map_err(failed)?;
            }
        }
        if let Some(last) = publications.last() {
            self.send(&mut batch).await.map_err(|failure| Unpublished::Failed(&last.route, failure))?;
        }
        unroutable.map_or(Ok(()), |route| Err(Unpublished::Unroutable(route)))
    }

    /// False if no queue takes it.
    async fn add(
        &self,
        batch: &mut Batch,
        Publication { message, route }: &Publication,
        layout: &Layout,
        bindings: &Bindings,
    ) -> Result<bool, Failure> {
        let encode = || envelope::encode(message, route, &Uuid::new_v4().hyphenated().to_string());
        let Route { exchange, routing_key } = route;
        if bindings.is_fanout(exchange) {
            let envelope = encode();
            batch.bytes += envelope.len();
            batch.messages += 1;
            batch.list = None;
            batch.commands.cmd("PUBLISH").arg(layout.channel(exchange, routing_key)).arg(envelope).ignore();
            return Ok(true);
        }
        let priority = message.properties.priority.unwrap_or(0);
        let queues = bindings.lookup(&self.connection, exchange, routing_key).await?;
        for queue in &queues {
            // Each copy has a tag of its own: kombu would confuse copies of one message.
            batch.push(layout.list(queue, priority), encode());
        }
        Ok(!queues.is_empty())
    }

    /// Sends to whoever listens.
    pub(super) async fn broadcast(
        &self,
        topic: Topic,
        publications: &[Publication],
        layout: &Layout,
        bindings: &Bindings,
    ) -> Result<(), Failure> {
        for part in publications.chunks(BATCH_MAX) {
            let mut commands = Pipeline::with_capacity(part.len());
            for Publication { message, route } in part {
                let Route { exchange, routing_key } = route;
                let envelope = envelope::encode(message, route, &Uuid::new_v4().hyphenated().to_string());
                if matches!(topic, Topic::Mailboxes | Topic::Events) {
                    commands.cmd("PUBLISH").arg(layout.channel(exchange, routing_key)).arg(envelope).ignore();
                    continue;
                }
                for queue in bindings.lookup(&self.connection, exchange, routing_key).await? {
                    let list = layout.list(&queue, 0);
                    commands.cmd("LPUSH").arg(&list).arg(&envelope).ignore();
                    commands.cmd("PEXPIRE").arg(&list).arg(REPLY_EXPIRES_MS).ignore();
                }
            }
            if !commands.is_empty() {
                self.connection.run_all(&commands).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, batch: &mut Batch) -> Result<(), Failure> {
        let Batch { commands, messages, .. } = std::mem::take(batch);
        if messages == 0 {
            return Ok(());
        }
        self.connection.run_all(&commands).await.map(drop)
    }
}

impl Batch {
    fn push(&mut self, list: String, envelope: String) {
        self.messages += 1;
        self.bytes += envelope.len();
        if self.list.as_ref() != Some(&list) {
            self.commands.cmd("LPUSH").arg(&list).ignore();
            self.list = Some(list);
        }
        self.commands.arg(envelope);
    }
}

impl Unpublished<'_> {
    pub(super) fn into_error(self) -> BrokerError {
        match self {
            Self::Unroutable(Route { exchange, routing_key }) => {
                BrokerError::Unroutable { exchange: exchange.clone(), routing_key: routing_key.clone() }
            }
            Self::Failed(Route { exchange, routing_key }, failure) => failure.into_error(|source, transient| {
                let (exchange, routing_key) = (exchange.clone(), routing_key.clone());
                BrokerError::Publish { exchange, routing_key, source, transient }
            }),
        }
    }
}
