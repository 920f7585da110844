//! What is told about requests and tasks: `Request.info` (celery/worker/request.py), and the attributes that
//! `registered` shows.

use std::time::Duration;

use crate::message::HeaderValue;
use crate::protocol::content::{Json, MapWriter};
use crate::protocol::repr::{ARGUMENTS_CHARS_MAX, repr, repr_args};
use crate::rate::Rate;
use crate::request::Request;
use crate::task::TaskOptions;
use crate::timestamp::Timestamp;

/// Arguments longer than this are told as text, and cut: a list of many requests is to fit into a message.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;

/// One request, and where it stands.
pub(crate) struct RequestInfo<'a> {
    pub(crate) request: &'a Request,
    /// The node, and the process once it runs.
    pub(crate) hostname: &'a Json,
    pub(crate) worker_pid: Option<&'a Json>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) acknowledged: bool,
    /// Arguments as text, and not as values.
    pub(crate) safe: bool,
}

impl RequestInfo<'_> {
    pub(crate) fn to_json(&self) -> Json {
        let request = self.request;
        let long = request.args.byte_len() + request.kwargs.byte_len() > ARGUMENTS_BYTES_MAX;
        let (args, kwargs) = match self.safe || long {
            true => {
                let (args, kwargs) = shown_arguments(request);
                (Json::text(&args), Json::text(&kwargs))
            }
            false => (request.args.clone(), request.kwargs.clone()),
        };
        let mut info = MapWriter::new();
        info.put("id", request.id.as_str())
            .put("name", request.display_name())
            .put("args", &args)
            .put("kwargs", &kwargs)
            .put("type", request.task.as_str())
            .put("hostname", self.hostname)
            .put("time_start", &self.started.map(|at| at.as_micros() as f64 / 1e6))
            .put("acknowledged", &self.acknowledged)
            .put("delivery_info", &request.delivery_facts())
            .put("worker_pid", &self.worker_pid);
        info.finish()
    }
}

/// Arguments as people see them: as the client showed them, and else as Python would.
pub(crate) fn shown_arguments(request: &Request) -> (String, String) {
    let said = |key: &str| match request.message.headers.get(key) {
        Some(HeaderValue::Text(text)) => Some(text.chars().take(ARGUMENTS_CHARS_MAX).collect()),
        _ => None,
    };
    let args = said("argsrepr").unwrap_or_else(|| repr_args(&request.args, ARGUMENTS_CHARS_MAX));
    let kwargs = said("kwargsrepr").unwrap_or_else(|| repr(&request.kwargs, ARGUMENTS_CHARS_MAX));
    (args, kwargs)
}

/// What `registered` shows of a task by default (`DEFAULT_TASK_INFO_ITEMS`). A task of ours has neither an
/// exchange nor a routing key of its own.
const DEFAULT_ATTRIBUTES: [&str; 1] = ["rate_limit"];

/// ` [attribute=value ..]`, as far as there are such attributes with values.
pub(crate) fn attributes(name: &str, options: &TaskOptions, rate: Option<Rate>, wanted: &[String]) -> String {
    let default: Vec<&str> = DEFAULT_ATTRIBUTES.to_vec();
    let wanted: Vec<&str> = match wanted.is_empty() {
        true => default,
        false => wanted.iter().map(String::as_str).collect(),
    };
    let fields: Vec<String> = wanted
        .into_iter()
        .filter_map(|attribute| {
            let value = if attribute == "name" { Some(name.to_owned()) } else { value(attribute, options, rate) };
            value.map(|value| format!("{attribute}={value}"))
        })
        .collect();
    if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(" ")) }
}

/// An option as Python's `str` shows it; none for what is None, or what there is not.
fn value(attribute: &str, options: &TaskOptions, rate: Option<Rate>) -> Option<String> {
    let truth = |value: bool| if value { "True" } else { "False" }.to_owned();
    let seconds = |value: Duration| Json::float(value.as_secs_f64()).to_string().trim_end_matches(".0").to_owned();
    match attribute {
        "rate_limit" => rate.map(|rate| rate.to_string()),
        "max_retries" => options.max_retries.map(|most| most.to_string()),
        "default_retry_delay" => Some(seconds(options.default_retry_delay)),
        "time_limit" => options.time_limit.map(seconds),
        "soft_time_limit" => options.soft_time_limit.map(seconds),
        "acks_late" => options.acks_late.map(truth),
        "acks_on_failure_or_timeout" => options.acks_on_failure_or_timeout.map(truth),
        "reject_on_worker_lost" => options.reject_on_worker_lost.map(truth),
        "ignore_result" => options.ignore_result.map(truth),
        "store_errors_even_if_ignored" => options.store_errors_even_if_ignored.map(truth),
        "track_started" => options.track_started.map(truth),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::request;

    #[test]
    fn a_request_is_told_as_celery_tells_it() {
        let mut request = request("tasks.add", "t-1");
        let hostname = Json::text("w@box");
        let reserved = RequestInfo {
            request: &request,
            hostname: &hostname,
            worker_pid: None,
            started: None,
            acknowledged: false,
            safe: false,
        };
        assert_eq!(
            reserved.to_json().to_string(),
            r#"{"id": "t-1", "name": "tasks.add", "args": [2, 2], "kwargs": {}, "type": "tasks.add", "hostname": "w@box", "time_start": null, "acknowledged": false, "delivery_info": {"exchange": "", "routing_key": "celery", "priority": null, "redelivered": false}, "worker_pid": null}"#
        );
        request.message.headers.set("argsrepr", HeaderValue::Text("(2, '***')".to_owned()));
        request.message.headers.set("shadow", HeaderValue::Text("sum".to_owned()));
        let pid = Json::int(7);
        let active = RequestInfo {
            request: &request,
            hostname: &hostname,
            worker_pid: Some(&pid),
            started: Some(Timestamp::from_micros(1_500_000)),
            acknowledged: true,
            safe: true,
        };
        let told = active.to_json();
        let get = |key: &str| told.get(key).map(|it| it.to_string()).unwrap_or_default();
        assert_eq!((get("args"), get("kwargs")), (r#""(2, '***')""#.to_owned(), r#""{}""#.to_owned()));
        assert_eq!((get("name"), get("type")), ("\"sum\"".to_owned(), "\"tasks.add\"".to_owned()));
        assert_eq!(
            (get("time_start"), get("worker_pid"), get("acknowledged")),
            ("1.5".into(), "7".into(), "true".into())
        );
    }

    #[test]
    fn long_arguments_are_told_as_text() {
        let mut request = request("tasks.add", "t-1");
        request.args = Json::array(["x".repeat(ARGUMENTS_BYTES_MAX)]);
        let hostname = Json::null();
        let info = RequestInfo {
            request: &request,
            hostname: &hostname,
            worker_pid: None,
            started: None,
            acknowledged: false,
            safe: false,
        };
        let told = info.to_json();
        let args = told.get("args").and_then(|args| args.as_text().map(|text| text.into_owned()));
        assert!(args.is_some_and(|text| text.starts_with("('xxx") && text.ends_with("...")), "{told}");
        assert!(told.byte_len() < 2_000);
    }

    #[test]
    fn attributes_are_shown_if_they_have_a_value() {
        let options = TaskOptions { acks_late: Some(true), ..TaskOptions::default() };
        let rate = Rate::parse("30/m").expect("a rate");
        let shown = |wanted: &[&str], rate| {
            let wanted: Vec<String> = wanted.iter().map(|it| (*it).to_owned()).collect();
            attributes("tasks.add", &options, rate, &wanted)
        };
        assert_eq!(shown(&[], rate), " [rate_limit=30/m]");
        assert_eq!(shown(&[], None), "");
        assert_eq!(
            shown(&["max_retries", "acks_late", "time_limit", "default_retry_delay", "secret"], rate),
            " [max_retries=3 acks_late=True default_retry_delay=180]"
        );
    }
}
