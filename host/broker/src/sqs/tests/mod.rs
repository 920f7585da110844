//! What is special to SQS, against an emulator: kombu's layout, leases, delays, and what the queues' owners set.

mod kombu;
mod leases;
mod trouble;

use std::collections::BTreeMap;

use aws_sdk_sqs::types::QueueAttributeName;
use taskhost_core::{HeaderValue, Message, Route};

use super::*;
use crate::conformance::{self, settle, take, text};
use crate::port::{Acknowledgement, Delivery};

/// How long something that must happen may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing has to happen until we believe that nothing will.
const QUIET: Duration = Duration::from_millis(1500);

/// The URL of the server, if there is one; says so if there is none.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn server() -> Option<String> {
    let url = std::env::var("TASKHOST_TEST_SQS").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("skipped: TASKHOST_TEST_SQS is not set");
    }
    url
}

/// Queues that belong to one test.
struct Bench {
    url: String,
    options: SqsOptions,
}

impl Bench {
    fn new() -> Option<Self> {
        let prefix = format!("t{}-", uuid::Uuid::new_v4().simple());
        let wait_time = Duration::from_secs(2);
        Some(Self {
            url: server()?,
            options: SqsOptions { queue_name_prefix: prefix, wait_time, ..SqsOptions::default() },
        })
    }

    async fn broker(&self) -> SqsBroker {
        SqsBroker::connect(&self.url, &self.options).await.unwrap()
    }

    /// A client of the SDK, past everything of ours.
    async fn clients(&self) -> client::Clients {
        let mut options = self.options.clone();
        let target = address::parse(&self.url, &mut options).unwrap();
        Maker::new(&target, &options).await.unwrap().clients()
    }
}

fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

fn message(text: &str) -> Message {
    let mut message = Message { body: text.to_owned().into(), ..Message::default() };
    message.headers.set("task", HeaderValue::Text("tasks.add".to_owned()));
    message
}

async fn publish(broker: &dyn Broker, to: &str, texts: &[&str]) {
    let publications: Vec<_> =
        texts.iter().map(|text| Publication { message: message(text), route: Route::queue(&queue(to)) }).collect();
    within("publish", broker.publish(&publications)).await.unwrap();
}

async fn consume(broker: &dyn Broker, from: &str, prefetch: u32) -> Box<dyn Consumer> {
    within("consume", broker.consume(&queue(from).into(), prefetch)).await.unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

async fn expect_quiet(consumer: &dyn Consumer) {
    let came = tokio::time::timeout(QUIET, consumer.next()).await;
    assert!(came.is_err(), "{came:?}");
}

fn count(delivery: &Delivery) -> u32 {
    delivery.message.headers.delivery_count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqs_means_what_the_port_means() {
    let Some(url) = server() else { return };
    let options = SqsOptions { wait_time: Duration::from_secs(2), ..SqsOptions::default() };
    let capabilities = conformance::Capabilities {
        knows_unroutable: false,
        priorities: false,
        typed_headers: false,
        knows_taken: false,
        ordered: false,
        // Base64 of the body, in base64.
        body_bytes_max: 500_000,
        ..conformance::Capabilities::ALL
    };
    conformance::run(capabilities, async || Ok(Arc::new(SqsBroker::connect(&url, &options).await?) as Arc<dyn Broker>))
        .await;
}
