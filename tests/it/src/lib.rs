//! What the black-box tests are made with: the host as a process, Celery clients in Python, servers.
//!
//! Knows no crate of the host: what is tested here is what a user has. `cargo xtask test` sets the
//! environment that [`settings`] describes; a test that lacks something says so and counts as skipped.

pub mod browser;
pub mod client;
pub mod host;
pub mod http;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod server;
pub mod settings;
pub mod site;
pub mod tools;

pub use client::Client;
pub use host::Host;
pub use process::{COMPILER_PATIENCE, PATIENCE, Process};
pub use proxy::{End, Fault, Proxy};
pub use redis::Redis;
pub use server::Server;
pub use site::{Engine, Site};
