//! How SQS is to be used, by the names of kombu's transport options (kombu/transport/SQS).
//!
//! What kombu has and we do not is refused with the reason, so that nobody believes it works.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use taskhost_core::RedactedUrl;
use taskhost_core::protocol::content::{Json, Kind};

use super::name;
use crate::port::BrokerError;

/// How long SQS waits at most for messages of an empty queue.
const WAIT_MAX_S: u64 = 20;
/// How long SQS hides a message at most.
pub(super) const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 3600);
/// How long a message is ours until we say so again. Short, so that what a lost worker had is soon given to
/// another; a Python worker's is hidden for the whole visibility timeout.
const LEASE_MAX: Duration = Duration::from_secs(30);
/// How long to wait after an empty answer where SQS itself does not wait (kombu's `polling_interval`).
const POLLING_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time for which there are credentials of a role, which is kombu's default.
const STS_TIMEOUT: Duration = Duration::from_secs(900);

/// How to use SQS.
#[derive(Clone, PartialEq)]
pub struct SqsOptions {
    /// How long connecting may take.
    pub timeout: Duration,
    /// Else that of the environment or the profile, else us-east-1.
    pub region: Option<String>,
    /// Whether a host in the URL is spoken to by TLS. kombu's default is no; AWS is always.
    pub is_secure: bool,
    /// The whole address of an endpoint, in place of a host in the URL.
    pub endpoint_url: Option<String>,
    pub queue_name_prefix: String,
    /// Of the queues that we make: for how long they hide what a Python worker has taken.
    pub visibility_timeout: Duration,
    /// For how long SQS waits for messages when a queue is empty.
    pub wait_time: Duration,
    /// How long to wait after an empty answer; kombu's second only where SQS does not wait.
    pub polling_interval: Option<Duration>,
    pub sqs_base64_encoding: bool,
    /// Further attributes of the queues that we make.
    pub creation_attributes: BTreeMap<String, String>,
    pub queue_tags: BTreeMap<String, String>,
    /// If there are any, there are no others, and none is made.
    pub predefined_queues: BTreeMap<String, PredefinedQueue>,
    pub sts: Sts,
}

/// A queue that somebody else made.
#[derive(Clone, PartialEq, Default)]
pub struct PredefinedQueue {
    pub url: String,
    /// Else the one that the URL names, else that of all.
    pub region: Option<String>,
    /// Access key, secret, and the token of a session; else those of the broker.
    pub credentials: Option<(String, String, Option<String>)>,
    /// What is refused of these tasks comes again.
    pub backoff: Option<Backoff>,
}

/// How what is refused is tried again by SQS itself (`backoff_policy`, `backoff_tasks`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backoff {
    /// For how long a message is hidden after it was received so many times.
    pub policy: BTreeMap<u32, Duration>,
    /// Of which tasks.
    pub tasks: BTreeSet<String>,
}

/// The role that is taken on, if one is.
#[derive(Debug, Clone, PartialEq)]
pub struct Sts {
    pub role: Option<String>,
    /// For how long its credentials are asked for.
    pub timeout: Duration,
    /// How long before their end credentials are fetched anew.
    pub buffer: Duration,
}

/// What [`SqsOptions::set_all`] knows.
const OPTIONS: [&str; 14] = [
    "region",
    "is_secure",
    "endpoint_url",
    "queue_name_prefix",
    "visibility_timeout",
    "wait_time_seconds",
    "polling_interval",
    "sqs_base64_encoding",
    "sqs-creation-attributes",
    "queue_tags",
    "predefined_queues",
    "sts_role_arn",
    "sts_token_timeout",
    "sts_token_buffer_time",
];

impl Default for SqsOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            region: None,
            is_secure: false,
            endpoint_url: None,
            queue_name_prefix: String::new(),
            visibility_timeout: Duration::from_secs(1800),
            wait_time: Duration::from_secs(10),
            polling_interval: None,
            sqs_base64_encoding: true,
            creation_attributes: BTreeMap::new(),
            queue_tags: BTreeMap::new(),
            predefined_queues: BTreeMap::new(),
            sts: Sts { role: None, timeout: STS_TIMEOUT, buffer: Duration::ZERO },
        }
    }
}

impl SqsOptions {
    /// Sets options by the names that they have in kombu.
    pub(crate) fn set(&mut self, url: &str, pairs: &[(String, String)]) -> Result<(), BrokerError> {
        self.set_all(pairs).map_err(|reason| BrokerError::Url { url: RedactedUrl::new(url), reason })
    }

    pub(super) fn set_all(&mut self, pairs: &[(String, String)]) -> Result<(), String> {
        for (key, value) in pairs {
            self.set_one(key, value)?;
        }
        Ok(())
    }

    /// For how long what we take is ours until we say so again.
    pub(super) fn lease(&self) -> Duration {
        self.visibility_timeout.clamp(Duration::from_secs(1), LEASE_MAX)
    }

    /// How long to wait after an empty answer.
    pub(super) fn pause(&self) -> Duration {
        self.polling_interval.unwrap_or(if self.wait_time.is_zero() { POLLING_INTERVAL } else { Duration::ZERO })
    }

    fn set_one(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "region" => self.region = some(value),
            "is_secure" => self.is_secure = bool(key, value)?,
            "endpoint_url" if value.starts_with("http://") || value.starts_with("https://") => {
                self.endpoint_url = some(value);
            }
            "endpoint_url" => return Err(format!("endpoint_url `{value}` is no http:// or https:// address")),
            "queue_name_prefix" => value.clone_into(&mut self.queue_name_prefix),
            "visibility_timeout" => {
                let timeout = seconds(key, value)?;
                if timeout > VISIBILITY_MAX {
                    return Err(format!("visibility_timeout `{value}` is more than SQS' 12 hours (43200)"));
                }
                self.visibility_timeout = Duration::from_secs(timeout.as_secs());
            }
            "wait_time_seconds" => {
                let wait = value.parse().ok().filter(|seconds| *seconds <= WAIT_MAX_S);
                let wait =
                    wait.ok_or_else(|| format!("wait_time_seconds `{value}` is no whole number from 0 to 20"))?;
                self.wait_time = Duration::from_secs(wait);
            }
            "polling_interval" => self.polling_interval = Some(seconds(key, value)?),
            "sqs_base64_encoding" => self.sqs_base64_encoding = bool(key, value)?,
            "sqs-creation-attributes" => self.creation_attributes = texts(key, &object(key, value)?)?,
            "queue_tags" => self.queue_tags = texts(key, &object(key, value)?)?,
            "predefined_queues" => self.predefined_queues = predefined_queues(&object(key, value)?)?,
            "sts_role_arn" => self.sts.role = some(value),
            "sts_token_timeout" => {
                self.sts.timeout = seconds(key, value)?;
                if self.sts.timeout < STS_TIMEOUT {
                    return Err(format!("sts_token_timeout `{value}` is less than STS' 900 seconds"));
                }
            }
            "sts_token_buffer_time" => self.sts.buffer = seconds(key, value)?,
            _ => return Err(unknown(key)),
        }
        Ok(())
    }
}

/// What kombu has and we do not, or nobody has.
fn unknown(key: &str) -> String {
    let reason = match key {
        "supports_fanout" | "predefined_exchanges" => {
            "broadcasts by SNS are not in this version: over SQS there are neither remote control nor events"
        }
        "client-config" => "it configures Python's client; the time to connect is broker.connection_timeout",
        "fetch_message_attributes" => "nothing here reads the attributes of messages",
        "port" | "regioninfo" => "kombu itself does nothing with it; a port belongs into the URL",
        _ => return format!("there is no option `{key}` of SQS; there are: {}", OPTIONS.join(", ")),
    };
    format!("option `{key}`: {reason}")
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn bool(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key} `{value}` is neither true nor false")),
    }
}

fn seconds(key: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("{key} `{value}` is no number of seconds"))
}

/// Nothing of the text is repeated in errors: it may hold secrets.
fn object(key: &str, value: &str) -> Result<Json, String> {
    Json::parse(value.to_owned())
        .ok()
        .filter(|json| json.kind() == Kind::Map)
        .ok_or_else(|| format!("{key} is no table: write it as one in host.toml, or as JSON such as {{\"a\": \"b\"}}"))
}

/// Names and values, whatever JSON the values are: SQS knows only texts.
fn texts(key: &str, object: &Json) -> Result<BTreeMap<String, String>, String> {
    let text = |(name, value): (Cow<'_, str>, Json)| match value.kind() {
        Kind::Text => Ok((name.into_owned(), value.text_lossy().unwrap_or_default().into_owned())),
        Kind::Number | Kind::Bool => Ok((name.into_owned(), value.as_str().to_owned())),
        _ => Err(format!("{key}: `{name}` is no text")),
    };
    object.members().map(text).collect()
}

fn predefined_queues(object: &Json) -> Result<BTreeMap<String, PredefinedQueue>, String> {
    object.members().map(|(name, queue)| Ok((name.to_string(), predefined_queue(&name, &queue)?))).collect()
}

fn predefined_queue(of: &str, object: &Json) -> Result<PredefinedQueue, String> {
    let refused = |problem: &str| format!("predefined_queues: `{of}`: {problem}");
    let mut queue = PredefinedQueue::default();
    let (mut key_id, mut secret, mut token) = (None, None, None);
    let (mut policy, mut tasks) = (None, None);
    for (key, value) in object.members() {
        let text = value.as_text().and_then(|text| some(&text));
        match &*key {
            "url" => queue.url = text.ok_or_else(|| refused("url is no text"))?,
            "region" => queue.region = text,
            "access_key_id" => key_id = text,
            "secret_access_key" => secret = text,
            "session_token" => token = text,
            "backoff_policy" => policy = Some(backoff_policy(&value).map_err(|problem| refused(&problem))?),
            "backoff_tasks" => {
                let names = (value.kind() == Kind::List)
                    .then(|| value.elements().map(|name| name.as_text().map(Cow::into_owned)).collect());
                tasks = Some(names.flatten().ok_or_else(|| refused("backoff_tasks is no list of names"))?);
            }
            _ => {
                let problem = format!(
                    "there is no `{key}`; there are: url, region, access_key_id, secret_access_key, session_token, \
                     backoff_policy, backoff_tasks"
                );
                return Err(refused(&problem));
            }
        }
    }
    queue.credentials = match (key_id, secret) {
        (None, None) => None,
        (Some(key_id), Some(secret)) => Some((key_id, secret, token)),
        _ => return Err(refused("access_key_id and secret_access_key belong together")),
    };
    queue.backoff = match (policy, tasks) {
        (None, None) => None,
        (Some(policy), Some(tasks)) => Some(Backoff { policy, tasks }),
        _ => return Err(refused("backoff_policy and backoff_tasks belong together")),
    };
    if !(queue.url.starts_with("http://") || queue.url.starts_with("https://")) {
        return Err(refused("a url is needed, such as https://sqs.eu-west-1.amazonaws.com/123456789012/name"));
    }
    // As kombu's `_validate_predifined_queues`.
    match (name::is_fifo(&queue.url), name::is_fifo(of)) {
        (true, false) => Err(refused("its url is that of a FIFO queue, so its name must end with .fifo")),
        (false, true) => Err(refused("it is called .fifo, and its url is that of another kind of queue")),
        _ => {
            queue.region = queue.region.take().or_else(|| region_of(&queue.url));
            Ok(queue)
        }
    }
}

/// The seconds for each number of deliveries.
fn backoff_policy(object: &Json) -> Result<BTreeMap<u32, Duration>, String> {
    let entry = |(count, wait): (Cow<'_, str>, Json)| {
        let seconds = wait.as_str().parse().ok().filter(|seconds| *seconds <= VISIBILITY_MAX.as_secs());
        Some((count.parse().ok()?, Duration::from_secs(seconds?)))
    };
    let policy = (object.kind() == Kind::Map).then(|| object.members().map(entry).collect());
    policy.flatten().ok_or_else(|| {
        "backoff_policy is no table of how many times a message was received and for how many seconds, at most 43200, \
         it is hidden then: { 1 = 10, 2 = 20 }"
            .to_owned()
    })
}

/// The region in the URL of a queue at AWS.
fn region_of(url: &str) -> Option<String> {
    let host = url.split_once("://")?.1.split('/').next()?;
    let (region, domain) = host.strip_prefix("sqs.")?.split_once('.')?;
    domain.starts_with("amazonaws.").then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> Result<SqsOptions, String> {
        let mut options = SqsOptions::default();
        options.set_all(&[(key.to_owned(), value.to_owned())]).map(|()| options)
    }

    #[track_caller]
    fn check_refused(key: &str, value: &str, expected: &str) {
        assert_eq!(set(key, value).err().as_deref(), Some(expected));
    }

    #[test]
    fn options_are_set_by_kombus_names() {
        assert_eq!(set("visibility_timeout", "60.9").unwrap().visibility_timeout, Duration::from_secs(60));
        assert_eq!(set("wait_time_seconds", "20").unwrap().wait_time, Duration::from_secs(20));
        assert!(!set("sqs_base64_encoding", "False").unwrap().sqs_base64_encoding);
        let tags = set("queue_tags", r#"{"team": "backend", "cost": 7}"#).unwrap().queue_tags;
        assert_eq!(tags, [("team", "backend"), ("cost", "7")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        check_refused("wait_time_seconds", "21", "wait_time_seconds `21` is no whole number from 0 to 20");
        check_refused("visibility_timeout", "43201", "visibility_timeout `43201` is more than SQS' 12 hours (43200)");
        check_refused("is_secure", "perhaps", "is_secure `perhaps` is neither true nor false");
        check_refused(
            "supports_fanout",
            "true",
            "option `supports_fanout`: broadcasts by SNS are not in this version: over SQS there are neither remote \
             control nor events",
        );
        // Each that is named is known.
        for key in OPTIONS {
            assert!(!set(key, "?").err().is_some_and(|error| error.contains("there is no option")), "{key}");
        }
    }

    #[test]
    fn the_lease_is_short_and_never_longer_than_the_visibility_timeout() {
        assert_eq!(SqsOptions::default().lease(), Duration::from_secs(30));
        assert_eq!(set("visibility_timeout", "3").unwrap().lease(), Duration::from_secs(3));
        assert_eq!(set("visibility_timeout", "0").unwrap().lease(), Duration::from_secs(1));
    }

    #[test]
    fn whoever_polls_without_waiting_pauses_as_kombu_does() {
        assert_eq!(SqsOptions::default().pause(), Duration::ZERO);
        assert_eq!(set("wait_time_seconds", "0").unwrap().pause(), Duration::from_secs(1));
        assert_eq!(set("polling_interval", "0.5").unwrap().pause(), Duration::from_millis(500));
    }

    #[test]
    fn a_role_has_its_times() {
        let pairs = [("sts_token_buffer_time", "60"), ("sts_role_arn", "arn:x"), ("sts_token_timeout", "1800")];
        let mut options = SqsOptions::default();
        options.set_all(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))).unwrap();
        let [timeout, buffer] = [1800, 60].map(Duration::from_secs);
        assert_eq!(options.sts, Sts { role: Some("arn:x".to_owned()), timeout, buffer });
        check_refused("sts_token_timeout", "60", "sts_token_timeout `60` is less than STS' 900 seconds");
    }

    #[test]
    fn predefined_queues_are_checked_and_never_shown() {
        let backoff = r#"{"a": {"url": "https://x/a", "backoff_policy": {"1": 10, "2": 20}, "backoff_tasks": ["t"]}}"#;
        let backoff = set("predefined_queues", backoff).unwrap().predefined_queues.remove("a").unwrap().backoff;
        let policy = [(1, 10), (2, 20)].map(|(count, wait)| (count, Duration::from_secs(wait))).into();
        assert_eq!(backoff, Some(Backoff { policy, tasks: ["t".to_owned()].into() }));
        let queues = r#"{"orders": {"url": "https://sqs.eu-west-1.amazonaws.com/1/o", "access_key_id": "a", "secret_access_key": "hush"},
                         "b.fifo": {"url": "http://localhost:1/1/b.fifo", "region": "x"}}"#;
        let queues = set("predefined_queues", queues).unwrap().predefined_queues;
        assert_eq!(queues["orders"].region.as_deref(), Some("eu-west-1"));
        assert_eq!(queues["orders"].credentials, Some(("a".to_owned(), "hush".to_owned(), None)));
        assert_eq!((queues["b.fifo"].region.as_deref(), &queues["b.fifo"].credentials), (Some("x"), &None));
        assert_eq!(queues["orders"].backoff, None);
        let refused = |text: &str| set("predefined_queues", text).err().expect("refused");
        assert!(refused(r#"{"a": {"url": "https://x/a", "backoff_tasks": []}}"#).contains("belong together"));
        for policy in [r#"[1]"#, r#"{"one": 1}"#, r#"{"1": "x"}"#, r#"{"1": 43201}"#, r#"{"1": -1}"#] {
            let error = refused(&format!(r#"{{"a": {{"url": "https://x/a", "backoff_policy": {policy}}}}}"#));
            assert!(error.starts_with("predefined_queues: `a`: backoff_policy is no table"), "{error}");
        }
        assert!(refused(r#"{"a": {"url": "https://x/a.fifo"}}"#).contains("its name must end with .fifo"));
        assert!(refused(r#"{"a.fifo": {"url": "https://x/a"}}"#).contains("another kind of queue"));
        assert!(refused(r#"{"a": {"url": "https://x/a", "access_key_id": "k"}}"#).contains("belong together"));
        assert!(
            refused(r#"{"a": {"url": "https://x/a", "secret": "hush"}}"#).contains("there is no `secret`; there are:")
        );
        assert!(!refused("{hush").contains("hush"));
    }
}
