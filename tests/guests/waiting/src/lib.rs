//! Tasks that wait for several things at a time, and one that does not.

use std::time::Duration;

use taskhost::{Context, Json, Signature, TaskError, chord, group, join_all, task};

taskhost::plugin!(add, nap, together, ask, gather, extend, fail, crash, spin);

/// Adds, and never waits.
#[task(name = "waiting.add")]
fn add(x: i64, y: i64) -> i64 {
    x + y
}

/// Sleeps, and tells whether it was let.
#[task(name = "waiting.nap", handles_soft_limit)]
async fn nap(seconds: f64) -> bool {
    taskhost::sleep(Duration::from_secs_f64(seconds)).await
}

/// Sleeps so often at a time, and counts the sleeps that were not cut short.
#[task(name = "waiting.together")]
async fn together(times: usize, seconds: f64) -> usize {
    let sleeps = (0..times).map(|_| taskhost::sleep(Duration::from_secs_f64(seconds)));
    join_all(sleeps).await.into_iter().filter(|slept| *slept).count()
}

/// Has others add one to each number at a time, and gives the sums.
#[task(name = "waiting.ask")]
async fn ask(context: &Context, numbers: Vec<i64>) -> Result<Vec<Json>, TaskError> {
    let sums = numbers.iter().map(async |number| -> Result<Json, TaskError> {
        let id = context.publish_now_async(&Signature::new("waiting.add").args((number, 1))).await?;
        let known = context.result_async(&id).await?;
        if known.is_success() {
            return Ok(known.result);
        }
        Ok(context.wait_async(&id, Duration::from_secs(60)).await?.result)
    });
    join_all(sums).await.into_iter().collect()
}

/// The same with a group.
#[task(name = "waiting.gather")]
async fn gather(context: &Context, numbers: Vec<i64>) -> Result<Vec<Json>, TaskError> {
    let members = numbers.iter().map(|number| Signature::new("waiting.add").args((number, 1)));
    let result = context.apply_now_async(&group(members)).await?;
    let results = context.join_async(&result, Duration::from_secs(60)).await?;
    Ok(results.into_iter().map(|result| result.result).collect())
}

/// Adds a member to its chord; without one it makes a chord of itself.
#[task(name = "waiting.extend")]
async fn extend(context: &Context, number: i64) -> Result<i64, TaskError> {
    if context.request()["chord"].is_null() {
        let header = [Signature::new("waiting.extend").args((number,))];
        return Err(TaskError::replace(&chord(header, Signature::new("waiting.ask"))));
    }
    context.add_to_chord_now_async(&Signature::new("waiting.add").args((number, number))).await?;
    Ok(number)
}

/// Fails after a while.
#[task(name = "waiting.fail")]
async fn fail() -> Result<(), TaskError> {
    taskhost::sleep(Duration::from_millis(5)).await;
    Err(TaskError::new("ValueError", "slept badly"))
}

/// Has a bug after a while.
#[task(name = "waiting.crash")]
async fn crash(numbers: Vec<u8>) -> u8 {
    taskhost::sleep(Duration::from_millis(5)).await;
    numbers[7]
}

/// Computes for ever after a while, and lets nobody else of its own run.
#[task(name = "waiting.spin", time_limit = 1)]
async fn spin() {
    taskhost::sleep(Duration::from_millis(5)).await;
    loop {
        std::hint::spin_loop();
    }
}
