//! Where the call of a task is published to, and what has to be there before (celery/app/routes.py,
//! celery/app/amqp.py `send_task_message`).
//!
//! Creates nothing: whoever publishes does.

use crate::message::Route;
use crate::name::QueueName;
use crate::queue::{ExchangeKind, Queue, Queues};

/// What a call itself says about where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Destination {
    pub queue: Option<QueueName>,
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
}

impl Destination {
    /// To this queue.
    pub fn queue(name: QueueName) -> Self {
        Self { queue: Some(name), ..Self::default() }
    }

    /// True if it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    pub route: Route,
    /// As Celery's producers do it: the first who speaks of a queue creates it. None where a call names an
    /// exchange, which somebody else has made.
    pub queue: Option<Queue>,
}

/// Finds the way of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    pub queues: Queues,
    /// Where a call goes that says nothing.
    pub default_queue: QueueName,
    /// Queues that are not defined may be spoken of (`task_create_missing_queues`).
    pub creates_missing: bool,
}

/// A call names a queue that nobody has defined, and none may be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("queue `{0}` is not defined; write [queues.\"{0}\"] in host.toml, or task.create_missing_queues = true")]
pub struct QueueNotFound(pub QueueName);

impl Router {
    /// The way to a destination.
    pub fn route(&self, destination: &Destination) -> Result<Routed, QueueNotFound> {
        let Destination { queue, exchange, routing_key } = destination;
        if let (None, Some(exchange)) = (queue, exchange) {
            let route = Route { exchange: exchange.clone(), routing_key: routing_key.clone().unwrap_or_default() };
            return Ok(Routed { route, queue: None });
        }
        let name = queue.as_ref().unwrap_or(&self.default_queue);
        if !self.creates_missing && *name != self.default_queue && !self.queues.defines(name) {
            return Err(QueueNotFound(name.clone()));
        }
        let queue = self.queues.get(name);
        let through = |exchange: &String, key: &String| Route { exchange: exchange.clone(), routing_key: key.clone() };
        let route = match (exchange, routing_key) {
            (Some(exchange), Some(key)) => through(exchange, key),
            // A direct exchange would lead nowhere but to the queue; other keys are of no use to it.
            (None, Some(key)) if queue.exchange.kind != ExchangeKind::Direct => through(&queue.exchange.name, key),
            (Some(exchange), None) if queue.exchange.kind != ExchangeKind::Direct => {
                through(exchange, &queue.routing_key)
            }
            _ if queue.broadcast => through(&queue.exchange.name, &queue.routing_key),
            _ => Route::queue(&queue.name),
        };
        Ok(Routed { route, queue: Some(queue) })
    }
}

impl Default for Router {
    /// Celery's.
    fn default() -> Self {
        let default_queue = QueueName::parse("celery").expect("it is a name");
        Self { queues: Queues::default(), default_queue, creates_missing: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Exchange;

    fn name(text: &str) -> QueueName {
        QueueName::parse(text).expect("a name")
    }

    fn router() -> Router {
        let mut router = Router { default_queue: name("default"), ..Router::default() };
        let exchange = |name: &str, kind| Exchange { name: name.to_owned(), kind };
        let topic = Queue { exchange: exchange("media", ExchangeKind::Topic), ..Queue::named(name("images")) };
        router.queues.define(Queue { routing_key: "image.#".to_owned(), ..topic });
        let all = Queue { exchange: exchange("news", ExchangeKind::Fanout), ..Queue::named(name("news")) };
        router.queues.define(Queue { routing_key: String::new(), broadcast: true, ..all });
        router
    }

    #[track_caller]
    fn check(queue: &str, exchange: &str, routing_key: &str, expected: &str) {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let queue = given(queue).map(|text| name(&text));
        let destination = Destination { queue, exchange: given(exchange), routing_key: given(routing_key) };
        let Routed { route, queue } = router().route(&destination).expect("queues are made");
        let declared = queue.map_or("nothing".to_owned(), |queue| queue.name.to_string());
        assert_eq!(format!("{}/{} {declared}", route.exchange, route.routing_key), expected, "{destination:?}");
    }

    #[test]
    fn a_call_goes_straight_to_its_queue_unless_it_names_a_key_or_an_exchange() {
        check("", "", "", "/default default");
        check("mail", "", "", "/mail mail");
        check("mail", "", "ignored", "/mail mail");
        check("", "", "ignored", "/default default");
        check("images", "", "", "/images images");
        check("images", "", "image.png", "media/image.png images");
        check("images", "other", "image.png", "other/image.png images");
        check("images", "other", "", "other/image.# images");
        check("mail", "other", "key", "other/key mail");
        check("mail", "other", "", "/mail mail");
        check("news", "", "", "news/ news");
        check("", "other", "key", "other/key nothing");
        check("", "other", "", "other/ nothing");
    }

    #[test]
    fn no_queue_is_made_for_a_call_if_none_may_be() {
        let strict = Router { creates_missing: false, ..router() };
        for known in ["images", "default"] {
            assert!(strict.route(&Destination::queue(name(known))).is_ok(), "{known}");
        }
        assert!(strict.route(&Destination::default()).is_ok());
        let refused = strict.route(&Destination::queue(name("mail"))).expect_err("nobody has defined it");
        let expected = "queue `mail` is not defined; write [queues.\"mail\"] in host.toml, or \
                        task.create_missing_queues = true";
        assert_eq!(refused.to_string(), expected);
    }
}
