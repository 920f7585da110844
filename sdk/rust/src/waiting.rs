//! What an asynchronous task waits for while it does something else.
//!
//! Each function that has a twin without `async` does what that does. In a task that is no `async fn` these are of no
//! use: nothing lets them be awaited.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::call::PublishError;
use crate::canvas::Signature;
use crate::context::Context;
use crate::error::TaskError;
use crate::result::{AsyncResult, ResultError, TaskResult};

/// Waits so long, while others of the same task go on. True once the time is over; false if it ended before, since the task
/// should come to an end: [`Context::cancelled`] says so too from then on, and a sleep that begins after that is not cut
/// short. Only a task with the option `handles_soft_limit` gets to see that.
///
/// Outside of a host, as in a unit test, it blocks the thread.
pub async fn sleep(time: Duration) -> bool {
    #[cfg(target_family = "wasm")]
    {
        // What is left of a millisecond is waited for as well.
        let milliseconds = time.as_nanos().div_ceil(1_000_000);
        host::sleep(u64::try_from(milliseconds).unwrap_or(u64::MAX)).await
    }
    #[cfg(not(target_family = "wasm"))]
    {
        std::thread::sleep(time);
        true
    }
}

/// Waits until all of these are done, and gives what they came to, in order. For more than that there is the crate
/// `futures`.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut open: Vec<(usize, Pin<Box<F>>)> =
        futures.into_iter().enumerate().map(|(index, future)| (index, Box::pin(future))).collect();
    let mut done: Vec<Option<F::Output>> = open.iter().map(|_| None).collect();
    poll_fn(|context| {
        open.retain_mut(|(index, future)| match future.as_mut().poll(context) {
            Poll::Ready(output) => {
                done[*index] = Some(output);
                false
            }
            Poll::Pending => true,
        });
        if open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().map(|output| output.expect("all are done")).collect()
}

impl Context {
    /// [`Context::publish_now`], while others of the same task go on.
    pub async fn publish_now_async(&self, signature: &Signature) -> Result<String, PublishError> {
        host::publish(signature).await
    }

    /// [`Context::apply_now`], while others of the same task go on.
    pub async fn apply_now_async(&self, signature: &Signature) -> Result<AsyncResult, PublishError> {
        host::apply(signature).await
    }

    /// Adds to the header of the chord that this task is in the header of, now, whatever this one comes to. See
    /// [`Context::add_to_chord`].
    pub async fn add_to_chord_now_async(&self, signature: &Signature) -> Result<AsyncResult, TaskError> {
        self.check_chord()?;
        Ok(host::add_to_chord(signature).await?)
    }

    /// [`Context::result`], while others of the same task go on.
    pub async fn result_async(&self, id: &str) -> Result<TaskResult, ResultError> {
        host::ask(id, None).await
    }

    /// [`Context::wait`], while others of the same task go on.
    pub async fn wait_async(&self, id: &str, timeout: Duration) -> Result<TaskResult, ResultError> {
        host::ask(id, Some(timeout)).await
    }

    /// [`Context::join`], while others of the same task go on: all members of a group are waited for at a time.
    pub async fn join_async(&self, result: &AsyncResult, timeout: Duration) -> Result<Vec<TaskResult>, ResultError> {
        let start = Instant::now();
        let members = result.members();
        let waits = members.iter().map(|id| self.wait_async(id, timeout.saturating_sub(start.elapsed())));
        join_all(waits).await.into_iter().collect()
    }
}

#[cfg(target_family = "wasm")]
mod host {
    use super::*;
    use crate::bindings::asynchronous::taskhost::task::waiting;
    use crate::call::published;
    use crate::result::refused;

    pub(super) async fn sleep(milliseconds: u64) -> bool {
        waiting::sleep(milliseconds).await
    }

    pub(super) async fn publish(signature: &Signature) -> Result<String, PublishError> {
        let json = signature.to_json().map_err(PublishError::Invalid)?;
        waiting::publish(json.into_string()).await.map_err(published)
    }

    pub(super) async fn apply(signature: &Signature) -> Result<AsyncResult, PublishError> {
        let json = signature.to_json().map_err(PublishError::Invalid)?;
        let applied = waiting::apply(json.into_string(), "[]".to_owned(), "{}".to_owned()).await;
        AsyncResult::read(&applied.map_err(published)?).map_err(PublishError::Invalid)
    }

    pub(super) async fn add_to_chord(signature: &Signature) -> Result<AsyncResult, PublishError> {
        let json = signature.to_json().map_err(PublishError::Invalid)?;
        let added = waiting::add_to_chord(json.into_string()).await;
        AsyncResult::read(&added.map_err(published)?).map_err(PublishError::Invalid)
    }

    pub(super) async fn ask(id: &str, timeout: Option<Duration>) -> Result<TaskResult, ResultError> {
        let told = match timeout {
            None => waiting::get_result(id.to_owned()).await,
            Some(timeout) => {
                waiting::wait_result(id.to_owned(), u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)).await
            }
        };
        told.map(TaskResult::read).map_err(refused)
    }
}

/// Outside of a host everything is as for those that do not wait.
#[cfg(not(target_family = "wasm"))]
mod host {
    use super::*;
    use crate::call::outside;

    pub(super) async fn publish(signature: &Signature) -> Result<String, PublishError> {
        outside(signature)
    }

    pub(super) async fn apply(signature: &Signature) -> Result<AsyncResult, PublishError> {
        outside(signature)
    }

    pub(super) async fn add_to_chord(signature: &Signature) -> Result<AsyncResult, PublishError> {
        outside(signature)
    }

    pub(super) async fn ask(id: &str, timeout: Option<Duration>) -> Result<TaskResult, ResultError> {
        crate::result::ask(id, timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context as TaskContext, Waker};

    use super::*;

    /// Polls until it is done; nothing here waits for a waker.
    fn finish<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
                return output;
            }
        }
    }

    /// Is done when it is polled for the so many-th time.
    async fn after(polls: u32, order: &Cell<Vec<u32>>) -> u32 {
        let mut left = polls;
        poll_fn(|_| {
            left -= 1;
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let mut ended = order.take();
        ended.push(polls);
        order.set(ended);
        polls
    }

    #[test]
    fn what_is_joined_ends_in_any_order_and_is_given_in_its_own() {
        let order = Cell::default();
        let joined = finish(join_all([3, 1, 2].map(|polls| after(polls, &order))));
        assert_eq!((joined, order.take()), (vec![3, 1, 2], vec![1, 2, 3]));
        assert_eq!(finish(join_all::<std::future::Ready<u8>>([])), [0_u8; 0]);
    }

    #[test]
    fn outside_of_a_host_a_sleep_is_a_sleep_and_nothing_is_published() {
        assert!(finish(sleep(Duration::from_millis(1))));
        let context = Context::new("id", "task", 0);
        let published = finish(context.publish_now_async(&Signature::new("a")));
        assert!(matches!(published, Err(PublishError::Unavailable(_))), "{published:?}");
        let waited = finish(context.wait_async("id", Duration::ZERO));
        assert!(matches!(waited, Err(ResultError::Unavailable(_))));
        let added = finish(context.add_to_chord_now_async(&Signature::new("a")));
        assert!(added.is_err_and(|error| error.to_string() == "ValueError: Current task is not member of any chord"));
    }
}
