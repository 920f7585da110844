//! `host purge`: deletes all waiting messages of queues.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use broker::Broker;
use taskhost_core::QueueName;

use super::wiring;
use crate::args::PurgeArgs;
use crate::config::{self, Config, SecretUrl};
use crate::exit::Failure;
use crate::logging::print;

/// Says what would be lost, asks, and deletes.
pub(crate) fn run(args: &PurgeArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    if !args.force && !std::io::stdin().is_terminal() {
        let error = Failure::usage(anyhow!("cannot ask whether to delete messages: stdin is not a terminal"));
        return Err(error.hint("give -f to delete them without being asked"));
    }
    wiring::check_embedded_file(&config, "broker.url", &config.broker.url)?;
    let runtime = wiring::client_runtime()?;
    let broker = runtime.block_on(wiring::broker(&config))?;
    let source = broker.source();
    let mut sides = vec![(&config.broker.url, source.as_ref().unwrap_or(&broker))];
    sides.extend(config.broker.write_url.as_ref().map(|url| (url, &broker)));
    let mut total = 0;
    for (url, side) in sides {
        let counts = runtime.block_on(depths(&**side, &config))?;
        print(&describe(url, &counts))?;
        total += counts.iter().map(|(_, count)| count).sum::<u64>();
    }
    let agreed = total > 0 && (args.force || agrees()?);
    if agreed {
        let deleted = runtime.block_on(purge(&*broker, &config.task.queues))?;
        print(&format!("deleted {}\n", messages(deleted)))?;
    }
    runtime.block_on(broker.close());
    Ok(if agreed || total == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Deletes all waiting messages of these queues and says how many there were. Where they are read last: nothing is left
/// that would be brought there afterwards.
pub(super) async fn purge(broker: &dyn Broker, queues: &[QueueName]) -> Result<u64, Failure> {
    let mut deleted = 0;
    let source = broker.source();
    for side in std::iter::once(broker).chain(source.as_deref()) {
        for queue in queues {
            deleted += side.purge(queue).await.context("cannot delete messages")?;
        }
    }
    Ok(deleted)
}

/// A number of messages in words.
pub(super) fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

async fn depths(broker: &dyn Broker, config: &Config) -> Result<Vec<(QueueName, u64)>, Failure> {
    let mut counts = Vec::new();
    for queue in &config.task.queues {
        let count = broker.depth(queue).await.context("cannot count messages")?;
        counts.push((queue.clone(), count));
    }
    Ok(counts)
}

fn describe(url: &SecretUrl, counts: &[(QueueName, u64)]) -> String {
    let mut text = format!("waiting at {url}:\n");
    for (queue, count) in counts {
        text.push_str(&format!("  {queue}: {}\n", messages(*count)));
    }
    text
}

fn agrees() -> std::io::Result<bool> {
    let mut stderr = std::io::stderr();
    write!(stderr, "Delete them for good? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
