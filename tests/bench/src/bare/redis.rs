//! Over Redis in kombu's layout: takes a batch and notes it as unacked in one step, and takes the next one while this
//! one is finished.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, Pipeline, Script};

use super::{Results, id_in, told_to_stop};
use crate::publish::QUEUE;
use crate::{BareArgs, Result};

/// How long to wait after the queue was found empty.
const POLL: Duration = Duration::from_millis(2);

/// KEYS: queue, unacked, index. ARGV: how many, the first tag.
const TAKE: &str = r"
local got = redis.call('RPOP', KEYS[1], ARGV[1])
if not got then return {} end
local fields, scores = {}, {}
local now = redis.call('TIME')[1]
for i, envelope in ipairs(got) do
  local tag = string.format('%d', ARGV[2] + i)
  fields[#fields + 1], fields[#fields + 2] = tag, '[' .. envelope .. ', \'\', \'celery\']'
  scores[#scores + 1], scores[#scores + 2] = now, tag
end
redis.call('HSET', KEYS[2], unpack(fields))
redis.call('ZADD', KEYS[3], unpack(scores))
return got";

const UNACKED: &str = "unacked";
const INDEX: &str = "unacked_index";

pub(super) async fn serve(args: &BareArgs) -> Result<()> {
    let mut results = Results::connect(args.results.as_deref()).await?;
    let connection = Client::open(args.broker.as_str())?.get_multiplexed_async_connection().await?;
    let take = Script::new(TAKE);
    // Two batches are under way at a time.
    let size = usize::from(args.prefetch).div_ceil(2);
    let mut first = 0;
    let mut held: Vec<String> = Vec::new();
    let mut told_to_stop = std::pin::pin!(told_to_stop());
    let mut stopping = false;
    loop {
        let next = async {
            if stopping {
                return Ok(Vec::new());
            }
            let mut call = take.key(QUEUE);
            call.key(UNACKED).key(INDEX).arg(size).arg(first);
            call.invoke_async::<Vec<String>>(&mut connection.clone()).await.map_err(Into::into)
        };
        let finished = finish(connection.clone(), &mut results, &held, first - held.len());
        let (next, ()) = futures_util::future::try_join(next, finished).await?;
        first += next.len();
        held = next;
        if held.is_empty() {
            if stopping {
                return Ok(());
            }
            tokio::select! {
                () = &mut told_to_stop => stopping = true,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

async fn finish(
    mut connection: MultiplexedConnection,
    results: &mut Results,
    held: &[String],
    first: usize,
) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    results.store(held.iter().map(|envelope| id_in(envelope))).await?;
    let mut messages = redis::cmd("HDEL");
    let mut scores = redis::cmd("ZREM");
    messages.arg(UNACKED);
    scores.arg(INDEX);
    for tag in first + 1..=first + held.len() {
        messages.arg(tag);
        scores.arg(tag);
    }
    let mut commands = Pipeline::with_capacity(2);
    commands.add_command(messages).ignore().add_command(scores).ignore();
    Ok(commands.exec_async(&mut connection).await?)
}
