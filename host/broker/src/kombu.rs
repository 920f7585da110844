//! What kombu's virtual transports have in common: routes, topics, and the mark of what comes again.
//!
//! Knows no storage. What an envelope looks like is said in `core`.

use taskhost_core::protocol::content::{Json, Kind, MapWriter};
use taskhost_core::{QueueName, Route};

use crate::port::DELIVERY_COUNT_HEADER;

/// Where no exchanges are kept: a queue is bound to the default exchange and to one of its own name, and there are no
/// others.
pub(crate) fn is_routable(Route { exchange, routing_key }: &Route) -> bool {
    (exchange.is_empty() || exchange == routing_key) && QueueName::parse(routing_key).is_ok()
}

/// A topic as the regular expression that kombu stores: `escape_regex` and `key_to_pattern`.
pub(crate) fn pattern(routing_key: &str) -> String {
    let mut escaped = String::with_capacity(routing_key.len() + 8);
    for character in routing_key.chars() {
        if !(character.is_alphanumeric() || matches!(character, '.' | '#' | '*')) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    let words: Vec<&str> = escaped
        .split('.')
        .map(|word| match word {
            "*" => r"[^\.]+",
            "#" => ".*?",
            word => word,
        })
        .collect();
    format!("^{}$", words.join(r"\."))
}

/// As the regular expression that kombu makes of a topic: `*` is one word, `#` is anything, nothing
/// included, but the dots around it have to be there.
pub(crate) fn matches_topic(topic: &str, text: &str) -> bool {
    let (word, rest) = match topic.split_once('.') {
        Some((word, rest)) => (word, Some(rest)),
        None => (topic, None),
    };
    let goes_on = |after: &str| match rest {
        None => after.is_empty(),
        Some(rest) => after.strip_prefix('.').is_some_and(|after| matches_topic(rest, after)),
    };
    match word {
        "#" => text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| goes_on(&text[at..])),
        "*" => {
            let end = text.find('.').unwrap_or(text.len());
            end > 0 && goes_on(&text[end..])
        }
        word => text.strip_prefix(word).is_some_and(goes_on),
    }
}

/// The envelope, marked as kombu marks what it puts back, and counted.
pub(crate) fn marked(envelope: &Json) -> Json {
    let mut marked = MapWriter::new();
    let mut has_headers = false;
    for (key, value) in envelope.members() {
        match (&*key, value.kind()) {
            ("headers", _) => {
                has_headers = true;
                marked.put("headers", &marked_headers(&value));
            }
            ("properties", Kind::Map) => {
                marked.put("properties", &marked_properties(&value));
            }
            _ => {
                marked.put(&key, &value);
            }
        }
    }
    if !has_headers {
        marked.put("headers", &marked_headers(&Json::empty_map()));
    }
    marked.finish()
}

fn marked_headers(headers: &Json) -> Json {
    let mut marked = MapWriter::new();
    let mut count = 0;
    for (key, value) in headers.members() {
        match &*key {
            DELIVERY_COUNT_HEADER => count = value.as_i64().unwrap_or(0),
            "redelivered" => {}
            _ => {
                marked.put(&key, &value);
            }
        }
    }
    marked.put("redelivered", &true).put(DELIVERY_COUNT_HEADER, &count.saturating_add(1));
    marked.finish()
}

fn marked_properties(properties: &Json) -> Json {
    let mut marked = MapWriter::new();
    for (key, value) in properties.members() {
        if key != "delivery_info" || value.kind() != Kind::Map {
            marked.put(&key, &value);
            continue;
        }
        let mut info = MapWriter::new();
        for (key, value) in value.members().filter(|(key, _)| key != "redelivered") {
            info.put(&key, &value);
        }
        info.put("redelivered", &true);
        marked.put("delivery_info", &info.finish());
    }
    marked.finish()
}

/// A message to `celery` as kombu writes it; `headers` and `properties` are members, the latter with a comma behind each.
#[cfg(test)]
pub(crate) fn envelope(body: &str, headers: &str, properties: &str) -> String {
    format!(
        r#"{{"body": "{body}", "content-encoding": "utf-8", "content-type": "text/plain", "headers": {{{headers}}},
            "properties": {{"delivery_mode": 2, {properties} "body_encoding": "utf-8",
            "delivery_info": {{"exchange": "", "routing_key": "celery"}}, "delivery_tag": "t"}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_match_as_in_kombu() {
        // What `re.match(TopicExchange().key_to_pattern(topic), text)` of kombu 5.7 says.
        for (topic, text, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*.b", "a.b", true),
            ("*.b", ".b", false),
            ("*", "a.b", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a.b.c", true),
            ("a.#", "a.", true),
            ("a.#", "a", false),
            ("#.c", "a.b.c", true),
            ("#.c", "c", false),
            ("a.#.d", "a.b.c.d", true),
            ("a.*.d", "a.b.c.d", false),
            ("a.*.#", "a.b.c.d", true),
        ] {
            assert_eq!(matches_topic(topic, text), expected, "{topic} {text}");
        }
    }
}
