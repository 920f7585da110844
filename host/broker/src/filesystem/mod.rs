//! kombu's filesystem transport: a folder that all share, in which each message is a file.
//!
//! Durable: an answer means that it is on disk. Whoever renames a file has it; what we have lies in a folder of
//! our own, and goes back when we no longer show that we live, which Python workers do not do for each other.
//! Knows envelopes, but not what the messages mean, and neither priorities nor other machines' clocks.

mod consumer;
mod failure;
mod file;
mod folders;
mod inbox;
mod janitor;
mod keeper;
mod listener;
mod listing;
mod name;
mod options;
mod owner;
mod shared;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, Once, PoisonError};

use async_trait::async_trait;
use taskhost_core::protocol::envelope;
use taskhost_core::{ExchangeKind, Publication, Queue, QueueName, RedactedUrl, Route};
use tracing::warn;
use uuid::Uuid;

use self::consumer::FilesystemConsumer;
use self::failure::Failure;
use self::folders::Folders;
use self::inbox::Inbox as Deliveries;
use self::listener::FilesystemInbox;
use self::shared::{NewTaker, Purpose, Shared};
use self::table::Binding;
use crate::broadcast::{Inbox, Subscription, Topic};
use crate::letters::Letters;
use crate::port::{Broker, BrokerError, Capabilities, Consumer};

pub use self::options::{FilesystemOptions, client_folders};
pub(crate) use self::options::{SCHEME, check_filesystem_url};

/// Most messages, and about how many bytes, that are written before they are seen.
const PUBLISH_FILES_MAX: usize = 256;
const PUBLISH_BYTES_MAX: usize = 4 << 20;

/// A connection to the folders: one owner of what it takes from them.
pub struct FilesystemBroker {
    shared: Arc<Shared>,
    /// Exchanges that somebody declared as fanout here: the table does not say so.
    fanouts: Mutex<HashSet<String>>,
}

/// Whether what is written has to outlive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    Durable,
    BestEffort,
}

impl FilesystemBroker {
    /// Looks at the folders, which have to exist, and makes our own in them.
    pub async fn connect(url: &str, options: &FilesystemOptions) -> Result<Self, BrokerError> {
        check_filesystem_url(url)?;
        let options = options.clone();
        let opened = blocking(move || Folders::open(&options).map(|folders| Shared::new(folders, &options))).await;
        match opened {
            Ok(shared) => Ok(Self { shared: Arc::new(shared), fanouts: Mutex::default() }),
            Err(failure) => {
                let transient = failure.is_transient();
                Err(BrokerError::Connect { url: RedactedUrl::new(url), source: failure.into(), transient })
            }
        }
    }

    /// Has something done where waiting for a disk disturbs nobody.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared.usable()?;
            work(&shared)
        })
        .await
    }

    fn is_fanout(&self, exchange: &str) -> bool {
        // Celery's mailboxes are fanout exchanges, whoever declared them (kombu/pidbox.py).
        (exchange.ends_with(".pidbox") && !exchange.starts_with("reply."))
            || self.fanouts.lock().unwrap_or_else(PoisonError::into_inner).contains(exchange)
    }

    /// Writes the binding of a queue where kombu looks for it.
    async fn bind(&self, queue: &Queue) -> Result<(), Failure> {
        name::check_queue(queue.name.as_str())?;
        if queue.exchange.kind == ExchangeKind::Headers {
            return Err(Failure::refused("there are no headers exchanges on the file system"));
        }
        if queue.exchange.name.is_empty() || queue.broadcast {
            return self.run(|_| Ok(())).await;
        }
        if queue.exchange.kind == ExchangeKind::Fanout {
            self.note_fanout(&queue.exchange.name);
        }
        let (exchange, binding) = (queue.exchange.name.clone(), Binding::of(queue));
        self.run(move |shared| table::bind(&shared.folders, &exchange, &binding)).await
    }

    /// As in kombu, whoever publishes writes to the folder that he does not read.
    fn warn_of_two_folders(&self) {
        static ONCE: Once = Once::new();
        let Folders { inward, outward, .. } = &self.shared.folders;
        if inward != outward {
            ONCE.call_once(|| {
                let (inward, outward) = (inward.display(), outward.display());
                warn!(
                    "tasks are taken from {inward}, and retries and whatever tasks call go to {outward}, where somebody \
                     else has to take them: for workers data_folder_in and data_folder_out should be the same folder"
                );
            });
        }
    }

    fn note_fanout(&self, exchange: &str) {
        self.fanouts.lock().unwrap_or_else(PoisonError::into_inner).insert(exchange.to_owned());
    }

    async fn start(&self, queue: &Queue, prefetch: u32) -> Result<FilesystemConsumer, Failure> {
        self.warn_of_two_folders();
        self.bind(queue).await?;
        let inbox = Arc::<Deliveries>::default();
        let mut reads = queue.name.to_string();
        let mut own = None;
        if queue.broadcast {
            // A name of its own for this connection, which goes with it: kombu's `Broadcast`.
            reads = format!("bcast.{}", Uuid::new_v4());
            self.note_fanout(&queue.exchange.name);
            let binding = Binding { queue: reads.clone(), ..Binding::of(queue) };
            own = Some((queue.exchange.name.clone(), binding));
        }
        let new = NewTaker { queue: reads, purpose: Purpose::Consume(Arc::downgrade(&inbox)), prefetch, own };
        let shared = Arc::clone(&self.shared);
        let id = blocking(move || keeper::start(&shared).and_then(|()| shared.add(new))).await?;
        Ok(FilesystemConsumer { id, queue: queue.name.clone(), shared: Arc::clone(&self.shared), inbox })
    }

    /// Writes all for which there is a queue; the first for which there is none is told.
    async fn write(&self, publications: &[Publication], care: Care) -> Result<Option<Route>, (Route, Failure)> {
        let mut unroutable = None;
        let mut batch = Batch::default();
        for publication in publications {
            let Publication { message, route } = publication;
            let failed = |failure| (route.clone(), failure);
            let queues = self.queues(route).await.map_err(failed)?;
            if queues.is_empty() {
                unroutable.get_or_insert_with(|| route.clone());
            }
            for queue in queues {
                // Each copy has a tag of its own: kombu would confuse copies of one message.
                let text = envelope::encode(message, route, &Uuid::new_v4().hyphenated().to_string());
                batch.bytes += text.len();
                batch.files.push((queue, text));
            }
            if batch.files.len() >= PUBLISH_FILES_MAX || batch.bytes >= PUBLISH_BYTES_MAX {
                self.flush(&mut batch, care).await.map_err(failed)?;
            }
        }
        if let Some(last) = publications.last() {
            self.flush(&mut batch, care).await.map_err(|failure| (last.route.clone(), failure))?;
        }
        Ok(unroutable)
    }

    async fn flush(&self, batch: &mut Batch, care: Care) -> Result<(), Failure> {
        let Batch { files, .. } = std::mem::take(batch);
        if files.is_empty() {
            return Ok(());
        }
        self.run(move |shared| file::write_all(&shared.folders, &files, care)).await
    }

    /// The queues for a message. As in kombu, the default exchange knows every queue.
    async fn queues(&self, Route { exchange, routing_key }: &Route) -> Result<Vec<String>, Failure> {
        if exchange.is_empty() {
            name::check_queue(routing_key)?;
            return Ok(vec![routing_key.clone()]);
        }
        let (exchange, routing_key, is_fanout) = (exchange.clone(), routing_key.clone(), self.is_fanout(exchange));
        let found = self
            .run(move |shared| {
                let table = table::read(&shared.folders, &exchange)?;
                let mut queues = table::matching(&table, &routing_key, is_fanout);
                // Celery's default, before any worker has written its binding.
                if queues.is_empty() && !is_fanout && exchange == routing_key {
                    queues.push(routing_key);
                }
                Ok(queues)
            })
            .await?;
        found.iter().try_for_each(|queue| name::check_queue(queue)).map(|()| found)
    }
}

#[derive(Default)]
struct Batch {
    files: Vec<(String, String)>,
    bytes: usize,
}

#[async_trait]
impl Broker for FilesystemBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities { puts_back: true, times_out: false, clock_is_wrong: false, broadcasts: true }
    }

    async fn consume(&self, queue: &Queue, prefetch: u32) -> Result<Box<dyn Consumer>, BrokerError> {
        match self.start(queue, prefetch).await {
            Ok(consumer) => Ok(Box::new(consumer)),
            Err(failure) => Err(failure.into_error(|source, transient| BrokerError::Consume {
                queue: queue.name.clone(),
                source,
                transient,
            })),
        }
    }

    async fn publish(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        match self.write(publications, Care::Durable).await {
            Ok(None) => Ok(()),
            Ok(Some(Route { exchange, routing_key })) => Err(BrokerError::Unroutable { exchange, routing_key }),
            Err((route, failure)) => Err(publish_error(route, failure)),
        }
    }

    async fn send_unconfirmed(&self, publications: &[Publication]) -> Result<(), BrokerError> {
        let sent = self.write(publications, Care::BestEffort).await;
        sent.map(drop).map_err(|(route, failure)| publish_error(route, failure))
    }

    /// A queue is the name of files: all that is made is its binding.
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.bind(queue).await.map_err(|failure| {
            failure.into_error(|source, transient| BrokerError::Declare {
                queue: queue.name.clone(),
                source,
                transient,
            })
        })
    }

    async fn subscribe(&self, subscription: &Subscription) -> Result<Box<dyn Inbox>, BrokerError> {
        let letters = Arc::<Letters>::default();
        let (new, purpose) = (subscription.clone(), Purpose::Listen(Arc::downgrade(&letters)));
        let shared = Arc::clone(&self.shared);
        let opened = blocking(move || {
            name::check_queue(&new.queue)?;
            keeper::start(&shared)?;
            // What was sent to somebody of this name before is not for us.
            janitor::purge(&shared.folders, &new.queue)?;
            let own = Some((new.exchange.clone(), Binding::to(&new)));
            shared.add(NewTaker { queue: new.queue, purpose, prefetch: 0, own })
        });
        match opened.await {
            Ok(id) => Ok(Box::new(FilesystemInbox { id, letters, shared: Arc::clone(&self.shared) })),
            Err(failure) => Err(failure.into_error(|source, transient| BrokerError::Subscribe {
                exchange: subscription.exchange.clone(),
                source,
                transient,
            })),
        }
    }

    async fn broadcast(&self, topic: Topic, publications: Vec<Publication>) -> Result<(), BrokerError> {
        let Some(first) = publications.first() else { return Ok(()) };
        let (route, shared) = (first.route.clone(), Arc::clone(&self.shared));
        let exchange = route.exchange.clone();
        // Files for somebody who is gone must not pile up.
        let watched = blocking(move || keeper::start(&shared).map(|()| shared.note_broadcast(&exchange, topic))).await;
        let sent = match watched {
            Ok(()) => self.write(&publications, Care::BestEffort).await,
            Err(failure) => Err((route, failure)),
        };
        sent.map(drop).map_err(|(route, failure)| publish_error(route, failure))
    }

    /// Counts messages whose time has not come, too; not those that somebody has taken.
    async fn depth(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let name = queue.to_string();
        let counted = self.run(move |shared| janitor::count(&shared.folders, &name)).await;
        counted.map_err(|failure| queue_error("count messages of", queue, failure))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let name = queue.to_string();
        let purged = self.run(move |shared| janitor::purge(&shared.folders, &name)).await;
        purged.map_err(|failure| queue_error("purge", queue, failure))
    }

    async fn close(&self) {
        self.shared.close("it was closed");
        self.shared.until_ended().await;
    }
}

impl Drop for FilesystemBroker {
    fn drop(&mut self) {
        // The keeper gives back what is held.
        self.shared.close("it was dropped");
    }
}

fn publish_error(Route { exchange, routing_key }: Route, failure: Failure) -> BrokerError {
    failure.into_error(|source, transient| BrokerError::Publish { exchange, routing_key, source, transient })
}

fn queue_error(operation: &'static str, queue: &QueueName, failure: Failure) -> BrokerError {
    let queue = queue.clone();
    failure.into_error(|source, transient| BrokerError::Queue { operation, queue, source, transient })
}

/// Does what waits for a disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Failure::lost(panic.to_string())))
}
