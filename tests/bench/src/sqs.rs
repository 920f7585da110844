//! The queue of an emulator of SQS, as the measurements and the bare loop see it.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::QueueAttributeName;

use crate::Result;
use crate::publish::QUEUE;

/// The queue, which is made if it is missing.
#[derive(Clone)]
pub(crate) struct Queue {
    pub(crate) client: Client,
    pub(crate) url: String,
}

/// How many messages there are.
pub(crate) struct Depth {
    /// Nobody has taken them.
    pub(crate) waiting: u64,
    /// They were taken and not deleted.
    pub(crate) taken: u64,
}

impl Queue {
    /// Connects to `sqs://key:secret@host:port//`.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let parts = url.strip_prefix("sqs://").and_then(|rest| rest.trim_end_matches('/').split_once('@'));
        let (login, host) = parts.ok_or("an emulator of SQS is sqs://key:secret@host:port//")?;
        let (key, secret) = login.split_once(':').ok_or("an emulator of SQS wants a key and a secret")?;
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(key, secret, None, None, "bench"))
            .endpoint_url(format!("http://{host}"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        let client = Client::from_conf(config.build());
        let url = made(&client).await?;
        Ok(Self { client, url })
    }

    /// Deletes all messages, by making the queue anew: it may be purged once a minute only.
    pub(crate) async fn clear(&self) -> Result<()> {
        self.client.delete_queue().queue_url(&self.url).send().await.map_err(told)?;
        made(&self.client).await.map(drop)
    }

    pub(crate) async fn depth(&self) -> Result<Depth> {
        let (waiting, taken) = (
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        );
        let ask = self.client.get_queue_attributes().queue_url(&self.url);
        let answer = ask.attribute_names(waiting.clone()).attribute_names(taken.clone()).send().await;
        let answer = answer.map_err(told)?;
        let number = |name| answer.attributes()?.get(&name)?.parse().ok();
        let missing = "the emulator does not tell how many messages there are";
        Ok(Depth { waiting: number(waiting).ok_or(missing)?, taken: number(taken).ok_or(missing)? })
    }
}

/// The URL of the queue.
async fn made(client: &Client) -> Result<String> {
    let made = client.create_queue().queue_name(QUEUE).send().await.map_err(told)?;
    Ok(made.queue_url().ok_or("the queue has no URL")?.to_owned())
}

/// What went wrong, with its causes: by themselves they say `service error`.
pub(crate) fn told(error: impl std::error::Error) -> String {
    DisplayErrorContext(error).to_string()
}
