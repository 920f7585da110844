//! Counts the calls of one guest into the host, and bounds what each may hand over.
//!
//! Sees every change of sides and does not know which function is called: WASI's, ours, one that grows a
//! memory or makes a handle are all the same. Does not look at what is handed over; wasmtime counts that.

use wasmtime::{CallHook, StoreContextMut, UpdateDeadline};

use crate::instance::Guest;

/// What a guest has called, and may call.
#[derive(Debug)]
pub(crate) struct Calls {
    made: u64,
    limit: u64,
}

impl Calls {
    pub(crate) fn new(limit: u64) -> Self {
        Self { made: 0, limit }
    }

    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// The limit, if the guest made more calls than that.
    pub(crate) fn exceeded(&self) -> Option<u64> {
        (self.made > self.limit).then_some(self.limit)
    }
}

/// Is called whenever the guest enters or leaves the host.
pub(crate) fn watch(mut store: StoreContextMut<'_, Guest>, change: CallHook) -> wasmtime::Result<()> {
    match change {
        CallHook::CallingHost => store.data_mut().calls.made += 1,
        // Not before: a tick looks like a call until it has been taken back.
        CallHook::ReturningFromHost => {
            if store.data().calls.exceeded().is_some() {
                return Err(wasmtime::Error::msg("too many calls into the host"));
            }
        }
        CallHook::CallingWasm => {
            let bytes_max = store.data().call_bytes_max();
            store.set_hostcall_fuel(bytes_max);
        }
        // What is lifted next is the answer.
        CallHook::ReturningFromWasm => {
            let bytes_max = store.data().answer_bytes_max();
            store.set_hostcall_fuel(bytes_max);
        }
    }
    Ok(())
}

/// Is called at each tick while the guest runs, and lets others run. That is no call of the guest's.
pub(crate) fn tick(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    let calls = &mut store.data_mut().calls;
    calls.made = calls.made.saturating_sub(1);
    Ok(UpdateDeadline::Yield(1))
}
