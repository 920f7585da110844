//! Requests, specs and messages for the tests of this crate.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::{Limits, SpoolLimits, TaskDefaults};
use crate::canvas::SendSettings;
use crate::chord::ChordStyle;
use crate::message::{DeliveryInfo, Message};
use crate::name::{NodeName, PluginName, QueueName, TaskId, TaskName};
use crate::protocol::content::Json;
use crate::request::Request;
use crate::route::Router;
use crate::task::{Disposition, PluginVersion, TaskOptions, TaskSpec};

/// An ordinary request, as it comes out of decoding.
pub(crate) fn request(task: &str, id: &str) -> Request {
    Request {
        id: TaskId::parse(id).expect("fixture ids are valid"),
        task: TaskName::parse(task).expect("fixture names are valid"),
        args: Json::parse("[2, 2]").expect("valid"),
        kwargs: Json::parse("{}").expect("valid"),
        embed: Json::null(),
        retries: 0,
        eta: None,
        expires: None,
        time_limit: None,
        soft_time_limit: None,
        root_id: None,
        parent_id: None,
        group_id: None,
        ignore_result: None,
        replaced_task_nesting: 0,
        delivery: DeliveryInfo {
            queue: QueueName::parse("celery").expect("valid"),
            exchange: String::new(),
            routing_key: "celery".to_owned(),
            redelivered: false,
        },
        message: Message {
            body: bytes::Bytes::from_static(b"[[2, 2], {}, {}]"),
            headers: crate::message::Headers(vec![
                ("task".to_owned(), crate::message::HeaderValue::Text(task.to_owned())),
                ("id".to_owned(), crate::message::HeaderValue::Text(id.to_owned())),
            ]),
            ..Message::default()
        },
    }
}

/// A task of plugin `demo`.
pub(crate) fn spec(task: &str, options: TaskOptions) -> TaskSpec {
    TaskSpec {
        name: TaskName::parse(task).expect("fixture names are valid"),
        plugin: PluginName::parse("demo").expect("valid"),
        version: PluginVersion::of("a"),
        plugin_concurrency: None,
        summary: String::new(),
        takes: None,
        options,
    }
}

/// How a worker sends that nobody has configured.
pub(crate) fn sending() -> SendSettings {
    SendSettings {
        node: NodeName::parse("taskhost@box").expect("a name"),
        router: Router::default(),
        signs: false,
        chords: ChordStyle::Native,
        error_cb_on_chord_header: false,
        inherit_parent_priority: false,
    }
}

/// Limits of a small worker.
pub(crate) fn limits(concurrency: usize) -> Limits {
    Limits {
        concurrency,
        concurrency_max: 16,
        autoscale: None,
        prefetch_multiplier: 4,
        prefetch_max: 0,
        disable_prefetch: false,
        eta_hold: Duration::from_secs(60),
        delivery_limit: Some(20),
        consumer_timeout: Some(Duration::from_secs(1_800)),
        journals: true,
        held_max: 1_000,
        limited_max: 1_000,
        soft_shutdown_timeout: None,
        unknown_task: Disposition::Reject,
        removed_task: Disposition::Park,
        committing_max: 100,
        spool: SpoolLimits { outcomes: 1_000, bytes: 1 << 20 },
        remembered_max: NonZeroUsize::new(10_000).expect("not zero"),
        time_limit_max: Duration::from_secs(1_800),
        quarantine: None,
        look_up: true,
        result_extended: None,
        started_meta: Json::null(),
        sending: Arc::new(sending()),
        task: TaskDefaults {
            acks_late: true,
            acks_on_failure: None,
            acks_on_timeout: None,
            acks_on_failure_or_timeout: true,
            reject_on_worker_lost: false,
            retry_on_worker_lost: false,
            ignore_result: false,
            store_errors_even_if_ignored: true,
            track_started: false,
            store_usage: false,
            time_limit: None,
            soft_time_limit: None,
            rate_limit: None,
        },
    }
}
