//! TCP, UDP and names, through the standard library where it has the thing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use taskhost::task;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::shown;

/// Connects, sends a text, and gives what comes back.
#[task(name = "net.tcp")]
pub(crate) fn tcp(address: &str, text: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(shown)?;
    stream.write_all(text.as_bytes()).map_err(shown)?;
    stream.shutdown(Shutdown::Write).map_err(shown)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(shown)?;
    Ok(answer)
}

/// The same as a task that wants to know when its time is over.
#[task(name = "net.patient_tcp", handles_soft_limit)]
pub(crate) fn patient(address: &str, text: &str) -> Result<String, String> {
    tcp(address, text)
}

/// Sends a datagram to each address from one socket, waits for one, and says what came and where from.
#[task(name = "net.udp")]
pub(crate) fn udp(addresses: Vec<String>, text: &str) -> Result<(String, String), String> {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(shown)?;
    for address in &addresses {
        socket.send_to(text.as_bytes(), address.as_str()).map_err(shown)?;
    }
    let mut buffer = [0; 1000];
    let (bytes, from) = socket.recv_from(&mut buffer).map_err(shown)?;
    Ok((String::from_utf8_lossy(&buffer[..bytes]).into_owned(), from.to_string()))
}

/// The addresses of a name.
#[task(name = "net.lookup")]
pub(crate) fn lookup(name: &str) -> Result<Vec<String>, String> {
    let addresses = (name, 1).to_socket_addrs().map_err(shown)?;
    Ok(addresses.map(|address| address.ip().to_string()).collect())
}

/// Tries to be a server.
#[task(name = "net.listen")]
pub(crate) fn listen(address: &str) -> Result<String, String> {
    let listener = TcpListener::bind(address).map_err(shown)?;
    listener.local_addr().map(|address| address.to_string()).map_err(shown)
}

/// Binds to any port, which is allowed, and tries to listen there, without the standard library.
#[task(name = "net.listen_late")]
pub(crate) fn listen_late() -> Result<(), String> {
    let (socket, network) = (create_tcp_socket(IpAddressFamily::Ipv4).map_err(shown)?, instance_network());
    let anywhere = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 0, address: (0, 0, 0, 0) });
    socket.start_bind(&network, anywhere).map_err(|error| format!("bind: {error:?}"))?;
    socket.finish_bind().map_err(|error| format!("bind: {error:?}"))?;
    socket.start_listen().map_err(|error| format!("listen: {error:?}"))
}

/// Tries to receive on a port of its own choice.
#[task(name = "net.receive")]
pub(crate) fn receive(address: &str) -> Result<(), String> {
    UdpSocket::bind(address).map(drop).map_err(shown)
}

/// Makes sockets of both kinds until there are so many, and says how many there were and what was wrong then.
#[task(name = "net.hoard")]
pub(crate) fn hoard(count: usize) -> (usize, Option<String>) {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for n in 0..count {
        let made = match n % 2 {
            0 => create_tcp_socket(IpAddressFamily::Ipv4).map(|socket| tcp.push(socket)),
            _ => create_udp_socket(IpAddressFamily::Ipv6).map(|socket| udp.push(socket)),
        };
        if let Err(error) = made {
            return (n, Some(shown(error)));
        }
    }
    (count, None)
}
