//! The states that a running task gives itself, on their way to the result store.
//!
//! Does not store: whoever serves the sandbox gives it a [`StateSink`]. Only the latest state of a task
//! matters, so a task that reports at every turn of a loop costs the store one write an interval.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhost_core::ResultRecord;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::{STATE_PAUSE, STATE_WAIT};

/// Takes states over.
pub trait StateSink: Send + Sync {
    /// Takes the record, and answers when it is stored. It must be stored before, or never after,
    /// anything that the attempt comes to; nobody may be left to hear the answer.
    fn put(&self, record: ResultRecord) -> oneshot::Receiver<Result<(), String>>;
}

/// The states of one attempt. Made when the first one comes.
pub(crate) struct States {
    shared: Arc<Shared>,
    /// Stores the latest state when its time has come. At most one, and ends with this.
    sweeper: JoinSet<()>,
}

struct Shared {
    sink: Arc<dyn StateSink>,
    interval: Duration,
    pace: Mutex<Pace>,
}

struct Pace {
    /// When the next write may be made.
    next: Instant,
    /// A state that waits for that.
    latest: Option<ResultRecord>,
    writing: bool,
    /// A write that was not answered in time: there is not another one before it is.
    unanswered: Option<oneshot::Receiver<Result<(), String>>>,
    /// Why the last write failed.
    trouble: Option<String>,
    sweeping: bool,
    ended: bool,
}

impl States {
    pub(crate) fn new(sink: Arc<dyn StateSink>, interval: Duration) -> Self {
        let pace = Pace {
            next: Instant::now(),
            latest: None,
            writing: false,
            unanswered: None,
            trouble: None,
            sweeping: false,
            ended: false,
        };
        Self { shared: Arc::new(Shared { sink, interval, pace: Mutex::new(pace) }), sweeper: JoinSet::new() }
    }

    /// Stores the state, now if it is time, else later. Waits for the store, but not longer than that.
    pub(crate) async fn update(&mut self, record: ResultRecord, wait: Duration) -> Result<(), String> {
        let answer = {
            let mut pace = self.shared.pace();
            pace.latest = Some(record);
            match self.shared.begin(&mut pace) {
                Some(answer) => answer,
                None => {
                    if !std::mem::replace(&mut pace.sweeping, true) {
                        while self.sweeper.try_join_next().is_some() {}
                        self.sweeper.spawn(sweep(Arc::clone(&self.shared)));
                    }
                    return pace.trouble.clone().map_or(Ok(()), Err);
                }
            }
        };
        self.shared.finish(answer, wait.min(STATE_WAIT)).await
    }

    /// The attempt is over: what still waits is handed over now, before whatever the attempt came to.
    pub(crate) fn end(&self) {
        let mut pace = self.shared.pace();
        pace.ended = true;
        if let Some(record) = pace.latest.take() {
            // Its answer is for nobody.
            drop(self.shared.sink.put(record));
        }
    }
}

/// Stores what waits, until nothing does.
async fn sweep(shared: Arc<Shared>) {
    loop {
        let next = shared.pace().next;
        sleep_until(next).await;
        let answer = {
            let mut pace = shared.pace();
            if pace.latest.is_none() || pace.ended {
                pace.sweeping = false;
                return;
            }
            shared.begin(&mut pace)
        };
        if let Some(answer) = answer {
            // A failure is told at the next update.
            let _ = shared.finish(answer, STATE_WAIT).await;
        }
    }
}

impl Shared {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the latest state over, if its time has come. Under the lock, so that nothing is handed over
    /// after the end of the attempt.
    fn begin(&self, pace: &mut Pace) -> Option<oneshot::Receiver<Result<(), String>>> {
        let now = Instant::now();
        if now < pace.next {
            return None;
        }
        if pace.writing {
            pace.next = now + self.interval;
            return None;
        }
        if let Some(unanswered) = &mut pace.unanswered {
            if matches!(unanswered.try_recv(), Err(TryRecvError::Empty)) {
                pace.next = now + STATE_PAUSE;
                return None;
            }
            pace.unanswered = None;
        }
        let record = pace.latest.take()?;
        pace.writing = true;
        Some(self.sink.put(record))
    }

    async fn finish(&self, mut answer: oneshot::Receiver<Result<(), String>>, wait: Duration) -> Result<(), String> {
        let answered = timeout(wait, &mut answer).await;
        let mut pace = self.pace();
        pace.writing = false;
        let stored = match answered {
            Ok(Ok(stored)) => stored,
            Ok(Err(_closed)) => Err("the worker is stopping".to_owned()),
            Err(_elapsed) => {
                pace.unanswered = Some(answer);
                Err(format!("the result store did not answer within {} s", wait.as_secs_f64()))
            }
        };
        let pause = if stored.is_ok() { self.interval } else { STATE_PAUSE };
        pace.next = Instant::now() + pause;
        pace.trouble = stored.clone().err();
        stored
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use taskhost_core::record::ResultValue;
    use taskhost_core::{Json, State, TaskId};
    use tokio::time::advance;

    use super::*;

    type Answer = oneshot::Sender<Result<(), String>>;

    /// A store whose answers the test gives.
    #[derive(Default)]
    struct Sink {
        stored: Mutex<Vec<String>>,
        open: Mutex<VecDeque<Answer>>,
        /// Answers by itself.
        prompt: bool,
    }

    impl StateSink for Sink {
        fn put(&self, record: ResultRecord) -> oneshot::Receiver<Result<(), String>> {
            self.stored.lock().unwrap().push(record.state.as_str().to_owned());
            let (answer, answered) = oneshot::channel();
            if self.prompt {
                answer.send(Ok(())).expect("the receiver is here");
            } else {
                self.open.lock().unwrap().push_back(answer);
            }
            answered
        }
    }

    impl Sink {
        fn stored(&self) -> Vec<String> {
            self.stored.lock().unwrap().clone()
        }

        fn answer(&self, answer: Result<(), String>) {
            let open = self.open.lock().unwrap().pop_front();
            let _ = open.expect("a state was put").send(answer);
        }
    }

    const INTERVAL: Duration = Duration::from_millis(100);

    fn record(state: &str) -> ResultRecord {
        ResultRecord {
            id: TaskId::parse("t-1").expect("an id"),
            state: State::of_task(state).expect("a state"),
            result: ResultValue::Json(Json::null()),
            traceback: None,
            children: Json::empty_list(),
            date_done: None,
            group_id: None,
            parent_id: None,
            reply_to: None,
            correlation_id: None,
            call: None,
            usage: None,
        }
    }

    async fn update(states: &mut States, state: &str) -> Result<(), String> {
        states.update(record(state), Duration::MAX).await
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_updates_the_first_and_the_last_are_stored() {
        let sink = Arc::new(Sink { prompt: true, ..Sink::default() });
        let mut states = States::new(sink.clone(), INTERVAL);
        for n in 0..100 {
            assert_eq!(update(&mut states, &format!("S{n}")).await, Ok(()));
        }
        assert_eq!(sink.stored(), ["S0"]);
        // The last one does not wait for another update or for the end.
        advance(INTERVAL).await;
        tokio::task::yield_now().await;
        assert_eq!(sink.stored(), ["S0", "S99"]);
        states.end();
        assert_eq!(sink.stored(), ["S0", "S99"]);
    }

    #[tokio::test(start_paused = true)]
    async fn steady_updates_are_stored_once_an_interval() {
        let sink = Arc::new(Sink { prompt: true, ..Sink::default() });
        let mut states = States::new(sink.clone(), INTERVAL);
        for n in 0..100 {
            assert_eq!(update(&mut states, &format!("S{n}")).await, Ok(()));
            advance(INTERVAL / 10).await;
            tokio::task::yield_now().await;
        }
        assert!((10..=12).contains(&sink.stored().len()), "{:?}", sink.stored());
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_waits_is_handed_over_at_the_end_and_nothing_after_it() {
        let sink = Arc::new(Sink { prompt: true, ..Sink::default() });
        let mut states = States::new(sink.clone(), INTERVAL);
        for state in ["A", "B", "C"] {
            assert_eq!(update(&mut states, state).await, Ok(()));
        }
        states.end();
        assert_eq!(sink.stored(), ["A", "C"]);
        advance(INTERVAL * 10).await;
        tokio::task::yield_now().await;
        assert_eq!(sink.stored(), ["A", "C"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_waited_for_once_and_then_left_alone() {
        let sink = Arc::new(Sink::default());
        let mut states = States::new(sink.clone(), INTERVAL);
        let started = Instant::now();
        let trouble = Err("the result store did not answer within 3 s".to_owned());
        assert_eq!(update(&mut states, "A").await, trouble);
        assert_eq!(started.elapsed(), STATE_WAIT);
        // Later updates are answered at once, and nothing is put beside what is unanswered.
        assert_eq!(update(&mut states, "B").await, trouble);
        assert_eq!(started.elapsed(), STATE_WAIT);
        advance(STATE_PAUSE * 3).await;
        tokio::task::yield_now().await;
        assert_eq!(sink.stored(), ["A"]);
        // The store is back: the latest state gets there by itself, and the next one at once.
        sink.answer(Ok(()));
        advance(STATE_PAUSE).await;
        tokio::task::yield_now().await;
        assert_eq!(sink.stored(), ["A", "B"]);
        sink.answer(Ok(()));
        tokio::task::yield_now().await;
        advance(INTERVAL).await;
        let (updated, ()) = tokio::join!(update(&mut states, "C"), async { sink.answer(Ok(())) });
        assert_eq!(updated, Ok(()));
        assert_eq!(sink.stored(), ["A", "B", "C"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_store_is_told_and_the_wait_has_an_end_of_its_own() {
        let sink = Arc::new(Sink::default());
        let mut states = States::new(sink.clone(), INTERVAL);
        let no = || Err("no".to_owned());
        let (updated, ()) = tokio::join!(update(&mut states, "A"), async { sink.answer(no()) });
        assert_eq!(updated, no());
        assert_eq!(update(&mut states, "B").await, no());
        let sink = Arc::new(Sink::default());
        let mut states = States::new(sink.clone(), INTERVAL);
        let started = Instant::now();
        assert!(states.update(record("A"), Duration::from_millis(20)).await.is_err());
        assert_eq!(started.elapsed(), Duration::from_millis(20));
    }
}
