//! `wasi:sockets/ip-name-lookup` in place of wasmtime's own: only names that the plugin may talk to, and of their
//! addresses only those that are for plugins.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::timeout;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{Pollable, subscribe};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::Sockets;
use crate::capability::network::look_up;
use crate::grant::Host;
use crate::instance::Guest;

const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.2.12";
/// A name server that does not answer for so long does not answer.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(30);

/// The resource `resolve-address-stream`.
enum Lookup {
    Asking(AbortOnDropJoinHandle<Result<Vec<IpAddr>, ErrorCode>>),
    /// The addresses that are left, the first one at the end.
    Found(Vec<IpAddr>),
    Failed(ErrorCode),
}

impl Lookup {
    fn end(&mut self, answer: Result<Vec<IpAddr>, ErrorCode>) {
        *self = match answer {
            Ok(mut addresses) => {
                addresses.reverse();
                Self::Found(addresses)
            }
            Err(error) => Self::Failed(error),
        };
    }

    fn next(&mut self) -> Result<Option<IpAddress>, ErrorCode> {
        if let Self::Asking(asking) = self {
            let polled = std::pin::Pin::new(asking).poll(&mut Context::from_waker(Waker::noop()));
            match polled {
                Poll::Pending => return Err(ErrorCode::WouldBlock),
                Poll::Ready(answer) => self.end(answer),
            }
        }
        match self {
            Self::Asking(_) => Err(ErrorCode::WouldBlock),
            Self::Found(addresses) => Ok(addresses.pop().map(IpAddress::from)),
            Self::Failed(error) => Err(*error),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Self::Asking(asking) = self {
            let answer = asking.await;
            self.end(answer);
        }
    }
}

type Store<'a> = StoreContextMut<'a, Guest>;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut lookups = linker.instance(INTERFACE)?;
    lookups.resource("resolve-address-stream", ResourceType::host::<Lookup>(), |mut store, handle| {
        store.data_mut().sockets().table.delete(Resource::<Lookup>::new_own(handle))?;
        Ok(())
    })?;
    lookups.func_wrap("resolve-addresses", |mut store: Store<'_>, (_network, name): (Resource<Network>, String)| {
        let guest = store.data_mut();
        let lookup = match begin(guest, &name) {
            Ok(lookup) => lookup,
            Err(error) => return Ok((Err(error),)),
        };
        Ok((Ok(guest.sockets().table.push(lookup)?),))
    })?;
    lookups.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: Store<'_>, (lookup,): (Resource<Lookup>,)| {
            Ok((store.data_mut().sockets().table.get_mut(&lookup)?.next(),))
        },
    )?;
    lookups.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: Store<'_>, (lookup,): (Resource<Lookup>,)| {
            Ok((subscribe(store.data_mut().sockets().table, lookup)?,))
        },
    )
}

fn begin(guest: &mut Guest, name: &str) -> Result<Lookup, ErrorCode> {
    let sockets = guest.socket_rules();
    // An IPv6 address needs no brackets here.
    let host = match name.parse::<IpAddr>() {
        Ok(address) => Host::Address(address.to_canonical()),
        Err(_) => Host::parse(name).map_err(|problem| {
            sockets.remarks.make(format!("sockets: {problem}"));
            ErrorCode::InvalidArgument
        })?,
    };
    if !sockets.powers().is_some_and(|powers| powers.may_look_up(&host)) {
        sockets.remarks.deny("sockets", &format!("tcp://{host}:PORT"));
        return Err(ErrorCode::AccessDenied);
    }
    match host {
        Host::Address(address) => Ok(Lookup::Found(vec![address])),
        Host::Name(name) => {
            let patience = guest.patience().min(LOOKUP_TIME_MAX);
            Ok(Lookup::Asking(spawn(ask(sockets, name, patience))))
        }
    }
}

async fn ask(sockets: Arc<Sockets>, name: String, patience: Duration) -> Result<Vec<IpAddr>, ErrorCode> {
    let found = match timeout(patience, look_up(name.clone())).await {
        Ok(Ok(found)) => found,
        Ok(Err(_unknown)) => return Err(ErrorCode::NameUnresolvable),
        Err(_elapsed) => return Err(ErrorCode::TemporaryResolverFailure),
    };
    let host = Host::Name(name);
    let Some(powers) = sockets.powers() else { return Err(ErrorCode::AccessDenied) };
    let networks = &powers.networks;
    let allowed: Vec<IpAddr> = found.iter().copied().filter(|address| networks.refuse(*address).is_none()).collect();
    let refused = found.iter().find_map(|address| Some((*address, networks.refuse(*address)?)));
    if let Some((address, range)) = refused.filter(|_| allowed.is_empty()) {
        sockets.remarks.deny_network("sockets", &host.to_string(), address, range);
        return Err(ErrorCode::AccessDenied);
    }
    if !sockets.keep(&host, &allowed) {
        sockets.remarks.make("sockets: the names of one task led to too many addresses".to_owned());
        return Err(ErrorCode::OutOfMemory);
    }
    Ok(allowed)
}
