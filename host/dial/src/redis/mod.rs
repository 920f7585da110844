//! Opens connections to Redis: to a server, or to the one that Sentinels name, over TCP, TLS or a Unix socket.
//!
//! Brokers and stores say what is sent then, and what to do when a connection is lost.

mod address;
mod dialer;
mod error;
mod login;
mod options;
mod sentinel;
mod stream;

pub use address::{Address, SCHEMES, Target};
pub use dialer::{Connection, Dialer, Opening};
pub use error::OpenError;
pub use options::{OPTIONS, Options, SentinelOptions, seconds};
