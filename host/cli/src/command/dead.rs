//! `host dead`: messages that were kept aside, looked at and sent on their way.
//!
//! A broker has no way to look at messages without taking them, so all are taken and those that are not
//! wanted are given back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::{Acknowledgement, Broker, Consumer, Delivery, Receipt};
use serde_json::{Value, json};
use taskhost_core::protocol::content::Json;
use taskhost_core::protocol::repr::repr;
use taskhost_core::{Codec, Message, Queue, QueueName, Request, dead};
use tokio::time::timeout;

use super::{purge, wiring};
use crate::args::{DeadArgs, DeadCommand, PickArgs};
use crate::config::{self, Config};
use crate::exit::{Failure, OrHint};
use crate::logging::print;

/// Most dead letters of one queue that are looked at.
const LETTERS_MAX: u64 = 10_000;

/// How long the next one may take to come once there should be more.
const LETTER_PATIENCE: Duration = Duration::from_secs(2);

/// How much of the arguments a line shows, in characters.
const ARGUMENTS_CHARS_MAX: usize = 80;

/// Carries out one of the four.
pub(crate) fn run(command: &DeadCommand) -> Result<ExitCode, Failure> {
    let config = load(command.args())?;
    wiring::check_embedded_file(&config, "broker.url", &config.broker.url)?;
    wiring::client_runtime()?.block_on(async {
        let broker = wiring::broker(&config).await?;
        // They lie where they were taken from, and their home is there.
        let source = broker.source();
        let result = carry_out(command, &config, source.as_deref().unwrap_or(&*broker)).await;
        broker.close().await;
        result
    })
}

fn load(args: &DeadArgs) -> Result<Config, Failure> {
    Ok(config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?)
}

async fn carry_out(command: &DeadCommand, config: &Config, broker: &dyn Broker) -> Result<ExitCode, Failure> {
    let mut found = 0;
    let parked = command.args().parked;
    for queue in &config.task.queues {
        let aside = if parked { dead::parked_queue(queue) } else { dead::queue(queue) };
        let Some(queue) = aside else { continue };
        let Some(shelf) = Shelf::open(broker, queue, &wiring::codec(config)?).await? else { continue };
        found += match command {
            DeadCommand::List(args) => shelf.list(args.json).await?,
            DeadCommand::Show(args) => shelf.show(&args.id).await?,
            DeadCommand::Requeue(args) => shelf.requeue(broker, &args.pick).await?,
            DeadCommand::Drop(args) => shelf.settle(|letter| letter.is_picked(&args.pick)).await?,
        };
    }
    let what = if parked { "parked messages" } else { "dead letters" };
    let (done, wanted) = match command {
        DeadCommand::List(_) => {
            if found == 0 {
                eprintln!("no {what}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        DeadCommand::Show(_) => (None, 1),
        DeadCommand::Requeue(args) => (Some("requeued"), args.pick.ids.len()),
        DeadCommand::Drop(args) => (Some("deleted"), args.pick.ids.len()),
    };
    if let Some(done) = done {
        print(&format!("{done} {}\n", purge::messages(found as u64)))?;
    }
    if found < wanted {
        let missing = anyhow!("{} of {wanted} not found among the {what}", wanted - found);
        let list = if parked { "host dead list --parked" } else { "host dead list" };
        return Err(missing).or_hint(format!("`{list}` shows them; -Q names the queues that they came from"));
    }
    Ok(ExitCode::SUCCESS)
}

/// All dead letters of one queue, in our hands until they are settled.
struct Shelf {
    queue: QueueName,
    consumer: Box<dyn Consumer>,
    letters: Vec<Letter>,
}

struct Letter {
    message: Message,
    /// None if it is no task, for whatever reason.
    request: Option<Request>,
    receipt: Receipt,
}

impl Shelf {
    async fn open(broker: &dyn Broker, queue: QueueName, codec: &Codec) -> Result<Option<Self>, Failure> {
        let count = broker.depth(&queue).await.context("cannot count dead letters")?.min(LETTERS_MAX);
        if count == 0 {
            return Ok(None);
        }
        let prefetch = u32::try_from(count).unwrap_or(u32::MAX);
        let consumer = broker.consume(&Queue::named(queue.clone()), prefetch).await;
        let consumer = consumer.context("cannot read dead letters")?;
        let mut letters = Vec::new();
        while (letters.len() as u64) < count {
            // Fewer may come than were counted: somebody else looks at them, too.
            let Ok(batch) = timeout(LETTER_PATIENCE, consumer.next()).await else { break };
            let Some(batch) = batch.context("cannot read dead letters")? else { break };
            letters.extend(batch.into_iter().map(|delivery| Letter::new(delivery, codec)));
        }
        Ok(Some(Self { queue, consumer, letters }))
    }

    async fn list(self, as_json: bool) -> Result<usize, Failure> {
        for letter in &self.letters {
            let text = if as_json { format!("{}\n", letter.json(&self.queue)) } else { letter.line(&self.queue) };
            print(&text)?;
        }
        let count = self.letters.len();
        self.settle(|_| false).await?;
        Ok(count)
    }

    async fn show(self, id: &str) -> Result<usize, Failure> {
        let mut shown = 0;
        for letter in self.letters.iter().filter(|letter| letter.id() == Some(id)) {
            print(&format!("{:#}\n", letter.json(&self.queue)))?;
            shown += 1;
        }
        self.settle(|_| false).await?;
        Ok(shown)
    }

    async fn requeue(self, broker: &dyn Broker, pick: &PickArgs) -> Result<usize, Failure> {
        let mut back = Vec::new();
        for letter in self.letters.iter().filter(|letter| letter.is_picked(pick)) {
            let Some(publication) = dead::revive(letter.message.clone(), &self.queue) else {
                return Err(anyhow!("a letter in `{}` does not say where it came from", self.queue).into());
            };
            let home = QueueName::parse(&publication.route.routing_key).context("cannot requeue")?;
            broker.declare(&Queue::named(home)).await.context("cannot requeue")?;
            back.push(publication);
        }
        // Published before the original is deleted: a crash in between leaves two, not none.
        broker.publish(&back).await.context("cannot requeue")?;
        self.settle(|letter| letter.is_picked(pick)).await
    }

    /// Deletes some, gives back the others, and says how many were deleted.
    async fn settle(self, is_done: impl Fn(&Letter) -> bool) -> Result<usize, Failure> {
        let mut done = 0;
        let mut receipts = Vec::with_capacity(self.letters.len());
        for letter in self.letters {
            let acknowledgement = if is_done(&letter) { Acknowledgement::Ack } else { Acknowledgement::Requeue };
            done += usize::from(acknowledgement == Acknowledgement::Ack);
            receipts.push((letter.receipt, acknowledgement));
        }
        self.consumer.settle(receipts).await.context("cannot settle dead letters")?;
        Ok(done)
    }
}

impl Letter {
    fn new(delivery: Delivery, codec: &Codec) -> Self {
        let Delivery { message, info, receipt } = delivery;
        let request = Request::decode(message.clone(), info, codec).ok();
        Self { message, request, receipt }
    }

    fn id(&self) -> Option<&str> {
        self.request.as_ref().map(|request| request.id.as_str())
    }

    fn is_picked(&self, pick: &PickArgs) -> bool {
        pick.all || self.id().is_some_and(|id| pick.ids.iter().any(|picked| picked == id))
    }

    fn line(&self, queue: &QueueName) -> String {
        let why = dead::reason(&self.message.headers);
        let (count, error) = why.map_or((0, "no reason is given"), |why| (why.count, why.error));
        let call = match &self.request {
            Some(request) => {
                let arguments = repr(&request.args, ARGUMENTS_CHARS_MAX);
                format!("{}[{}] {arguments}", request.task, request.id)
            }
            None => "(not a task)".to_owned(),
        };
        format!("{queue}  {call}\n    {error} (deliveries: {count})\n")
    }

    fn json(&self, queue: &QueueName) -> Value {
        let why = dead::reason(&self.message.headers);
        let headers = self.message.headers.0.iter().map(|(name, value)| {
            let text = Json::from(value);
            let value = serde_json::from_str(text.as_str()).unwrap_or_else(|_| Value::String(text.to_string()));
            (name.clone(), value)
        });
        json!({
            "queue": queue.as_str(),
            "id": self.id(),
            "task": self.request.as_ref().map(|request| request.task.as_str()),
            "reason": why.map(|why| why.reason),
            "error": why.map(|why| why.error),
            "deliveries": why.map(|why| why.count),
            "headers": headers.collect::<serde_json::Map<String, Value>>(),
            "body": String::from_utf8_lossy(&self.message.body),
        })
    }
}
