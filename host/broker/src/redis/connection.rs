//! One multiplexed connection: never made anew, since a lost one ends the broker that has it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion,
    PushInfo, RedisResult, Value,
};

use super::RedisOptions;
use super::address::{Address, Target};
use super::failure::Failure;
use super::script::Script;

/// When a silent connection is probed, how often, and how many probes may stay unanswered: a peer that
/// vanished is noticed within half a minute even if nothing is sent.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
const KEEPALIVE_PROBES_MAX: u32 = 3;

/// A connection to the server. All share one socket.
#[derive(Clone)]
pub(super) struct Connection {
    multiplexed: MultiplexedConnection,
}

impl Connection {
    /// Connects and logs in. `push` is told of what the server says by itself, and of the end.
    pub(super) async fn open(
        target: &Target,
        options: &RedisOptions,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.timeout))
            .set_response_timeout(Some(options.socket_timeout))
            .set_push_sender(move |info| -> Result<(), ()> {
                push(info);
                Ok(())
            });
        let client = client(target)?;
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let opened = tokio::time::timeout(options.timeout, opening).await;
        let connection = Self { multiplexed: opened.map_err(|_| Failure::lost("no answer in time"))?? };
        let mut command = redis::cmd("CLIENT");
        // For people who read CLIENT LIST; a server that refuses it is as good.
        match connection.run(command.arg("SETNAME").arg(&options.node)).await {
            Err(failure) if failure.lost => Err(failure),
            _ => Ok(connection),
        }
    }

    /// Sends one command.
    pub(super) async fn run(&self, command: &Cmd) -> Result<Value, Failure> {
        Ok(command.query_async(&mut self.multiplexed.clone()).await?)
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
        Ok(commands.query_async(&mut self.multiplexed.clone()).await?)
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

fn client(target: &Target) -> RedisResult<Client> {
    let address = match &target.address {
        Address::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        Address::Socket(path) => ConnectionAddr::Unix(path.clone()),
    };
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd", target_os = "windows"))]
    let keepalive = keepalive.with_retries(KEEPALIVE_PROBES_MAX);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    let info = address.into_connection_info()?.set_tcp_settings(tcp);
    // Only this protocol lets the server speak first, which is how we hear of new messages.
    let mut settings = info.redis_settings().clone().set_skip_set_lib_name().set_protocol(ProtocolVersion::RESP3);
    settings = settings.set_db(i64::from(target.db));
    if let Some(username) = &target.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &target.password {
        settings = settings.set_password(password);
    }
    Client::open(info.set_redis_settings(settings))
}
