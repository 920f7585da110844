//! The dispatcher against a small world of chance: a broker that loses its connection, a store and a
//! publisher that fail, tasks that end in every way. Whatever the seed, every message is settled, no
//! slot leaks, nothing starts early or late, and nothing runs twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use super::fixture::{limits, request, spec};
use super::*;
use crate::breaker::BreakerRule;
use crate::concurrency::KeyPath;
use crate::control::Command;
use crate::dead;
use crate::message::{HeaderValue, Message, PUT_BACK_HEADER, Publication};
use crate::name::{PluginName, QueueName};
use crate::outcome::{Outcome, RetryDelay, RetryRequest, Trap};
use crate::protocol::codec::Codec;
use crate::protocol::content::Json;
use crate::rate::{Rate, RateScope};
use crate::request::Request;
use crate::settle::{Settlement, Step};
use crate::task::{PluginVersion, TaskOptions, TaskSpec};
use crate::usage::Usage;

const START: Timestamp = Timestamp::from_micros(1_795_343_528_000_000);
const SEEDS: u64 = 3_000;
const TASKS: usize = 12;
const CONCURRENCY: usize = 3;
const ETA_HOLD: Duration = Duration::from_millis(100);
/// Not long enough for many of them, which is what happens to the rest after half an hour.
const CONSUMER_TIMEOUT: Duration = Duration::from_millis(200);
const QUARANTINE: BreakerRule =
    BreakerRule { violations: 3, window: Duration::from_millis(200), pause: Duration::from_millis(60) };
const INTERVAL: Duration = Duration::from_millis(40);
/// More steps than any seed needs; one that does not come to an end is stuck.
const STEPS_MAX: usize = 20_000;

struct World {
    seed: u64,
    chance: Chance,
    now: Timestamp,
    dispatcher: Dispatcher,
    connected: bool,
    queue: VecDeque<Request>,
    /// Receipts of this connection.
    unsettled: BTreeMap<DeliveryId, Request>,
    delivered: u64,
    running: Vec<Attempt>,
    commits: Vec<(DeliveryId, Settlement)>,
    lookups: Vec<(DeliveryId, TaskId)>,
    countings: Vec<(DeliveryId, String)>,
    /// What the state file counts.
    counts: BTreeMap<String, u32>,
    counts_forgotten: u32,
    put_backs: Vec<(DeliveryId, Publication, Timestamp)>,
    /// Asked of the cluster.
    questions: Vec<(DeliveryId, TaskName)>,
    /// What the broker keeps until its time has come.
    put_away: Vec<(Timestamp, Request)>,
    /// Every task that there ever is.
    tasks: Vec<TaskSpec>,
    /// Those that there are now.
    catalog: Arc<Catalog>,
    reloads: u64,
    /// What waits until a plugin can run it.
    parked: Vec<Message>,
    parkings: u64,
    shelved: u32,
    journaling: Vec<(DeliveryId, Kept)>,
    journal: BTreeMap<DeliveryId, Request>,
    journaled: u64,
    /// Attempts that are to be stopped.
    terminating: Vec<AttemptId>,
    revoked: BTreeSet<String>,
    /// Questions of remote control so far, and those that have no answer yet.
    asked: u64,
    unanswered: BTreeSet<QuestionId>,
    /// Questions that wait for what is stored.
    state_questions: Vec<(QuestionId, Vec<TaskId>)>,
    wake: Option<Timestamp>,
    runs: BTreeMap<String, u32>,
    requeues_allowed: BTreeMap<String, u32>,
    succeeded: BTreeMap<String, u32>,
    limited_starts: Vec<Timestamp>,
    stopped: bool,
}

fn key(request: &Request) -> String {
    format!("{}#{}", request.id, request.retries)
}

impl World {
    fn new(seed: u64) -> Self {
        let limited = TaskOptions { rate_limit: Some(Some(Rate { interval: INTERVAL })), ..TaskOptions::default() };
        let shared = TaskOptions { rate_limit_scope: RateScope::Cluster, ..limited.clone() };
        let turns = TaskOptions {
            concurrency: NonZeroU32::new(1),
            concurrency_key: Some(KeyPath::parse("kwargs.tenant").expect("a path")),
            ..TaskOptions::default()
        };
        let both = TaskOptions { rate_limit: limited.rate_limit, ..turns.clone() };
        let early = TaskOptions { acks_late: Some(false), ..TaskOptions::default() };
        let tasks = [
            ("tasks.add", TaskOptions::default()),
            ("tasks.limited", limited),
            ("tasks.early", early),
            ("tasks.shared", shared),
            ("tasks.turns", turns),
            ("tasks.both", both),
        ]
        .map(|(name, options)| match name {
            "tasks.early" => TaskSpec {
                plugin: PluginName::parse("small").expect("a name"),
                plugin_concurrency: NonZeroU32::new(1),
                ..spec(name, options)
            },
            _ => spec(name, options),
        });
        let catalog = Arc::new(Catalog::new(tasks.clone()));
        let limits = Limits {
            eta_hold: ETA_HOLD,
            consumer_timeout: Some(CONSUMER_TIMEOUT),
            quarantine: Some(QUARANTINE),
            ..limits(CONCURRENCY)
        };
        let mut world = Self {
            seed,
            chance: Chance(seed),
            now: START,
            dispatcher: Dispatcher::new(limits, catalog.clone(), seed),
            tasks: tasks.into(),
            catalog,
            reloads: 0,
            parked: Vec::new(),
            parkings: 0,
            connected: true,
            queue: VecDeque::new(),
            unsettled: BTreeMap::new(),
            delivered: 0,
            running: Vec::new(),
            commits: Vec::new(),
            lookups: Vec::new(),
            countings: Vec::new(),
            counts: BTreeMap::new(),
            counts_forgotten: 0,
            put_backs: Vec::new(),
            questions: Vec::new(),
            put_away: Vec::new(),
            shelved: 0,
            journaling: Vec::new(),
            journal: BTreeMap::new(),
            journaled: 0,
            terminating: Vec::new(),
            revoked: BTreeSet::new(),
            asked: 0,
            unanswered: BTreeSet::new(),
            state_questions: Vec::new(),
            wake: None,
            runs: BTreeMap::new(),
            requeues_allowed: BTreeMap::new(),
            succeeded: BTreeMap::new(),
            limited_starts: Vec::new(),
            stopped: false,
        };
        world.input(Input::BrokerBack { puts_back: true, times_out: true, clock_is_wrong: false });
        for index in 0..TASKS {
            let names =
                ["tasks.add", "tasks.add", "tasks.limited", "tasks.early", "tasks.shared", "tasks.turns", "tasks.both"];
            let mut call = request(names[world.pick(names.len())], &format!("id-{index}"));
            call.kwargs = Json::object([("tenant", Json::int(world.pick(2) as i64))]);
            if world.pick(4) == 0 {
                call.eta = Some(START + Duration::from_millis(world.pick(300) as u64));
            }
            if world.pick(8) == 0 {
                call.expires = Some(START + Duration::from_millis(world.pick(200) as u64));
            }
            world.queue.push_back(call);
        }
        world
    }

    fn pick(&mut self, below: usize) -> usize {
        (self.chance.next().0 * below as f64) as usize
    }

    fn take<T>(&mut self, from: fn(&mut Self) -> &mut Vec<T>) -> Option<T> {
        let length = from(self).len();
        if length == 0 {
            return None;
        }
        let index = self.pick(length);
        Some(from(self).swap_remove(index))
    }

    fn input(&mut self, input: Input) {
        for action in self.dispatcher.handle(input, self.now) {
            self.act(action);
        }
        assert!(self.running.len() <= CONCURRENCY, "seed {}: more attempts than slots", self.seed);
        let small = self.running.iter().filter(|attempt| attempt.spec.plugin.as_str() == "small").count();
        assert!(small <= 1, "seed {}: {small} of a plugin that may have one", self.seed);
        for task in ["tasks.turns", "tasks.both"] {
            let mut keys: Vec<&str> = self
                .running
                .iter()
                .map(|attempt| &attempt.request)
                .filter(|request| request.task.as_str() == task)
                .map(|request| request.kwargs.as_str())
                .collect();
            keys.sort_unstable();
            assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "seed {}: {task} {keys:?} at a time", self.seed);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::LookUp(delivery, id) => self.lookups.push((delivery, id)),
            Action::Count(delivery, execution) => self.countings.push((delivery, execution)),
            Action::Journal(delivery, kept) => self.journaling.push((delivery, *kept)),
            Action::ForgetCount(execution) => {
                let counted = self.counts.remove(&execution);
                self.counts_forgotten += u32::from(counted.is_some());
            }
            Action::Start(attempt) => self.start(attempt),
            Action::Settle(delivery, acknowledgement) => self.settle(delivery, acknowledgement),
            Action::Adopt { known, redelivered } if self.journal.contains_key(&known) => {
                self.settle(redelivered, Acknowledgement::Ack);
            }
            Action::Adopt { known, redelivered } => {
                if let Some(message) = self.unsettled.remove(&redelivered) {
                    self.unsettled.insert(known, message);
                }
            }
            Action::PutBack { delivery, publication, until } => self.put_backs.push((delivery, *publication, until)),
            Action::Commit(delivery, settlement) => self.commits.push((delivery, settlement)),
            Action::WakeAt(at) => self.wake = Some(at),
            Action::Acquire { delivery, task, .. } => self.questions.push((delivery, task)),
            Action::Terminate(attempt) => self.terminating.push(attempt),
            Action::Reply(question, _) | Action::StoreThenReply { question, .. } => {
                assert!(self.unanswered.remove(&question), "seed {}: answered twice", self.seed);
            }
            Action::LookUpStates(question, ids) => self.state_questions.push((question, ids)),
            Action::Terminating(..) | Action::Unremember(_) => {}
            Action::Remember(_) | Action::Consume(_) | Action::StopConsuming | Action::SetPrefetch(_) => {}
            Action::SoftShutdown(_) | Action::ColdShutdown | Action::Record(_) | Action::Announce(_) => {}
            Action::Plugin(_) | Action::Spool(_) => {}
            Action::BringHome { plugin, at_most } => self.bring_home(plugin.as_ref(), at_most),
            Action::Stopped => self.stopped = true,
        }
    }

    fn start(&mut self, attempt: Attempt) {
        let request = &attempt.request;
        assert!(!self.revoked.contains(request.id.as_str()), "seed {}: revoked", self.seed);
        assert!(request.eta.is_none_or(|eta| eta <= self.now), "seed {}: early", self.seed);
        assert!(request.expires.is_none_or(|expires| self.now < expires), "seed {}: expired", self.seed);
        if request.task.as_str() == "tasks.limited" {
            self.limited_starts.push(self.now);
        }
        *self.runs.entry(key(request)).or_default() += 1;
        self.running.push(attempt);
    }

    fn settle(&mut self, delivery: DeliveryId, acknowledgement: Acknowledgement) {
        // None left: the connection that it came by is gone, or an adopted one was spent already.
        let ours = self.unsettled.remove(&delivery).or_else(|| self.journal.remove(&delivery));
        let Some(mut message) = ours else { return };
        if acknowledgement == Acknowledgement::Requeue {
            message.delivery.redelivered = true;
            self.queue.push_back(message);
        }
    }

    fn deliver(&mut self) {
        let Some(call) = self.queue.pop_front() else { return };
        self.delivered += 1;
        let delivery = DeliveryId(self.delivered);
        self.unsettled.insert(delivery, call.clone());
        self.input(Input::Received(delivery, Ok(Box::new(call))));
    }

    fn finish(&mut self) {
        let Some(attempt) = self.take(|world| &mut world.running) else { return };
        if self.terminating.contains(&attempt.id) && self.pick(2) == 0 {
            // Or it comes to its end before it is stopped.
            let finished = Finished::alone(Outcome::Interrupted, Usage::default());
            return self.input(Input::Finished(attempt.id, finished.into()));
        }
        let delay = RetryDelay::Countdown(Duration::from_millis(self.pick(3) as u64 * 30));
        let retry = RetryRequest { cause: None, delay, max_retries: None, args: None, kwargs: None };
        let outcome = match self.pick(9) {
            8 => Outcome::Trapped(Trap::StackOverflow),
            0 => Outcome::Ignored,
            1 => Outcome::Rejected { requeue: false },
            2 if attempt.policy.acks_late => {
                *self.requeues_allowed.entry(key(&attempt.request)).or_default() += 1;
                Outcome::Rejected { requeue: true }
            }
            3 | 4 => Outcome::Retry(retry),
            _ => Outcome::Success(Json::int(4)),
        };
        self.input(Input::Finished(attempt.id, Finished::alone(outcome, Usage::default()).into()));
    }

    fn commit(&mut self) {
        let Some((delivery, mut remaining)) = self.take(|world| &mut world.commits) else { return };
        let reason = "chance".to_owned();
        if !remaining.before.is_empty() {
            if !self.connected || self.pick(6) == 0 {
                let failure = CommitFailure { remaining, transient: true, wait: None, reason };
                return self.input(Input::CommitFailed(delivery, Box::new(failure)));
            }
            for step in std::mem::take(&mut remaining.before) {
                match step {
                    Step::Send(publication) | Step::SendTo(_, publication) => {
                        self.queue.push_back(self.published(&publication.message));
                    }
                    Step::Shelve { queue, message } if queue.as_str().ends_with(dead::PARKED_SUFFIX) => {
                        self.parkings += 1;
                        self.parked.push(message);
                    }
                    Step::Shelve { .. } => self.shelved += 1,
                    Step::SetChordSize { .. } | Step::ExtendChord { .. } | Step::SaveGroup { .. } => {}
                }
            }
        }
        if !remaining.records.is_empty() && self.pick(6) == 0 {
            let failure = CommitFailure { remaining, transient: true, wait: None, reason };
            return self.input(Input::CommitFailed(delivery, Box::new(failure)));
        }
        for record in &remaining.records {
            if record.state == crate::record::State::Success {
                *self.succeeded.entry(record.id.to_string()).or_default() += 1;
            }
        }
        if let Some(acknowledgement) = remaining.acknowledgement {
            self.settle(delivery, acknowledgement);
        }
        self.input(Input::Committed(delivery));
    }

    fn published(&self, message: &Message) -> Request {
        let delivery = request("tasks.add", "x").delivery;
        let mut message = message.clone();
        message.headers.set("lang", HeaderValue::Text("py".to_owned()));
        Request::decode(message, delivery, &Codec::default()).expect("what we publish can be read")
    }

    fn look_up(&mut self) {
        let Some((delivery, id)) = self.take(|world| &mut world.lookups) else { return };
        let succeeded = self.succeeded.contains_key(id.as_str()).then(Json::null);
        self.input(Input::LookedUp(delivery, Lookup { succeeded }));
    }

    fn count(&mut self) {
        let Some((delivery, execution)) = self.take(|world| &mut world.countings) else { return };
        let count = self.counts.entry(execution).or_default();
        *count += 1;
        let count = *count;
        self.input(Input::Counted(delivery, count));
    }

    fn put_back(&mut self) {
        let Some((delivery, publication, until)) = self.take(|world| &mut world.put_backs) else { return };
        let failed = !self.connected || self.pick(4) == 0;
        if failed {
            return self.input(Input::PutBack(delivery, false));
        }
        let mut back = self.published(&publication.message);
        back.eta = Some(until);
        self.put_away.push((until, back));
        if self.pick(4) == 0 {
            // The connection breaks before the original is acknowledged: now there are two.
            return self.lose_connection();
        }
        if until <= self.now && !self.dispatcher.stopping && self.pick(2) == 0 {
            // It comes again before the worker has heard that it is away.
            self.queue.extend(self.put_away.pop().map(|(_, back)| back));
            for _ in 0..self.queue.len() {
                self.deliver();
            }
        }
        self.settle(delivery, Acknowledgement::Ack);
        self.input(Input::PutBack(delivery, true));
    }

    fn answer(&mut self) {
        let Some((delivery, task)) = self.take(|world| &mut world.questions) else { return };
        let wait = match self.pick(3) {
            0 => None,
            1 => Some(Duration::ZERO),
            _ => Some(Duration::from_millis(self.pick(80) as u64)),
        };
        self.input(Input::Permit(delivery, task, wait));
    }

    fn write_journal(&mut self) {
        let Some((delivery, kept)) = self.take(|world| &mut world.journaling) else { return };
        if self.pick(4) == 0 {
            return self.input(Input::Journaled(delivery, false));
        }
        self.journaled += 1;
        let request = self.published(&kept.message);
        if self.connected && self.pick(4) == 0 {
            // It breaks between the two: the broker does not know that it is done with.
            self.journal.insert(delivery, request);
            self.lose_connection();
        } else {
            self.unsettled.remove(&delivery);
            self.journal.insert(delivery, request);
        }
        self.input(Input::Journaled(delivery, true));
    }

    fn lose_connection(&mut self) {
        self.connected = false;
        for (_, mut message) in std::mem::take(&mut self.unsettled).into_iter().rev() {
            message.delivery.redelivered = true;
            self.queue.push_front(message);
        }
        self.input(Input::BrokerLost);
    }

    fn revoke(&mut self) {
        let id = format!("id-{}", self.pick(TASKS));
        let ids = vec![TaskId::parse(&id).expect("a name")];
        if self.revoked.contains(&id) && self.pick(4) == 0 {
            self.revoked.remove(&id);
            return drop(self.ask(Command::Unrevoke(ids)));
        }
        self.revoked.insert(id);
        let terminate = (self.pick(2) == 0).then_some(Signal::KILL);
        drop(self.ask(Command::Revoke { ids, terminate }));
    }

    /// Asks by remote control; the answer, if there is one at once.
    fn ask(&mut self, command: Command) -> Option<Json> {
        self.asked += 1;
        let question = QuestionId(self.asked);
        self.unanswered.insert(question);
        let mut answer = None;
        for action in self.dispatcher.handle(Input::Control(question, Box::new(command)), self.now) {
            if let Action::Reply(_, said) = &action {
                answer = Some(said.clone());
            }
            self.act(action);
        }
        answer
    }

    /// Somebody looks, and sees what is true.
    fn inspect(&mut self) {
        let active = self.ask(Command::Active { safe: self.seed.is_multiple_of(2) }).expect("answered at once");
        assert_eq!(active.elements().count(), self.running.len(), "seed {}: {active}", self.seed);
        let ids = (0..TASKS).map(|index| TaskId::parse(&format!("id-{index}")).expect("a name")).collect();
        for command in
            [Command::Reserved, Command::Scheduled, Command::Revoked, Command::Stats, Command::QueryTask(ids)]
        {
            assert!(self.ask(command).is_some(), "seed {}", self.seed);
        }
    }

    /// What is stored is known.
    fn tell_states(&mut self) {
        let Some((question, ids)) = self.take(|world| &mut world.state_questions) else { return };
        let state = |world: &Self, id: &TaskId| match world.succeeded.contains_key(id.as_str()) {
            true => crate::record::State::Success,
            false => crate::record::State::Pending,
        };
        let states = ids.into_iter().map(|id| (id.clone(), state(self, &id))).collect();
        self.input(Input::States(question, states));
    }

    /// Plugins change: some tasks are gone, or all are there again, and some are new versions.
    fn reload(&mut self, whole: bool) {
        self.reloads += 1;
        let version = PluginVersion::of(&self.reloads.to_string());
        let missing = if whole { self.tasks.len() } else { self.pick(self.tasks.len()) };
        let tasks = self.tasks.iter().enumerate().filter(|(index, _)| *index != missing);
        let tasks = tasks.map(|(_, spec)| TaskSpec { version: version.clone(), ..spec.clone() });
        self.catalog = Arc::new(Catalog::new(tasks.collect::<Vec<_>>()));
        self.input(Input::CatalogChanged(self.catalog.clone()));
    }

    /// As the driver does it: what can run now goes back to its queue, the rest stays.
    fn bring_home(&mut self, plugin: Option<&PluginName>, at_most: Option<u64>) {
        let mut left = if self.connected { at_most.unwrap_or(u64::MAX) } else { 0 };
        let aside = QueueName::parse("celery.parked").expect("a name");
        for message in std::mem::take(&mut self.parked) {
            let task = self.published(&message).task;
            let spec = self.catalog.get(&task).filter(|spec| plugin.is_none_or(|plugin| spec.plugin == *plugin));
            match spec.filter(|spec| left > 0 && !self.dispatcher.is_quarantined(spec)) {
                Some(_) => {
                    left -= 1;
                    let mut home = dead::revive(message, &aside).expect("it knows its home").message;
                    home.headers.set(PUT_BACK_HEADER, HeaderValue::Bool(true));
                    self.queue.push_back(self.published(&home));
                }
                None => self.parked.push(message),
            }
        }
    }

    fn pass_time(&mut self) {
        self.now = self.now + Duration::from_millis(1 + self.pick(60) as u64);
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.put_away).into_iter().partition(|(at, _)| *at <= now);
        self.put_away = later;
        let due: Vec<(Timestamp, Request)> = due;
        self.queue.extend(due.into_iter().map(|(_, back)| back));
        if self.wake.is_some_and(|at| at <= self.now) {
            self.wake = None;
            self.input(Input::Due);
        }
    }

    fn step(&mut self) {
        match self.pick(12) {
            0..=2 if self.connected => self.deliver(),
            3 | 4 => self.finish(),
            5..=7 => self.commit(),
            8 if self.pick(2) == 0 => {
                self.look_up();
                self.count();
            }
            8 if self.pick(2) == 0 => self.write_journal(),
            8 => self.put_back(),
            9 if self.pick(8) == 0 => {
                self.revoke();
                self.inspect();
            }
            9 if self.pick(3) == 0 => {
                let whole = self.pick(2) == 0;
                self.reload(whole);
            }
            9 => self.pass_time(),
            10 if self.pick(10) == 0 && self.connected => self.lose_connection(),
            _ if !self.connected => {
                self.connected = true;
                self.input(Input::BrokerBack { puts_back: true, times_out: true, clock_is_wrong: false });
                self.bring_home(None, None);
            }
            _ => {
                self.answer();
                self.tell_states();
            }
        }
    }

    fn is_idle(&self) -> bool {
        let waiting =
            self.parked.is_empty() && self.queue.is_empty() && self.put_away.is_empty() && self.put_backs.is_empty();
        let kept = self.journaling.is_empty() && self.journal.is_empty() && self.state_questions.is_empty();
        waiting && kept && self.unsettled.is_empty() && self.dispatcher.deliveries.is_empty()
    }

    fn check(&self) {
        let seed = self.seed;
        for (execution, &runs) in &self.runs {
            let allowed = 1 + self.requeues_allowed.get(execution).copied().unwrap_or_default();
            assert!(runs <= allowed, "seed {seed}: {execution} ran {runs} times, {allowed} allowed");
        }
        for (id, &times) in &self.succeeded {
            assert_eq!(times, 1, "seed {seed}: {id} succeeded {times} times");
        }
        for pair in self.limited_starts.windows(2) {
            assert!(pair[1].since(pair[0]) >= INTERVAL, "seed {seed}: rate limit");
        }
        assert!(self.dispatcher.deliveries.is_empty(), "seed {seed}: {:?}", self.dispatcher.deliveries);
        assert!(self.dispatcher.identities.is_empty(), "seed {seed}: identities leak");
        assert!(!self.dispatcher.overtime.is_writing(), "seed {seed}: journal");
        assert!(self.dispatcher.publishing.is_empty(), "seed {seed}: publishing leaks");
        assert!(self.unanswered.is_empty(), "seed {seed}: {:?} without an answer", self.unanswered);
        assert!(self.dispatcher.marking.is_empty(), "seed {seed}: answers leak");
        assert_eq!((self.dispatcher.held, self.dispatcher.committing), (0, 0), "seed {seed}: counters");
        assert!(self.dispatcher.crowds.is_idle(), "seed {seed}: {:?}", self.dispatcher.crowds);
        assert!(self.dispatcher.gates.is_idle(), "seed {seed}: {:?}", self.dispatcher.gates);
    }
}

#[test]
fn every_message_comes_to_its_end_whatever_happens() {
    let (mut journaled, mut counts_forgotten, mut parkings) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let mut steps = 0;
        while !world.is_idle() {
            world.step();
            if steps % 100 == 99 {
                world.reload(true);
            }
            steps += 1;
            assert!(steps < STEPS_MAX, "seed {seed} is stuck: {:?}", world.dispatcher);
        }
        world.check();
        journaled += world.journaled;
        counts_forgotten += u64::from(world.counts_forgotten);
        parkings += world.parkings;
    }
    assert!(counts_forgotten > SEEDS, "hardly any delivery was counted: {counts_forgotten}");
    assert!(parkings > SEEDS, "hardly anything was parked: {parkings}");
    assert!(journaled > SEEDS, "the journal was hardly used: {journaled}");
}

#[test]
fn a_shutdown_at_any_moment_leaves_nothing_behind() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..world.pick(80) {
            world.step();
        }
        world.input(Input::Stop(Shutdown::Warm));
        let mut steps = 0;
        while !world.stopped {
            // No more deliveries: the consumers are cancelled.
            match world.pick(4) {
                0 => world.finish(),
                1 if world.pick(2) == 0 => world.put_back(),
                1 if world.pick(2) == 0 => world.write_journal(),
                1 => world.commit(),
                2 => world.pass_time(),
                _ if !world.connected => {
                    world.connected = true;
                    world.input(Input::BrokerBack { puts_back: true, times_out: true, clock_is_wrong: false });
                }
                _ => world.look_up(),
            }
            steps += 1;
            assert!(steps < STEPS_MAX, "seed {seed} does not stop: {:?}", world.dispatcher);
        }
        assert!(world.unsettled.is_empty(), "seed {seed}: {:?} not given back", world.unsettled.keys());
        assert!(world.journal.is_empty(), "seed {seed}: {:?} left in the journal", world.journal.keys());
        assert!(world.running.is_empty() && world.commits.is_empty(), "seed {seed}");
    }
}
