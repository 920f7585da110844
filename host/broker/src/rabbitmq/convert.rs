//! Between lapin's messages and ours.
//!
//! Runs once a message in each direction. lapin hands out its strings only by reference, so that they
//! have to be copied; the body is moved.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString, ShortStringError};
use taskhost_core::{HeaderValue, Headers, Message, Properties};

/// What lapin received.
pub(super) fn message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let headers = properties.headers().as_ref().map(|table| Headers(entries(table))).unwrap_or_default();
    let properties = Properties {
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        delivery_mode: *properties.delivery_mode(),
        priority: *properties.priority(),
        expiration: text(properties.expiration()),
        app_id: text(properties.app_id()),
    };
    Message { properties, headers, body: Bytes::from(body) }
}

/// What lapin is to send. Fails if a short string is longer than AMQP allows.
pub(super) fn properties(message: &Message) -> Result<BasicProperties, ShortStringError> {
    let Properties {
        content_type,
        content_encoding,
        correlation_id,
        reply_to,
        delivery_mode,
        priority,
        expiration,
        app_id,
    } = &message.properties;
    let mut properties = BasicProperties::default();
    if let Some(text) = content_type {
        properties = properties.with_content_type(short(text)?);
    }
    if let Some(text) = content_encoding {
        properties = properties.with_content_encoding(short(text)?);
    }
    if let Some(text) = correlation_id {
        properties = properties.with_correlation_id(short(text)?);
    }
    if let Some(text) = reply_to {
        properties = properties.with_reply_to(short(text)?);
    }
    if let Some(mode) = delivery_mode {
        properties = properties.with_delivery_mode(*mode);
    }
    if let Some(priority) = priority {
        properties = properties.with_priority(*priority);
    }
    if let Some(text) = expiration {
        properties = properties.with_expiration(short(text)?);
    }
    if let Some(text) = app_id {
        properties = properties.with_app_id(short(text)?);
    }
    Ok(properties.with_headers(table(&message.headers.0)?))
}

fn text(value: &Option<ShortString>) -> Option<String> {
    value.as_ref().map(|text| text.as_str().to_owned())
}

fn short(text: &str) -> Result<ShortString, ShortStringError> {
    ShortString::try_new(text)
}

fn entries(table: &FieldTable) -> Vec<(String, HeaderValue)> {
    // `with_capacity`: the iterator of a map does not tell its length to `collect` exactly.
    let mut entries = Vec::with_capacity(table.inner().len());
    for (key, value) in table {
        entries.push((key.as_str().to_owned(), header(value)));
    }
    entries
}

fn header(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::LongString(text) => long(text),
        AMQPValue::Void => HeaderValue::Null,
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::ShortUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongUInt(value) => HeaderValue::Int((*value).into()),
        AMQPValue::LongLongInt(value) => HeaderValue::Int(*value),
        AMQPValue::Float(value) => HeaderValue::Double((*value).into()),
        AMQPValue::Double(value) => HeaderValue::Double(*value),
        AMQPValue::DecimalValue(decimal) => {
            HeaderValue::Double(f64::from(decimal.value) / 10_f64.powi(decimal.scale.into()))
        }
        AMQPValue::ShortString(text) => HeaderValue::Text(text.as_str().to_owned()),
        AMQPValue::ByteArray(bytes) => HeaderValue::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::Timestamp(seconds) => HeaderValue::Timestamp(*seconds),
        AMQPValue::FieldArray(values) => HeaderValue::List(values.as_slice().iter().map(header).collect()),
        AMQPValue::FieldTable(table) => HeaderValue::Map(entries(table)),
    }
}

/// A long string is text by convention only: clients also send bytes in it.
fn long(text: &LongString) -> HeaderValue {
    match std::str::from_utf8(text.as_bytes()) {
        Ok(text) => HeaderValue::Text(text.to_owned()),
        Err(_) => HeaderValue::Bytes(text.as_bytes().to_vec()),
    }
}

fn table(entries: &[(String, HeaderValue)]) -> Result<FieldTable, ShortStringError> {
    let mut table = BTreeMap::new();
    for (key, value) in entries {
        table.insert(short(key)?, field(value)?);
    }
    Ok(FieldTable::from(table))
}

fn field(value: &HeaderValue) -> Result<AMQPValue, ShortStringError> {
    Ok(match value {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::Int(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::Double(value) => AMQPValue::Double(*value),
        // The other side of this is a program that expects a number but can read its digits.
        HeaderValue::Text(text) | HeaderValue::Json(text) => AMQPValue::LongString(text.as_bytes().into()),
        HeaderValue::Bytes(bytes) => AMQPValue::ByteArray(bytes.as_slice().into()),
        HeaderValue::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(values) => {
            let values = values.iter().map(field).collect::<Result<Vec<_>, _>>()?;
            AMQPValue::FieldArray(FieldArray::from(values))
        }
        HeaderValue::Map(entries) => AMQPValue::FieldTable(table(entries)?),
    })
}
