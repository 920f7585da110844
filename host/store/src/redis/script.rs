//! Scripts that the server runs in one step each, called by their hash, several in one round trip.
//!
//! A server that does not know a script, since it is new or was restarted, is sent its text with the call.

use bytes::Bytes;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, Value};
use tracing::debug;

use super::connection::{Connection, Exchange, Trouble};
use super::failure::{Failure, Phase};

/// A script and the hash that Redis knows it by.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// A script with what it is given. It must bear to be run again.
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<Bytes>,
}

impl Call<'_> {
    fn command(&self, with_text: bool) -> Cmd {
        const REST_BYTES: usize = 64;
        let bytes: usize = self.keys.iter().map(String::len).chain(self.arguments.iter().map(Bytes::len)).sum();
        let count = 3 + self.keys.len() + self.arguments.len();
        let mut command = Cmd::with_capacity(count, bytes + REST_BYTES);
        match with_text {
            true => command.arg("EVAL").arg(self.script.text),
            false => command.arg("EVALSHA").arg(&self.script.hash),
        };
        command.arg(self.keys.len()).arg(&self.keys);
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }
}

impl Connection {
    /// Makes these calls in order and answers for each. They are no transaction: one may fail alone.
    pub(super) async fn call(&self, calls: &[Call<'_>]) -> Result<Vec<Result<Value, Failure>>, Trouble> {
        let every: Vec<usize> = (0..calls.len()).collect();
        let mut answers = self.send(calls, &every, false).await?;
        let unknown: Vec<usize> = (0..calls.len()).filter(|n| is_unknown(&answers[*n])).collect();
        if !unknown.is_empty() {
            for (n, answer) in unknown.iter().zip(self.send(calls, &unknown, true).await?) {
                answers[*n] = answer;
            }
        }
        Ok(answers.into_iter().map(|answer| self.judge(answer)).collect())
    }

    /// What the server answers, in the order of `which`.
    async fn send(&self, calls: &[Call<'_>], which: &[usize], with_text: bool) -> Result<Vec<Value>, Trouble> {
        let mut pipeline = Pipeline::with_capacity(which.len());
        for n in which {
            // Every call has the text then, though one would teach the server: it may forget again in between.
            pipeline.add_command(calls[*n].command(with_text));
        }
        match self.run(Exchange::Each(&pipeline)).await? {
            Value::Array(answers) if answers.len() == which.len() => Ok(answers),
            other => {
                debug!(answer = ?other, "Redis answered out of step");
                let error = RedisError::from((ErrorKind::Parse, "not an answer for each command"));
                Err(Trouble::Operation(Failure::new(error, Phase::Operating)))
            }
        }
    }

    fn judge(&self, answer: Value) -> Result<Value, Failure> {
        let Value::ServerError(error) = answer else { return Ok(answer) };
        let failure = Failure::new(error.into(), Phase::Operating);
        if failure.lost {
            self.reconnect();
        }
        Err(failure)
    }
}

fn is_unknown(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
