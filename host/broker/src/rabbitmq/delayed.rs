//! RabbitMQ's way to deliver later: Celery's chain of queues, one for each binary digit of a delay.
//!
//! A message enters at `celery_delayed_27` with its delay as the first 28 words of its routing key. For
//! each digit that is 1 it waits in the queue of that level until its time to live is over. The layout is
//! that of kombu/transport/native_delayed_delivery.py, and both sides may use it at once. Two things are
//! our own:
//!
//! * What we put back is addressed to one queue: `<28 digits>.<queue>.x-put-back`, for which the queue is
//!   bound directly, with exactly 28 wildcards. So it works with direct exchanges, and it does not fit
//!   Celery's bindings (`#.<routing key>`), which would copy it to all queues of an exchange. A queue with
//!   the routing key `#` is the exception: there Celery's binding catches whatever was delayed by anybody,
//!   and [`restore`] tells what is not meant for it.
//! * How the message came is kept in a header meanwhile, with the time to live of its own, which would
//!   push it through the chain too early.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use taskhost_core::{
    DeliveryInfo, ExchangeKind, HeaderValue, Headers, Message, Publication, Queue, QueueKind, Route, Timestamp,
};

use super::declare::{Declarer, QueueOptions, kind_name, short};
use super::failure::Failure;

/// Digits of a delay: eight years.
const LEVELS: u32 = 28;

/// Where messages come out whose delay is over.
pub(super) const EXIT: &str = "celery_delayed_delivery";

/// The last word of the key of what we put back.
const MARK: &str = "x-put-back";

/// The header that holds what [`restore`] restores.
const CAME_BY: &str = "x-came-by";

/// What RabbitMQ writes whenever a message leaves a queue of the chain.
const DEATHS: &str = "x-death";
const DEATH_QUEUES: [(&str, &str); 2] =
    [("x-first-death-queue", "x-first-death-"), ("x-last-death-queue", "x-last-death-")];

/// The name of a level's exchange, and of its queue.
fn level_name(level: u32) -> String {
    format!("celery_delayed_{level}")
}

/// Asks for what nobody can do without RabbitMQ's extensions: to lead one exchange to another. A broker that does not know
/// their queues' arguments either may take them all the same and keep what is in the chain for ever.
pub(super) async fn probe(declarer: &mut Declarer<'_>) -> Result<(), Failure> {
    let last = level_name(0);
    declarer.ensure_exchange(EXIT, ExchangeKind::Topic).await?;
    declarer.ensure_exchange(&last, ExchangeKind::Topic).await?;
    declarer.bind_exchange(EXIT, &last, &pass_key(0)).await
}

/// The key by which a level passes on what has not to wait there.
fn pass_key(level: u32) -> String {
    format!("{}0.#", "*.".repeat((LEVELS - 1 - level) as usize))
}

/// Finds the chain, or makes what is missing of it.
pub(super) async fn ensure(declarer: &mut Declarer<'_>, kind: QueueKind) -> Result<(), Failure> {
    declarer.ensure_exchange(EXIT, ExchangeKind::Topic).await?;
    // From the exit to the entrance, so that nothing enters a chain that ends somewhere.
    for level in 0..LEVELS {
        let name = level_name(level);
        let next = level.checked_sub(1).map_or(EXIT.to_owned(), level_name);
        declarer.ensure_exchange(&name, ExchangeKind::Topic).await?;
        let queue = short(&name)?;
        if declarer.count(&queue).await?.is_none() {
            let options = QueueOptions { arguments: arguments(level, &next, kind), ..QueueOptions::default() };
            match declarer.create_queue(&queue, options).await {
                // A worker with another `broker_native_delayed_delivery_queue_type` was faster.
                Err(failure) if failure.is_conflict() && declarer.count(&queue).await?.is_some() => drop(failure),
                created => created?,
            }
        }
        let before = "*.".repeat((LEVELS - 1 - level) as usize);
        declarer.bind_queue(&queue, &name, &format!("{before}1.#"), FieldTable::default()).await?;
        declarer.bind_exchange(&next, &name, &pass_key(level)).await?;
    }
    Ok(())
}

fn arguments(level: u32, next: &str, kind: QueueKind) -> FieldTable {
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    arguments.insert("x-queue-type".into(), kind_name(kind));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(1000 << level));
    arguments.insert("x-dead-letter-exchange".into(), text(next));
    if kind == QueueKind::Quorum {
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    arguments
}

/// The binding that leads what is put back to its queue.
pub(super) fn binding_key(queue: &str) -> String {
    format!("{}{queue}.{MARK}", "*.".repeat(LEVELS as usize))
}

/// Whether clients may delay what they publish to this queue: they take it for granted that the workers of a quorum
/// queue have made what that needs (celery/worker/consumer/delayed_delivery.py), except behind a direct exchange, which
/// cannot lead a key with a delay to it.
pub(super) fn is_expected(queue: &Queue) -> bool {
    queue.kind == QueueKind::Quorum && queue.exchange.kind != ExchangeKind::Direct && !queue.broadcast
}

/// Celery's bindings: from the exit to a queue's own exchange, and from there to the queue, so that
/// clients can delay what they publish to it.
pub(super) async fn bind_exchange(declarer: &mut Declarer<'_>, queue: &Queue) -> Result<(), Failure> {
    let key = match queue.routing_key.starts_with('#') {
        true => queue.routing_key.clone(),
        false => format!("#.{}", queue.routing_key),
    };
    declarer.bind_exchange(&queue.exchange.name, EXIT, &key).await?;
    let name = short(queue.name.as_str())?;
    declarer.bind_queue(&name, &queue.exchange.name, &key, FieldTable::default()).await
}

/// A publication that comes back to the queue of that name at the broker after a while, a little early
/// rather than late.
pub(super) fn publication(came: &Publication, queue: &str, until: Timestamp, now: Timestamp) -> Publication {
    let Publication { mut message, route: Route { exchange, routing_key } } = came.clone();
    let text = HeaderValue::Text;
    let mut came_by = vec![("exchange".to_owned(), text(exchange)), ("routing_key".to_owned(), text(routing_key))];
    if let Some(expiration) = message.properties.expiration.take() {
        came_by.push(("expiration".to_owned(), text(expiration)));
    }
    message.headers.set(CAME_BY, HeaderValue::Map(came_by));
    let digits = digits(until.since(now));
    Publication {
        message,
        route: Route { exchange: level_name(LEVELS - 1), routing_key: format!("{digits}{queue}.{MARK}") },
    }
}

/// The delay in binary, with a dot after each digit.
fn digits(delay: Duration) -> String {
    let seconds = delay.as_secs().min((1 << LEVELS) - 1);
    let mut digits = String::with_capacity(2 * LEVELS as usize);
    for level in (0..LEVELS).rev() {
        digits.push_str(if seconds >> level & 1 == 1 { "1." } else { "0." });
    }
    digits
}

/// A copy of a message that was put back for another queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stray;

/// Undoes what the chain did to a message that came out of it: the route is again the one by which it was
/// published first, so that a retry finds its way. `at` is the queue's name at the broker.
///
/// What a client sent through the chain does not say which exchange that was: it was the queue's own.
pub(super) fn restore(message: &mut Message, info: &mut DeliveryInfo, queue: &Queue, at: &str) -> Result<(), Stray> {
    let Some(address) = without_digits(&info.routing_key) else { return Ok(()) };
    let put_back_for = address.strip_suffix(MARK).and_then(|address| address.strip_suffix('.'));
    if put_back_for.is_some_and(|other| other != at) {
        return Err(Stray);
    }
    let came_by = match message.headers.get(CAME_BY) {
        Some(HeaderValue::Map(came_by)) if put_back_for.is_some() => came_by.clone(),
        _ => Vec::new(),
    };
    let kept = |key: &str| came_by.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
    (info.exchange, info.routing_key) = match (kept("exchange"), kept("routing_key")) {
        (Some(HeaderValue::Text(exchange)), Some(HeaderValue::Text(routing_key))) => (exchange, routing_key),
        _ if queue.exchange.kind == ExchangeKind::Direct || put_back_for.is_some() => {
            (String::new(), queue.name.to_string())
        }
        _ => (queue.exchange.name.clone(), address.to_owned()),
    };
    if let Some(HeaderValue::Text(expiration)) = kept("expiration") {
        message.properties.expiration = Some(expiration);
    }
    message.headers.remove(|name| name == CAME_BY);
    forget_deaths(&mut message.headers);
    Ok(())
}

/// The rest of a routing key that begins with a delay.
fn without_digits(key: &str) -> Option<&str> {
    let (digits, rest) = key.split_at_checked(2 * LEVELS as usize)?;
    let are_digits = digits.as_bytes().chunks(2).all(|pair| matches!(pair, [b'0' | b'1', b'.']));
    are_digits.then_some(rest)
}

/// Takes away what says that the message was in queues of the chain.
fn forget_deaths(headers: &mut Headers) {
    let in_chain = |value: Option<&HeaderValue>| match value {
        Some(HeaderValue::Text(queue)) => queue.starts_with("celery_delayed_"),
        _ => false,
    };
    for (queue, family) in DEATH_QUEUES {
        if in_chain(headers.get(queue)) {
            headers.remove(|name| name.starts_with(family));
        }
    }
    let Some(HeaderValue::List(mut deaths)) = headers.get(DEATHS).cloned() else { return };
    deaths.retain(|death| match death {
        HeaderValue::Map(death) => !in_chain(death.iter().find(|(key, _)| key == "queue").map(|(_, queue)| queue)),
        _ => true,
    });
    match deaths.is_empty() {
        true => headers.remove(|name| name == DEATHS),
        false => headers.set(DEATHS, HeaderValue::List(deaths)),
    }
}

#[cfg(test)]
mod tests {
    use taskhost_core::{Exchange, QueueName};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

    fn queue(kind: ExchangeKind) -> Queue {
        let exchange = Exchange { name: "work".to_owned(), kind };
        Queue { exchange, ..Queue::named(QueueName::parse("images").unwrap()) }
    }

    fn came(exchange: &str, routing_key: &str) -> Publication {
        let route = Route { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() };
        Publication { message: Message::default(), route }
    }

    fn delivered(routing_key: &str) -> DeliveryInfo {
        DeliveryInfo {
            queue: QueueName::parse("images").unwrap(),
            exchange: "celery_delayed_0".to_owned(),
            routing_key: routing_key.to_owned(),
            redelivered: false,
        }
    }

    #[test]
    fn a_delay_is_28_digits_rounded_down() {
        // kombu's `calculate_routing_key(5, ..)`.
        assert_eq!(digits(Duration::from_secs(5)), format!("{}1.0.1.", "0.".repeat(25)));
        assert_eq!(digits(Duration::from_millis(5999)), digits(Duration::from_secs(5)));
        assert_eq!(digits(Duration::ZERO), "0.".repeat(28));
        assert_eq!(digits(Duration::from_secs(1 << 40)), "1.".repeat(28));
    }

    #[test]
    fn what_is_put_back_comes_back_as_it_was() {
        let mut sent = came("work", "images.large");
        sent.message.properties.expiration = Some("3600000".to_owned());
        sent.message.headers.set("task", HeaderValue::Text("resize".to_owned()));
        let back = publication(&sent, "images", NOW + Duration::from_secs(2), NOW);
        assert_eq!(back.route.exchange, "celery_delayed_27");
        assert_eq!(back.route.routing_key, format!("{}1.0.images.x-put-back", "0.".repeat(26)));
        assert_eq!(back.message.properties.expiration, None);

        let (mut message, mut info) = (back.message, delivered(&back.route.routing_key));
        let death = |queue: &str| HeaderValue::Map(vec![("queue".to_owned(), HeaderValue::Text(queue.to_owned()))]);
        message.headers.set("x-death", HeaderValue::List(vec![death("celery_delayed_1")]));
        message.headers.set("x-first-death-queue", HeaderValue::Text("celery_delayed_1".to_owned()));
        message.headers.set("x-first-death-reason", HeaderValue::Text("expired".to_owned()));
        restore(&mut message, &mut info, &queue(ExchangeKind::Topic), "images").unwrap();
        assert_eq!(message, sent.message);
        assert_eq!((info.exchange.as_str(), info.routing_key.as_str()), ("work", "images.large"));
    }

    #[test]
    fn other_deaths_are_kept() {
        let mut headers = Headers::default();
        let death = |queue: &str| HeaderValue::Map(vec![("queue".to_owned(), HeaderValue::Text(queue.to_owned()))]);
        headers.set("x-death", HeaderValue::List(vec![death("celery_delayed_1"), death("images")]));
        headers.set("x-first-death-queue", HeaderValue::Text("images".to_owned()));
        forget_deaths(&mut headers);
        assert_eq!(headers.get("x-death"), Some(&HeaderValue::List(vec![death("images")])));
        assert!(headers.get("x-first-death-queue").is_some());
    }

    #[test]
    fn what_a_client_delayed_came_by_the_exchange_of_the_queue() {
        let key = format!("{}images.large", digits(Duration::from_secs(9)));
        let mut info = delivered(&key);
        restore(&mut Message::default(), &mut info, &queue(ExchangeKind::Topic), "images").unwrap();
        assert_eq!((info.exchange.as_str(), info.routing_key.as_str()), ("work", "images.large"));
        let mut info = delivered(&key);
        restore(&mut Message::default(), &mut info, &queue(ExchangeKind::Direct), "images").unwrap();
        assert_eq!((info.exchange.as_str(), info.routing_key.as_str()), ("", "images"));
    }

    #[test]
    fn a_copy_for_another_queue_is_known() {
        let back = publication(&came("", "eu.images"), "eu.images", NOW, NOW);
        let mut info = delivered(&back.route.routing_key);
        let (mut message, queue) = (back.message, queue(ExchangeKind::Topic));
        assert_eq!(restore(&mut message, &mut info, &queue, "images"), Err(Stray));
    }

    #[test]
    fn other_routing_keys_are_left_alone() {
        for key in ["images", "0.1.images", "", &"2.".repeat(28), &"0.".repeat(27), &"ü".repeat(40)] {
            let mut info = delivered(key);
            restore(&mut Message::default(), &mut info, &queue(ExchangeKind::Topic), "images").unwrap();
            assert_eq!(info, delivered(key));
        }
    }
}
