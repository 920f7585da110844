//! Sends what is to be said, on a connection of its own.
//!
//! Disturbs nobody: whatever becomes of this connection, tasks run. What cannot be sent now is kept while there is
//! room for it, and then dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerError, Topic};
use taskhost_core::event::{BATCH_KEY, Beat, routing_key};
use taskhost_core::{Publication, Route};
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::Announcer;
use super::buffer::Batch;
use crate::commit::chain;
use crate::connection::Connector;

/// How long an event waits for others to travel with: people who watch do not notice.
const GATHER: Duration = Duration::from_millis(100);

/// How long the broker may take over one message.
const SEND_MAX: Duration = Duration::from_secs(5);

/// Wait between two tries to connect or to send: grows by the first up to the second.
const RETRY_STEP: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);

/// How often it is said that events were dropped.
const DROPS_SAID_EVERY: Duration = Duration::from_secs(60);

/// Speaks until it is told to end, and then says the rest and goodbye.
pub(crate) async fn speak(announcer: Arc<Announcer>, connector: Arc<dyn Connector>, mut end: oneshot::Receiver<()>) {
    let mut speaker = Speaker::new(announcer);
    while !speaker.announcer.wants_to_speak() {
        tokio::select! {
            () = speaker.announcer.wanted.notified() => {}
            _ = &mut end => return,
        }
    }
    let (mut wait, mut told) = (Duration::ZERO, false);
    loop {
        speaker.tell_of_drops();
        tokio::select! {
            () = sleep(wait) => {}
            _ = &mut end => return,
        }
        let mut moves = connector.moves();
        let connected = tokio::select! {
            connected = connector.follow() => connected,
            _ = &mut end => return,
        };
        wait = (wait + RETRY_STEP).min(RETRY_MAX);
        let broker = match connected {
            Ok(broker) => broker,
            Err(error) => {
                debug!("events: cannot {}", chain(&error));
                continue;
            }
        };
        if !broker.capabilities().broadcasts {
            info!("events: this broker reaches no monitors, so none are sent");
            speaker.announcer.mute();
            return broker.close().await;
        }
        let connected_at = Instant::now();
        let ended = tokio::select! {
            ended = speaker.converse(&*broker, &mut end) => ended,
            () = moves.moved() => Err(BrokerError::Lost { reason: "tasks come by another server".to_owned() }),
        };
        match ended {
            Ok(()) => return broker.close().await,
            Err(error) if !error.is_transient() && !std::mem::replace(&mut told, true) => {
                warn!("no monitor hears of this worker: cannot {}", chain(&error));
            }
            Err(error) => debug!("events: {}; connecting again", chain(&error)),
        }
        if connected_at.elapsed() >= RETRY_MAX {
            wait = Duration::ZERO;
        }
        drop(broker);
    }
}

struct Speaker {
    announcer: Arc<Announcer>,
    /// Taken from the buffer and not sent yet, each with the number of its events.
    unsent: VecDeque<(Publication, u64)>,
    drops_said: u64,
    drops_said_at: Option<Instant>,
}

impl Speaker {
    fn new(announcer: Arc<Announcer>) -> Self {
        Self { announcer, unsent: VecDeque::new(), drops_said: 0, drops_said_at: None }
    }

    /// Says whatever comes. Returns when it is to end, or with an error when the connection is of no more use.
    async fn converse(&mut self, broker: &dyn Broker, end: &mut oneshot::Receiver<()>) -> Result<(), BrokerError> {
        let announcer = Arc::clone(&self.announcer);
        let beats = announcer.settings.heartbeat.is_some();
        let mut ticks = announcer.settings.heartbeat.map(ticks);
        if beats {
            self.say(broker, Beat::Online).await?;
        }
        // What was said while there was no connection.
        let mut send_at = Some(Instant::now());
        let mut trouble = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                _ = &mut *end => break,
                () = tick(&mut ticks) => self.say(broker, Beat::Heartbeat).await?,
                () = announcer.beat_wanted.notified() => self.say(broker, Beat::Heartbeat).await?,
                () = at(send_at) => match self.send(broker).await {
                    Ok(()) => (send_at, trouble) = (None, Duration::ZERO),
                    Err(error @ BrokerError::Lost { .. }) => return Err(error),
                    Err(error) => {
                        if !error.is_transient() && trouble.is_zero() {
                            warn!("events: monitors do not hear of tasks: cannot {}", chain(&error));
                        }
                        trouble = (trouble + RETRY_STEP).min(RETRY_MAX);
                        send_at = Some(Instant::now() + trouble);
                    }
                },
                () = announcer.filled.notified() => {
                    let ready = announcer.buffer().is_ready() && trouble.is_zero();
                    let soon = Instant::now() + if ready { Duration::ZERO } else { GATHER };
                    send_at = Some(send_at.map_or(soon, |at| if trouble.is_zero() { at.min(soon) } else { at }));
                }
            }
            self.tell_of_drops();
        }
        if let Err(error) = self.farewell(broker, beats).await {
            debug!("events: {}; the worker ends without a word", chain(&error));
        }
        Ok(())
    }

    async fn farewell(&mut self, broker: &dyn Broker, beats: bool) -> Result<(), BrokerError> {
        self.send(broker).await?;
        if beats {
            self.say(broker, Beat::Offline).await?;
        }
        Ok(())
    }

    /// Sends all that waits.
    async fn send(&mut self, broker: &dyn Broker) -> Result<(), BrokerError> {
        loop {
            if self.unsent.is_empty() {
                self.take();
            }
            let Some((publication, _)) = self.unsent.front() else { return Ok(()) };
            broadcast(broker, vec![publication.clone()]).await?;
            self.unsent.pop_front();
        }
    }

    fn take(&mut self) {
        let batches = self.announcer.buffer().take();
        for Batch { body, events, alone } in batches {
            let key = alone.as_deref().map_or_else(|| BATCH_KEY.to_owned(), routing_key);
            self.unsent.push_back((self.publication(key, body), events));
        }
    }

    /// Says something about this worker, which is of no use later.
    async fn say(&self, broker: &dyn Broker, beat: Beat) -> Result<(), BrokerError> {
        let publication = self.publication(routing_key(beat.kind()), self.announcer.beat(beat));
        match broadcast(broker, vec![publication]).await {
            Err(error) if error.is_transient() && !matches!(error, BrokerError::Lost { .. }) => {
                debug!("events: {} is not heard: cannot {}", beat.kind(), chain(&error));
                Ok(())
            }
            sent => sent,
        }
    }

    fn publication(&self, routing_key: String, body: String) -> Publication {
        let message = self.announcer.writer.message(body);
        Publication { message, route: Route { exchange: self.announcer.settings.exchange.clone(), routing_key } }
    }

    fn tell_of_drops(&mut self) {
        let dropped = self.announcer.dropped();
        let waits = self.drops_said_at.is_some_and(|at| at.elapsed() < DROPS_SAID_EVERY);
        if dropped == self.drops_said || waits {
            return;
        }
        let count = dropped - self.drops_said;
        warn!(dropped, "events: {count} were dropped, since the broker does not take them as fast as they come");
        (self.drops_said, self.drops_said_at) = (dropped, Some(Instant::now()));
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // Nobody will hear these.
        self.take();
        self.announcer.drop_events(self.unsent.iter().map(|(_, events)| events).sum());
    }
}

async fn broadcast(broker: &dyn Broker, publications: Vec<Publication>) -> Result<(), BrokerError> {
    match timeout(SEND_MAX, broker.broadcast(Topic::Events, publications)).await {
        Ok(sent) => sent,
        Err(_) => Err(BrokerError::Lost { reason: format!("it took nothing for {} s", SEND_MAX.as_secs()) }),
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
