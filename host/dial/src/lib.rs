//! Dials: how servers are reached that brokers and result stores have in common.
//!
//! Knows addresses, certificates and the handshakes before the first command; never what is sent then.

pub mod database;
pub mod mysql;
pub mod percent;
pub mod postgresql;
pub mod redis;
pub mod tls;
