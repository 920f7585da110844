//! Names of queues at SQS, as kombu makes them (kombu/transport/SQS `entity_name`).
//!
//! Different names may become the same one: `a.b` and `a-b` share a queue, as they do for Python workers.

/// What ends the name of a FIFO queue, and of no other.
pub(super) const FIFO: &str = ".fifo";

/// A dot becomes a hyphen, all other punctuation an underscore; only the `.fifo` at the end stays.
pub(super) fn at_sqs(prefix: &str, queue: &str) -> String {
    let name = format!("{prefix}{queue}");
    match name.strip_suffix(FIFO) {
        Some(stem) => translated(stem) + FIFO,
        None => translated(&name),
    }
}

pub(super) fn is_fifo(name: &str) -> bool {
    name.ends_with(FIFO)
}

fn translated(name: &str) -> String {
    let character = |character: char| match character {
        '.' => '-',
        '-' | '_' => character,
        _ if character.is_ascii_punctuation() => '_',
        _ => character,
    };
    name.chars().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kombus() {
        assert_eq!(at_sqs("", "celery"), "celery");
        assert_eq!(at_sqs("", "images.resize-it_now"), "images-resize-it_now");
        assert_eq!(at_sqs("prod-", "a@b:c/d"), "prod-a_b_c_d");
        assert_eq!(at_sqs("app.", "orders.eu.fifo"), "app-orders-eu.fifo");
        assert_eq!(at_sqs("", "orders.fifo.dead"), "orders-fifo-dead");
        assert!(is_fifo("orders.fifo") && !is_fifo("orders-fifo-dead"));
    }
}
