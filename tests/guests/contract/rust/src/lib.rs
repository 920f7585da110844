//! The contract of the SDKs, in Rust: what a task may do, once, as an ordinary user would write it.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use taskhost::{Context, Json, TaskError, task};

mod calling;
mod compose;
mod ending;
mod surroundings;

taskhost::plugin!(
    add,
    echo,
    parsed,
    greet,
    collect,
    sum,
    flood,
    options,
    about,
    progress,
    report,
    event,
    ending::fail,
    ending::crash,
    ending::retry,
    ending::retry_args,
    ending::give_up,
    ending::unsteady,
    ending::reject,
    ending::ignore,
    ending::graceful,
    ending::soft,
    ending::spin,
    ending::hog,
    ending::recurse,
    calling::replace,
    calling::publish,
    calling::apply,
    calling::ask,
    calling::extend,
    compose::compose,
    compose::r#become,
    surroundings::say,
    surroundings::config,
    surroundings::secret,
    surroundings::keep,
);

/// A number as Python has it: an integer unless it has a fraction or an exponent.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
enum Number {
    Integer(i64),
    Real(f64),
}

/// Not by serde's own means, which take an integer of more than 64 bits for a float.
impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Json::deserialize(deserializer)?;
        let wrong = || D::Error::custom(format!("{number} is not a number that fits into 64 bits"));
        match number.as_str().bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9')) {
            true => number.as_str().parse().map(Number::Integer).map_err(|_| wrong()),
            false => number.parse().map(Number::Real).map_err(|_| wrong()),
        }
    }
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Number::Integer(integer) => integer as f64,
            Number::Real(real) => real,
        }
    }
}

/// Adds two numbers.
#[task(name = "contract.add")]
fn add(x: Number, y: Number) -> Result<Number, TaskError> {
    match (x, y) {
        (Number::Integer(x), Number::Integer(y)) => match x.checked_add(y) {
            Some(sum) => Ok(Number::Integer(sum)),
            None => Err(TaskError::new("OverflowError", "the sum does not fit into 64 bits")),
        },
        _ => Ok(Number::Real(x.real() + y.real())),
    }
}

/// Returns what it is given, byte for byte.
#[task(name = "contract.echo")]
fn echo(value: Json) -> Json {
    value
}

/// Returns what it has made of what it is given.
#[task(name = "contract.parsed")]
fn parsed(value: Value) -> Value {
    value
}

/// JSON as Rust has it: numbers are of 64 bits.
#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Json::deserialize(deserializer)?;
        let read = match value.as_str().as_bytes().first() {
            Some(b'n') => Ok(Value::Null),
            Some(b't' | b'f') => value.parse().map(Value::Bool),
            Some(b'"') => value.parse().map(Value::Text),
            Some(b'[') => value.parse().map(Value::List),
            Some(b'{') => value.parse().map(Value::Map),
            _ => value.parse().map(Value::Number),
        };
        read.map_err(D::Error::custom)
    }
}

/// Greets somebody.
#[task(name = "contract.greet")]
fn greet(name: &str, #[default = "Hello"] greeting: &str, #[default = "!"] punctuation: &str) -> String {
    format!("{greeting}, {name}{punctuation}")
}

/// All that it is given.
#[derive(Serialize)]
struct Collected {
    args: Vec<Json>,
    kwargs: BTreeMap<String, Json>,
}

/// Returns all of its arguments.
#[task(name = "contract.collect")]
fn collect(#[args] args: Vec<Json>, #[kwargs] kwargs: BTreeMap<String, Json>) -> Collected {
    Collected { args, kwargs }
}

/// Adds some numbers.
#[task(name = "contract.sum")]
fn sum(numbers: Vec<Number>) -> Result<Number, TaskError> {
    numbers.into_iter().try_fold(Number::Integer(0), add)
}

/// Returns a text of so many megabytes.
#[task(name = "contract.flood")]
fn flood(megabytes: usize) -> String {
    "x".repeat(megabytes << 20)
}

/// Has every option.
#[task(
    name = "contract.options",
    queue = "slow",
    max_retries = 7,
    default_retry_delay = 1.5,
    rate_limit = "10/m",
    time_limit = 20,
    soft_time_limit = 10,
    acks_late = false,
    ignore_result = false,
    track_started = true,
    retry_backoff = true
)]
fn options() {}

/// What a task knows about its call.
#[derive(Serialize)]
struct Known {
    id: String,
    task: String,
    retries: u32,
    cancelled: bool,
    remaining: f64,
    root_id: serde_json::Value,
    queue: serde_json::Value,
}

/// Returns what it knows about its call.
#[task(name = "contract.context")]
fn about(context: &Context) -> Known {
    let request = context.request();
    Known {
        id: context.id().to_owned(),
        task: context.task().to_owned(),
        retries: context.retries(),
        cancelled: context.cancelled(),
        remaining: context.remaining().as_secs_f64(),
        root_id: request["root_id"].clone(),
        queue: request["delivery_info"]["routing_key"].clone(),
    }
}

/// Tells how far it is, and then something of its own.
#[task(name = "contract.progress")]
fn progress(context: &Context, #[default = 3] steps: u64) -> Result<u64, TaskError> {
    for step in 1..=steps {
        context.progress(step, steps);
    }
    context.update_state("CUSTOM", &BTreeMap::from([("note", "ü")]))?;
    Ok(steps)
}

/// Gives itself a state, and returns why it cannot.
#[task(name = "contract.report")]
fn report(context: &Context, state: &str) -> Option<String> {
    context.update_state(state, &BTreeMap::<String, Json>::new()).err().map(|error| error.to_string())
}

/// Tells monitors something.
#[task(name = "contract.event")]
fn event(context: &Context, kind: &str) -> Result<(), TaskError> {
    Ok(context.send_event(kind, &BTreeMap::from([("x", 1)]))?)
}
