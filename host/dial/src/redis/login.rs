//! What is said first on a connection: who we are, which database, and in one go.
//!
//! The client library could log in by itself, but then a wrong password, a server that is loading and one that
//! is full of clients are all the same error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use redis::{Cmd, RedisResult, Value, cmd};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::error::OpenError;
use super::stream::Stream;
use crate::tls;

/// Who we are, and with whom we want to speak.
pub(super) struct Login<'a> {
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) db: u32,
    /// For people who read CLIENT LIST.
    pub(super) name: Option<&'a str>,
    /// A Sentinel said that this is a master, which it may no longer be.
    pub(super) must_be_master: bool,
}

/// Logs in, and refuses a server that is not the one that is meant.
pub(super) async fn log_in(stream: &mut Stream, login: &Login<'_>) -> Result<(), OpenError> {
    let mut commands = Vec::with_capacity(4);
    commands.extend(authenticate(login.username, login.password));
    let needed = commands.len() + usize::from(login.db != 0);
    if login.db != 0 {
        commands.push(cmd("SELECT").arg(login.db).to_owned());
    }
    if let Some(name) = login.name {
        commands.push(cmd("CLIENT").arg("SETNAME").arg(name).to_owned());
    }
    if login.must_be_master {
        commands.push(cmd("ROLE"));
    }
    if commands.is_empty() {
        return Ok(());
    }
    let mut answers = exchange(stream, &commands).await?;
    // A user may be forbidden to ask: then a write will show it.
    let role = if login.must_be_master { answers.pop() } else { None };
    // A server that refuses a name is as good.
    answers.truncate(needed);
    answers.into_iter().collect::<RedisResult<Vec<_>>>()?;
    match role {
        Some(Ok(Value::Array(role))) => match role.first() {
            Some(Value::BulkString(role)) if role != b"master" => {
                let role = String::from_utf8_lossy(role);
                Err(OpenError::transient(format!("is no master now, but a {role}")))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The command that says who we are, if we are somebody.
pub(super) fn authenticate(username: Option<&str>, password: Option<&str>) -> Option<Cmd> {
    let mut command = cmd("AUTH");
    if let Some(username) = username {
        command.arg(username);
    }
    password.map(|password| command.arg(password).to_owned())
}

/// Sends commands in one go and reads the answers to all of them.
pub(super) async fn exchange(stream: &mut Stream, commands: &[Cmd]) -> Result<Vec<RedisResult<Value>>, OpenError> {
    let packed: Vec<u8> = commands.iter().flat_map(Cmd::get_packed_command).collect();
    stream.write_all(&packed).await?;
    stream.flush().await?;
    let mut answers: Vec<RedisResult<Value>> = Vec::with_capacity(commands.len());
    let mut decoder = Default::default();
    let mut reader = Reader { stream, refusal: None };
    while answers.len() < commands.len() {
        match redis::parse_redis_value_async(&mut decoder, &mut reader).await {
            Ok(answer) => answers.push(answer.extract_error()),
            Err(error) => {
                if let Some(reason) = reader.refusal {
                    return Err(OpenError::permanent(reason));
                }
                // A server that is full says so once and closes.
                let said = answers.into_iter().find_map(Result::err);
                return Err(said.unwrap_or(error).into());
            }
        }
    }
    Ok(answers)
}

/// Keeps what TLS says, which the client library's error hides: a server that wants a certificate says so
/// only after the handshake.
struct Reader<'a> {
    stream: &'a mut Stream,
    refusal: Option<String>,
}

impl AsyncRead for Reader<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &polled {
            self.refusal = tls::refusal(error);
        }
        polled
    }
}
