//! `wasi:sockets`: connections and datagrams to the machines that the plugin may talk to. Never listening.
//!
//! wasmtime's host has the sockets; it asks here about every address.

mod link;
mod lookup;
mod metered;

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::remarks::Remarks;
use crate::grant::{Host, Protocol, Refusal, SocketPowers};

pub(super) use link::link;

/// Addresses that names led to, of one attempt.
const FOUND_MAX: usize = 1_000;

/// The sockets of one attempt.
pub(crate) struct Sockets {
    remarks: Arc<Remarks>,
    /// Which names led to an address.
    found: Mutex<BTreeMap<IpAddr, BTreeSet<Host>>>,
}

impl Sockets {
    pub(crate) fn new(remarks: Arc<Remarks>) -> Self {
        Self { remarks, found: Mutex::default() }
    }

    /// Makes a WASI context ask this about addresses.
    pub(crate) fn furnish(self: &Arc<Self>, builder: &mut WasiCtxBuilder) {
        let sockets = Arc::clone(self);
        builder
            .allow_tcp(true)
            .allow_udp(true)
            .socket_addr_check(move |address, purpose| Box::pin(ready(sockets.allow(address, purpose))));
    }

    fn powers(&self) -> Option<&SocketPowers> {
        self.remarks.capabilities().and_then(|capabilities| capabilities.sockets.as_ref())
    }

    fn allow(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let protocol = match purpose {
            SocketAddrUse::TcpConnect => Protocol::Tcp,
            SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => Protocol::Udp,
            // Which the system does by itself before it sends. A port of the guest's choice would be listening.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                let is_implicit = address.ip().is_unspecified() && address.port() == 0;
                if !is_implicit {
                    self.remarks.make(format!("sockets: no plugin may choose its own address, such as {address}"));
                }
                return is_implicit;
            }
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => {
                self.remarks.make("sockets: no plugin may listen".to_owned());
                return false;
            }
        };
        let Some(powers) = self.powers() else { return false };
        let refusal = {
            let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            powers.refuse(protocol, address, found.get(&address.ip().to_canonical()).into_iter().flatten())
        };
        let name = format!("{protocol}://{address}");
        match refusal {
            None => return true,
            // Anybody can send something here.
            Some(_) if matches!(purpose, SocketAddrUse::UdpReceive) => {}
            Some(Refusal::NotDeclared) => drop(self.remarks.deny("sockets", &name)),
            Some(Refusal::Network(range)) => {
                drop(self.remarks.deny_network("sockets", &name, address.ip(), range));
            }
        }
        false
    }

    /// Keeps what a name led to, if there is room.
    fn keep(&self, name: &Host, addresses: &[IpAddr]) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            if found.len() >= FOUND_MAX && !found.contains_key(address) {
                return false;
            }
            let names = found.entry(*address).or_default();
            if names.len() < FOUND_MAX {
                names.insert(name.clone());
            }
        }
        true
    }
}
