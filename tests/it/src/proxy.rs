//! A TCP proxy between a process under test and a server, with the faults of networks at a call.
//!
//! Knows no protocol. Faults are switched while it runs; whoever is not to suffer goes around it.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::process::PATIENCE;

const CHUNK_BYTES: usize = 64 * 1024;
const POLL: Duration = Duration::from_millis(10);

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
    /// Once a client has said this, nothing that this end says arrives any more. The words are within one message.
    MuteAfter(&'static str, End),
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Client,
    Server,
}

/// A running proxy, which ends with all its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<AtomicUsize>,
    muted: Arc<AtomicBool>,
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
        let muted = Arc::<AtomicBool>::default();
        let way = Way { server, states, muted: Arc::clone(&muted) };
        runtime.spawn(accept(listener, way, Arc::clone(&accepted)));
        Proxy { address, state, accepted, muted, runtime: Some(runtime) }
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

    /// Waits until the words of [`Fault::MuteAfter`] were said.
    #[track_caller]
    pub fn wait_until_muted(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.muted.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "nobody has said it within {PATIENCE:?}");
            thread::sleep(POLL);
        }
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

/// What all connections have in common.
#[derive(Clone)]
struct Way {
    server: String,
    states: watch::Receiver<State>,
    muted: Arc<AtomicBool>,
}

async fn accept(listener: TcpListener, way: Way, accepted: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = accepted.fetch_add(1, Ordering::SeqCst);
        if way.states.borrow().fault == Fault::Refusal {
            let _ = client.set_zero_linger();
            continue;
        }
        tokio::spawn(connect(client, number, way.clone()));
    }
}

async fn connect(client: TcpStream, number: usize, way: Way) {
    let Ok(server) = TcpStream::connect(&way.server).await else { return };
    let mut cut = way.states.clone();
    tokio::select! {
        _ = pump(End::Client, &client, &server, number, way.clone()) => {}
        _ = pump(End::Server, &server, &client, number, way) => {}
        _ = cut.wait_for(|state| number < state.cut) => {
            // Closed so, it is a reset for both ends.
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
}

/// Passes on what one end says until it ends.
async fn pump(end: End, from: &TcpStream, to: &TcpStream, number: usize, mut way: Way) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if way.states.wait_for(|state| state.fault != Fault::Stall).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            readable = from.readable() => readable?,
            _ = way.states.changed() => continue,
        }
        let count = match from.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let said = &chunk[..count];
        let State { fault, silent, .. } = *way.states.borrow();
        if fault == Fault::Silence || number < silent {
            continue;
        }
        match fault {
            Fault::Delay(delay) => sleep(delay).await,
            Fault::MuteAfter(_, mute) if mute == end && way.muted.load(Ordering::SeqCst) => continue,
            Fault::MuteAfter(words, _) if end == End::Client && contains(said, words) => {
                // Before it is passed on, so that no answer slips through.
                way.muted.store(true, Ordering::SeqCst);
            }
            _ => {}
        }
        write(to, said).await?;
    }
}

fn contains(said: &[u8], words: &str) -> bool {
    said.windows(words.len()).any(|part| part == words.as_bytes())
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
