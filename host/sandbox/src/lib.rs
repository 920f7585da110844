//! Executes: loads plugins and runs attempts of their tasks in instances of their own.
//!
//! The only crate that sees wasmtime. Decides nothing about a message: whatever an attempt comes to,
//! traps and time-outs included, is an outcome, and what is done about it is decided in `core`.

mod abi;
mod answer;
mod asynchronous;
mod cache;
mod calls;
mod capability;
mod ceiling;
mod clock;
mod component;
mod cpu;
mod engine;
mod events;
mod folder;
mod grant;
mod instance;
mod invoke;
mod limits;
mod load_error;
mod logs;
mod manifest;
mod memory;
mod options;
mod plugin;
mod publish;
mod reached;
mod reuse;
mod sandbox;
mod shelf;
mod signature;
mod size;
mod states;
mod tasks;
mod typed;
mod usage;
mod watch;

pub use cache::CacheConfig;
pub use capability::{CapabilityError, ResultSource, Values, ValuesSource};
pub use engine::EngineError;
pub use events::EventSink;
pub use folder::Declared;
pub use grant::{Calls, GRANT_OPTIONS, Grant, HttpPattern, Mode, Need, Power, Scope, SocketPattern};
pub use limits::{Config, Limits};
pub use load_error::LoadError;
pub use manifest::{ManifestError, name_and_component};
pub use options::{FOR_CLIENTS, OptionError};
pub use plugin::{Import, PluginReport, TaskReport};
pub use publish::{Outlet, PublishSink};
pub use sandbox::{Loaded, Refused, Sandbox};
pub use shelf::{Look, Refreshed, SETTLE};
pub use states::StateSink;
pub use usage::{PluginUsage, Sum};
/// For those who implement the ports.
pub use wasmtime_wasi::async_trait;
pub use watch::Watch;
