//! A queue as `active_queues` shows it: kombu's `Queue.as_dict(recurse=True)`, with every key that it has.

use crate::protocol::content::{Json, MapWriter};
use crate::queue::{ExchangeKind, Queue, QueueKind};

/// What a queue is, in kombu's words.
pub fn queue_facts(queue: &Queue) -> Json {
    let kind = match queue.exchange.kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Headers => "headers",
    };
    let mut exchange = MapWriter::new();
    exchange
        .put("name", &queue.exchange.name)
        .put("type", kind)
        .put("arguments", &Json::null())
        .put("durable", &true)
        .put("passive", &false)
        .put("auto_delete", &false)
        .put("delivery_mode", &Json::null())
        .put("no_declare", &false);
    let mut arguments = MapWriter::new();
    let has_arguments = queue.kind == QueueKind::Quorum || queue.max_priority.is_some();
    if queue.kind == QueueKind::Quorum {
        arguments.put("x-queue-type", "quorum");
    }
    arguments.put_some("x-max-priority", queue.max_priority.as_ref());
    let binding = queue.binding_arguments.iter().map(|(name, value)| (name, value));
    let binding = (!queue.binding_arguments.is_empty()).then(|| Json::object(binding));
    let mut facts = MapWriter::new();
    facts
        .put("name", queue.name.as_str())
        .put("exchange", &exchange.finish())
        .put("routing_key", &queue.routing_key)
        .put("queue_arguments", &has_arguments.then(|| arguments.finish()))
        .put("binding_arguments", &binding)
        .put("consumer_arguments", &Json::null())
        .put("durable", &true)
        .put("exclusive", &false)
        .put("auto_delete", &queue.broadcast)
        .put("no_ack", &false)
        .put("alias", &queue.broadcast.then(|| queue.name.as_str()))
        .put("bindings", &Json::empty_list());
    for key in ["no_declare", "expires", "message_ttl", "max_length", "max_length_bytes", "max_priority"] {
        facts.put(key, &Json::null());
    }
    facts.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::QueueName;
    use crate::queue::Queues;

    #[test]
    fn a_queue_has_the_keys_of_kombu() {
        let name = QueueName::parse("celery").expect("a name");
        // As a Python worker of Celery 5.7 answers.
        let expected = r#"{"name": "celery", "exchange": {"name": "celery", "type": "direct", "arguments": null, "durable": true, "passive": false, "auto_delete": false, "delivery_mode": null, "no_declare": false}, "routing_key": "celery", "queue_arguments": null, "binding_arguments": null, "consumer_arguments": null, "durable": true, "exclusive": false, "auto_delete": false, "no_ack": false, "alias": null, "bindings": [], "no_declare": null, "expires": null, "message_ttl": null, "max_length": null, "max_length_bytes": null, "max_priority": null}"#;
        assert_eq!(queue_facts(&Queue::named(name.clone())).to_string(), expected);
        let quorum = queue_facts(&Queues::new(QueueKind::Quorum, Some(10)).get(&name));
        assert_eq!(
            quorum.get("queue_arguments").map(|it| it.to_string()).as_deref(),
            Some(r#"{"x-queue-type": "quorum"}"#)
        );
        let classic = queue_facts(&Queues::new(QueueKind::Classic, Some(10)).get(&name));
        assert_eq!(
            classic.get("queue_arguments").map(|it| it.to_string()).as_deref(),
            Some(r#"{"x-max-priority": 10}"#)
        );
    }
}
