//! Remembers: results behind the [`ResultStore`] port, one adapter a file, and in [`state`] what a worker
//! keeps for itself.
//!
//! What a result document says is decided in `core`; adapters only know where it is put. They do not
//! know brokers: the rpc store gets a [`ReplySender`] from whoever wires it.

mod amqp;
mod cause;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod connect;
mod disabled;
mod filesystem;
mod keys;
mod keyvalue;
mod memcached;
mod memory;
mod port;
mod redis;
mod rpc;
mod shared_rates;
mod sql;
pub mod state;
mod target;
mod terms;
mod unreadable;
mod waiters;

pub use amqp::AmqpStore;
pub use connect::{StoreOptions, check_redis_options, check_tls, check_url, connect};
pub use disabled::DisabledStore;
pub use filesystem::FilesystemStore;
pub use keyvalue::{Entry, KeyValue, KeyValueError, Page, Swap, can_keep_values, keep_values};
pub use memcached::MemcachedStore;
pub use memory::MemoryStore;
pub use port::{BoxError, LeaveError, ReplySender, ResultStore, StoreError};
pub use redis::RedisStore;
pub use rpc::RpcStore;
pub use shared_rates::{SharedRates, can_share_rates, share_rates};
pub use sql::{DatabaseOptions, SqlStore, TableNames};
