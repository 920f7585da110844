//! Writes task messages of protocol 2: new ones as Celery 5.7 writes them, and retries.

use std::time::Duration;

use crate::message::{HeaderValue, Headers, Message, PUT_BACK_HEADER, Properties};
use crate::name::{TaskId, TaskName};
use crate::protocol::auth;
use crate::protocol::codec::Serializer;
use crate::protocol::content::{Json, ListWriter};
use crate::protocol::repr::{ARGUMENTS_CHARS_MAX, repr, repr_args};
use crate::protocol::v2::{EMBED, seconds};
use crate::request::Request;
use crate::timestamp::Timestamp;

/// What the bodies are that we write.
const JSON_TYPE: &str = "application/json";
const JSON_ENCODING: &str = "utf-8";

/// A task call to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub task: TaskName,
    pub id: TaskId,
    /// A JSON array.
    pub args: Json,
    /// A JSON object.
    pub kwargs: Json,
    /// Callbacks, errbacks, chain and chord: a JSON object, or null for none of them.
    pub embed: Json,
    pub shadow: Option<String>,
    pub eta: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub group_id: Option<String>,
    pub group_index: Option<u32>,
    pub retries: u32,
    pub time_limit: Option<Duration>,
    pub soft_time_limit: Option<Duration>,
    /// None is the task itself.
    pub root_id: Option<String>,
    pub parent_id: Option<String>,
    pub origin: String,
    /// None leaves it to the task.
    pub ignore_result: Option<bool>,
    pub replaced_task_nesting: u32,
    pub reply_to: Option<String>,
    pub priority: Option<u8>,
    /// Headers of the client's own, which come after Celery's.
    pub headers: Vec<(String, HeaderValue)>,
}

impl Call {
    /// A call without arguments and options. `origin` is the node that sends it.
    pub fn new(task: TaskName, id: TaskId, origin: impl Into<String>) -> Self {
        Self {
            task,
            id,
            args: Json::empty_list(),
            kwargs: Json::empty_map(),
            embed: Json::null(),
            shadow: None,
            eta: None,
            expires: None,
            group_id: None,
            group_index: None,
            retries: 0,
            time_limit: None,
            soft_time_limit: None,
            root_id: None,
            parent_id: None,
            origin: origin.into(),
            ignore_result: None,
            replaced_task_nesting: 0,
            reply_to: None,
            priority: None,
            headers: Vec::new(),
        }
    }
}

/// The message of a call, published at `now`.
pub fn message(call: &Call, now: Timestamp) -> Message {
    let optional = |text: &Option<String>| text.clone().map_or(HeaderValue::Null, HeaderValue::Text);
    let time = |at: Option<Timestamp>| at.map_or(HeaderValue::Null, |at| HeaderValue::Text(at.isoformat()));
    let text = |text: &str| HeaderValue::Text(text.to_owned());
    let celery = [
        ("lang", text("py")),
        ("task", text(call.task.as_str())),
        ("id", text(call.id.as_str())),
        ("shadow", optional(&call.shadow)),
        ("eta", time(call.eta)),
        ("expires", time(call.expires)),
        ("group", optional(&call.group_id)),
        ("group_index", call.group_index.map_or(HeaderValue::Null, |index| HeaderValue::Int(index.into()))),
        ("retries", HeaderValue::Int(call.retries.into())),
        ("timelimit", HeaderValue::List(vec![seconds(call.time_limit), seconds(call.soft_time_limit)])),
        ("root_id", text(call.root_id.as_deref().unwrap_or(call.id.as_str()))),
        ("parent_id", optional(&call.parent_id)),
        ("argsrepr", HeaderValue::Text(repr_args(&call.args, ARGUMENTS_CHARS_MAX))),
        ("kwargsrepr", HeaderValue::Text(repr(&call.kwargs, ARGUMENTS_CHARS_MAX))),
        ("origin", text(&call.origin)),
        ("ignore_result", call.ignore_result.map_or(HeaderValue::Null, HeaderValue::Bool)),
        ("replaced_task_nesting", HeaderValue::Int(call.replaced_task_nesting.into())),
        ("stamped_headers", HeaderValue::Null),
        ("stamps", HeaderValue::Map(Vec::new())),
    ];
    let mut headers = Headers(celery.map(|(name, value)| (name.to_owned(), value)).into());
    for (name, value) in &call.headers {
        headers.set(name, value.clone());
    }
    Message {
        properties: Properties {
            content_type: Some(JSON_TYPE.to_owned()),
            content_encoding: Some(JSON_ENCODING.to_owned()),
            correlation_id: Some(call.id.to_string()),
            reply_to: Some(call.reply_to.clone().unwrap_or_default()),
            delivery_mode: Some(2),
            priority: Some(call.priority.unwrap_or(0)),
            expiration: expiration(call.expires, now),
            app_id: None,
        },
        headers,
        body: body(&call.args, &call.kwargs, &call.embed).bytes(),
    }
}

/// The message that runs a request once more: the same id and headers, one more retry, and a new `eta`.
/// `args` and `kwargs` take the place of those of the request.
pub fn retry(
    request: &Request,
    eta: Option<Timestamp>,
    args: Option<&Json>,
    kwargs: Option<&Json>,
    now: Timestamp,
) -> Message {
    let mut message = request.message.clone();
    let headers = &mut message.headers;
    headers.remove(is_brokers);
    headers.set("retries", HeaderValue::Int(i64::from(request.retries) + 1));
    headers.set("eta", eta.map_or(HeaderValue::Null, |at| HeaderValue::Text(at.isoformat())));
    if let Some(args) = args {
        headers.set("argsrepr", HeaderValue::Text(repr_args(args, ARGUMENTS_CHARS_MAX)));
    }
    if let Some(kwargs) = kwargs {
        headers.set("kwargsrepr", HeaderValue::Text(repr(kwargs, ARGUMENTS_CHARS_MAX)));
    }
    if args.is_some() || kwargs.is_some() {
        let body = body(args.unwrap_or(&request.args), kwargs.unwrap_or(&request.kwargs), &request.embed);
        replace_body(&mut message, &body);
    }
    message.properties.expiration = expiration(request.expires, now);
    message
}

/// Headers that a broker, or we, put on one delivery. RabbitMQ silently drops a message that comes back
/// to a queue that its `x-death` names, taking it for a cycle.
pub(crate) fn is_brokers(name: &str) -> bool {
    ["x-death", "x-first-death-", "x-last-death-"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "x-delivery-count"
                | "x-acquired-count"
                | "x-opt-delivery-count"
                | "redelivered"
                | PUT_BACK_HEADER
                | "x-came-by"
        )
}

/// Milliseconds that are left, which is what a broker wants to know.
fn expiration(expires: Option<Timestamp>, now: Timestamp) -> Option<String> {
    Some(expires?.since(now).as_millis().to_string())
}

/// A body of these three parts. Celery always writes the third, with nulls in it if there is nothing.
pub(crate) fn body(args: &Json, kwargs: &Json, embed: &Json) -> Json {
    let mut body = ListWriter::new();
    body.push(args).push(kwargs);
    if embed.is_null() {
        body.push(&Json::object(EMBED.map(|key| (key, Json::null()))));
    } else {
        body.push(embed);
    }
    body.finish()
}

/// Gives a message a body of ours, whatever the form of the one that it came with. One that came signed
/// says so still, and is signed before it leaves ([`auth::seal`]).
pub(crate) fn replace_body(message: &mut Message, body: &Json) {
    message.headers.remove(|name| name == "compression");
    let is_signed = auth::is_signed(message);
    let content_type = if is_signed { Serializer::Auth.content_type().0 } else { JSON_TYPE };
    message.properties.content_type = Some(content_type.to_owned());
    message.properties.content_encoding = Some(JSON_ENCODING.to_owned());
    message.body = body.bytes();
}
