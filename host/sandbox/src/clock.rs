//! When an attempt has to end, and the clock that its guest sees.
//!
//! Does not end anything: [`crate::invoke`] watches the deadlines.

use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::instance::Guest;

/// The times that matter for one call into a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) started: Instant,
    pub(crate) hard: Instant,
    pub(crate) soft: Option<Instant>,
    /// The guest watches `cancelled` and may go on after the soft deadline.
    pub(crate) handles_soft: bool,
}

impl Deadlines {
    /// From a start and limits. A limit that is longer than time itself is as good as none.
    pub(crate) fn new(started: Instant, hard: Duration, soft: Option<Duration>, handles_soft: bool) -> Self {
        const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let at = |limit: Duration| started + limit.min(FAR);
        Self { started, hard: at(hard), soft: soft.map(at), handles_soft }
    }

    /// The first time at which a guest is stopped that does nothing about it.
    pub(crate) fn end(&self) -> Instant {
        match self.soft {
            Some(soft) if !self.handles_soft => soft.min(self.hard),
            _ => self.hard,
        }
    }

    /// True once the guest should come to an end.
    pub(crate) fn cancelled(&self) -> bool {
        self.soft.is_some_and(|soft| Instant::now() >= soft)
    }

    /// How long a host function may keep the guest: until the soft deadline, if the guest is one that
    /// then asks whether it is cancelled. One that asks later is past caring.
    pub(crate) fn patience(&self) -> Duration {
        let now = Instant::now();
        match self.soft {
            Some(soft) if self.handles_soft && soft > now => soft - now,
            _ => self.hard.saturating_duration_since(now),
        }
    }

    /// Time until the guest is stopped whatever it does.
    pub(crate) fn remaining(&self) -> Duration {
        self.hard.saturating_duration_since(Instant::now())
    }
}

/// When a guest that listens should come to an end. What keeps it waiting lets go of it then, once: what it
/// does after that is its own affair.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    deadlines: Deadlines,
    notice: Arc<Notice>,
}

impl Ending {
    pub(crate) fn new(deadlines: Deadlines, notice: Arc<Notice>) -> Self {
        Self { deadlines, notice }
    }

    pub(crate) async fn comes(&self) {
        let soft = async {
            match self.deadlines.soft.filter(|&soft| soft > Instant::now()) {
                Some(soft) => tokio::time::sleep_until(soft.into()).await,
                None => future::pending().await,
            }
        };
        let told = async {
            match self.notice.is_given() {
                true => future::pending().await,
                false => self.notice.arrived().await,
            }
        };
        tokio::select! { () = soft => {}, () = told => {} }
    }
}

/// Tells one guest to come to an end now. Only made for those who listen.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    given: AtomicBool,
    arrived: Notify,
}

impl Notice {
    pub(crate) fn give(&self) {
        self.given.store(true, Ordering::Relaxed);
        self.arrived.notify_waiters();
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }

    pub(crate) async fn arrived(&self) {
        let arrived = self.arrived.notified();
        let mut arrived = std::pin::pin!(arrived);
        arrived.as_mut().enable();
        if !self.is_given() {
            arrived.await;
        }
    }
}

/// How long host functions may keep one guest waiting.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    deadlines: Deadlines,
    notice: Option<Arc<Notice>>,
}

/// Why a wait ended before what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// So much time has passed.
    Time(Duration),
    /// The guest was told to end.
    Told,
}

impl Patience {
    pub(crate) fn new(deadlines: Deadlines, notice: Option<Arc<Notice>>) -> Self {
        Self { deadlines, notice }
    }

    /// Waits as long as the guest has time, but not longer than that. A wait that begins after the guest was
    /// told to end is not cut short: it knows what it does.
    pub(crate) async fn wait<T>(&self, at_most: Duration, what: impl Future<Output = T>) -> Result<T, Cut> {
        let time = at_most.min(self.deadlines.patience());
        // At the hard deadline the guest is stopped, and does not go on for another moment.
        let goes_on = time < self.deadlines.remaining();
        let over = async {
            match goes_on {
                true => tokio::time::sleep(time).await,
                false => future::pending().await,
            }
        };
        let told = async {
            match self.notice.as_ref().filter(|notice| !notice.is_given()) {
                Some(notice) => notice.arrived().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            value = what => Ok(value),
            () = told => Err(Cut::Told),
            () = over => Err(Cut::Time(time)),
        }
    }
}

impl Patience {
    /// Waits so long. False if that was cut short.
    pub(crate) async fn sleep(&self, time: Duration) -> bool {
        match self.wait(time, future::pending::<()>()).await {
            Ok(()) | Err(Cut::Told) => false,
            Err(Cut::Time(waited)) => waited >= time,
        }
    }

    /// True once the guest should come to an end.
    pub(crate) fn is_over(&self) -> bool {
        self.deadlines.cancelled() || self.notice.as_ref().is_some_and(|notice| notice.is_given())
    }
}

/// `wasi:clocks/monotonic-clock` in place of wasmtime's own: a sleep ends early at the soft deadline
/// of a task that handles it, and when it is told to end, since a guest that sleeps cannot ask whether
/// it is cancelled. Sleeps that begin after that are not cut short.
pub(crate) struct GuestClock;

impl GuestClock {
    /// Takes the place of the clock that is linked already.
    pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
        monotonic_clock::add_to_linker::<Guest, Self>(linker, |guest| {
            let (deadlines, notice, table) = guest.clock();
            View { deadlines, notice, table }
        })
    }
}

impl HasData for GuestClock {
    type Data<'a> = View<'a>;
}

pub(crate) struct View<'a> {
    deadlines: Deadlines,
    notice: Option<&'a Arc<Notice>>,
    table: &'a mut ResourceTable,
}

impl View<'_> {
    fn sleep(&mut self, duration: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let now = Instant::now();
        let mut until = now.checked_add(duration);
        if let Some(soft) = self.deadlines.soft.filter(|&soft| self.deadlines.handles_soft && soft > now) {
            until = Some(until.map_or(soft, |until| until.min(soft)));
        }
        let notice = self.notice.filter(|notice| !notice.is_given()).cloned();
        let alarm = self.table.push(Alarm { until, notice, yielded: false })?;
        subscribe(self.table, alarm)
    }
}

impl monotonic_clock::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        Ok(u64::try_from(self.deadlines.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: monotonic_clock::Instant) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.now()?;
        self.sleep(Duration::from_nanos(when.saturating_sub(now)))
    }

    fn subscribe_duration(&mut self, when: monotonic_clock::Duration) -> wasmtime::Result<Resource<DynPollable>> {
        self.sleep(Duration::from_nanos(when))
    }
}

struct Alarm {
    /// None is never.
    until: Option<Instant>,
    /// Ends the sleep as well.
    notice: Option<Arc<Notice>>,
    yielded: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        match self.until {
            // A guest that polls in a loop with a time in the past would keep the runtime from seeing
            // anything else become ready.
            Some(until) if until <= Instant::now() => {
                if !std::mem::replace(&mut self.yielded, true) {
                    tokio::task::yield_now().await;
                }
            }
            until => {
                let due = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until.into()).await,
                        None => future::pending().await,
                    }
                };
                match &self.notice {
                    Some(notice) => tokio::select! { () = due => {}, () = notice.arrived() => {} },
                    None => due.await,
                }
            }
        }
    }
}
