//! Celery's rpc backend: every result is a message to the client that sent the task.
//!
//! Nothing is stored, and the queue belongs to the client: it is never declared here. How a message is
//! sent is the affair of the [`ReplySender`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::chord::ChordStyle;
use taskhost_core::protocol::codec::Format;
use taskhost_core::protocol::document;
use taskhost_core::{Headers, Message, Properties, Publication, ResultRecord, Route, StoredResult, TaskId};

use crate::cause::Cause;
use crate::port::{ReplySender, ResultStore, StoreError};

/// AMQP's number for a message that need not survive the broker; Celery's default for results.
const TRANSIENT: u8 = 1;

/// Sends results instead of storing them.
pub struct RpcStore {
    replies: Arc<dyn ReplySender>,
    format: Format,
}

impl RpcStore {
    /// A store that sends through `replies`.
    pub fn new(replies: Arc<dyn ReplySender>, format: Format) -> Self {
        Self { replies, format }
    }
}

/// The message for a record; none if its client did not say where it listens.
pub(crate) fn reply(record: &ResultRecord, format: &Format) -> Option<Publication> {
    let reply_to = record.reply_to.as_deref().filter(|queue| !queue.is_empty())?;
    let correlation_id = record.correlation_id.as_deref().unwrap_or(record.id.as_str());
    let (content_type, content_encoding) = format.content_type();
    let properties = Properties {
        content_type: Some(content_type.to_owned()),
        content_encoding: Some(content_encoding.to_owned()),
        correlation_id: Some(correlation_id.to_owned()),
        delivery_mode: Some(TRANSIENT),
        ..Properties::default()
    };
    Some(Publication {
        message: Message { properties, headers: Headers::default(), body: document::encode_as(record, format) },
        route: Route { exchange: String::new(), routing_key: reply_to.to_owned() },
    })
}

#[async_trait]
impl ResultStore for RpcStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        let replies: Vec<Option<Publication>> = records.iter().map(|record| reply(record, &self.format)).collect();
        let wanted: Vec<bool> = replies.iter().map(Option::is_some).collect();
        let replies: Vec<Publication> = replies.into_iter().flatten().collect();
        let cause = match replies.is_empty() {
            true => None,
            false => self.replies.send(replies).await.err().map(Cause::transient),
        };
        let answer = |(record, wanted): (&ResultRecord, bool)| match &cause {
            Some(cause) if wanted => Err(cause.clone().operation("send", &record.id)),
            _ => Ok(()),
        };
        records.iter().zip(wanted).map(answer).collect()
    }

    async fn get(&self, _id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        Err(StoreError::Unsupported { store: "rpc", operation: "read except by the client which sent the task" })
    }

    async fn forget(&self, _id: &TaskId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changed(&self, _id: &TaskId, within: Duration) {
        tokio::time::sleep(within).await;
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Refused("rpc")
    }

    fn is_durable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use taskhost_core::State;

    use super::*;
    use crate::conformance::record;
    use crate::port::{BoxError, LeaveError};

    #[derive(Default)]
    struct Sent {
        publications: Mutex<Vec<Publication>>,
        broken: bool,
    }

    #[async_trait]
    impl ReplySender for Sent {
        async fn send(&self, replies: Vec<Publication>) -> Result<(), BoxError> {
            self.publications.lock().unwrap().extend(replies);
            if self.broken { Err("connection reset".into()) } else { Ok(()) }
        }

        async fn leave(&self, _results: Vec<Publication>, _expires: Duration) -> Vec<Result<(), LeaveError>> {
            unreachable!("replies go to queues that are there")
        }
    }

    fn id(text: &str) -> TaskId {
        TaskId::parse(text).unwrap()
    }

    fn asked(text: &str) -> ResultRecord {
        ResultRecord { reply_to: Some("client-queue".into()), ..record(&id(text), State::Success, "5") }
    }

    #[tokio::test]
    async fn a_result_goes_to_the_queue_of_its_client() {
        let sent = Arc::new(Sent::default());
        let store = RpcStore::new(sent.clone(), Format::default());
        let correlated = ResultRecord { correlation_id: Some("c-2".into()), ..asked("t-2") };
        let silent = record(&id("t-3"), State::Success, "5");
        let answers = store.put(&[asked("t-1"), correlated, silent]).await;
        assert!(answers.len() == 3 && answers.iter().all(Result::is_ok));

        let sent = sent.publications.lock().unwrap();
        let routes: Vec<_> = sent
            .iter()
            .map(|p| (p.route.routing_key.as_str(), p.message.properties.correlation_id.as_deref()))
            .collect();
        assert_eq!(routes, [("client-queue", Some("t-1")), ("client-queue", Some("c-2"))]);
        assert_eq!(sent[0].route.exchange, "");
        assert_eq!(sent[0].message.properties.delivery_mode, Some(1));
        assert_eq!(sent[0].message.properties.reply_to, None);
        assert_eq!(sent[0].message.body, document::encode(&asked("t-1")));
    }

    #[tokio::test]
    async fn a_broken_sender_fails_only_what_was_to_be_sent() {
        let store = RpcStore::new(Arc::new(Sent { broken: true, ..Sent::default() }), Format::default());
        let answers = store.put(&[asked("t-1"), record(&id("t-2"), State::Success, "5")]).await;
        assert!(answers[0].as_ref().is_err_and(StoreError::is_transient));
        assert!(answers[1].is_ok());
    }

    #[tokio::test]
    async fn there_are_no_chords_over_rpc() {
        let store: Arc<dyn ResultStore> = Arc::new(RpcStore::new(Arc::new(Sent::default()), Format::default()));
        crate::conformance::chords::run(&store).await;
        let error = store.save_group("g", &taskhost_core::Json::null()).await.unwrap_err();
        assert_eq!(error.to_string(), "the rpc result store does not keep groups");
    }

    #[tokio::test]
    async fn rpc_results_cannot_be_read() {
        let error = RpcStore::new(Arc::new(Sent::default()), Format::default()).get(&id("t-1")).await.unwrap_err();
        assert_eq!(error.to_string(), "rpc results cannot be read except by the client which sent the task");
        assert!(!error.is_transient());
    }
}
