//! A web server that does what it is asked to do wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

/// How many requests `/together` wants to have at once before it answers any.
pub(crate) const TOGETHER: usize = 16;

/// How long a test waits for what has to come.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

struct State {
    /// The headers of all requests as they came.
    heads: Mutex<Vec<String>>,
    /// Connections that came, with or without a request.
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    open_most: AtomicUsize,
    together: Barrier,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            heads: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            open_most: AtomicUsize::new(0),
            together: Barrier::new(TOGETHER),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _accepting: accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.heads.lock().expect("no panic while it was held").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Waits until so many requests are open.
    pub(crate) async fn open(&self, count: usize) {
        let mut open = self.state.open.subscribe();
        let reached = open.wait_for(|open| *open == count);
        tokio::time::timeout(PATIENCE, reached).await.expect("in time").expect("the server is there");
    }

    pub(crate) fn open_most(&self) -> usize {
        self.state.open_most.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut serving = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("the listener stays");
        state.connections.fetch_add(1, Ordering::Relaxed);
        serving.spawn(serve(stream, Arc::clone(&state)));
        while serving.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_gone) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    state.heads.lock().expect("no panic while it was held").push(head);
    state.open.send_modify(|open| *open += 1);
    let open = *state.open.borrow();
    state.open_most.fetch_max(open, Ordering::Relaxed);
    if path == "/together" {
        state.together.wait().await;
    }
    // Whoever does not want to hear it all goes away.
    let _ = answer(&mut stream, &path).await;
    state.open.send_modify(|open| *open -= 1);
}

async fn answer(stream: &mut TcpStream, path: &str) -> std::io::Result<()> {
    let (path, argument) = path.split_once('?').unwrap_or((path, ""));
    let whole =
        |header: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{header}content-length: {}\r\n\r\n{body}", body.len());
    let text = match path {
        "/redirect" => format!("HTTP/1.1 302 Found\r\nlocation: {argument}\r\ncontent-length: 0\r\n\r\n"),
        "/lengths" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!".to_owned(),
        "/fields" => whole(&"x: y\r\n".repeat(argument.parse().expect("a number")), "hello"),
        "/field" => whole(&format!("x: {}\r\n", "y".repeat(argument.parse().expect("a number"))), "hello"),
        // Says that ten gigabytes follow, and sends them as fast as they are taken.
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n").await?;
            let piece = [b'z'; 4096];
            loop {
                stream.write_all(&piece).await?;
            }
        }
        // Until the other side goes away.
        "/silent" => return stream.read_u8().await.map(drop),
        "/stalled" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await?;
            return stream.read_u8().await.map(drop);
        }
        "/drip" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello".to_owned(),
        "/upload" => {
            let mut piece = [0; 4096];
            while stream.read(&mut piece).await? > 0 {}
            return Ok(());
        }
        // Hears all of a body of this length before it answers.
        "/hear" => {
            let mut left = 20_480;
            let mut piece = [0; 4096];
            while left > 0 {
                left -= stream.read(&mut piece).await?.min(left);
            }
            whole("", "hello")
        }
        // Claims to be compressed.
        "/gzip" => whole("content-encoding: gzip\r\n", "\u{1f}not really"),
        "/nonsense" => "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(),
        _ => whole("connection: keep-alive\r\n", "hello"),
    };
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
