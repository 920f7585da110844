//! Messages that are kept aside, with what is known about them, and their way back: dead letters, and
//! parked ones whose task is to come.
//!
//! Knows their form; which message dies is decided in `settle`.

use crate::message::{DELIVERY_COUNT_HEADER, HeaderValue, Headers, Message, Publication, Route};
use crate::name::QueueName;

/// Dead letters of a queue are in the queue with this behind its name.
pub const SUFFIX: &str = ".dead";

/// Messages of a queue that wait until a plugin has their task are in the queue with this behind its name.
pub const PARKED_SUFFIX: &str = ".parked";

const REASON_HEADER: &str = "x-dead-reason";
const ERROR_HEADER: &str = "x-dead-error";
const COUNT_HEADER: &str = "x-dead-count";
const QUEUE_HEADER: &str = "x-dead-queue";

/// Why a message is kept aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason<'a> {
    /// One word, such as `delivery_limit`.
    pub reason: &'a str,
    /// What is known about it, for people.
    pub error: &'a str,
    /// How often the message was delivered.
    pub count: u32,
}

/// The queue for the dead letters of a queue; none if its name would be too long.
pub fn queue(of: &QueueName) -> Option<QueueName> {
    QueueName::parse(&format!("{of}{SUFFIX}")).ok()
}

/// The queue for the parked messages of a queue; none if its name would be too long.
pub fn parked_queue(of: &QueueName) -> Option<QueueName> {
    QueueName::parse(&format!("{of}{PARKED_SUFFIX}")).ok()
}

/// What became of a message that lost worker after worker, in words.
pub fn undeliverable(deliveries: u32) -> String {
    format!("delivered {deliveries} times, and each time the worker was lost")
}

/// The message as it is kept aside.
pub fn letter(message: &Message, queue: &QueueName, reason: &Reason<'_>) -> Message {
    let mut letter = message.clone();
    letter.headers.remove(|name| name == DELIVERY_COUNT_HEADER);
    letter.headers.set(REASON_HEADER, HeaderValue::Text(reason.reason.to_owned()));
    letter.headers.set(ERROR_HEADER, HeaderValue::Text(reason.error.to_owned()));
    letter.headers.set(COUNT_HEADER, HeaderValue::Int(i64::from(reason.count)));
    letter.headers.set(QUEUE_HEADER, HeaderValue::Text(queue.to_string()));
    // It is to stay until somebody looks at it.
    letter.properties.expiration = None;
    letter
}

/// Why this message was kept aside; `None` if it says nothing about that.
pub fn reason(headers: &Headers) -> Option<Reason<'_>> {
    let text = |name| match headers.get(name) {
        Some(HeaderValue::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let count = match headers.get(COUNT_HEADER) {
        Some(HeaderValue::Int(count)) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    };
    Some(Reason { reason: text(REASON_HEADER)?, error: text(ERROR_HEADER).unwrap_or_default(), count })
}

/// The message as it was, on its way back to the queue that it came from; `aside` is where it lies now.
pub fn revive(mut letter: Message, aside: &QueueName) -> Option<Publication> {
    let home = match letter.headers.get(QUEUE_HEADER) {
        Some(HeaderValue::Text(queue)) => QueueName::parse(queue).ok(),
        _ => {
            let name = aside.as_str();
            let home = name.strip_suffix(SUFFIX).or_else(|| name.strip_suffix(PARKED_SUFFIX));
            home.and_then(|queue| QueueName::parse(queue).ok())
        }
    }?;
    letter.headers.remove(|name| name.starts_with("x-dead-") || name == DELIVERY_COUNT_HEADER);
    Some(Publication { message: letter, route: Route::queue(&home) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> QueueName {
        QueueName::parse(text).expect("valid")
    }

    #[test]
    fn a_dead_letter_says_why_and_comes_back_as_it_was() {
        let mut message = Message { body: "x".into(), ..Message::default() };
        message.headers.set("task", HeaderValue::Text("tasks.add".to_owned()));
        let before = message.clone();
        message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(20));
        message.properties.expiration = Some("60000".to_owned());

        let why = Reason { reason: "delivery_limit", error: "lost", count: 20 };
        let letter = letter(&message, &name("celery"), &why);
        assert_eq!(reason(&letter.headers), Some(why));
        let back = revive(letter, &name("celery.dead")).expect("it knows its home");
        assert_eq!(back, Publication { message: before, route: Route::queue(&name("celery")) });
    }

    #[test]
    fn a_letter_of_somebody_else_goes_where_the_name_says() {
        let route = |dead| revive(Message::default(), &name(dead)).map(|back| back.route.routing_key);
        assert_eq!(route("images.dead"), Some("images".to_owned()));
        assert_eq!(route("images.parked"), Some("images".to_owned()));
        assert_eq!(route("images"), None);
        assert_eq!(reason(&Headers::default()), None);
    }

    #[test]
    fn a_queue_with_the_longest_name_has_no_room_for_the_dead() {
        assert_eq!(queue(&name("celery")), Some(name("celery.dead")));
        assert_eq!(queue(&name(&"q".repeat(255))), None);
    }
}
