//! `wasi:logging/logging`: lines of the task's log with a level and a context.
//!
//! Needs no grant, since a guest may print anyway; what it writes has the same bounds.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

use crate::instance::Guest;
use crate::logs;

/// A draft, which does not grow.
pub(crate) const VERSION: &str = "0.1.0-draft";

/// The enum `level`.
#[expect(dead_code, reason = "a guest makes them")]
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl From<Level> for logs::Level {
    fn from(level: Level) -> Self {
        match level {
            // The host has no level below debug, and none above error.
            Level::Trace | Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error | Level::Critical => Self::Error,
        }
    }
}

type Line = (Level, String, String);

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut logging = linker.instance(&format!("wasi:logging/logging@{VERSION}"))?;
    logging.func_wrap("log", |mut guest: StoreContextMut<'_, Guest>, (level, context, message): Line| {
        guest.data_mut().output().log(level.into(), &context, &message);
        Ok(())
    })
}
