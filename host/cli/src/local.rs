//! The worker's own socket, for commands on the same machine that concern it alone: one line of JSON each way.
//!
//! Takes Celery's remote control as well, for brokers that reach no mailboxes: `{"control": ..}` with the body that
//! would go through the broker. Only the worker's user, and root, may use it.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use taskhost_core::protocol::content::{Json, MapWriter};

/// What can be asked about plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// The plugins as they are served.
    Plugins,
    /// Load what is there now, with what is granted now; then the same.
    Reload,
}

/// Longest request, and longest answer.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
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
/// Until the next client is waited for when one could not be accepted: there may be no file handle left.
#[cfg(unix)]
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Who answers. Answers are JSON.
#[async_trait]
pub(crate) trait Answers: Send + Sync {
    async fn plugins(&self, request: Request) -> Result<String, String>;

    /// The body of a message of remote control.
    async fn control(&self, body: &Json) -> Result<String, String>;
}

#[derive(Debug, Deserialize)]
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
    #[error("the worker's answer cannot be read")]
    Json(#[from] taskhost_core::protocol::content::JsonError),
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
    use tokio::sync::Semaphore;
    use tokio::time::timeout;
    use tracing::{debug, warn};

    use super::*;

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
        pub(crate) async fn serve(self, answers: Arc<dyn Answers>) {
            let room = Arc::new(Semaphore::new(CLIENTS_MAX));
            loop {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        debug!("the worker's socket: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let answers = answers.clone();
                tokio::spawn(async move {
                    if let Err(error) = talk(stream, &*answers).await {
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

    async fn talk(stream: UnixStream, answers: &dyn Answers) -> Result<(), Error> {
        let peer = stream.peer_cred()?.uid();
        if peer != rustix::process::geteuid().as_raw() && peer != 0 {
            warn!(uid = peer, "another user wanted something from the worker's socket");
            return Ok(());
        }
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        timeout(REQUEST_WAIT, BufReader::new(read.take(REQUEST_BYTES_MAX)).read_line(&mut line)).await??;
        let answer = match timeout(ANSWER_WAIT, answer(&line, answers)).await {
            Ok(answer) => answer,
            Err(_) => Err("it takes too long".to_owned()),
        };
        let mut text = match answer {
            Ok(answer) => format!("{{\"ok\": {answer}}}"),
            Err(problem) => Json::object([("error", problem)]).to_string(),
        };
        text.push('\n');
        timeout(REQUEST_WAIT, write.write_all(text.as_bytes())).await?
    }

    async fn answer(line: &str, answers: &dyn Answers) -> Result<String, String> {
        let unknown = |error: &dyn std::fmt::Display| format!("unknown request: {error}");
        let request = Json::parse(line.to_owned()).map_err(|error| unknown(&error))?;
        match request.get("control") {
            Some(body) => answers.control(&body).await,
            None => answers.plugins(serde_json::from_str(line).map_err(|error| unknown(&error))?).await,
        }
    }

    /// Says one line to the worker that listens at this path, and returns its answer.
    pub(super) async fn say(path: &Path, mut text: String) -> Result<Vec<u8>, LocalError> {
        let Ok(mut stream) = UnixStream::connect(path).await else {
            return Err(LocalError::Nobody { path: path.display().to_string() });
        };
        text.push('\n');
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut stream = stream.take(ANSWER_BYTES_MAX);
        timeout(ANSWER_WAIT, stream.read_to_end(&mut answer)).await.map_err(Error::from)??;
        Ok(answer)
    }
}

/// Asks the worker that listens at this path about its plugins.
pub(crate) async fn ask<T: DeserializeOwned>(path: &Path, request: Request) -> Result<T, LocalError> {
    let answer = say(path, serde_json::to_string(&request)?).await?;
    match serde_json::from_slice(&answer)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(problem) => Err(LocalError::Refused(problem)),
    }
}

/// Asks it what a message of remote control with this body would: the name of the node, if it is meant, with what it
/// answers.
pub(crate) async fn ask_control(path: &Path, body: &Json) -> Result<Json, LocalError> {
    let mut request = MapWriter::new();
    request.put("control", body);
    let answer = Json::parse(say(path, request.finish_text()).await?)?;
    match (answer.get("ok"), answer.get("error")) {
        (Some(replies), _) => Ok(replies),
        (None, problem) => {
            let problem = problem.and_then(|problem| problem.as_text().map(|text| text.into_owned()));
            Err(LocalError::Refused(problem.unwrap_or_else(|| "nothing".to_owned())))
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use super::*;

    /// There is no such socket here.
    pub(super) async fn say(path: &Path, text: String) -> Result<Vec<u8>, LocalError> {
        let _ = text;
        Err(LocalError::Nobody { path: path.display().to_string() })
    }
}

#[cfg(not(unix))]
use elsewhere::say;
#[cfg(unix)]
pub(crate) use unix::Socket;
#[cfg(unix)]
use unix::say;

#[cfg(all(test, unix))]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Few;

    #[async_trait]
    impl Answers for Few {
        async fn plugins(&self, request: Request) -> Result<String, String> {
            match request {
                Request::Plugins => Ok("7".to_owned()),
                Request::Reload => Err("no".to_owned()),
            }
        }

        async fn control(&self, body: &Json) -> Result<String, String> {
            match body.get("method") {
                Some(method) => Ok(format!("{{\"w@box\": [{method}, NaN]}}")),
                None => Err("what?".to_owned()),
            }
        }
    }

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
        let serving = tokio::spawn(socket.serve(Arc::new(Few)));
        assert_eq!(ask::<u32>(&path, Request::Plugins).await.expect("an answer"), 7);
        let refused = ask::<u32>(&path, Request::Reload).await.expect_err("it said no");
        assert_eq!(refused.to_string(), "the worker says: no");
        let control = |body: &str| {
            let (path, body) = (path.clone(), Json::parse(body.to_owned()).expect("JSON"));
            async move { ask_control(&path, &body).await }
        };
        let said = control(r#"{"method": "ping"}"#).await.expect("an answer");
        assert_eq!(said.to_string(), r#"{"w@box": ["ping", NaN]}"#, "as it was written");
        assert_eq!(control("{}").await.expect_err("it said no").to_string(), "the worker says: what?");
        assert!(say(&path, "nonsense".to_owned()).await.is_ok_and(|it| it.starts_with(b"{\"error\"")));
        serving.abort();
        let _ = serving.await;
        assert!(!path.exists(), "it takes its socket away");
        std::fs::remove_dir_all(&dir).expect("ours");
    }
}
