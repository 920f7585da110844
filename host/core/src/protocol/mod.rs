//! What Celery and kombu put on the wire, read and written.
//!
//! Each format ends here: the rest of the host sees requests, records and messages only.

pub mod auth;
#[cfg(test)]
mod clients;
pub mod codec;
pub mod content;
pub mod document;
pub mod envelope;
#[cfg(test)]
mod golden;
pub mod repr;
pub mod v1;
pub mod v2;
