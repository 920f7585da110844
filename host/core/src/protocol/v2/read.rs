//! Reads a task message of protocol 2. A client may leave out everything but the task's name and id.

use std::time::Duration;

use crate::message::{DeliveryInfo, HeaderValue, Headers, Message};
use crate::name::{TaskId, TaskName};
use crate::protocol::codec::Codec;
use crate::protocol::content::{Json, Kind};
use crate::protocol::v1;
use crate::request::{DecodeError, Request};
use crate::timestamp::Timestamp;

/// Reads a message whose header `task` is set.
pub fn decode(message: Message, delivery: DeliveryInfo, codec: &Codec) -> Result<Request, DecodeError> {
    let body = codec.decode(&message)?;
    if body.get("args").is_some() {
        // Protocol 2 outside, protocol 1 inside.
        let (message, body) = v1::translate(message, &body)?;
        return decode_body(message, body, delivery);
    }
    decode_body(message, body, delivery)
}

/// Reads a message whose body is already JSON.
pub(crate) fn decode_body(message: Message, body: Json, delivery: DeliveryInfo) -> Result<Request, DecodeError> {
    let headers = Fields::of(&message.headers);
    let task = TaskName::parse(headers.task.text("task")?)?;
    let id = TaskId::parse(headers.id.text("id")?)?;
    let [args, kwargs, embed] = split(&body)?;
    let (time_limit, soft_time_limit) = headers.timelimit.limits()?;
    Ok(Request {
        id,
        task,
        args,
        kwargs,
        embed,
        retries: headers.retries.count("retries")?,
        eta: headers.eta.time("eta")?,
        expires: headers.expires.time("expires")?,
        time_limit,
        soft_time_limit,
        root_id: headers.root_id.optional_text("root_id")?,
        parent_id: headers.parent_id.optional_text("parent_id")?,
        group_id: headers.group.optional_text("group")?,
        ignore_result: headers.ignore_result.flag("ignore_result")?,
        replaced_task_nesting: headers.replaced_task_nesting.count("replaced_task_nesting")?,
        delivery,
        message,
    })
}

/// True for a header that is not there, or null, which is the same to Celery.
pub(crate) fn is_absent(value: Option<&HeaderValue>) -> bool {
    matches!(value, None | Some(HeaderValue::Null))
}

/// The three parts of a body, sharing its bytes.
fn split(body: &Json) -> Result<[Json; 3], DecodeError> {
    if body.kind() != Kind::List {
        return Err(DecodeError::Shape("it is not an array"));
    }
    let mut parts = body.elements();
    let (Some(args), Some(kwargs), Some(embed), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(DecodeError::Shape("it has not three elements"));
    };
    // celery-ts sends null for what its caller leaves out.
    let args = if args.is_null() { Json::empty_list() } else { args };
    let kwargs = if kwargs.is_null() { Json::empty_map() } else { kwargs };
    if args.kind() != Kind::List {
        return Err(DecodeError::Shape("args is not an array"));
    }
    if kwargs.kind() != Kind::Map {
        return Err(DecodeError::Shape("kwargs is not an object"));
    }
    if !matches!(embed.kind(), Kind::Map | Kind::Null) {
        return Err(DecodeError::Shape("embed is neither an object nor null"));
    }
    Ok([args, kwargs, embed])
}

/// A header that may be absent.
#[derive(Clone, Copy, Default)]
struct Field<'a>(Option<&'a HeaderValue>);

/// The headers that a request is made of, found in one pass.
#[derive(Default)]
struct Fields<'a> {
    task: Field<'a>,
    id: Field<'a>,
    eta: Field<'a>,
    expires: Field<'a>,
    group: Field<'a>,
    retries: Field<'a>,
    timelimit: Field<'a>,
    root_id: Field<'a>,
    parent_id: Field<'a>,
    ignore_result: Field<'a>,
    replaced_task_nesting: Field<'a>,
}

impl<'a> Fields<'a> {
    fn of(headers: &'a Headers) -> Self {
        let mut fields = Self::default();
        for (name, value) in &headers.0 {
            let field = match name.as_str() {
                "task" => &mut fields.task,
                "id" => &mut fields.id,
                "eta" => &mut fields.eta,
                "expires" => &mut fields.expires,
                "group" => &mut fields.group,
                "retries" => &mut fields.retries,
                "timelimit" => &mut fields.timelimit,
                "root_id" => &mut fields.root_id,
                "parent_id" => &mut fields.parent_id,
                "ignore_result" => &mut fields.ignore_result,
                "replaced_task_nesting" => &mut fields.replaced_task_nesting,
                _ => continue,
            };
            // Of equal names the first counts, as in `Headers::get`.
            if !is_absent(Some(value)) {
                field.0.get_or_insert(value);
            }
        }
        fields
    }
}

impl<'a> Field<'a> {
    fn text(self, header: &'static str) -> Result<&'a str, DecodeError> {
        match self.0 {
            Some(HeaderValue::Text(text)) => Ok(text),
            None => Err(DecodeError::Header { header, expected: "there" }),
            Some(_) => Err(DecodeError::Header { header, expected: "a text" }),
        }
    }

    fn optional_text(self, header: &'static str) -> Result<Option<String>, DecodeError> {
        match self.0 {
            None => Ok(None),
            Some(_) => self.text(header).map(|text| Some(text.to_owned())),
        }
    }

    fn count(self, header: &'static str) -> Result<u32, DecodeError> {
        match self.0 {
            None => Ok(0),
            Some(HeaderValue::Int(count)) => {
                u32::try_from(*count).map_err(|_| DecodeError::Header { header, expected: "a count" })
            }
            Some(_) => Err(DecodeError::Header { header, expected: "a count" }),
        }
    }

    /// Python asks for the truth of the value, so a number will do.
    fn flag(self, header: &'static str) -> Result<Option<bool>, DecodeError> {
        match self.0 {
            None => Ok(None),
            Some(HeaderValue::Bool(flag)) => Ok(Some(*flag)),
            Some(HeaderValue::Int(number)) => Ok(Some(*number != 0)),
            Some(_) => Err(DecodeError::Header { header, expected: "true or false" }),
        }
    }

    fn time(self, header: &'static str) -> Result<Option<Timestamp>, DecodeError> {
        match self.0 {
            None => Ok(None),
            Some(HeaderValue::Text(text)) => {
                Timestamp::parse(text).map(Some).map_err(|source| DecodeError::Time { header, source })
            }
            // Not Celery's way, but an AMQP client has a type for it.
            Some(HeaderValue::Timestamp(seconds)) => {
                let micros = i64::try_from(*seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
                Ok(Some(Timestamp::from_micros(micros)))
            }
            Some(_) => Err(DecodeError::Header { header, expected: "an ISO 8601 time" }),
        }
    }

    /// The hard and the soft limit: in this order, whatever Celery's documentation says.
    ///
    /// celery-ts believes the documentation. Celery itself sends no soft limit beyond the hard one (celery/app/task.py
    /// `apply_async`), so where both are there, the shorter one is the soft one.
    fn limits(self) -> Result<(Option<Duration>, Option<Duration>), DecodeError> {
        match self.0 {
            None => Ok((None, None)),
            Some(HeaderValue::List(limits)) => {
                let limit = |index| limit(limits.get(index).unwrap_or(&HeaderValue::Null));
                Ok(match (limit(0)?, limit(1)?) {
                    (Some(hard), Some(soft)) if hard < soft => (Some(soft), Some(hard)),
                    limits => limits,
                })
            }
            Some(_) => Err(NO_LIMITS),
        }
    }
}

const NO_LIMITS: DecodeError =
    DecodeError::Header { header: "timelimit", expected: "[hard, soft], each in seconds or null" };

fn limit(value: &HeaderValue) -> Result<Option<Duration>, DecodeError> {
    let seconds = match value {
        HeaderValue::Null => return Ok(None),
        HeaderValue::Int(seconds) => *seconds as f64,
        HeaderValue::Double(seconds) => *seconds,
        _ => return Err(NO_LIMITS),
    };
    if seconds == 0.0 {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| NO_LIMITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;
    use crate::name::QueueName;

    const BODY: &str = "[[], {}, null]";

    fn text(text: &str) -> HeaderValue {
        HeaderValue::Text(text.to_owned())
    }

    fn request(content_type: &str, headers: &[(&str, HeaderValue)], body: &str) -> Result<Request, DecodeError> {
        let mut all = Headers(vec![("task".into(), text("tasks.add")), ("id".into(), text("t-1"))]);
        for (name, value) in headers {
            all.set(name, value.clone());
        }
        let content_type = (!content_type.is_empty()).then(|| content_type.to_owned());
        let properties = Properties { content_type, ..Properties::default() };
        let delivery = DeliveryInfo {
            queue: QueueName::parse("celery").expect("a name"),
            exchange: String::new(),
            routing_key: "celery".to_owned(),
            redelivered: false,
        };
        Request::decode(Message { properties, headers: all, body: body.to_owned().into() }, delivery, &Codec::default())
    }

    #[track_caller]
    fn check_refused(refused: Result<Request, DecodeError>, expected: &str) {
        assert_eq!(refused.map_err(|error| error.to_string()), Err(expected.to_owned()));
    }

    #[test]
    fn a_name_and_an_id_are_enough() {
        let request = request("", &[], BODY).expect("a request");
        assert_eq!((request.task.as_str(), request.id.as_str(), request.retries), ("tasks.add", "t-1", 0));
        assert_eq!((request.eta, request.time_limit, request.ignore_result), (None, None, None));
        assert!(request.embed.is_null());
    }

    #[test]
    fn null_stands_for_no_arguments() {
        let request = request("", &[], "[null, null, null]").expect("a request");
        assert_eq!((request.args.as_str(), request.kwargs.as_str()), ("[]", "{}"));
    }

    #[test]
    fn the_shorter_of_two_limits_is_the_soft_one() {
        let limits = |hard: HeaderValue, soft: HeaderValue| {
            let request = request("", &[("timelimit", HeaderValue::List(vec![hard, soft]))], BODY).expect("a request");
            [request.time_limit, request.soft_time_limit].map(|limit| limit.map(|limit| limit.as_secs()))
        };
        let [nine, eight] = [9, 8].map(HeaderValue::Int);
        assert_eq!(limits(nine.clone(), eight.clone()), [Some(9), Some(8)]);
        assert_eq!(limits(eight, nine.clone()), [Some(9), Some(8)]);
        assert_eq!(limits(nine.clone(), HeaderValue::Null), [Some(9), None]);
        assert_eq!(limits(HeaderValue::Null, nine), [None, Some(9)]);
    }

    #[test]
    fn arguments_share_the_bytes_of_the_body() {
        let request = request("json", &[], r#"[["a"], {"b": 1}, {}]"#).expect("a request");
        let body = request.message.body.as_ptr_range();
        for part in [&request.args, &request.kwargs, &request.embed] {
            assert!(body.contains(&part.bytes().as_ptr()), "{part}");
        }
    }

    #[test]
    fn only_json_is_accepted_by_default() {
        for content_type in ["", "application/json", "Application/JSON; charset=utf-8", "json"] {
            assert!(request(content_type, &[], BODY).is_ok(), "{content_type}");
        }
        check_refused(
            request("application/x-python-serialize", &[], BODY),
            "content type `application/x-python-serialize` is refused: accept_content is ['json']; pickle runs code \
             while it is read and is never accepted: set `task_serializer = 'json'` in the client",
        );
        check_refused(
            request("application/x-yaml", &[], BODY),
            "content type `application/x-yaml` is refused: accept_content is ['json']; set `task_serializer = 'json'` \
             in the client, or add 'yaml' to `accept_content` of this worker",
        );
        check_refused(
            request("text/plain", &[], BODY),
            "content type `text/plain` is refused: accept_content is ['json']; set `task_serializer = 'json'` in the \
             client",
        );
        assert!(request("", &[("compression", HeaderValue::Null)], BODY).is_ok());
    }

    #[test]
    fn a_body_has_three_parts() {
        for (body, expected) in [
            ("[[], {}", "undecodable body: neither `,` nor `]` at byte 7"),
            ("{}", "body is not [args, kwargs, embed]: it is not an array"),
            ("[[], {}]", "body is not [args, kwargs, embed]: it has not three elements"),
            ("[[], {}, null, 1]", "body is not [args, kwargs, embed]: it has not three elements"),
            ("[{}, {}, null]", "body is not [args, kwargs, embed]: args is not an array"),
            ("[[], [], null]", "body is not [args, kwargs, embed]: kwargs is not an object"),
            ("[[], {}, 1]", "body is not [args, kwargs, embed]: embed is neither an object nor null"),
        ] {
            check_refused(request("", &[], body), expected);
        }
    }

    #[test]
    fn headers_are_read_by_type() {
        let seconds = |limits: Result<Request, DecodeError>| {
            limits.map(|request| (request.time_limit, request.soft_time_limit)).map_err(|error| error.to_string())
        };
        let limits = |hard, soft| request("", &[("timelimit", HeaderValue::List(vec![hard, soft]))], BODY);
        assert_eq!(
            seconds(limits(HeaderValue::Int(9), HeaderValue::Double(8.5))),
            Ok((Some(Duration::from_secs(9)), Some(Duration::from_millis(8500))))
        );
        assert_eq!(seconds(limits(HeaderValue::Int(0), HeaderValue::Null)), Ok((None, None)), "zero is none");
        let no_limits = "header `timelimit` is not [hard, soft], each in seconds or null";
        check_refused(limits(HeaderValue::Int(-1), HeaderValue::Null), no_limits);
        check_refused(limits(HeaderValue::Double(f64::NAN), HeaderValue::Null), no_limits);
        check_refused(request("", &[("timelimit", HeaderValue::Int(1))], BODY), no_limits);
        for (name, value, expected) in [
            ("task", text(""), "task name is empty"),
            ("task", HeaderValue::Int(1), "header `task` is not a text"),
            ("id", HeaderValue::Null, "header `id` is not there"),
            ("retries", HeaderValue::Int(-1), "header `retries` is not a count"),
            ("retries", text("1"), "header `retries` is not a count"),
            ("eta", text("soon"), "header `eta`: `soon` is not an ISO 8601 time"),
            ("expires", HeaderValue::Int(60), "header `expires` is not an ISO 8601 time"),
            ("root_id", HeaderValue::Int(1), "header `root_id` is not a text"),
            ("ignore_result", text("yes"), "header `ignore_result` is not true or false"),
        ] {
            check_refused(request("", &[(name, value)], BODY), expected);
        }
    }

    #[test]
    fn nesting_ends_where_json_does() {
        let body = |depth: usize| format!("[[{}1{}], {{}}, null]", "[".repeat(depth), "]".repeat(depth));
        assert!(request("", &[], &body(512)).is_ok());
        check_refused(request("", &[], &body(600)), "undecodable body: nested deeper than 576 levels");
    }
}
