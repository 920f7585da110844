//! Publishes no-op tasks as a Celery client would, only faster.
//!
//! Over AMQP every message has Celery's properties, its headers in py-amqp's types (`I` for integers, `V` for None)
//! and its body, byte for byte, but for the order of the headers: lapin sorts them.

use std::time::{SystemTime, UNIX_EPOCH};

use broker::ConnectOptions;
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};
use taskhost_core::protocol::v2::{self, Call};
use taskhost_core::{HeaderValue, Json, Message, Publication, QueueName, Route, TaskId, TaskName, Timestamp};
use uuid::Uuid;

use crate::Result;

/// Where everything is published to: Celery's default queue.
pub(crate) const QUEUE: &str = "celery";
/// The task of the demo plugin that does nothing.
pub(crate) const NOOP: &str = "tasks.noop";
/// The one that returns its argument.
pub(crate) const ECHO: &str = "tasks.echo";

/// Publications on their way. RabbitMQ is quickest with some hundreds.
const UNCONFIRMED_MAX: usize = 500;
/// Rows in one transaction.
const ROWS_MAX: usize = 1_000;

/// Declares the queue as a Celery client does.
pub(crate) async fn prepare_queue(channel: &Channel, quorum: bool) -> Result<()> {
    let name = || ShortString::from(QUEUE);
    let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name(), ExchangeKind::Direct, exchange, FieldTable::default()).await?;
    let queue = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    if quorum {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    channel.queue_declare(name(), queue, arguments).await?;
    channel.queue_bind(name(), name(), name(), QueueBindOptions::default(), FieldTable::default()).await?;
    Ok(())
}

/// Publishes so many and waits until the broker has confirmed every one.
pub(crate) async fn to_rabbitmq(channel: &Channel, tasks: u64, ignore_result: bool) -> Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let publish = async |_| {
        let message = noop(ignore_result)?;
        let properties = properties(&message);
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(ShortString::default(), QUEUE.into(), options, &message.body, properties);
        if sent.await?.await?.is_ack() { Ok(()) } else { Err("the broker refused a message".into()) }
    };
    stream::iter(0..tasks).map(publish).buffer_unordered(UNCONFIRMED_MAX).try_collect().await
}

/// Publishes so many through the host's own adapter, which writes what kombu writes.
pub(crate) async fn to_broker(url: &str, tasks: u64, ignore_result: bool) -> Result<()> {
    messages_to_broker(url, tasks, |_| noop(ignore_result)).await
}

/// A chord whose header's tasks do nothing, and whose body returns what it is given.
pub(crate) struct Chord {
    pub(crate) group: String,
    pub(crate) body: String,
}

impl Chord {
    pub(crate) fn new() -> Self {
        Self { group: Uuid::new_v4().to_string(), body: Uuid::new_v4().to_string() }
    }

    /// Publishes so many members. How many they are, whoever applies a chord has told the result store before.
    pub(crate) async fn to_broker(&self, url: &str, members: u64) -> Result<()> {
        let Self { group, body } = self;
        let embed = format!(
            r#"{{"callbacks": null, "errbacks": null, "chain": null, "chord": {{"task": "{ECHO}", "args": [], "kwargs": {{}}, "options": {{"task_id": "{body}", "group_id": "{group}"}}, "subtask_type": null, "immutable": false}}}}"#
        );
        let embed = Json::parse(embed)?;
        let member = |index: u64| {
            let mut call = call(false)?;
            call.embed = embed.clone();
            call.group_id = Some(group.clone());
            call.group_index = Some(u32::try_from(index)?);
            message(&call)
        };
        messages_to_broker(url, members, member).await
    }
}

async fn messages_to_broker(url: &str, tasks: u64, make: impl Fn(u64) -> Result<Message>) -> Result<()> {
    let broker = broker::connect(url, &ConnectOptions::default()).await?;
    let queue = QueueName::parse(QUEUE)?;
    broker.declare(&queue.clone().into()).await?;
    let mut published = 0;
    while published < tasks {
        let until = tasks.min(published + ROWS_MAX as u64);
        let mut publications = Vec::with_capacity(ROWS_MAX);
        for number in published..until {
            publications.push(Publication { message: make(number)?, route: Route::queue(&queue) });
        }
        broker.publish(&publications).await?;
        published = until;
    }
    broker.close().await;
    Ok(())
}

/// A call of the task that does nothing.
pub(crate) fn noop(ignore_result: bool) -> Result<Message> {
    message(&call(ignore_result)?)
}

fn call(ignore_result: bool) -> Result<Call> {
    let mut call = Call::new(TaskName::parse(NOOP)?, TaskId::parse(&Uuid::new_v4().to_string())?, "gen4711@client");
    call.ignore_result = Some(ignore_result);
    // Celery names the reply queue of the process, whatever the result backend.
    call.reply_to = Some("5f2d7a36-6ea8-35d6-bb8b-0c4f8c9c4e8a".to_owned());
    Ok(call)
}

fn message(call: &Call) -> Result<Message> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(v2::message(call, Timestamp::from_micros(i64::try_from(since.as_micros())?)))
}

fn properties(message: &Message) -> BasicProperties {
    let text = |value: &Option<String>| ShortString::from(value.as_deref().unwrap_or_default());
    let ours = &message.properties;
    BasicProperties::default()
        .with_content_type(text(&ours.content_type))
        .with_content_encoding(text(&ours.content_encoding))
        .with_headers(table(&message.headers.0))
        .with_delivery_mode(ours.delivery_mode.unwrap_or(2))
        .with_priority(ours.priority.unwrap_or(0))
        .with_correlation_id(text(&ours.correlation_id))
        .with_reply_to(text(&ours.reply_to))
}

fn table(entries: &[(String, HeaderValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.as_str().into(), field(value));
    }
    table
}

fn field(value: &HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::Int(value) => match i32::try_from(*value) {
            Ok(value) => AMQPValue::LongInt(value),
            Err(_) => AMQPValue::LongLongInt(*value),
        },
        HeaderValue::Double(value) => AMQPValue::Double(*value),
        HeaderValue::Text(text) | HeaderValue::Json(text) => AMQPValue::LongString(text.as_str().into()),
        HeaderValue::Bytes(bytes) => AMQPValue::ByteArray(bytes.as_slice().into()),
        HeaderValue::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(field).collect::<Vec<_>>()))
        }
        HeaderValue::Map(entries) => AMQPValue::FieldTable(table(entries)),
    }
}
