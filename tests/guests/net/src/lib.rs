//! Talks to the network as it is told. Errors are results here: tests want to read them.

mod client;
mod fetch;
mod fields;
mod sockets;

taskhost::plugin!(
    client::send,
    fetch::fetch,
    fetch::patient,
    fetch::flood,
    fetch::follow,
    fields::append,
    fields::list,
    fields::one,
    sockets::tcp,
    sockets::patient,
    sockets::udp,
    sockets::lookup,
    sockets::listen,
    sockets::listen_late,
    sockets::receive,
    sockets::hoard,
);

/// An error of an interface as its own bindings show it.
fn shown(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
