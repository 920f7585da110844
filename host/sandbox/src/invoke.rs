//! Runs one attempt in an instance of its own and always comes back with an outcome.
//!
//! The instance is gone when this returns, whatever happened: after a trap or a time-out nothing in
//! it can be trusted, and after a success the next attempt must not see what this one left behind. Only a plugin
//! that asks for it keeps the instance for its next attempt, if this one came to an end by itself.

use std::error::Error;
use std::future::{self, Future};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use taskhost_core::{Attempt, Finished, Limit, Outcome, Trap, Usage};
use tokio::time::{Sleep, sleep_until};
use wasmtime::Store;
use wasmtime::component::Instance;

use crate::abi::{Answer, Invocation};
use crate::answer::{self, Returned};
use crate::clock::{Deadlines, Notice};
use crate::cpu::CpuMeter;
use crate::instance::Guest;
use crate::limits::CANCEL_GRACE;
use crate::logs::Speaker;
use crate::plugin::{Entry, Plugin};
use crate::reuse::Used;
use crate::sandbox::Sandbox;
use crate::typed::{self, Call};

impl Sandbox {
    /// Runs the task. When `cancel` resolves first, the attempt is interrupted; a task that handles its soft
    /// limit is told before and has a moment to come to an end of its own.
    pub async fn invoke(&self, attempt: Attempt, cancel: impl Future<Output = ()> + Send) -> Finished {
        let started = Instant::now();
        let version = attempt.pinned.as_ref().unwrap_or(&attempt.spec.version);
        let Some(plugin) = self.plugin(&attempt.spec.plugin, version) else {
            let why = format!("plugin `{}` is not loaded", attempt.spec.plugin);
            return Finished::alone(Outcome::Trapped(Trap::NotInstantiated(why)), Usage::default());
        };
        let bytes_in = (attempt.request.args.byte_len() + attempt.request.kwargs.byte_len()) as u64;
        let deadlines = Deadlines::new(
            started,
            attempt.time_limit,
            attempt.soft_time_limit,
            attempt.spec.options.handles_soft_limit,
        );
        let typed = match &plugin.entry {
            Entry::Run(_) => None,
            Entry::Typed(functions) => match typed::prepare(functions, &attempt, &plugin.limits).await {
                Ok(call) => Some(call),
                Err(outcome) => {
                    let usage = Usage { wall: started.elapsed(), bytes_in, ..Usage::default() };
                    let finished = Finished::alone(outcome, usage);
                    plugin.totals.add(&attempt.spec.name, &finished);
                    self.surroundings().reached.count_outcome(&attempt.spec.plugin, &finished.outcome);
                    return finished;
                }
            },
        };
        let attempt = Arc::new(attempt);
        let speaker = Speaker::Task(Arc::clone(&attempt), Arc::clone(&plugin.label));
        let granted = plugin.capabilities.clone();
        let mut guest = Guest::new(deadlines, speaker, plugin.limits, Arc::clone(self.surroundings()), granted);
        if let Err(error) = guest.prepare() {
            let why = match error.source() {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            let outcome = Outcome::Trapped(Trap::NotInstantiated(why));
            let finished = Finished::alone(outcome, Usage::default());
            plugin.totals.add(&attempt.spec.name, &finished);
            return finished;
        }

        let notice = guest.notice();
        let covered = guest.capabilities().is_some();

        // Freed after the store, which is declared later.
        let mut room = None;
        let (mut store, mut instance, attempts_before);
        match plugin.line.as_ref().and_then(|line| plugin.engine.rooms.take(line, covered)) {
            Some(used) => {
                (store, instance, attempts_before) = (used.store, Some(used.instance), used.attempts);
                room = Some(used.room);
                guest.take_over(&mut store);
            }
            None => {
                store = guest.into_store(&plugin.engine, plugin.limits.result_bytes.saturating_mul(2));
                (instance, attempts_before) = (None, 0);
            }
        }
        let call = async {
            if room.is_none() {
                room = Some(plugin.engine.room().await);
            }
            run(&plugin, &mut store, &mut instance, &attempt, typed).await
        };
        let (ended, cpu) = supervise(call, cancel, &deadlines, plugin.limits.cpu_time, notice.as_deref()).await;
        let mut bytes_out = 0;
        let returned = matches!(ended, Ended::Returned(Ok(_)));
        let outcome = match ended {
            Ended::Returned(Ok(returned)) => {
                bytes_out = answer::bytes(&returned) as u64;
                answer::outcome(returned, &plugin, store.data())
            }
            Ended::Returned(Err(error)) => Outcome::Trapped(answer::trap(&error, store.data(), &plugin.limits)),
            Ended::Soft => Outcome::TimedOut(Limit::Soft(attempt.soft_time_limit.unwrap_or_default())),
            Ended::Hard => Outcome::TimedOut(Limit::Hard(attempt.time_limit)),
            Ended::CpuTime(limit) => Outcome::Trapped(Trap::CpuTimeLimit { limit }),
            Ended::Cancelled => Outcome::Interrupted,
        };
        store.data().finish_output();
        store.data().finish_states();
        let memory_bytes_peak = store.data().memory.peak_bytes() as u64;
        let host_calls = store.data().calls.made();
        let traffic = store.data().traffic();
        let (effects, children) = store.data_mut().take_sent();
        let scratch = store.data().scratch();
        let by_itself = returned && !matches!(outcome, Outcome::Trapped(_));
        let used = match (&plugin.line, instance, room) {
            (Some(line), Some(instance), Some(room)) if by_itself && store.data_mut().is_as_good_as_new() => {
                self.rest(&plugin, deadlines, &attempt).take_over(&mut store);
                Some((line, Used { store, instance, room, attempts: attempts_before + 1 }))
            }
            _ => {
                drop(store);
                None
            }
        };
        if let Some(scratch) = scratch {
            scratch.remove().await;
        }
        if let Some((line, used)) = used {
            plugin.engine.rooms.put(line, covered, used);
        }
        let wall = started.elapsed();
        let (bytes_in, bytes_out) = (bytes_in + traffic.received_bytes, bytes_out + traffic.sent_bytes);
        let usage = Usage { wall, cpu, memory_bytes_peak, host_calls, bytes_in, bytes_out };
        let finished = Finished { outcome, effects, children, usage };
        plugin.totals.add(&attempt.spec.name, &finished);
        self.surroundings().reached.count_outcome(&attempt.spec.plugin, &finished.outcome);
        finished
    }

    /// What is beside an instance while it waits for work: nothing of the attempt that it ran.
    fn rest(&self, plugin: &Plugin, deadlines: Deadlines, attempt: &Attempt) -> Guest {
        let speaker = Speaker::Plugin(attempt.spec.plugin.clone(), Arc::clone(&plugin.label));
        Guest::new(deadlines, speaker, plugin.limits, Arc::clone(self.surroundings()), None)
    }
}

/// Where a call into a guest broke.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Before there was an instance.
    Instantiate(wasmtime::Error),
    Call(wasmtime::Error),
}

async fn run(
    plugin: &Plugin,
    store: &mut Store<Guest>,
    instance: &mut Option<Instance>,
    attempt: &Attempt,
    typed: Option<Call>,
) -> Result<Returned, Broken> {
    let instance = match *instance {
        Some(used) => used,
        None => {
            let made = plugin.pre.instantiate_async(&mut *store).await.map_err(Broken::Instantiate)?;
            *instance.insert(made)
        }
    };
    if let Some(call) = typed {
        return call.run(store, &instance).await.map(Returned::Reply);
    }
    let Entry::Run(run) = &plugin.entry else { unreachable!("a function has arguments") };
    let request = &attempt.request;
    let invocation = Invocation {
        id: request.id.as_str(),
        task: request.task.as_str(),
        args: request.args.as_str(),
        kwargs: request.kwargs.as_str(),
        retries: request.retries,
    };
    let run = instance.get_typed_func::<(Invocation<'_>,), (Answer,)>(&mut *store, run).map_err(Broken::Instantiate)?;
    let (answer,) = run.call_async(store, (invocation,)).await.map_err(Broken::Call)?;
    Ok(Returned::Answer(answer))
}

/// How a call into a guest ended.
pub(crate) enum Ended<T> {
    Returned(T),
    Soft,
    Hard,
    CpuTime(Duration),
    Cancelled,
}

/// Drives a guest until it returns, its time is over or it is cancelled, and says how long it kept
/// the processor.
///
/// A running guest comes back at every tick; the deadlines are compared each time instead of being
/// left to timers, which a runtime full of running guests serves late. The timer is for guests that
/// wait, and is not even made for one that returns at once.
pub(crate) async fn supervise<T>(
    guest: impl Future<Output = T>,
    cancel: impl Future<Output = ()>,
    deadlines: &Deadlines,
    cpu_time: Option<Duration>,
    notice: Option<&Notice>,
) -> (Ended<T>, Duration) {
    let mut guest = pin!(guest);
    let mut cancel = pin!(cancel);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    // When a guest that was told to end has had its time for that.
    let mut grace: Option<Instant> = None;
    let mut cpu = Duration::ZERO;
    let mut meter = CpuMeter::new(cpu_time);
    let ended = future::poll_fn(|context: &mut Context<'_>| {
        let before = Instant::now();
        meter.begin();
        let polled = guest.as_mut().poll(context);
        let used_up = meter.pause();
        let now = Instant::now();
        cpu += now - before;
        if let Poll::Ready(value) = polled {
            return Poll::Ready(Ended::Returned(value));
        }
        if let Some(limit) = used_up {
            return Poll::Ready(Ended::CpuTime(limit));
        }
        if grace.is_none() && cancel.as_mut().poll(context).is_ready() {
            let Some(notice) = notice else { return Poll::Ready(Ended::Cancelled) };
            notice.give();
            grace = Some(now + CANCEL_GRACE);
            timer = None;
        }
        if grace.is_some_and(|grace| now >= grace) {
            return Poll::Ready(Ended::Cancelled);
        }
        let end = deadlines.end();
        if now >= end {
            return Poll::Ready(if end < deadlines.hard { Ended::Soft } else { Ended::Hard });
        }
        let end = grace.map_or(end, |grace| grace.min(end));
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(end.into())));
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
    (ended, cpu)
}
