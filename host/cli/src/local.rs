//! The worker's own socket, for commands on the same machine that concern it alone: one line of JSON each way.
//!
//! Not Celery's remote control, which goes through the broker. Only the worker's user, and root, may use it.

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// The plugins as they are served.
    Plugins,
    /// Load what is there now, with what is granted now; then the same.
    Reload,
}

/// Longest request, and longest answer.
const REQUEST_BYTES_MAX: u64 = 4 << 10;
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long a client may take to say what it wants.
#[cfg(unix)]
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// How long an answer may take: plugins may have to be compiled.
#[cfg(unix)]
const ANSWER_WAIT: Duration = Duration::from_secs(600);
/// Clients that are served at a time.
#[cfg(unix)]
const CLIENTS_MAX: usize = 4;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer<T> {
    Ok(T),
    Error(String),
}

/// Why the worker could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// Nobody listens there.
    #[error("no worker listens on {path}")]
    Nobody { path: String },
    #[error("the worker did not answer")]
    Io(#[from] std::io::Error),
    #[error("the worker's answer cannot be read")]
    Answer(#[from] serde_json::Error),
    #[error("the worker says: {0}")]
    Refused(String),
}

#[cfg(unix)]
mod unix {
    use std::io::{Error, ErrorKind};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::Arc;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::{Semaphore, mpsc, oneshot};
    use tokio::time::timeout;
    use tracing::{debug, warn};

    use super::*;

    /// What a client asked, and where its answer goes.
    type Question<T> = (Request, oneshot::Sender<Result<T, String>>);

    /// The open socket. It is gone when this is dropped.
    pub(crate) struct Socket {
        listener: UnixListener,
        path: PathBuf,
    }

    impl Socket {
        /// Listens at this path, unless somebody else does.
        pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
            match UnixStream::connect(path).await {
                Ok(_) => return Err(Error::new(ErrorKind::AddrInUse, "another worker listens there")),
                // What a process left that was killed.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Err(_) => {}
            }
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            Ok(Self { listener, path: path.to_owned() })
        }

        /// Passes on what clients ask.
        pub(crate) async fn serve<T: Serialize + Send + 'static>(self, questions: mpsc::Sender<Question<T>>) {
            let room = Arc::new(Semaphore::new(CLIENTS_MAX));
            loop {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        debug!("the worker's socket: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                };
                let questions = questions.clone();
                tokio::spawn(async move {
                    if let Err(error) = talk(stream, questions).await {
                        debug!("a client of the worker's socket: {error}");
                    }
                    drop(permit);
                });
            }
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    async fn talk<T: Serialize>(stream: UnixStream, questions: mpsc::Sender<Question<T>>) -> Result<(), Error> {
        let peer = stream.peer_cred()?.uid();
        if peer != rustix::process::geteuid().as_raw() && peer != 0 {
            warn!(uid = peer, "another user wanted something from the worker's socket");
            return Ok(());
        }
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        timeout(REQUEST_WAIT, BufReader::new(read.take(REQUEST_BYTES_MAX)).read_line(&mut line)).await??;
        let answer = match serde_json::from_str(&line) {
            Err(error) => Answer::Error(format!("unknown request: {error}")),
            Ok(request) => {
                let (answer, answered) = oneshot::channel();
                let asked = questions.send((request, answer)).await.is_ok();
                match timeout(ANSWER_WAIT, answered).await {
                    Ok(Ok(Ok(answer))) if asked => Answer::Ok(answer),
                    Ok(Ok(Err(problem))) => Answer::Error(problem),
                    _ => Answer::Error("it is stopping".to_owned()),
                }
            }
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        timeout(REQUEST_WAIT, write.write_all(text.as_bytes())).await?
    }

    /// Asks the worker that listens at this path.
    pub(crate) async fn ask<T: DeserializeOwned>(path: &Path, request: Request) -> Result<T, LocalError> {
        let Ok(mut stream) = UnixStream::connect(path).await else {
            return Err(LocalError::Nobody { path: path.display().to_string() });
        };
        let mut text = serde_json::to_string(&request)?;
        text.push('\n');
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut stream = stream.take(ANSWER_BYTES_MAX);
        timeout(ANSWER_WAIT, stream.read_to_end(&mut answer)).await.map_err(Error::from)??;
        match serde_json::from_slice(&answer)? {
            Answer::Ok(value) => Ok(value),
            Answer::Error(problem) => Err(LocalError::Refused(problem)),
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use super::*;

    /// There is no such socket here.
    pub(crate) async fn ask<T: DeserializeOwned>(path: &Path, request: Request) -> Result<T, LocalError> {
        let _ = request;
        Err(LocalError::Nobody { path: path.display().to_string() })
    }
}

#[cfg(not(unix))]
pub(crate) use elsewhere::ask;
#[cfg(unix)]
pub(crate) use unix::{Socket, ask};

#[cfg(all(test, unix))]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_and_a_socket_that_was_left_behind_is_taken_over() {
        let dir = std::env::temp_dir().join(format!("taskhost-local-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let path = dir.join("worker.sock");
        let nobody = ask::<u32>(&path, Request::Plugins).await.expect_err("nobody is there");
        assert!(nobody.to_string().starts_with("no worker listens on "), "{nobody}");
        // A killed worker leaves its socket.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));

        let socket = Socket::open(&path).await.expect("nobody listens");
        assert!(Socket::open(&path).await.is_err(), "one listens");
        let (questions, mut asked) = mpsc::channel(1);
        let serving = tokio::spawn(socket.serve(questions));
        tokio::spawn(async move {
            while let Some((request, answer)) = asked.recv().await {
                let _ = answer.send(match request {
                    Request::Plugins => Ok(7_u32),
                    Request::Reload => Err("no".to_owned()),
                });
            }
        });
        assert_eq!(ask::<u32>(&path, Request::Plugins).await.expect("an answer"), 7);
        let refused = ask::<u32>(&path, Request::Reload).await.expect_err("it said no");
        assert_eq!(refused.to_string(), "the worker says: no");
        serving.abort();
        let _ = serving.await;
        assert!(!path.exists(), "it takes its socket away");
        std::fs::remove_dir_all(&dir).expect("ours");
    }
}
