//! What wasmtime's sockets do in other words here: making one says why it is denied, their number is bounded, and what
//! goes through them is counted.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket as _, InputStream, OutputStream};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream as _, HostOutgoingDatagramStream as _, IncomingDatagram, IncomingDatagramStream,
    OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::p2::{SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::{lookup, metered};
use crate::grant::Protocol;
use crate::instance::Guest;

type Store<'a> = StoreContextMut<'a, Guest>;
type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;
type Streams = (Resource<InputStream>, Resource<OutputStream>);

/// Links all that is otherwise than wasmtime has it.
pub(in crate::capability) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    lookup::link(linker)?;
    let mut create = linker.instance("wasi:sockets/tcp-create-socket@0.2.12")?;
    create.func_wrap("create-tcp-socket", |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
        let guest = store.data_mut();
        match admit(guest, Protocol::Tcp) {
            Ok(()) => told(guest.sockets().create_tcp_socket(family)),
            Err(error) => Ok((Err(error),)),
        }
    })?;
    let mut create = linker.instance("wasi:sockets/udp-create-socket@0.2.12")?;
    create.func_wrap_async("create-udp-socket", |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
        Box::new(async move {
            let guest = store.data_mut();
            match admit(guest, Protocol::Udp) {
                Ok(()) => told(guest.sockets().create_udp_socket(family).await),
                Err(error) => Ok((Err(error),)),
            }
        })
    })?;
    let mut tcp = linker.instance("wasi:sockets/tcp@0.2.12")?;
    tcp.func_wrap("[method]tcp-socket.finish-connect", |mut store: Store<'_>, (socket,): (Resource<TcpSocket>,)| {
        let guest = store.data_mut();
        let connected = guest.sockets().finish_connect(socket);
        if let Ok((input, output)) = &connected {
            let (meter, ending) = (guest.traffic_meter(), guest.ending());
            metered::wrap(guest.sockets().table, input, output, &meter, ending)?;
        }
        told::<Streams>(connected)
    })?;
    let mut udp = linker.instance("wasi:sockets/udp@0.2.12")?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store: Store<'_>, (stream, max): (Resource<IncomingDatagramStream>, u64)| {
            let guest = store.data_mut();
            let received = guest.sockets().receive(stream, max);
            if let Ok(datagrams) = &received {
                let bytes = datagrams.iter().map(|datagram| datagram.data.len()).sum();
                guest.traffic_meter().count_received(bytes);
            }
            told::<Vec<IncomingDatagram>>(received)
        },
    )?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store: Store<'_>, (stream, datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            let guest = store.data_mut();
            let lengths: Vec<usize> = datagrams.iter().map(|datagram| datagram.data.len()).collect();
            let sent = guest.sockets().send(stream, datagrams);
            if let Ok(count) = &sent {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                guest.traffic_meter().count_sent(lengths.iter().take(count).sum());
            }
            told::<u64>(sent)
        },
    )
}

/// Decides whether the guest may have one more socket.
fn admit(guest: &mut Guest, protocol: Protocol) -> Result<(), ErrorCode> {
    let rules = guest.socket_rules();
    if !rules.powers().is_some_and(|powers| powers.uses(protocol)) {
        rules.remarks.deny("sockets", &format!("{protocol}://HOST:PORT"));
        return Err(ErrorCode::AccessDenied);
    }
    let max = guest.sockets_max();
    let sockets = guest.sockets().table.iter_mut().filter(|entry| entry.is::<TcpSocket>() || entry.is::<UdpSocket>());
    if sockets.count() >= max {
        rules.remarks.make(format!("sockets: more than {max} at once; raise limits.sockets"));
        return Err(ErrorCode::NewSocketLimit);
    }
    Ok(())
}

fn told<T>(result: SocketResult<T>) -> Answer<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}
