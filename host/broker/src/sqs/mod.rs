//! Amazon SQS in kombu's layout: our workers, Python workers and all clients share queues.
//!
//! What we hold is leased for seconds and renewed while we live, however long a task runs: what a lost worker had
//! is soon given to another. There are no broadcasts: neither remote control nor events. SNS is not spoken.

mod address;
mod batch;
mod client;
mod consumer;
mod delay;
mod failure;
mod intake;
mod keeper;
mod link;
mod name;
mod options;
mod publisher;
mod pump;
mod purge;
mod queues;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use taskhost_core::{Publication, Queue, QueueName, RedactedUrl};
use tokio::task::JoinSet;
use tracing::warn;

use self::client::Maker;
use self::consumer::SqsConsumer;
use self::failure::Failure;
use self::intake::Intake;
use self::link::Link;
use self::queues::Queues;
use crate::port::{Broker, BrokerError, Capabilities, Consumer};

pub(crate) use self::address::{SCHEMES, check_sqs_url};
pub use self::options::{PredefinedQueue, SqsOptions, Sts};

/// How long giving back may take when a connection is closed, until the rest is left to the leases. Polls that wait at
/// SQS are not waited for: what they still take is given back if the process lives for so long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an unconfirmed message may take to be on its way.
const UNCONFIRMED_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to SQS.
pub struct SqsBroker {
    link: Arc<Link>,
    pumps: Mutex<JoinSet<()>>,
    keepers: Mutex<JoinSet<()>>,
}

impl SqsBroker {
    /// Finds credentials and region, and sees that SQS knows us.
    pub async fn connect(url: &str, options: &SqsOptions) -> Result<Self, BrokerError> {
        let mut options = options.clone();
        let target = address::parse(url, &mut options)?;
        let timeout = options.timeout;
        let open = async {
            let maker = Maker::new(&target, &options).await?;
            let queues = Queues::new(&maker, Arc::new(options));
            queues.check().await?;
            Ok(queues)
        };
        // The SDK's futures are large.
        let opened = match tokio::time::timeout(timeout, Box::pin(open)).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::lost(format!("no answer within {} s", timeout.as_secs_f64()))),
        };
        match opened {
            Ok(queues) => {
                Ok(Self { link: Arc::new(Link::new(queues)), pumps: Mutex::default(), keepers: Mutex::default() })
            }
            Err(failure) => {
                let transient = failure.transient;
                Err(BrokerError::Connect { url: RedactedUrl::new(url), source: failure.into(), transient })
            }
        }
    }

    async fn start(&self, queue: &Queue, prefetch: u32) -> Result<SqsConsumer, Failure> {
        self.link.usable()?;
        let at = self.link.queues.ensure(&queue.name).await?;
        let intake = Arc::new(Intake::new(queue.name.clone(), prefetch));
        if !self.link.add(&intake) {
            return Err(Failure::lost("it was closed"));
        }
        let lock = |tasks: &Mutex<JoinSet<()>>, spawn: &mut dyn FnMut(&mut JoinSet<()>)| {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            spawn(&mut tasks);
        };
        lock(&self.pumps, &mut |pumps| {
            pumps.spawn(pump::run(Arc::clone(&self.link), Arc::clone(&intake), Arc::clone(&at)));
        });
        lock(&self.keepers, &mut |keepers| {
            keepers.spawn(keeper::run(Arc::clone(&self.link), Arc::downgrade(&intake), Arc::clone(&at)));
        });
        Ok(SqsConsumer { link: Arc::clone(&self.link), intake, queue: at })
    }
}

#[async_trait]
impl Broker for SqsBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities { puts_back: true, times_out: false, clock_is_wrong: false, broadcasts: false }
    }

    /// A queue here is its name: there are no kinds, no priorities, and no exchanges.
    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        if queue.broadcast {
            let name = &queue.name;
            warn!(
                queue.name = %name,
                "SQS knows no broadcast: each message of queue `{name}` goes to one worker only"
            );
        }
        match self.start(queue, prefetch).await {
            Ok(consumer) => Ok(Box::new(consumer)),
            Err(failure) => Err(failure.into_error(|source, transient| BrokerError::Consume {
                queue: queue.name.clone(),
                source,
                transient,
            })),
        }
    }

    /// As in kombu, publishing creates the queue if it is missing. There are no exchanges but the default one and
    /// those that are named like their only queue.
    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        self.link.usable().map_err(|failure| BrokerError::Lost { reason: failure.to_string() })?;
        publisher::publish(&self.link.queues, publications).await
    }

    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        match tokio::time::timeout(UNCONFIRMED_TIMEOUT, self.publish(publications)).await {
            Ok(Err(BrokerError::Unroutable { .. })) | Err(_) => Ok(()),
            Ok(sent) => sent,
        }
    }

    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        let declared = match self.link.usable() {
            Ok(()) => self.link.queues.ensure(&queue.name).await.map(drop),
            unusable => unusable,
        };
        declared.map_err(|failure| {
            failure.into_error(|source, transient| BrokerError::Declare {
                queue: queue.name.clone(),
                source,
                transient,
            })
        })
    }

    /// About as many as wait: SQS itself does not know exactly. What has a delay, or is hidden, is not among them.
    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let depth = match self.link.usable() {
            Ok(()) => purge::depth(&self.link.queues, queue).await,
            Err(failure) => Err(failure),
        };
        depth.map_err(|failure| queue_error("count messages of", queue, failure))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let purged = match self.link.usable() {
            Ok(()) => purge::purge(&self.link.queues, queue).await,
            Err(failure) => Err(failure),
        };
        purged.map_err(|failure| queue_error("purge", queue, failure))
    }

    async fn close(&self) {
        if !self.link.begin_close() {
            return;
        }
        for intake in self.link.intakes() {
            intake.shelf.end();
        }
        let mut pumps = std::mem::take(&mut *self.pumps.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async { while pumps.join_next().await.is_some() {} }).await;
        pumps.detach_all();
        self.link.lose("it was closed");
    }
}

impl Drop for SqsBroker {
    fn drop(&mut self) {
        self.link.lose("it was dropped");
    }
}

fn queue_error(operation: &'static str, queue: &QueueName, failure: Failure) -> BrokerError {
    failure.into_error(|source, transient| BrokerError::Queue { operation, queue: queue.clone(), source, transient })
}
