//! WASI 0.3 for guests of the concurrent engine: standard streams, environment, clocks and randomness as in WASI 0.2.
//!
//! Files and sockets are linked, since toolchains import whole worlds, and nobody has any: what we count and check in those
//! of WASI 0.2 would not be counted and checked here. HTTP is not linked. Handles are kept apart from those of
//! WASI 0.2, so that a component which calls the one the other gains nothing.

use std::time::Duration;

use wasmtime::component::{Accessor, HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p3::bindings::cli;
use wasmtime_wasi::p3::bindings::clocks::monotonic_clock::{self, Mark};
use wasmtime_wasi::p3::bindings::clocks::{system_clock, types as clock_types};
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types as filesystem_types};
use wasmtime_wasi::p3::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p3::bindings::sockets::{ip_name_lookup, types as socket_types};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtx, WasiSocketsCtxView};

use crate::instance::Guest;

/// What a guest has of WASI 0.3 and does not share with WASI 0.2.
#[derive(Default)]
pub(crate) struct Wasi03 {
    pub(crate) table: ResourceTable,
    /// Without folders.
    filesystem: WasiFilesystemCtx,
    /// Without a protocol, an address or a name.
    sockets: WasiSocketsCtx,
}

impl Wasi03 {
    pub(crate) fn new(handles_max: usize) -> Self {
        let mut wasi = Self::default();
        wasi.table.set_max_capacity(handles_max);
        wasi
    }
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, cli_view)?;
    clock_types::add_to_linker::<_, WasiClocks>(linker, Guest::clocks)?;
    system_clock::add_to_linker::<_, WasiClocks>(linker, Guest::clocks)?;
    monotonic_clock::add_to_linker::<_, Clock>(linker, |guest| View(guest))?;
    random::add_to_linker::<_, WasiRandom>(linker, Guest::random)?;
    insecure::add_to_linker::<_, WasiRandom>(linker, Guest::random)?;
    insecure_seed::add_to_linker::<_, WasiRandom>(linker, Guest::random)?;
    preopens::add_to_linker::<_, WasiFilesystem>(linker, filesystem_view)?;
    filesystem_types::add_to_linker::<_, WasiFilesystem>(linker, filesystem_view)?;
    socket_types::add_to_linker::<_, WasiSockets>(linker, sockets_view)?;
    ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, sockets_view)
}

fn cli_view(guest: &mut Guest) -> WasiCliCtxView<'_> {
    let (wasi, apart) = guest.wasi_0_3();
    WasiCliCtxView { ctx: wasi.cli(), table: &mut apart.table }
}

fn filesystem_view(guest: &mut Guest) -> WasiFilesystemCtxView<'_> {
    let Wasi03 { filesystem, table, .. } = guest.wasi_0_3().1;
    WasiFilesystemCtxView { ctx: filesystem, table }
}

fn sockets_view(guest: &mut Guest) -> WasiSocketsCtxView<'_> {
    let Wasi03 { sockets, table, .. } = guest.wasi_0_3().1;
    WasiSocketsCtxView { ctx: sockets, table }
}

/// `wasi:clocks/monotonic-clock` in place of wasmtime's own, for the same reasons as in WASI 0.2: it begins with the attempt,
/// and a wait ends early when a guest that listens should come to an end.
struct Clock;

struct View<'a>(&'a mut Guest);

impl HasData for Clock {
    type Data<'a> = View<'a>;
}

impl monotonic_clock::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<Mark> {
        Ok(u64::try_from(self.0.deadlines().started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn get_resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }
}

impl<T> monotonic_clock::HostWithStore<T> for Clock {
    async fn wait_until(store: &Accessor<T, Self>, when: Mark) -> wasmtime::Result<()> {
        let (now, patience) = store.with(|mut store| {
            let mut view = store.get();
            (monotonic_clock::Host::now(&mut view), view.0.waiting())
        });
        patience.sleep(Duration::from_nanos(when.saturating_sub(now?))).await;
        Ok(())
    }

    async fn wait_for(store: &Accessor<T, Self>, duration: u64) -> wasmtime::Result<()> {
        let patience = store.with(|mut store| store.get().0.waiting());
        patience.sleep(Duration::from_nanos(duration)).await;
        Ok(())
    }
}
