//! Runs the worker: drives the dispatcher against real time, a broker, a result store and an [`Invoker`].
//!
//! Decides nothing about messages (`core` does) and has never heard of wasm.

mod announce;
mod answers;
mod attempt;
mod builtin;
mod chords;
mod commit;
mod connection;
mod control;
mod drive;
mod expire;
mod invoker;
mod journal;
mod keep_clock;
mod lamport;
mod log;
mod look_up;
mod mailbox;
mod orders;
mod parked;
mod plugins;
mod process;
mod publish;
mod pulse;
mod put_back;
mod receipts;
mod spooled;
mod supervise;
mod tally;
mod tracer;

#[cfg(test)]
mod tests;

pub use announce::{Announcer, EventSettings};
pub use answers::{QUESTIONS_MAX, Question};
pub use builtin::{BuiltinSettings, Builtins};
pub use connection::{Connection, Connector, Moves, Retry};
pub use control::{Desk, Facts, RestartRefused};
pub use drive::{Ports, RunError, Settings, Watchers, run};
pub use invoker::{Cancel, Invoker};
pub use lamport::Lamport;
pub use mailbox::{Mailbox, MailboxSettings};
pub use orders::Reports;
pub use plugins::Plugins;
pub use publish::{PublishError, Publisher};
pub use pulse::{BEAT_MAX, Pulse, Unready};
pub use tally::{Distribution, OCCURRENCES, Tally, TaskTally};
pub use tracer::{SpanSink, Tracing};
