//! An entry of the journal as bytes, every header value with its type: what comes out is what went in.
//!
//! Read and written here alone. A change of the form is a new version, in the first byte.

use taskhost_core::{DeliveryInfo, HeaderValue, Headers, Message, Properties, QueueName};

const VERSION: u8 = 2;
/// Knows no `app_id`.
const FIRST_VERSION: u8 = 1;

/// Deeper header values than this are not written by anybody, and are not read.
const DEPTH_MAX: u32 = 1_000;

/// Writes it down.
pub(super) fn pack(message: &Message, info: &DeliveryInfo) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(message.body.len() + 512));
    out.0.push(VERSION);
    for text in [info.queue.as_str(), &info.exchange, &info.routing_key] {
        out.bytes(text.as_bytes());
    }
    out.0.push(info.redelivered.into());
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
    for text in [content_type, content_encoding, correlation_id, reply_to, expiration] {
        out.optional(text.as_ref(), |out, text| out.bytes(text.as_bytes()));
    }
    for number in [delivery_mode, priority] {
        out.optional(number.as_ref(), |out, number| out.0.push(*number));
    }
    out.optional(app_id.as_ref(), |out, text| out.bytes(text.as_bytes()));
    out.members(&message.headers.0);
    out.bytes(&message.body);
    out.0
}

/// Reads it. None if it is something else.
pub(super) fn unpack(bytes: &[u8]) -> Option<(Message, DeliveryInfo)> {
    let mut from = Reader(bytes);
    let version = from.byte()?;
    if !matches!(version, FIRST_VERSION | VERSION) {
        return None;
    }
    let queue = QueueName::parse(&from.text()?).ok()?;
    let info =
        DeliveryInfo { queue, exchange: from.text()?, routing_key: from.text()?, redelivered: from.byte()? != 0 };
    let properties = Properties {
        content_type: from.optional(Reader::text)?,
        content_encoding: from.optional(Reader::text)?,
        correlation_id: from.optional(Reader::text)?,
        reply_to: from.optional(Reader::text)?,
        expiration: from.optional(Reader::text)?,
        delivery_mode: from.optional(Reader::byte)?,
        priority: from.optional(Reader::byte)?,
        app_id: if version == FIRST_VERSION { None } else { from.optional(Reader::text)? },
    };
    let headers = Headers(from.members(0)?);
    let body = from.bytes()?.to_vec().into();
    from.0.is_empty().then_some((Message { properties, headers, body }, info))
}

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        self.0.extend_from_slice(&(length as u64).to_le_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.push(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn members(&mut self, members: &[(String, HeaderValue)]) {
        self.length(members.len());
        for (name, value) in members {
            self.bytes(name.as_bytes());
            self.value(value);
        }
    }

    fn value(&mut self, value: &HeaderValue) {
        match value {
            HeaderValue::Null => self.0.push(b'n'),
            HeaderValue::Bool(value) => self.0.extend([b'b', u8::from(*value)]),
            HeaderValue::Int(value) => self.fixed(b'i', value.to_le_bytes()),
            HeaderValue::Double(value) => self.fixed(b'd', value.to_bits().to_le_bytes()),
            HeaderValue::Timestamp(value) => self.fixed(b'T', value.to_le_bytes()),
            HeaderValue::Text(value) => self.tagged(b't', value.as_bytes()),
            HeaderValue::Bytes(value) => self.tagged(b'x', value),
            HeaderValue::Json(value) => self.tagged(b'j', value.as_bytes()),
            HeaderValue::List(values) => {
                self.0.push(b'l');
                self.length(values.len());
                values.iter().for_each(|value| self.value(value));
            }
            HeaderValue::Map(members) => {
                self.0.push(b'm');
                self.members(members);
            }
        }
    }

    fn fixed(&mut self, tag: u8, bytes: [u8; 8]) {
        self.0.push(tag);
        self.0.extend(bytes);
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.0.push(tag);
        self.bytes(bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn fixed(&mut self) -> Option<[u8; 8]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn length(&mut self) -> Option<usize> {
        // Nothing is longer than what is left, so nothing is allocated for a length that is not true.
        usize::try_from(u64::from_le_bytes(self.fixed()?)).ok().filter(|length| *length <= self.0.len())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.byte()? == 0 { Some(None) } else { read(self).map(Some) }
    }

    fn members(&mut self, depth: u32) -> Option<Vec<(String, HeaderValue)>> {
        let length = self.length()?;
        (0..length).map(|_| Some((self.text()?, self.value(depth)?))).collect()
    }

    fn value(&mut self, depth: u32) -> Option<HeaderValue> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match self.byte()? {
            b'n' => HeaderValue::Null,
            b'b' => HeaderValue::Bool(self.byte()? != 0),
            b'i' => HeaderValue::Int(i64::from_le_bytes(self.fixed()?)),
            b'd' => HeaderValue::Double(f64::from_bits(u64::from_le_bytes(self.fixed()?))),
            b'T' => HeaderValue::Timestamp(u64::from_le_bytes(self.fixed()?)),
            b't' => HeaderValue::Text(self.text()?),
            b'x' => HeaderValue::Bytes(self.bytes()?.to_vec()),
            b'j' => HeaderValue::Json(self.text()?),
            b'l' => {
                let length = self.length()?;
                HeaderValue::List((0..length).map(|_| self.value(depth + 1)).collect::<Option<_>>()?)
            }
            b'm' => HeaderValue::Map(self.members(depth + 1)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> (Message, DeliveryInfo) {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let headers = vec![
            ("task".to_owned(), text("tasks.ädd")),
            ("eta".to_owned(), HeaderValue::Timestamp(1_795_343_528)),
            ("none".to_owned(), HeaderValue::Null),
            ("raw".to_owned(), HeaderValue::Bytes(vec![0, 255])),
            ("big".to_owned(), HeaderValue::Json("1e999".to_owned())),
            (
                "nested".to_owned(),
                HeaderValue::Map(vec![(
                    "list".to_owned(),
                    HeaderValue::List(vec![
                        HeaderValue::Int(-1),
                        HeaderValue::Double(-0.0),
                        HeaderValue::Bool(true),
                        HeaderValue::List(Vec::new()),
                    ]),
                )]),
            ),
        ];
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            reply_to: Some(String::new()),
            delivery_mode: Some(2),
            expiration: Some("60000".to_owned()),
            app_id: Some("shop".to_owned()),
            ..Properties::default()
        };
        let message = Message { properties, headers: Headers(headers), body: vec![0xff, 0, b'['].into() };
        let info = DeliveryInfo {
            queue: QueueName::parse("celery").expect("a name"),
            exchange: "x".to_owned(),
            routing_key: "a.b".to_owned(),
            redelivered: true,
        };
        (message, info)
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        let (message, info) = entry();
        assert_eq!(unpack(&pack(&message, &info)), Some((message, info)));
    }

    #[test]
    fn an_entry_of_the_first_version_is_read() {
        let (mut message, info) = entry();
        message.properties.app_id = None;
        let mut packed = pack(&message, &info);
        // Its only difference: the byte that says that there is no `app_id`, before the headers.
        let properties = Message { headers: Headers::default(), body: Vec::new().into(), ..message.clone() };
        let behind = pack(&properties, &info).len() - 2 * size_of::<u64>() - 1;
        assert_eq!((packed.remove(behind), packed[0]), (0, VERSION));
        packed[0] = FIRST_VERSION;
        assert_eq!(unpack(&packed), Some((message, info)));
    }

    #[test]
    fn what_is_cut_off_or_changed_is_refused_or_at_least_read_without_harm() {
        let (message, info) = entry();
        let packed = pack(&message, &info);
        for length in 0..packed.len() {
            assert_eq!(unpack(&packed[..length]), None, "{length} bytes");
        }
        for at in 0..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 0xff;
            let _ = unpack(&changed);
        }
        let deep = (0..2_000).fold(HeaderValue::Null, |inner, _| HeaderValue::List(vec![inner]));
        let message = Message { headers: Headers(vec![("deep".to_owned(), deep)]), ..message };
        assert_eq!(unpack(&pack(&message, &info)), None);
    }
}
