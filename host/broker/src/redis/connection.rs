//! One multiplexed connection: never made anew, since a lost one ends the broker that has it.

use dial::redis::{Dialer, Opening};
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, ProtocolVersion, PushInfo, Value};

use super::RedisOptions;
use super::failure::Failure;
use super::script::Script;

/// A connection to the server. All share one socket.
#[derive(Clone)]
pub(super) struct Connection {
    opened: dial::redis::Connection,
}

impl Connection {
    /// Connects and logs in. `push` is told of what the server says by itself, and of the end.
    pub(super) async fn open(
        dialer: &Dialer,
        options: &RedisOptions,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(options.socket_timeout)).set_push_sender(
            move |info| -> Result<(), ()> {
                push(info);
                Ok(())
            },
        );
        let opening = Opening { name: Some(&options.node), within: options.timeout };
        // Only this protocol lets the server speak first, which is how we hear of new messages.
        Ok(Self { opened: dialer.connect(opening, ProtocolVersion::RESP3, config).await? })
    }

    /// Sends one command.
    pub(super) async fn run(&self, command: &Cmd) -> Result<Value, Failure> {
        Ok(command.query_async(&mut self.opened.multiplexed()).await?)
    }

    /// Sends one command and reads the answer as what is wanted.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let answer = self.run(command).await?;
        redis::from_redis_value(answer).map_err(|_| {
            let name = command.args_iter().next();
            Failure::strange(match name {
                Some(redis::Arg::Simple(name)) => std::str::from_utf8(name).unwrap_or("a command"),
                _ => "a command",
            })
        })
    }

    /// Sends several commands in one go. An error is that of the first that failed.
    pub(super) async fn run_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        Ok(commands.query_async(&mut self.opened.multiplexed()).await?)
    }

    /// Runs a script by a call that was made by [`super::script::call`]; loads it if the server does not
    /// have it.
    pub(super) async fn call<T: FromRedisValue>(&self, script: &Script, call: &Cmd) -> Result<T, Failure> {
        match self.ask(call).await {
            Err(failure) if failure.unknown_script => {
                self.load(script).await?;
                self.ask(call).await
            }
            answered => answered,
        }
    }

    /// Has the server remember a script.
    pub(super) async fn load(&self, script: &Script) -> Result<(), Failure> {
        let mut load = redis::cmd("SCRIPT");
        self.run(load.arg("LOAD").arg(script.text)).await.map(drop)
    }
}
