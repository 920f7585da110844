//! What only guests of the concurrent engine get: things to wait for while they do something else, and WASI 0.3 where
//! the operator wants it.
//!
//! How such guests are run, and what ends them, is the same as for any others.

mod waiting;
mod wasi;

use wasmtime::component::Linker;

use crate::instance::Guest;

pub(crate) use wasi::Wasi03;

/// Links it beside what all guests have.
pub(crate) fn link(linker: &mut Linker<Guest>, wasi_0_3: bool) -> wasmtime::Result<()> {
    waiting::link(linker)?;
    if wasi_0_3 { wasi::link(linker) } else { Ok(()) }
}
