//! One parsed invocation of a task, whichever protocol brought it.
//!
//! Does not know what the task is: finding its spec comes later and cannot fail here.

use std::time::Duration;

use crate::message::{DeliveryInfo, HeaderValue, Message, PUT_BACK_HEADER};
use crate::name::{NameError, NodeName, TaskId, TaskName};
use crate::protocol::codec::{BodyError, Codec};
use crate::protocol::content::{Json, MapWriter};
use crate::protocol::{v1, v2};
use crate::timestamp::{Timestamp, TimestampError};

/// A task call as it was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub id: TaskId,
    pub task: TaskName,
    /// Positional arguments: a JSON array.
    pub args: Json,
    /// Keyword arguments: a JSON object.
    pub kwargs: Json,
    /// Callbacks, errbacks, chain and chord: a JSON object or null, not looked into.
    pub embed: Json,
    pub retries: u32,
    pub eta: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    /// Hard time limit of the message; zero counts as none.
    pub time_limit: Option<Duration>,
    pub soft_time_limit: Option<Duration>,
    pub root_id: Option<String>,
    pub parent_id: Option<String>,
    pub group_id: Option<String>,
    /// The message's word on storing the result; none leaves it to the task.
    pub ignore_result: Option<bool>,
    pub replaced_task_nesting: u32,
    /// How the message reached us.
    pub delivery: DeliveryInfo,
    /// The message as it came, which is what a retry is made from. One of protocol 1 is translated to
    /// protocol 2 before, as Celery does when it retries it.
    pub message: Message,
}

impl Request {
    /// Reads a message of any task protocol, if its body is in a form that the codec reads.
    pub fn decode(message: Message, delivery: DeliveryInfo, codec: &Codec) -> Result<Self, DecodeError> {
        match message.headers.get("task") {
            None | Some(HeaderValue::Null) => v1::decode(message, delivery, codec),
            Some(_) => v2::decode(message, delivery, codec),
        }
    }

    /// An earlier delivery of it may have been carried out, here or elsewhere.
    pub fn may_have_come_before(&self) -> bool {
        let headers = &self.message.headers;
        self.delivery.redelivered || headers.delivery_count() > 0 || headers.get(PUT_BACK_HEADER).is_some()
    }

    /// The name to show: the task's, unless the client set another (`shadow`).
    pub fn display_name(&self) -> &str {
        match self.message.headers.get("shadow") {
            Some(HeaderValue::Text(shadow)) if !shadow.is_empty() => shadow,
            _ => self.task.as_str(),
        }
    }

    /// What a task may ask about its call, under the attribute names of Celery's `Context`
    /// (celery/app/task.py). The time limits are those in force.
    pub fn facts(&self, hostname: &NodeName, time_limit: Option<Duration>, soft_time_limit: Option<Duration>) -> Json {
        let properties = &self.message.properties;
        let headers = &self.message.headers;
        let limits = [v2::seconds(time_limit), v2::seconds(soft_time_limit)];
        let mut facts = MapWriter::new();
        facts
            .put("id", self.id.as_str())
            .put("task", self.task.as_str())
            .put("args", &self.args)
            .put("kwargs", &self.kwargs)
            .put("retries", &self.retries)
            .put("root_id", &self.root_id)
            .put("parent_id", &self.parent_id)
            .put("group", &self.group_id)
            .put("group_index", &headers.get("group_index"))
            .put("eta", &self.eta.map(Timestamp::isoformat))
            .put("expires", &self.expires.map(Timestamp::isoformat))
            .put("correlation_id", &properties.correlation_id)
            .put("reply_to", &properties.reply_to)
            .put("hostname", hostname.as_str())
            .put("delivery_info", &self.delivery_facts())
            .put("properties", &self.property_facts())
            .put("headers", &self.custom_headers())
            .put("timelimit", &HeaderValue::List(limits.to_vec()))
            .put("time_limit", &limits[0])
            .put("soft_time_limit", &limits[1])
            .put("ignore_result", &self.ignore_result)
            .put("is_eager", &false)
            .put("called_directly", &false)
            .put("replaced_task_nesting", &self.replaced_task_nesting);
        for key in ["callbacks", "errbacks", "chain", "chord"] {
            facts.put(key, &self.embed.get(key));
        }
        for key in ["shadow", "origin", "lang", "argsrepr", "kwargsrepr", "stamped_headers", "stamps"] {
            facts.put(key, &headers.get(key));
        }
        facts.finish()
    }

    pub(crate) fn delivery_facts(&self) -> Json {
        let mut facts = MapWriter::new();
        facts
            .put("exchange", &self.delivery.exchange)
            .put("routing_key", &self.delivery.routing_key)
            .put("priority", &self.message.properties.priority)
            .put("redelivered", &self.delivery.redelivered);
        facts.finish()
    }

    fn property_facts(&self) -> Json {
        let properties = &self.message.properties;
        let mut facts = MapWriter::new();
        facts
            .put_some("content_type", properties.content_type.as_ref())
            .put_some("content_encoding", properties.content_encoding.as_ref())
            .put_some("correlation_id", properties.correlation_id.as_ref())
            .put_some("reply_to", properties.reply_to.as_ref())
            .put_some("delivery_mode", properties.delivery_mode.as_ref())
            .put_some("priority", properties.priority.as_ref())
            .put_some("expiration", properties.expiration.as_ref())
            .put_some("app_id", properties.app_id.as_ref());
        facts.finish()
    }

    /// The headers that are not Celery's own; null if there are none, as in Celery.
    fn custom_headers(&self) -> Json {
        let custom = self.message.headers.0.iter().filter(|(name, _)| !v2::HEADERS.contains(&name.as_str()));
        let mut map = MapWriter::new();
        let mut is_empty = true;
        for (name, value) in custom {
            map.put(name, value);
            is_empty = false;
        }
        if is_empty { Json::null() } else { map.finish() }
    }
}

/// Why a message is not a request. The acknowledgement of each kind is decided in `settle`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("unknown message: neither header `task` nor a body with key `task`")]
    UnknownMessage,
    #[error("content type `{content_type}` is refused: accept_content is {accepted}{hint}")]
    ContentType { content_type: String, accepted: String, hint: &'static str },
    #[error("undecodable body: {0}")]
    Body(#[from] BodyError),
    #[error("body is not [args, kwargs, embed]: {0}")]
    Shape(&'static str),
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("header `{header}`: {source}")]
    Time { header: &'static str, source: TimestampError },
    #[error("header `{header}` is not {expected}")]
    Header { header: &'static str, expected: &'static str },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::QueueName;
    use crate::protocol::v2::Call;

    const T0: Timestamp = Timestamp::from_micros(1_795_343_528_348_566);

    fn request(call: &Call) -> Request {
        let delivery = DeliveryInfo {
            queue: QueueName::parse("celery").expect("a name"),
            exchange: "x".to_owned(),
            routing_key: "a.b".to_owned(),
            redelivered: true,
        };
        Request::decode(v2::message(call, T0), delivery, &Codec::default()).expect("a request")
    }

    fn call() -> Call {
        let (task, id) = (TaskName::parse("tasks.add"), TaskId::parse("t-1"));
        Call { args: Json::array([2, 2]), ..Call::new(task.expect("a name"), id.expect("an id"), "gen1@box") }
    }

    #[test]
    fn a_task_is_told_what_celery_tells() {
        let plain = request(&call());
        let call = Call {
            embed: Json::object([("callbacks", Json::empty_list()), ("chord", Json::null())]),
            eta: Some(T0),
            group_id: Some("g".into()),
            group_index: Some(3),
            priority: Some(5),
            headers: vec![("tenant".into(), HeaderValue::Text("acme".into()))],
            ..call()
        };
        let node = NodeName::parse("taskhost@box").expect("a name");
        let facts = request(&call).facts(&node, Some(Duration::from_secs(9)), None);
        let told: Vec<String> = facts.members().map(|(key, value)| format!("{key}: {value}")).collect();
        assert_eq!(
            told,
            [
                "id: \"t-1\"",
                "task: \"tasks.add\"",
                "args: [2, 2]",
                "kwargs: {}",
                "retries: 0",
                "root_id: \"t-1\"",
                "parent_id: null",
                "group: \"g\"",
                "group_index: 3",
                "eta: \"2026-11-22T10:32:08.348566+00:00\"",
                "expires: null",
                "correlation_id: \"t-1\"",
                "reply_to: \"\"",
                "hostname: \"taskhost@box\"",
                "delivery_info: {\"exchange\": \"x\", \"routing_key\": \"a.b\", \"priority\": 5, \"redelivered\": true}",
                "properties: {\"content_type\": \"application/json\", \"content_encoding\": \"utf-8\", \
                 \"correlation_id\": \"t-1\", \"reply_to\": \"\", \"delivery_mode\": 2, \"priority\": 5}",
                "headers: {\"tenant\": \"acme\"}",
                "timelimit: [9, null]",
                "time_limit: 9",
                "soft_time_limit: null",
                "ignore_result: null",
                "is_eager: false",
                "called_directly: false",
                "replaced_task_nesting: 0",
                "callbacks: []",
                "errbacks: null",
                "chain: null",
                "chord: null",
                "shadow: null",
                "origin: \"gen1@box\"",
                "lang: \"py\"",
                "argsrepr: \"(2, 2)\"",
                "kwargsrepr: \"{}\"",
                "stamped_headers: null",
                "stamps: {}",
            ]
        );
        assert!(plain.facts(&node, None, None).get("headers").is_some_and(|it| it.is_null()));
    }

    #[test]
    fn a_shadow_is_shown_in_place_of_the_name() {
        assert_eq!(request(&call()).display_name(), "tasks.add");
        let shadowed = request(&Call { shadow: Some("sum".into()), ..call() });
        assert_eq!((shadowed.display_name(), shadowed.task.as_str()), ("sum", "tasks.add"));
    }
}
