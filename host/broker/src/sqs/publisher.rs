//! Publishes: by queue, in batches, and again if the queue has gone meanwhile.

use taskhost_core::{Publication, QueueName, Route};

use super::batch::{self, Outgoing};
use super::failure::{Failure, Kind};
use super::queues::Queues;
use super::{delay, text};
use crate::kombu;
use crate::port::BrokerError;

/// What SQS takes at most as one message. A queue may allow less, and then says so itself.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Publishes all of these; those of one queue together.
pub(super) async fn publish(queues: &Queues, publications: &[Publication]) -> Result<(), BrokerError> {
    let in_base64 = queues.options().sqs_base64_encoding;
    let mut by_queue: Vec<(QueueName, Vec<(&Route, Outgoing)>)> = Vec::new();
    for Publication { message, route } in publications {
        let queue = match QueueName::parse(&route.routing_key) {
            Ok(queue) if kombu::is_routable(route) => queue,
            _ => {
                let Route { exchange, routing_key } = route.clone();
                return Err(BrokerError::Unroutable { exchange, routing_key });
            }
        };
        let body = text::encode(message, route, in_base64);
        if body.len() > MESSAGE_BYTES_MAX {
            let reason = format!(
                "the message has {} bytes as SQS sees it, and SQS takes {MESSAGE_BYTES_MAX}: keep what is large \
                 elsewhere and send where it is",
                body.len()
            );
            return Err(error(route, Failure::permanent(reason)));
        }
        let (delay, due) = delay::of(&message.headers);
        let outgoing = Outgoing { body, delay, due, group: None };
        match by_queue.iter_mut().find(|(known, _)| *known == queue) {
            Some((_, messages)) => messages.push((route, outgoing)),
            None => by_queue.push((queue, vec![(route, outgoing)])),
        }
    }
    for (queue, messages) in by_queue {
        send(queues, &queue, messages).await?;
    }
    Ok(())
}

async fn send(queues: &Queues, queue: &QueueName, messages: Vec<(&Route, Outgoing)>) -> Result<(), BrokerError> {
    let (mut routes, mut open): (Vec<&Route>, Vec<Outgoing>) = messages.into_iter().unzip();
    // The queue may have been deleted since we met it; once, since then it is made anew.
    for is_last in [false, true] {
        let at = queues.ensure(queue).await.map_err(|failure| error(routes[0], failure))?;
        if at.is_fifo {
            // SQS refuses a delay there: the worker waits.
            open.iter_mut().for_each(|message| (message.delay, message.due) = Default::default());
        }
        let sent = batch::send(&at, &open).await;
        let mut again = Vec::new();
        for (place, sent) in sent.into_iter().enumerate() {
            match sent {
                Ok(()) => {}
                Err(failure) if failure.kind == Kind::NoQueue && !is_last => again.push(place),
                Err(failure) => return Err(error(routes[place], failure)),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        queues.forget(&at);
        routes = again.iter().map(|place| routes[*place]).collect();
        open = again.iter().map(|place| open[*place].clone()).collect();
    }
    Ok(())
}

fn error(route: &Route, failure: Failure) -> BrokerError {
    let Route { exchange, routing_key } = route.clone();
    failure.into_error(|source, transient| BrokerError::Publish { exchange, routing_key, source, transient })
}
