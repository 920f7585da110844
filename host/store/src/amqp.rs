//! The `amqp` result backend of Celery 4, as clients in other languages know it: each result is a message in a queue of
//! its own at the broker, named by the id of the task without its dashes (celery/backends/amqp.py).
//!
//! A client that says where it listens, as those of rpc:// do, gets its results there. The others get final states only:
//! gocelery takes one message and looks for no second. Nothing can be read here, since a queue is for one reader.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::chord::ChordStyle;
use taskhost_core::protocol::codec::Format;
use taskhost_core::protocol::document;
use taskhost_core::{Headers, Message, Properties, Publication, ResultRecord, Route, StoredResult, TaskId};

use crate::cause::Cause;
use crate::port::{LeaveError, ReplySender, ResultStore, StoreError};
use crate::rpc::RpcStore;

/// AMQP's number for a message that survives the broker.
const PERSISTENT: u8 = 2;

/// Leaves results at the broker.
pub struct AmqpStore {
    /// For clients that listen.
    rpc: RpcStore,
    replies: Arc<dyn ReplySender>,
    format: Format,
    expires: Duration,
}

impl AmqpStore {
    /// A store that sends through `replies`. A queue that nobody asks for is gone after `expires`; zero is never. Clients
    /// declare their queues, too, and RabbitMQ refuses them if they mean another time: Celery's default suits them.
    pub fn new(replies: Arc<dyn ReplySender>, format: Format, expires: Duration) -> Self {
        Self { rpc: RpcStore::new(replies.clone(), format.clone()), replies, format, expires }
    }

    /// The message for a record; none for what its reader must not see.
    fn left(&self, record: &ResultRecord) -> Option<Publication> {
        if !record.state.is_ready() {
            return None;
        }
        let (content_type, content_encoding) = self.format.content_type();
        let properties = Properties {
            content_type: Some(content_type.to_owned()),
            content_encoding: Some(content_encoding.to_owned()),
            correlation_id: Some(record.id.to_string()),
            delivery_mode: Some(PERSISTENT),
            ..Properties::default()
        };
        let body = document::encode_as(record, &self.format);
        Some(Publication {
            message: Message { properties, headers: Headers::default(), body },
            route: Route { exchange: String::new(), routing_key: record.id.as_str().replace('-', "") },
        })
    }

    async fn leave(&self, records: &[&ResultRecord]) -> Vec<Result<(), StoreError>> {
        let left: Vec<Option<Publication>> = records.iter().map(|record| self.left(record)).collect();
        let wanted: Vec<bool> = left.iter().map(Option::is_some).collect();
        let left: Vec<Publication> = left.into_iter().flatten().collect();
        let mut answers = match left.is_empty() {
            true => Vec::new(),
            false => self.replies.leave(left, self.expires).await,
        }
        .into_iter();
        let failed = |record: &ResultRecord, LeaveError { source, transient }: LeaveError| {
            Cause::new(source, transient).operation("leave", &record.id)
        };
        let answer = |(record, wanted): (&&ResultRecord, bool)| match wanted {
            false => Ok(()),
            true => answers.next().unwrap_or(Ok(())).map_err(|error| failed(record, error)),
        };
        records.iter().zip(wanted).map(answer).collect()
    }
}

#[async_trait]
impl ResultStore for AmqpStore {
    async fn put(&self, records: &[ResultRecord]) -> Vec<Result<(), StoreError>> {
        let listens = |record: &&ResultRecord| record.reply_to.as_ref().is_some_and(|queue| !queue.is_empty());
        let unheard: Vec<&ResultRecord> = records.iter().filter(|record| !listens(record)).collect();
        // Records without a queue to go to are nothing to the other one.
        let (replied, left) = tokio::join!(self.rpc.put(records), self.leave(&unheard));
        let mut left = left.into_iter();
        let answer = |(record, replied): (&ResultRecord, Result<(), StoreError>)| match listens(&record) {
            true => replied,
            false => left.next().unwrap_or(replied),
        };
        records.iter().zip(replied).map(answer).collect()
    }

    async fn get(&self, _id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
        Err(StoreError::Unsupported { store: "amqp", operation: "read except by the client which sent the task" })
    }

    async fn forget(&self, _id: &TaskId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn changed(&self, _id: &TaskId, within: Duration) {
        tokio::time::sleep(within).await;
    }

    fn chords(&self) -> ChordStyle {
        ChordStyle::Refused("amqp")
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
    use crate::port::BoxError;

    #[derive(Default)]
    struct Sent {
        replies: Mutex<Vec<Publication>>,
        left: Mutex<Vec<(Publication, Duration)>>,
    }

    #[async_trait]
    impl ReplySender for Sent {
        async fn send(&self, replies: Vec<Publication>) -> Result<(), BoxError> {
            self.replies.lock().unwrap().extend(replies);
            Ok(())
        }

        async fn leave(&self, results: Vec<Publication>, expires: Duration) -> Vec<Result<(), LeaveError>> {
            let full = |result: &Publication| result.route.routing_key == "full";
            let answers = results.iter().map(|result| match full(result) {
                true => Err(LeaveError { source: "the queue is full".into(), transient: true }),
                false => Ok(()),
            });
            let answers = answers.collect();
            self.left.lock().unwrap().extend(results.into_iter().map(|result| (result, expires)));
            answers
        }
    }

    fn id(text: &str) -> TaskId {
        TaskId::parse(text).unwrap()
    }

    fn store(sent: &Arc<Sent>) -> AmqpStore {
        AmqpStore::new(sent.clone(), Format::default(), Duration::from_secs(86_400))
    }

    #[tokio::test]
    async fn a_result_goes_to_the_queue_of_its_task_or_to_where_its_client_listens() {
        let sent = Arc::new(Sent::default());
        let unheard = record(&id("c0ffee00-1111-4222-8333-444455556666"), State::Success, "5");
        let listening = ResultRecord { reply_to: Some("q".into()), ..record(&id("t-2"), State::Success, "6") };
        let silent = ResultRecord { reply_to: Some(String::new()), ..record(&id("t-3"), State::Failure, "{}") };
        let answers = store(&sent).put(&[unheard.clone(), listening, silent]).await;
        assert!(answers.len() == 3 && answers.iter().all(Result::is_ok));
        let left = sent.left.lock().unwrap();
        let queues: Vec<&str> = left.iter().map(|(result, _)| result.route.routing_key.as_str()).collect();
        assert_eq!(queues, ["c0ffee00111142228333444455556666", "t3"]);
        assert_eq!((left[0].1, left[0].0.message.properties.delivery_mode), (Duration::from_secs(86_400), Some(2)));
        assert_eq!(left[0].0.message.body, document::encode(&unheard));
        let replies = sent.replies.lock().unwrap();
        assert_eq!(replies.iter().map(|reply| reply.route.routing_key.as_str()).collect::<Vec<_>>(), ["q"]);
    }

    #[tokio::test]
    async fn only_a_final_state_is_left() {
        let sent = Arc::new(Sent::default());
        let states = [State::Started, State::Retry, State::Custom("PROGRESS".into()), State::Revoked];
        let records: Vec<ResultRecord> = states.map(|state| record(&id("t"), state, "null")).into();
        assert!(store(&sent).put(&records).await.iter().all(Result::is_ok));
        assert_eq!(sent.left.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn each_result_has_an_answer_of_its_own() {
        let sent = Arc::new(Sent::default());
        let listening = ResultRecord { reply_to: Some("q".into()), ..record(&id("t"), State::Success, "1") };
        let records = [listening, record(&id("full"), State::Success, "1"), record(&id("t"), State::Success, "1")];
        let answers = store(&sent).put(&records).await;
        assert!(answers[0].is_ok() && answers[2].is_ok());
        let error = answers[1].as_ref().unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_transient()), ("leave result of task full", true));
    }

    #[tokio::test]
    async fn there_are_no_chords_and_nothing_to_read() {
        let store: Arc<dyn ResultStore> = Arc::new(store(&Arc::default()));
        crate::conformance::chords::run(&store).await;
        let error = store.get(&id("t")).await.unwrap_err();
        assert_eq!(error.to_string(), "amqp results cannot be read except by the client which sent the task");
    }
}
