//! The loop around the dispatcher: hands it whatever happens, does whatever it says.
//!
//! Blocks on nothing but its inputs. Everything slow is done by somebody else who answers with an input.

use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerError, Capabilities, Consumer};

use futures_util::future::join;
use store::state::{NodeState, StateError};
use store::{ResultStore, SharedRates};
use taskhost_core::builtin::Builtin;
use taskhost_core::dispatcher::{Action, Dispatcher, Input, Limits, Lookup, Shutdown};
use taskhost_core::rate::Rate;
use taskhost_core::{
    Acknowledgement, Catalog, Codec, DeliveryId, NodeName, PluginName, Queue, Queues, TaskId, TaskName, TaskSpec,
    Timestamp,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::announce::{self, Announcer};
use crate::answers::{Answers, Question};
use crate::attempt::Attempts;
use crate::commit::{Committer, chain};
use crate::connection::{Connection, Connector, Retry};
use crate::expire;
use crate::invoker::Invoker;
use crate::journal::{self, Journal};
use crate::keep_clock;
use crate::look_up;
use crate::orders::{Order, Orders, Reports};
use crate::parked::{self, Homecoming};
use crate::plugins::{self, Plugins};
use crate::pulse::{BEAT, Pulse};
use crate::put_back::Wait;
use crate::receipts::{Held, Receipts};
use crate::spooled;
use crate::supervise::{Link, Phase, Received, Supervisor, Want};
use crate::tally::Tally;
use crate::tracer::{Tracer, Tracing};

/// Batches of deliveries between the consumers and the driver: enough to keep the driver busy while a
/// consumer decodes the next.
const DELIVERIES_MAX: usize = 8;

/// Inputs from attempts and commits. A sender that finds it full waits; the driver never does.
const INPUTS_MAX: usize = 4096;

/// How many inputs are handled before the driver looks at its other sources.
const INPUTS_BATCH: usize = 256;

/// Longest time until the wall clock is looked at again while something waits for it: a clock that is
/// set forward wakes what is due then, not when it would have been.
const CLOCK_CHECK: Duration = Duration::from_secs(1);

/// A difference between wall clock and monotonic clock that is worth a word.
const CLOCK_JUMP: Duration = Duration::from_secs(5);

/// How long a cold shutdown waits for commits that cannot be made.
const COLD_SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// How long the connection may take to close in good order.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Who this worker is and how much it does at a time.
pub struct Settings {
    pub node: NodeName,
    pub queues: Vec<Queue>,
    /// What queues look like that are added while the worker runs.
    pub known_queues: Queues,
    /// The forms in which bodies are read.
    pub codec: Codec,
    pub limits: Limits,
    pub retry: Retry,
    /// Results older than this are deleted; none are, if this is none.
    pub results_expire: Option<Duration>,
    /// How long a chord waits for results that it needs in the shape of its header.
    pub join_timeout: Duration,
    /// How long the result store may take over a batch.
    pub write_timeout: Duration,
    /// Names of tasks that this node has had before.
    pub once_served: Vec<TaskName>,
    /// For the jitter of retries.
    pub seed: u64,
}

/// What the worker works with.
pub struct Ports {
    pub connector: Arc<dyn Connector>,
    /// Tells monitors what happens.
    pub announcer: Arc<Announcer>,
    /// Where the worker puts its current connection, for others that publish through it.
    pub connection: Arc<Connection>,
    pub store: Arc<dyn ResultStore>,
    /// Counts the starts of tasks whose rate limit all workers share; none if no task has one.
    pub rates: Option<Arc<dyn SharedRates>>,
    /// What this worker remembers for itself.
    pub state: Arc<dyn NodeState>,
    pub invoker: Arc<dyn Invoker>,
    /// Where the invoker hands over what running tasks report.
    pub reports: Arc<Reports>,
    /// What can be run now, and whenever that changes.
    pub catalogs: watch::Receiver<Arc<Catalog>>,
    /// Who has the plugins.
    pub plugins: Arc<dyn Plugins>,
    pub watchers: Watchers,
    /// What remote control asks of the dispatcher.
    pub questions: mpsc::Receiver<Question>,
    /// The threads on which guests run.
    pub guests: Handle,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
}

/// Who watches the worker from outside. Nothing is written down for nobody.
#[derive(Default)]
pub struct Watchers {
    /// Whether the worker lives, and what it does now.
    pub pulse: Option<Arc<Pulse>>,
    /// What attempts used.
    pub tally: Option<Arc<Tally>>,
    /// The spans of attempts.
    pub tracing: Option<Tracing>,
}

/// Why the worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot consume")]
    Broker(#[from] BrokerError),
    #[error("cannot start")]
    State(#[from] StateError),
}

/// Runs until a shutdown is complete. The first error of a broker that can never work ends it as well.
pub async fn run(settings: Settings, mut ports: Ports, shutdowns: mpsc::Receiver<Shutdown>) -> Result<(), RunError> {
    let (links_in, links) = mpsc::channel(1);
    let (deliveries_in, deliveries) = mpsc::channel(DELIVERIES_MAX);
    let (inputs_in, inputs) = mpsc::channel(INPUTS_MAX);
    let committing_max = settings.limits.committing_max;
    let catalog = ports.catalogs.borrow_and_update().clone();
    let mut dispatcher = Dispatcher::new(settings.limits, catalog.clone(), settings.seed);
    dispatcher.remember_served(settings.once_served);
    dispatcher.recall(ports.state.revocations().await?);
    dispatcher.begin_with(settings.queues.clone(), settings.known_queues);
    let want = Want { queues: settings.queues, prefetch: dispatcher.prefetch(), phase: Phase::Consume };
    let (want, wants) = watch::channel(want);
    let codec = Arc::new(settings.codec);
    let supervisor = Supervisor {
        node: settings.node.to_string(),
        codec: codec.clone(),
        connector: ports.connector.clone(),
        retry: settings.retry,
        connection: ports.connection.clone(),
        links: links_in,
        deliveries: deliveries_in,
        wants,
    };
    let (orders, receipts) = (ports.reports.0.clone(), Arc::new(Receipts::default()));
    let journal = Arc::new(Journal::new(ports.state.clone(), ports.connection.clone()));
    let resumed = journal.resume(&codec).await?;
    let announcer = ports.announcer;
    keep_clock::resume(&announcer, &*ports.state).await;
    let (clock_state, clock_of) = (ports.state.clone(), announcer.clone());
    let keeping = tokio::spawn(keep_clock::run(announcer.clone(), ports.state.clone()));
    let committer = Committer {
        journal: journal.clone(),
        orders: orders.clone(),
        receipts: receipts.clone(),
        connection: ports.connection.clone(),
        store: ports.store.clone(),
        state: ports.state.clone(),
        inputs: inputs_in.clone(),
        announcer: announcer.clone(),
        seal: codec.seal.clone(),
        join_timeout: settings.join_timeout,
        write_timeout: settings.write_timeout,
    };
    let expiring = settings.results_expire.map(|age| tokio::spawn(expire::run(ports.store.clone(), age)));
    let supervising = tokio::spawn(supervisor.run());
    let committing = tokio::spawn(committer.run());
    let (end_announcing, announcing_ends) = oneshot::channel();
    let announcing = tokio::spawn(announce::speak(announcer.clone(), ports.connector, announcing_ends));
    let mut driver = Driver {
        dispatcher,
        attempts: Attempts::new(ports.invoker, ports.guests, inputs_in.clone(), ports.watchers.tally),
        store: ports.store,
        state: ports.state,
        clock: ports.clock,
        orders: orders.clone(),
        open_orders: Vec::new(),
        receipts,
        looking_up: JoinSet::new(),
        connection: ports.connection,
        announcer,
        pulse: ports.watchers.pulse,
        tracer: ports.watchers.tracing.map(Tracer::new),
        catalog,
        plugins: ports.plugins,
        looking_through: Arc::default(),
        bringing_home: JoinSet::new(),
        remembering: JoinSet::new(),
        rates: ports.rates,
        asking: JoinSet::new(),
        answers: Answers::default(),
        inputs: inputs_in,
        want: want.clone(),
        deliveries_received: 0,
        commits_open: 0,
        committing_max,
        wake: None,
        give_up: None,
        stopped: false,
    };
    driver.resume(resumed, journal);
    // On a thread of the runtime, where the receivers and the committer run as well: the one that called us
    // has to be woken for every input. A set, since it ends its task when it is dropped.
    let mut driving = JoinSet::new();
    driving.spawn(driver.run(links, deliveries, inputs, ports.catalogs, ports.questions, shutdowns));
    let result = match driving.join_next().await.expect("it was spawned above") {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    if let Some(expiring) = expiring {
        expiring.abort();
    }
    orders.close();
    if timeout(COLD_SHUTDOWN_MAX, committing).await.is_err() {
        warn!("gave up waiting for open commits; the broker will deliver their messages again");
    }
    // Everything has been announced.
    drop(end_announcing);
    want.send_modify(|want| want.phase = Phase::End);
    if timeout(CLOSE_MAX, join(supervising, announcing)).await.is_err() {
        warn!("the broker did not close the connection in time");
    }
    keeping.abort();
    keep_clock::keep(&clock_of, &*clock_state).await;
    result
}

/// When to look at the clock, and what it said when that was decided.
struct Wake {
    at: Timestamp,
    set: (Timestamp, Instant),
}

struct Driver {
    dispatcher: Dispatcher,
    attempts: Attempts,
    store: Arc<dyn ResultStore>,
    state: Arc<dyn NodeState>,
    clock: fn() -> Timestamp,
    orders: Arc<Orders>,
    /// Orders of the round that is being handled.
    open_orders: Vec<Order>,
    receipts: Arc<Receipts>,
    looking_up: JoinSet<()>,
    connection: Arc<Connection>,
    announcer: Arc<Announcer>,
    pulse: Option<Arc<Pulse>>,
    tracer: Option<Tracer>,
    catalog: Arc<Catalog>,
    plugins: Arc<dyn Plugins>,
    /// One looks through parked messages at a time: two would shove them at each other.
    looking_through: Arc<Mutex<()>>,
    bringing_home: JoinSet<()>,
    remembering: JoinSet<()>,
    rates: Option<Arc<dyn SharedRates>>,
    asking: JoinSet<()>,
    answers: Answers,
    inputs: mpsc::Sender<Input>,
    want: watch::Sender<Want>,
    deliveries_received: u64,
    commits_open: usize,
    committing_max: usize,
    wake: Option<Wake>,
    /// When a cold shutdown has waited long enough.
    give_up: Option<Instant>,
    stopped: bool,
}

impl Driver {
    async fn run(
        mut self,
        mut links: mpsc::Receiver<Link>,
        mut deliveries: mpsc::Receiver<Received>,
        mut inputs: mpsc::Receiver<Input>,
        mut catalogs: watch::Receiver<Arc<Catalog>>,
        mut questions: mpsc::Receiver<Question>,
        mut shutdowns: mpsc::Receiver<Shutdown>,
    ) -> Result<(), RunError> {
        let mut finished = Vec::with_capacity(INPUTS_BATCH);
        while !self.stopped {
            let deliveries_wanted = self.commits_open < self.committing_max;
            tokio::select! {
                biased;
                Some(shutdown) = shutdowns.recv() => self.shut_down(shutdown),
                Some(link) = links.recv() => match link {
                    Link::Up(Capabilities { puts_back, times_out, clock_is_wrong, .. }) => {
                        self.connected(true);
                        self.handle(Input::BrokerBack { puts_back, times_out, clock_is_wrong });
                        self.bring_home(None, None);
                    }
                    Link::Lost(heard) => {
                        // What the old connection delivered and nobody has looked at is void as well.
                        while deliveries.try_recv().is_ok() {}
                        self.receipts.void();
                        self.connected(false);
                        self.handle(Input::BrokerLost);
                        let _ = heard.send(());
                    }
                    Link::Failed(error) => return Err(RunError::Broker(error)),
                    Link::Refused(queue) => self.handle(Input::CannotConsume(queue)),
                },
                // An error is the end of whoever changes plugins: they stay as they are.
                Ok(()) = catalogs.changed() => self.change_catalog(catalogs.borrow_and_update().clone()),
                Some(question) = questions.recv() => {
                    let (id, command) = self.answers.open(question);
                    self.handle(Input::Control(id, command));
                }
                _ = inputs.recv_many(&mut finished, INPUTS_BATCH) => {
                    let now = (self.clock)();
                    for input in finished.drain(..) {
                        match &input {
                            Input::Finished(attempt, _) => {
                                self.attempts.forget(*attempt);
                                if let Some(tracer) = &mut self.tracer {
                                    tracer.finished(*attempt, now);
                                }
                            }
                            Input::Committed(_) | Input::CommitFailed(..) | Input::ChordReady(..) => {
                                self.commits_open -= 1;
                            }
                            _ => {}
                        }
                        self.handle_at(input, now);
                    }
                }
                Some(received) = deliveries.recv(), if deliveries_wanted => self.receive(received),
                () = wake(&self.wake) => self.look_at_clock(),
                () = give_up(self.give_up) => {
                    warn!("worker: giving up on commits that cannot be made; the broker will deliver their messages again");
                    return Ok(());
                }
                () = sleep(BEAT), if self.pulse.is_some() => {}
            }
            self.orders.push(&mut self.open_orders, self.attempts.is_idle());
            self.announcer.set_active(self.attempts.count());
            if let Some(pulse) = &self.pulse {
                pulse.beat(&self.dispatcher.census());
            }
        }
        Ok(())
    }

    /// Runs again what an earlier process left in the journal.
    fn resume(&mut self, resumed: Vec<journal::Resumed>, journal: Arc<Journal>) {
        let consumer: Arc<dyn Consumer> = journal;
        for (request, receipt) in resumed {
            let delivery = DeliveryId(self.deliveries_received);
            self.deliveries_received += 1;
            self.receipts.journal(delivery, Held { receipt, consumer: consumer.clone() });
            self.handle(Input::Resumed(delivery, request));
        }
        self.orders.push(&mut self.open_orders, true);
    }

    fn receive(&mut self, received: Received) {
        let now = (self.clock)();
        let first = self.deliveries_received;
        let mut requests = Vec::with_capacity(received.batch.len());
        let mut receipts = Vec::with_capacity(received.batch.len());
        for (request, receipt) in received.batch {
            requests.push(request);
            receipts.push(Held { receipt, consumer: received.consumer.clone() });
        }
        // Before the dispatcher hears of them: it may settle one at once.
        self.receipts.insert((first..).map(DeliveryId).zip(receipts));
        self.deliveries_received += requests.len() as u64;
        for (delivery, request) in (first..).map(DeliveryId).zip(requests) {
            self.handle_at(Input::Received(delivery, request), now);
        }
    }

    fn connected(&self, connected: bool) {
        if let Some(pulse) = &self.pulse {
            pulse.connected(connected);
        }
    }

    fn shut_down(&mut self, shutdown: Shutdown) {
        if shutdown == Shutdown::Warm {
            info!("worker: Warm shutdown (MainProcess)");
        }
        self.handle(Input::Stop(shutdown));
    }

    fn handle(&mut self, input: Input) {
        self.handle_at(input, (self.clock)());
    }

    fn handle_at(&mut self, input: Input, now: Timestamp) {
        for action in self.dispatcher.handle(input, now) {
            self.perform(action, now);
        }
    }

    fn perform(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::Start(attempt) => self.attempts.start(match &mut self.tracer {
                Some(tracer) => tracer.begin(attempt),
                None => attempt,
            }),
            Action::Commit(delivery, mut settlement) => {
                if let Some(tracer) = &mut self.tracer {
                    tracer.end(delivery, &mut settlement, now);
                }
                settlement.remarks.drain(..).for_each(|remark| warn!("{remark}"));
                self.commits_open += 1;
                self.open_orders.push(Order::Commit(delivery, settlement));
            }
            Action::Settle(delivery, acknowledgement) => {
                self.open_orders.push(Order::Settle(delivery, acknowledgement));
            }
            Action::PutBack { delivery, publication, until } => {
                self.open_orders.push(Order::PutBack(Wait { delivery, publication: *publication, until }));
            }
            Action::Record(record) => {
                self.open_orders.push(Order::Record(record));
                // Before the attempt starts: a task may report a state of its own at once, and STARTED must
                // not be stored after it.
                self.orders.push(&mut self.open_orders, false);
            }
            Action::Adopt { known, redelivered } => {
                if !self.receipts.adopt(known, redelivered) {
                    self.open_orders.push(Order::Settle(redelivered, Acknowledgement::Ack));
                }
            }
            Action::Journal(delivery, kept) => self.open_orders.push(Order::Journal(delivery, *kept)),
            Action::Remember(revocations) => {
                let revocations = revocations.into_iter().map(|revocation| (revocation, now)).collect();
                self.open_orders.push(Order::Remember(revocations));
            }
            Action::Unremember(revocations) => self.open_orders.push(Order::Unremember(revocations)),
            Action::Reply(question, answer) => self.answers.reply(question, answer),
            Action::LookUpStates(question, ids) => {
                self.answers.look_up(question, ids, self.store.clone(), self.inputs.clone());
            }
            Action::StoreThenReply { question, records, answer } => {
                self.open_orders.extend(self.answers.reply_when_stored(question, records, answer));
            }
            Action::Terminating(id, signal) => info!(task.id = %id, "Terminating {id} ({signal})"),
            Action::Terminate(attempt) => self.attempts.terminate(attempt),
            Action::LookUp(delivery, id) => self.look_up(delivery, id),
            Action::Count(delivery, execution) => self.count(delivery, execution, now),
            Action::ForgetCount(execution) => self.open_orders.push(Order::ForgetCount(execution)),
            Action::WakeAt(at) => self.wake = Some(Wake { at, set: (now, Instant::now()) }),
            Action::SetPrefetch(prefetch) => {
                self.want.send_modify(|want| want.prefetch = prefetch);
            }
            Action::Consume(queues) => self.want.send_modify(|want| want.queues = queues),
            Action::StopConsuming => self.want.send_modify(|want| want.phase = Phase::Drain),
            Action::Acquire { delivery, task, rate } => self.acquire(delivery, task, rate),
            Action::SoftShutdown(timeout) => {
                info!("worker: Initiating Soft Shutdown, terminating in {} seconds", timeout.as_secs_f64());
            }
            Action::ColdShutdown => {
                info!("worker: Cold shutdown (MainProcess)");
                self.give_up.get_or_insert(Instant::now() + COLD_SHUTDOWN_MAX);
            }
            Action::Announce(event) => self.announcer.event(event),
            Action::Spool(event) => spooled::log(&event),
            Action::Plugin(event) => {
                plugins::log(&event);
                self.plugins.happened(event);
            }
            Action::BringHome { plugin, at_most } => self.bring_home(plugin.as_ref(), at_most),
            Action::Stopped => self.stopped = true,
        }
    }

    fn change_catalog(&mut self, catalog: Arc<Catalog>) {
        while self.remembering.try_join_next().is_some() {}
        let names = catalog.tasks().map(|task| task.name.clone()).collect();
        let state = self.state.clone();
        self.remembering.spawn(async move {
            if let Err(error) = state.serve(names).await {
                warn!("cannot remember which tasks this worker has: {}", chain(&error));
            }
        });
        self.catalog = catalog.clone();
        self.handle(Input::CatalogChanged(catalog));
    }

    /// Parked messages whose task can run now.
    fn bring_home(&mut self, plugin: Option<&PluginName>, at_most: Option<u64>) {
        while self.bringing_home.try_join_next().is_some() {}
        // Lost again already: the next connection does it.
        let Ok(broker) = self.connection.broker() else { return };
        let can_run = |spec: &&Arc<TaskSpec>| {
            plugin.is_none_or(|plugin| spec.plugin == *plugin) && !self.dispatcher.is_quarantined(spec)
        };
        // Of Celery's own, those that call the tasks of a plugin are parked with it; others were, if an earlier version
        // of this worker did not have them.
        let calls_plugins = |spec: &&Arc<TaskSpec>| {
            plugin.is_none() || matches!(Builtin::of(spec), Some(Builtin::Map | Builtin::Starmap))
        };
        let tasks = self.catalog.tasks().filter(can_run).chain(self.catalog.builtins().filter(calls_plugins));
        let tasks = tasks.map(|spec| spec.name.clone()).collect();
        let homecoming = Homecoming { tasks, at_most: at_most.unwrap_or(u64::MAX) };
        let turn = self.looking_through.clone();
        let queues = self.dispatcher.queues().map(|(queue, _)| queue.name.clone()).collect();
        self.bringing_home.spawn(async move {
            let _turn = turn.lock().await;
            parked::bring_home(broker, queues, homecoming).await;
        });
    }

    fn acquire(&mut self, delivery: DeliveryId, task: TaskName, rate: Rate) {
        while self.asking.try_join_next().is_some() {}
        let (rates, inputs) = (self.rates.clone(), self.inputs.clone());
        self.asking.spawn(async move {
            let wait = match rates {
                Some(rates) => match rates.next_start(&task, rate.interval).await {
                    Ok(wait) => Some(wait),
                    Err(error) => {
                        warn!(task.name = %task, "cannot ask when `{task}` may start, asking again: {}", chain(&error));
                        None
                    }
                },
                // A worker without such a count refuses to start with such a task.
                None => None,
            };
            let _ = inputs.send(Input::Permit(delivery, task, wait)).await;
        });
    }

    fn look_up(&mut self, delivery: DeliveryId, id: TaskId) {
        while self.looking_up.try_join_next().is_some() {}
        let (store, inputs) = (self.store.clone(), self.inputs.clone());
        self.looking_up.spawn(async move {
            let succeeded = look_up::success(&id, &*store).await;
            let _ = inputs.send(Input::LookedUp(delivery, Lookup { succeeded })).await;
        });
    }

    fn count(&mut self, delivery: DeliveryId, execution: String, now: Timestamp) {
        while self.looking_up.try_join_next().is_some() {}
        let (state, inputs) = (self.state.clone(), self.inputs.clone());
        self.looking_up.spawn(async move {
            let deliveries = look_up::count_delivery(execution, &*state, now).await;
            let _ = inputs.send(Input::Counted(delivery, deliveries)).await;
        });
    }

    fn look_at_clock(&mut self) {
        let now = (self.clock)();
        let Some(wake) = &mut self.wake else { return };
        let (wall, monotonic) = wake.set;
        let elapsed = monotonic.elapsed();
        let expected = wall + elapsed;
        if now.since(expected) > CLOCK_JUMP || expected.since(now) > CLOCK_JUMP {
            warn!("the wall clock jumped from {expected:?} to {now:?}; waiting tasks follow the new time");
        }
        if now >= wake.at {
            self.wake = None;
            return self.handle_at(Input::Due, now);
        }
        wake.set = (now, Instant::now());
    }
}

/// Sleeps until it is time to look at the clock; for ever, if nothing waits.
async fn wake(wake: &Option<Wake>) {
    match wake {
        Some(Wake { at, set: (wall, monotonic) }) => sleep_until(*monotonic + at.since(*wall).min(CLOCK_CHECK)).await,
        None => std::future::pending().await,
    }
}

async fn give_up(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
