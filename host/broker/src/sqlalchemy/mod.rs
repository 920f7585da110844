//! kombu's tables of its SQLAlchemy transport (kombu/transport/sqlalchemy), whatever database they are in: what a row
//! says and how a message becomes one.
//!
//! Holds no statement and no connection; those are the adapters'.

mod inbox;

use taskhost_core::protocol::envelope;
use taskhost_core::{DeliveryInfo, HeaderValue, Message, Publication, QueueName, Route, Timestamp};
use tracing::error;
use uuid::Uuid;

pub(crate) use self::inbox::{End, Inbox};
use crate::kombu;
use crate::port::{BrokerError, DELIVERY_COUNT_HEADER, Receipt};

/// A row to be inserted.
pub(crate) struct NewRow {
    pub(crate) queue: String,
    pub(crate) payload: String,
    pub(crate) priority: u8,
    pub(crate) eta_ms: Option<i64>,
}

/// A row that was claimed.
pub(crate) struct Claimed {
    pub(crate) id: i64,
    pub(crate) payload: Vec<u8>,
    pub(crate) redelivered: bool,
    pub(crate) delivery_count: i64,
}

impl Claimed {
    /// The message of a row, as it is delivered from this queue. The error says why it is none.
    pub(crate) fn read(self, queue: &QueueName) -> Result<(Message, DeliveryInfo), String> {
        let envelope = envelope::decode(&self.payload).map_err(|reason| reason.to_string())?;
        let mut message = envelope.message;
        if self.delivery_count > 0 {
            message.headers.set(DELIVERY_COUNT_HEADER, HeaderValue::Int(self.delivery_count));
        }
        let route = match kombu::is_routable(&envelope.route) {
            true => envelope.route,
            // Clients know exchanges that we know nothing of: what is published again goes to the queue.
            false => Route::queue(queue),
        };
        let redelivered = self.redelivered || envelope.redelivered;
        Ok((message, DeliveryInfo::found(queue.clone(), route, redelivered)))
    }
}

/// The priority and the `eta` header of a payload, if it is a message.
pub(crate) fn priority_and_eta(payload: &[u8]) -> (u8, Option<String>) {
    let Ok(envelope) = envelope::decode(payload) else { return (0, None) };
    let eta = match envelope.message.headers.get("eta") {
        Some(HeaderValue::Text(eta)) => Some(eta.to_string()),
        _ => None,
    };
    (envelope.message.properties.priority.unwrap_or(0), eta)
}

/// Tells the operator of a row that is no message.
pub(crate) fn set_aside(queue: &QueueName, row: i64, reason: &str) {
    error!(
        queue.name = %queue, row, error = %reason,
        "row {row} of kombu_message, in queue `{queue}`, is no message ({reason}) and is set aside"
    );
}

/// A message that is published. Only the queue of a name can be meant.
pub(crate) fn new_row(Publication { message, route }: &Publication) -> Result<NewRow, BrokerError> {
    if !kombu::is_routable(route) {
        let Route { exchange, routing_key } = route.clone();
        return Err(BrokerError::Unroutable { exchange, routing_key });
    }
    let eta_ms = match message.headers.get("eta") {
        Some(HeaderValue::Text(eta)) => eta_ms(eta),
        _ => None,
    };
    let payload = envelope::encode(message, route, &Uuid::new_v4().hyphenated().to_string());
    let priority = message.properties.priority.unwrap_or(0);
    Ok(NewRow { queue: route.routing_key.clone(), payload, priority, eta_ms })
}

/// The row that a receipt is for.
pub(crate) fn row(receipt: &Receipt) -> Option<i64> {
    i64::try_from(receipt.number()?).ok()
}

/// The time of an `eta` header, rounded up: never early. One without an offset means the client's time
/// zone, which we do not know; the worker does, and is given the message at once.
pub(crate) fn eta_ms(text: &str) -> Option<i64> {
    let (_, time) = text.split_once(['T', 't', ' '])?;
    if !time.ends_with(['Z', 'z']) && !time.contains(['+', '-']) {
        return None;
    }
    Timestamp::parse(text).ok().map(ceil_ms)
}

/// Milliseconds since the epoch, rounded up.
pub(crate) fn ceil_ms(at: Timestamp) -> i64 {
    let micros = at.as_micros();
    micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eta_counts_only_with_an_offset() {
        assert_eq!(eta_ms("2026-11-22T10:32:08.348566+00:00"), Some(1_795_343_528_349));
        assert_eq!(eta_ms("2026-11-22T10:32:08Z"), Some(1_795_343_528_000));
        assert_eq!(eta_ms("2026-11-22T05:32:08-05:00"), Some(1_795_343_528_000));
        assert_eq!(eta_ms("2026-11-22T10:32:08.348566"), None);
        assert_eq!(eta_ms("soon"), None);
    }
}
