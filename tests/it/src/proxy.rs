//! A TCP proxy between a process under test and a server, with the faults of networks at a call.
//!
//! Knows no protocol. Faults are switched while it runs; whoever is not to suffer goes around it.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::sleep;

const CHUNK_BYTES: usize = 64 * 1024;

/// What is wrong with the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    Nothing,
    /// Everything arrives so much later.
    Delay(Duration),
    /// Both ends stay open and whatever is said vanishes, as when a router forgets a connection. A
    /// connection that was silent once stays so; new ones are accepted, and are silent too.
    Silence,
    /// Nothing is read any more, so that the buffers between both ends fill up.
    Stall,
    /// New connections are reset at once; the others are left alone.
    Refusal,
}

/// A running proxy, which ends with all its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

/// Connections are numbered as they come.
#[derive(Debug, Clone, Copy)]
struct State {
    fault: Fault,
    /// Those before this one are to be reset.
    cut: usize,
    /// Those before this one are silent.
    silent: usize,
}

impl Proxy {
    /// A proxy in front of the server of this URL.
    #[track_caller]
    pub fn start(url: &str) -> Proxy {
        let server = address(url).to_owned();
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("proxy").enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, states) = watch::channel(State { fault: Fault::Nothing, cut: 0, silent: 0 });
        let accepted = Arc::<AtomicUsize>::default();
        runtime.spawn(accept(listener, server, states, Arc::clone(&accepted)));
        Proxy { address, state, accepted, runtime: Some(runtime) }
    }

    /// The URL, with the way through this proxy.
    pub fn url(&self, url: &str) -> String {
        url.replacen(address(url), &self.address.to_string(), 1)
    }

    /// From now on.
    pub fn set(&self, fault: Fault) {
        let accepted = self.accepted();
        self.state.send_modify(|state| {
            if Fault::Silence == fault || state.fault == Fault::Silence {
                state.silent = accepted;
            }
            state.fault = fault;
        });
    }

    /// All connections of now go silent, as [`Fault::Silence`] says; new ones work.
    pub fn forget(&self) {
        self.set(Fault::Silence);
        self.set(Fault::Nothing);
    }

    /// Resets all connections of now.
    pub fn cut(&self) {
        let accepted = self.accepted();
        self.state.send_modify(|state| state.cut = accepted);
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Host and port of a URL.
pub fn address(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, address)| address)
}

async fn accept(listener: TcpListener, server: String, states: watch::Receiver<State>, accepted: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = accepted.fetch_add(1, Ordering::SeqCst);
        if states.borrow().fault == Fault::Refusal {
            let _ = client.set_zero_linger();
            continue;
        }
        tokio::spawn(connect(client, server.clone(), number, states.clone()));
    }
}

async fn connect(client: TcpStream, server: String, number: usize, states: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let mut cut = states.clone();
    tokio::select! {
        _ = pump(&client, &server, number, states.clone()) => {}
        _ = pump(&server, &client, number, states) => {}
        _ = cut.wait_for(|state| number < state.cut) => {
            // Closed so, it is a reset for both ends.
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
}

/// Passes on what one end says until it ends.
async fn pump(from: &TcpStream, to: &TcpStream, number: usize, mut states: watch::Receiver<State>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if states.wait_for(|state| state.fault != Fault::Stall).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            readable = from.readable() => readable?,
            _ = states.changed() => continue,
        }
        let count = match from.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let State { fault, silent, .. } = *states.borrow();
        if fault == Fault::Silence || number < silent {
            continue;
        }
        if let Fault::Delay(delay) = fault {
            sleep(delay).await;
        }
        write(to, &chunk[..count]).await?;
    }
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
