//! `taskhost:task/waiting`: the functions of `publish` and `results` that take a while, and a sleep, for guests that do
//! not stand still meanwhile.
//!
//! Decides nothing: what a guest may do is asked of the guest, in the moment of the call, and what it then waits for
//! does not need the guest.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use wasmtime::component::{Accessor, ComponentNamedList, Lift, Linker, Lower};

use crate::abi::taskhost::task::publish::PublishError;
use crate::abi::taskhost::task::results::ResultError;
use crate::capability::{Leaving, Partial};
use crate::instance::Guest;

const INTERFACE: &str = "taskhost:task/waiting@0.1.0";

type Told<T> = Pin<Box<dyn Future<Output = wasmtime::Result<(T,)>> + Send>>;
type Published = Result<String, PublishError>;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut waiting = linker.instance(INTERFACE)?;
    waiting.func_wrap_concurrent("sleep", |accessor, (milliseconds,): (u64,)| {
        let patience = accessor.with(|mut store| store.data_mut().waiting());
        told(async move { patience.sleep(Duration::from_millis(milliseconds)).await })
    })?;
    waiting.func_wrap_concurrent("get-result", |accessor, (id,): (String,)| {
        let question = accessor.with(|mut store| store.data_mut().question(&id));
        told(async { question?.get().await })
    })?;
    waiting.func_wrap_concurrent("wait-result", |accessor, (id, timeout_ms): (String, u64)| {
        let question = accessor.with(|mut store| store.data_mut().question_to_wait(&id));
        told::<Result<String, ResultError>>(async move { question?.wait(Duration::from_millis(timeout_ms)).await })
    })?;
    waiting.func_wrap_concurrent("publish", |accessor, (signature,): (String,)| {
        leave(accessor, |guest| guest.publishing(signature))
    })?;
    waiting.func_wrap_concurrent("apply", |accessor, (signature, args, kwargs): (String, String, String)| {
        leave(accessor, |guest| guest.applying(signature, Partial::read(args, kwargs)?))
    })?;
    waiting.func_wrap_concurrent("add-to-chord", |accessor, (signature,): (String,)| {
        leave(accessor, |guest| guest.adding_to_chord(signature))
    })
}

fn told<T>(answer: impl Future<Output = T> + Send + 'static) -> Told<T>
where
    (T,): ComponentNamedList + Lift + Lower,
{
    Box::pin(async { Ok((answer.await,)) })
}

/// Publishes what the guest wants to. It has children when the broker has them.
fn leave<'a>(
    accessor: &'a Accessor<Guest>,
    depart: impl FnOnce(&mut Guest) -> Result<(String, Leaving), PublishError>,
) -> Pin<Box<dyn Future<Output = wasmtime::Result<(Published,)>> + Send + 'a>> {
    let departed = accessor.with(|mut store| depart(store.data_mut()));
    Box::pin(async move {
        let (answer, leaving) = match departed {
            Ok(departed) => departed,
            Err(error) => return Ok((Err(error),)),
        };
        let published = leaving.publish().await;
        Ok((published.map(|children| {
            accessor.with(|mut store| store.data_mut().sent().children.extend(children));
            answer
        }),))
    })
}
