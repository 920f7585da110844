//! Against a real server, named by `TASKHOST_TEST_AMQP`.

use std::sync::Arc;

use super::*;
use crate::conformance::{self, Capabilities};

#[expect(clippy::print_stdout, reason = "the runner of the tests counts these lines")]
/// The URL of the server, or a line that says that the test is skipped.
fn server() -> Option<String> {
    let url = std::env::var("TASKHOST_TEST_AMQP").ok();
    if url.is_none() {
        println!("skipped: TASKHOST_TEST_AMQP is not set");
    }
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_passes_the_suite() {
    let Some(url) = server() else { return };
    // Queues are made without `x-max-priority`, as Celery makes them, and classic ones do not count.
    let capabilities =
        Capabilities { priorities: false, json_headers: false, counts_deliveries: false, ..Capabilities::all() };
    let options = ConnectOptions::default();
    conformance::run(capabilities, async || {
        RabbitMq::connect(&url, &options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
    })
    .await;
}
