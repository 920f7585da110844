//! Traces across programs: where an execution belongs in one, and what is told of it (W3C Trace Context, and
//! OpenTelemetry's conventions for messaging).
//!
//! Draws no ids and sends nothing: both are the edge's.

mod span;

use crate::message::{HeaderValue, Headers};
use crate::settle::{Settlement, Step};

pub use span::{Span, Value, begin, end};

/// The headers in which a trace travels, flat beside Celery's own as its instrumentations write them.
pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";

/// The text of a `traceparent`: version, trace, span and flags with dashes between.
const TRACEPARENT_CHARS: usize = 55;

/// Longer states may be dropped (W3C Trace Context, 3.3.1.5).
const TRACESTATE_CHARS_MAX: usize = 512;

/// The flags that are defined: sampled, and random.
const SAMPLED: u8 = 1;
const FLAGS_KNOWN: u8 = 3;

/// A span, as others name it as the parent of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    flags: u8,
    /// What vendors add, passed on as it is.
    state: Option<String>,
}

impl TraceContext {
    /// The beginning of a trace. Neither id may be all zeros.
    pub fn root(trace: [u8; 16], span: [u8; 8], sampled: bool) -> Self {
        Self { trace, span, flags: if sampled { SAMPLED } else { 0 }, state: None }
    }

    /// Reads the two headers' texts. None for anything that the recommendation calls invalid: the trace then
    /// begins anew.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let bytes = parent.as_bytes();
        let text = bytes.get(..TRACEPARENT_CHARS)?;
        let [version, trace, span, flags] = [&text[0..2], &text[3..35], &text[36..52], &text[53..55]];
        let version = hexadecimal::<1>(version)?[0];
        // A later version may have more behind a dash; the first has not.
        let ends = match bytes.get(TRACEPARENT_CHARS) {
            None => true,
            Some(next) => version > 0 && *next == b'-',
        };
        if version == 0xff || !ends || [2, 35, 52].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let (trace, span) = (hexadecimal::<16>(trace)?, hexadecimal::<8>(span)?);
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let state = state.map(str::trim).filter(|state| {
            !state.is_empty()
                && state.len() <= TRACESTATE_CHARS_MAX
                && state.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        });
        Some(Self { trace, span, flags: hexadecimal::<1>(flags)?[0] & FLAGS_KNOWN, state: state.map(str::to_owned) })
    }

    /// The span that published a message with these headers, if it says so.
    pub fn of(headers: &Headers) -> Option<Self> {
        let text = |key: &str| match headers.get(key) {
            Some(HeaderValue::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        Self::parse(text(TRACEPARENT)?, text(TRACESTATE))
    }

    /// A span below this one.
    pub fn child(&self, span: [u8; 8], sampled: bool) -> Self {
        let flags = (self.flags & !SAMPLED) | if sampled { SAMPLED } else { 0 };
        Self { trace: self.trace, span, flags, state: self.state.clone() }
    }

    /// Somebody records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What vendors add.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The text of the header.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace), hex(&self.span), self.flags)
    }

    /// Makes this the span that publishes a message with these headers.
    pub fn write(&self, headers: &mut Headers) {
        headers.set(TRACEPARENT, HeaderValue::Text(self.traceparent()));
        match &self.state {
            Some(state) => headers.set(TRACESTATE, HeaderValue::Text(state.clone())),
            None => headers.remove(|key| key == TRACESTATE),
        }
    }
}

/// What a task calls is of the trace that it runs in, unless it says otherwise.
pub fn inherit(headers: &mut Headers, caller: &Headers) {
    if headers.get(TRACEPARENT).is_none()
        && let Some(context) = TraceContext::of(caller)
    {
        context.write(headers);
    }
}

/// Makes `span` the parent of what an attempt of a message with these headers causes. What the task itself put
/// into another trace stays there.
pub fn continue_in(settlement: &mut Settlement, span: &TraceContext, received: &Headers) {
    for step in settlement.before.iter_mut().chain(&mut settlement.after) {
        let publication = match step {
            Step::Send(publication) | Step::SendTo(_, publication) => publication,
            _ => continue,
        };
        let headers = &mut publication.message.headers;
        let own = headers.get(TRACEPARENT);
        // A retry is made of the message as it came.
        if own.is_none() || own == received.get(TRACEPARENT) {
            span.write(headers);
        }
    }
}

/// Which traces are recorded (OTEL_TRACES_SAMPLER).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whoever began the trace has decided.
    pub parent_based: bool,
    /// How much of the others, between 0 and 1.
    pub ratio: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { parent_based: true, ratio: 1.0 }
    }
}

impl Sampling {
    /// By the names of the specification; the ratio is that of those that have one.
    pub fn parse(name: &str, ratio: f64) -> Option<Self> {
        let (parent_based, name) = match name.strip_prefix("parentbased_") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let ratio = match name {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" if (0.0..=1.0).contains(&ratio) => ratio,
            _ => return None,
        };
        Some(Self { parent_based, ratio })
    }

    /// Whether the span is recorded. By the id of the trace, so that all programs of it decide alike.
    pub fn samples(&self, parent: Option<&TraceContext>, trace: [u8; 16]) -> bool {
        if let Some(parent) = parent.filter(|_| self.parent_based) {
            return parent.is_sampled();
        }
        let [.., a, b, c, d, e, f, g, h] = trace;
        let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        self.ratio >= 1.0 || (place as f64) < self.ratio * (1u64 << 63) as f64
    }
}

/// Bytes in hexadecimal, as ids are written.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Lower case only, as the recommendation has it.
fn hexadecimal<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
