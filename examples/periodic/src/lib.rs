//! Counts visitors now and then, and reports how many there were: two tasks that somebody else calls by the clock.
//!
//! What one run of a task leaves for the next is in a bucket, since nothing stays in its memory.

use serde::Serialize;
use taskhost::{Bucket, Context, TaskError, task};

taskhost::plugin!(sample, report);

/// What was counted since the last report.
#[derive(Serialize)]
struct Report {
    door: String,
    samples: i64,
    visitors: i64,
}

/// Counts the visitors at a door. Called every second or so; one that comes too late is of no use.
#[task(name = "visitors.sample", max_retries = 0, ignore_result)]
fn sample(context: &Context, door: &str) -> Result<(), TaskError> {
    // A real door would be asked; this one lets in as many as the id of the task says.
    let visitors = i64::from(context.id().bytes().fold(0_u8, u8::wrapping_add) % 5);
    let bucket = Bucket::open("visitors")?;
    bucket.increment(&format!("{door}.samples"), 1)?;
    let sum = bucket.increment(&format!("{door}.visitors"), visitors)?;
    println!("{visitors} came in by the {door}, {sum} in all");
    Ok(())
}

/// Says how many visitors there were since the last report, and begins anew.
#[task(name = "visitors.report")]
fn report(#[default = "door"] door: &str) -> Result<Report, TaskError> {
    let bucket = Bucket::open("visitors")?;
    let take = |what: &str| {
        let key = format!("{door}.{what}");
        let count = bucket.increment(&key, 0)?;
        // What is counted meanwhile stays for the next report.
        bucket.increment(&key, -count)?;
        Ok::<i64, TaskError>(count)
    };
    Ok(Report { door: door.to_owned(), samples: take("samples")?, visitors: take("visitors")? })
}
