//! What a running task tells monitors by itself.
//!
//! Does not send: whoever serves the sandbox gives it an [`EventSink`]. A task is told the same whether anybody
//! listens or not.

use taskhost_core::event::CustomEvent;
use taskhost_core::{Json, TaskId};

use crate::abi::taskhost::task::context::EventError;
use crate::limits::Limits;

/// Takes events over.
pub trait EventSink: Send + Sync {
    /// Takes the event. Returns at once, and may drop it.
    fn send(&self, event: &CustomEvent);
}

/// What an attempt has said so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    count: u32,
    bytes: usize,
}

impl Told {
    /// The event, if it is one and the attempt may say that much; else why not, and the limit that was reached.
    pub(crate) fn admit(
        &mut self,
        id: &TaskId,
        kind: &str,
        fields: String,
        limits: &Limits,
    ) -> Result<CustomEvent, (EventError, Option<&'static str>)> {
        let bytes = self.bytes.saturating_add(kind.len()).saturating_add(fields.len());
        if self.count >= limits.events {
            let text = format!("the task has sent {} events; limits.events is {}", self.count, limits.events);
            return Err((EventError::Limited(text), Some("events")));
        }
        if bytes > limits.event_bytes {
            let limit = limits.event_bytes;
            let text = format!("the events of the task have {bytes} bytes; limits.event_bytes is {limit} bytes");
            return Err((EventError::Limited(text), Some("event_bytes")));
        }
        let invalid = |text: String| (EventError::Invalid(text), None);
        let fields = Json::parse(fields).map_err(|error| invalid(format!("the fields are not JSON: {error}")))?;
        let event = CustomEvent::new(id.clone(), kind, fields).map_err(|error| invalid(error.to_string()))?;
        self.count += 1;
        self.bytes = bytes;
        Ok(event)
    }
}
