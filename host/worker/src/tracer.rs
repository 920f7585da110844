//! Spans of the attempts that run: drawn when one starts, told when it is committed.
//!
//! What a span says is decided in `core`; where it goes is the business of whoever takes it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use taskhost_core::settle::Settlement;
use taskhost_core::trace::{self, Sampling, Span, TraceContext};
use taskhost_core::{Attempt, AttemptId, DeliveryId, Request, Timestamp};

/// Attempts whose span is open. More than can run; what is above has lost its end somewhere.
const OPEN_MAX: usize = 100_000;

/// Takes spans that ended. Returns at once; what it has no room for it drops and counts.
pub trait SpanSink: Send + Sync {
    /// One that somebody records.
    fn put(&self, span: Span);
}

/// How traces are made.
pub struct Tracing {
    pub sink: Arc<dyn SpanSink>,
    pub sampling: Sampling,
    /// What OpenTelemetry calls the broker.
    pub system: &'static str,
    /// For the ids.
    pub seeds: [u64; 2],
}

/// Makes spans.
pub(crate) struct Tracer {
    tracing: Tracing,
    chance: [Chance; 2],
    open: FxHashMap<DeliveryId, Open>,
    attempts: FxHashMap<AttemptId, DeliveryId>,
}

struct Open {
    context: TraceContext,
    /// None, if nobody records it.
    span: Option<Box<Span>>,
    /// As the message came.
    request: Arc<Request>,
    ended: Option<Timestamp>,
}

impl Tracer {
    pub(crate) fn new(tracing: Tracing) -> Self {
        let chance = tracing.seeds.map(Chance);
        Self { tracing, chance, open: FxHashMap::default(), attempts: FxHashMap::default() }
    }

    /// Begins the span of an attempt, which then sees it in its message's headers, in place of the one that
    /// published it.
    pub(crate) fn begin(&mut self, mut attempt: Attempt) -> Attempt {
        if self.open.len() >= OPEN_MAX {
            return attempt;
        }
        let parent = TraceContext::of(&attempt.request.message.headers);
        let trace = parent.as_ref().map_or_else(|| self.trace_id(), |parent| parent.trace);
        let sampled = self.tracing.sampling.samples(parent.as_ref(), trace);
        let id = self.span_id();
        let context = match &parent {
            Some(parent) => parent.child(id, sampled),
            None => TraceContext::root(trace, id, sampled),
        };
        let system = self.tracing.system;
        let span = sampled.then(|| Box::new(trace::begin(&attempt, context.clone(), parent.as_ref(), system)));
        let received = attempt.request.clone();
        let mut request = Request::clone(&received);
        context.write(&mut request.message.headers);
        attempt.request = Arc::new(request);
        self.attempts.insert(attempt.id, attempt.delivery);
        self.open.insert(attempt.delivery, Open { context, span, request: received, ended: None });
        attempt
    }

    /// The attempt is over; what is done about it follows.
    pub(crate) fn finished(&mut self, attempt: AttemptId, now: Timestamp) {
        let delivery = self.attempts.remove(&attempt);
        if let Some(open) = delivery.and_then(|delivery| self.open.get_mut(&delivery)) {
            open.ended = Some(now);
        }
    }

    /// Ends the span, if this settles an attempt, and makes it the parent of what the attempt caused.
    pub(crate) fn end(&mut self, delivery: DeliveryId, settlement: &mut Settlement, now: Timestamp) {
        let Some(Open { context, span, request, ended }) = self.open.remove(&delivery) else { return };
        trace::continue_in(settlement, &context, &request.message.headers);
        if let Some(mut span) = span {
            trace::end(&mut span, settlement, ended.unwrap_or(now));
            self.tracing.sink.put(*span);
        }
    }

    fn trace_id(&mut self) -> [u8; 16] {
        let [high, low] = [0, 1].map(|half: usize| self.chance[half].next());
        (u128::from(high) << 64 | u128::from(low)).max(1).to_be_bytes()
    }

    fn span_id(&mut self) -> [u8; 8] {
        (self.chance[0].next() ^ self.chance[1].next()).max(1).to_be_bytes()
    }
}

/// Numbers from a seed (Sebastiano Vigna's splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
