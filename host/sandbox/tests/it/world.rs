//! A sandbox that serves a folder of guests, and ways to run their tasks.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{CacheConfig, Config, Grant, Limits, Loaded, Sandbox};
use taskhost_core::protocol::v2;
use taskhost_core::{
    Attempt, AttemptId, Codec, DeliveryId, DeliveryInfo, Finished, Json, NodeName, Outcome, PluginName, Policy,
    QueueName, Request, TaskId, TaskName, Timestamp,
};
use tempfile::TempDir;

use crate::guest::Guest;
use crate::logs;

pub(crate) const T0: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);

pub(crate) struct World {
    pub(crate) dir: TempDir,
    /// Where the scratch folders are.
    pub(crate) scratch: TempDir,
    pub(crate) sandbox: Sandbox,
    pub(crate) loaded: Loaded,
}

impl World {
    /// Serves these files, and a well-behaved guest with the task `good` beside them.
    pub(crate) async fn new(files: &[(&str, Vec<u8>)]) -> Self {
        Self::with_limits(Limits::default(), files).await
    }

    pub(crate) async fn with_limits(limits: Limits, files: &[(&str, Vec<u8>)]) -> Self {
        Self::serve(limits, BTreeMap::new(), None, files).await
    }

    /// The same for large guests, which are compiled once for all tests.
    pub(crate) async fn with_grants(
        limits: Limits,
        grants: BTreeMap<PluginName, Grant>,
        files: &[(&str, Vec<u8>)],
    ) -> Self {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let cache = CacheConfig { dir: kept.join("compiled"), key: kept.join("cache.key") };
        Self::serve(limits, grants, Some(cache), files).await
    }

    async fn serve(
        limits: Limits,
        grants: BTreeMap<PluginName, Grant>,
        cache: Option<CacheConfig>,
        files: &[(&str, Vec<u8>)],
    ) -> Self {
        logs::listen();
        let dir = TempDir::new().expect("a temporary folder");
        write(dir.path(), "good.wasm", &Guest::echo("good").build());
        for (name, bytes) in files {
            write(dir.path(), name, bytes);
        }
        let hostname = NodeName::parse("taskhost@test").expect("a name");
        let scratch = TempDir::new().expect("a temporary folder");
        let scratch_dir = Some(scratch.path().to_owned());
        let config = Config { concurrency: 2, hostname, limits, grants, cache, scratch_dir, wasi_0_3: true };
        let sandbox = Sandbox::new(config).expect("a sandbox");
        let loaded = sandbox.load_folder(dir.path()).await;
        Self { dir, scratch, sandbox, loaded }
    }

    /// Serves one guest.
    pub(crate) async fn guest(guest: &Guest) -> Self {
        let world = Self::new(&[("guest.wasm", guest.build())]).await;
        assert_eq!(world.loaded.refused, [], "{:?}", world.loaded.refused);
        world
    }

    pub(crate) fn attempt(&self, task: &str) -> Attempt {
        self.call(task, "[1, 2]")
    }

    /// An attempt with these arguments.
    pub(crate) fn call(&self, task: &str, args: &str) -> Attempt {
        self.member(task, args, Json::null())
    }

    /// The same of a member of the group `g`, with what hangs on it.
    pub(crate) fn member(&self, task: &str, args: &str, embed: Json) -> Attempt {
        let name = TaskName::parse(task).expect("a name");
        let spec = Arc::clone(self.loaded.catalog.get(&name).expect("the task is served"));
        let mut call = v2::Call::new(name, TaskId::parse("id-1").expect("an id"), "client@test");
        call.args = json(args);
        call.group_id = (!embed.is_null()).then(|| "g".to_owned());
        call.embed = embed;
        call.retries = 3;
        let queue = QueueName::parse("celery").expect("a name");
        let delivery =
            DeliveryInfo { queue, exchange: String::new(), routing_key: "celery".into(), redelivered: false };
        let request = Request::decode(v2::message(&call, T0), delivery, &Codec::default()).expect("a task message");
        Attempt {
            id: AttemptId(1),
            delivery: DeliveryId(1),
            request: Arc::new(request),
            time_limit: Duration::from_secs(60),
            soft_time_limit: spec.options.soft_time_limit,
            pinned: None,
            policy: Policy::default(),
            call: None,
            started: T0,
            spec,
        }
    }

    pub(crate) async fn run(&self, attempt: Attempt) -> Finished {
        self.sandbox.invoke(attempt, pending()).await
    }

    /// What comes of the task `t`, and whether the sandbox is as good as before.
    pub(crate) async fn outcome(&self) -> Outcome {
        self.outcome_within(Duration::from_secs(60)).await
    }

    pub(crate) async fn outcome_within(&self, time_limit: Duration) -> Outcome {
        let finished = self.run(Attempt { time_limit, ..self.attempt("t") }).await;
        self.check_alive().await;
        finished.outcome
    }

    /// Runs the well-behaved task.
    pub(crate) async fn check_alive(&self) {
        let finished = self.run(self.attempt("good")).await;
        assert_eq!(finished.outcome, Outcome::Success(json("[1, 2]")));
    }

    /// Why the only refused file was refused.
    #[track_caller]
    pub(crate) fn refused(&self) -> &str {
        match self.loaded.refused.as_slice() {
            [refused] => &refused.reason,
            other => panic!("not one refused: {other:?}"),
        }
    }
}

pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("in the folder")).expect("a sub-folder");
    std::fs::write(path, bytes).expect("a file");
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).expect("valid JSON")
}
