//! The queues at SQS: their URLs, which are found or made once, and what happens to what they refuse.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use taskhost_core::QueueName;
use taskhost_core::protocol::content::Json;
use tracing::{info, warn};

use super::client::{Clients, Maker};
use super::failure::{Failure, Kind};
use super::name;
use super::options::{Backoff, SqsOptions};

/// How long we believe what we read of a redrive policy (kombu's `redrive_policy_cache_ttl`).
const POLICY_TTL: Duration = Duration::from_secs(300);
/// The longest name of a queue.
const NAME_CHARS_MAX: usize = 80;

/// A queue that exists.
pub(super) struct QueueAt {
    pub(super) url: String,
    pub(super) is_fifo: bool,
    pub(super) clients: Clients,
    /// What is refused of some tasks comes again.
    pub(super) backoff: Option<Backoff>,
    policy: Mutex<Option<(Instant, Option<DeadLetters>)>>,
}

impl fmt::Debug for QueueAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Where a queue's redrive policy sends what was received too often.
#[derive(Debug, Clone)]
pub(super) struct DeadLetters {
    arn: String,
}

/// All queues that this connection has met.
pub(super) struct Queues {
    /// For queues that are not predefined.
    pub(super) clients: Clients,
    options: Arc<SqsOptions>,
    known: Mutex<HashMap<String, Arc<QueueAt>>>,
}

impl Queues {
    pub(super) fn new(maker: &Maker, options: Arc<SqsOptions>) -> Self {
        let clients = maker.clients();
        let known = options.predefined_queues.iter().map(|(name, queue)| {
            let clients = match queue.region.is_none() && queue.credentials.is_none() {
                true => clients.clone(),
                false => maker.clients_for(queue),
            };
            let at = QueueAt { backoff: queue.backoff.clone(), ..QueueAt::new(queue.url.clone(), clients) };
            (name.clone(), Arc::new(at))
        });
        let known = known.collect();
        Self { known: Mutex::new(known), clients, options }
    }

    /// Sees that there is somebody who knows us. That we may not list queues is no harm: none need be listed.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let predefined = self.options.predefined_queues.keys().next().and_then(|name| self.known(name));
        let answer = match predefined {
            Some(queue) => {
                let call = queue.clients.call.get_queue_attributes().queue_url(&queue.url);
                call.attribute_names(QueueAttributeName::QueueArn).send().await.map(drop).map_err(Failure::from)
            }
            None => {
                let call = self
                    .clients
                    .call
                    .list_queues()
                    .queue_name_prefix(name::at_sqs(&self.options.queue_name_prefix, "celery"));
                call.max_results(1).send().await.map(drop).map_err(Failure::from)
            }
        };
        match answer {
            Err(failure) if failure.kind == Kind::Denied => Ok(()),
            answer => answer,
        }
    }

    fn known(&self, name: &str) -> Option<Arc<QueueAt>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The queue, if it exists.
    pub(super) async fn find(&self, queue: &QueueName) -> Result<Option<Arc<QueueAt>>, Failure> {
        if !self.options.predefined_queues.is_empty() {
            return match self.known(queue.as_str()) {
                Some(known) => Ok(Some(known)),
                None => Err(Failure::permanent(format!("queue `{queue}` must be defined in predefined_queues"))),
            };
        }
        let name = name::at_sqs(&self.options.queue_name_prefix, queue.as_str());
        if let Some(known) = self.known(&name) {
            return Ok(Some(known));
        }
        if name.chars().count() > NAME_CHARS_MAX {
            let reason = format!("its name `{name}` is longer than the {NAME_CHARS_MAX} characters that SQS allows");
            return Err(Failure::permanent(reason));
        }
        match self.clients.call.get_queue_url().queue_name(&name).send().await.map_err(Failure::from) {
            Ok(found) => match found.queue_url {
                Some(url) => Ok(Some(self.remember(name, url))),
                None => Err(Failure::permanent(format!("SQS names no URL for queue `{name}`"))),
            },
            Err(failure) if failure.kind == Kind::NoQueue => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The queue, which is made if it is missing (kombu's `Channel._new_queue`).
    pub(super) async fn ensure(&self, queue: &QueueName) -> Result<Arc<QueueAt>, Failure> {
        if let Some(found) = self.find(queue).await? {
            return Ok(found);
        }
        let name = name::at_sqs(&self.options.queue_name_prefix, queue.as_str());
        let timeout = self.options.visibility_timeout.as_secs().to_string();
        let mut call = self.clients.call.create_queue().queue_name(&name);
        call = call.attributes(QueueAttributeName::VisibilityTimeout, timeout);
        if name::is_fifo(&name) {
            call = call.attributes(QueueAttributeName::FifoQueue, "true");
        }
        for (key, value) in &self.options.creation_attributes {
            call = call.attributes(QueueAttributeName::from(key.as_str()), value);
        }
        for (key, value) in &self.options.queue_tags {
            call = call.tags(key, value);
        }
        let made = call.send().await.map_err(Failure::from)?;
        let url = made.queue_url.ok_or_else(|| Failure::permanent(format!("SQS names no URL for queue `{name}`")))?;
        info!(queue.name = %queue, "made queue `{name}` at SQS");
        Ok(self.remember(name, url))
    }

    /// Somebody deleted it: who asks next finds or makes it anew.
    pub(super) fn forget(&self, queue: &QueueAt) {
        if self.options.predefined_queues.is_empty() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, known| known.url != queue.url);
        }
    }

    fn remember(&self, name: String, url: String) -> Arc<QueueAt> {
        let queue = Arc::new(QueueAt::new(url, self.clients.clone()));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(name).or_insert(queue))
    }

    /// Where what this queue refuses goes, if its operator has said so.
    pub(super) async fn dead_letters(&self, queue: &QueueAt) -> Option<DeadLetters> {
        if let Some((read, policy)) = &*queue.policy.lock().unwrap_or_else(PoisonError::into_inner)
            && read.elapsed() < POLICY_TTL
        {
            return policy.clone();
        }
        let call = queue.clients.call.get_queue_attributes().queue_url(&queue.url);
        let policy = match call.attribute_names(QueueAttributeName::RedrivePolicy).send().await {
            Ok(answer) => answer
                .attributes
                .and_then(|attributes| attributes.get(&QueueAttributeName::RedrivePolicy).and_then(|text| arn(text))),
            Err(error) => {
                let failure = Failure::from(error);
                warn!(error = %failure, "cannot read whether {} has a dead-letter queue: {failure}", queue.url);
                None
            }
        };
        let policy = policy.map(|arn| DeadLetters { arn });
        *queue.policy.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), policy.clone()));
        policy
    }

    /// The queue of an ARN: `arn:aws:sqs:region:account:name`.
    pub(super) async fn of(&self, dead: &DeadLetters, queue: &QueueAt) -> Result<QueueAt, Failure> {
        let strange = || Failure::permanent(format!("`{}` is no ARN of a queue", dead.arn));
        let mut parts = dead.arn.splitn(6, ':').skip(4);
        let (Some(account), Some(name)) = (parts.next(), parts.next()) else { return Err(strange()) };
        let call = queue.clients.call.get_queue_url().queue_name(name).queue_owner_aws_account_id(account);
        let url = call.send().await.map_err(Failure::from)?.queue_url.ok_or_else(strange)?;
        Ok(QueueAt::new(url, queue.clients.clone()))
    }

    pub(super) fn options(&self) -> &SqsOptions {
        &self.options
    }
}

impl QueueAt {
    fn new(url: String, clients: Clients) -> Self {
        Self { is_fifo: name::is_fifo(&url), url, clients, backoff: None, policy: Mutex::default() }
    }
}

/// `deadLetterTargetArn` of a redrive policy.
fn arn(policy: &str) -> Option<String> {
    Json::parse(policy.to_owned()).ok()?.get("deadLetterTargetArn")?.as_text().map(|text| text.into_owned())
}
