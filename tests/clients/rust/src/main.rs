//! rusty-celery (the crate `celery`): protocol 2. It publishes, and does not read results.
//!
//! Told where to go by BROKER and QUEUE. Prints one line of JSON: for each call its name and the ids of its tasks.

#![allow(non_local_definitions, reason = "the macro of this version makes them")]

use std::env;
use std::error::Error;
use std::time::Duration;

use celery::prelude::*;
use celery::protocol::MessageContentType;
use celery::task::{Signature, Task};
use celery::{Celery, CeleryBuilder};
use chrono::Utc;
use serde_json::{json, Map, Value};

const PATIENCE: Duration = Duration::from_secs(60);
/// How many calls there are in the last one.
const MANY: i64 = 1000;

#[celery::task(name = "tasks.add")]
fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "tasks.echo")]
fn echo(payload: String) -> TaskResult<String> {
    Ok(payload)
}

#[celery::task(name = "tasks.flaky")]
fn flaky(times: u32) -> TaskResult<u32> {
    Ok(times)
}

#[celery::task(name = "tasks.fail")]
fn fail(message: String) -> TaskResult<()> {
    Err(TaskError::UnexpectedError(message))
}

#[celery::task(name = "tasks.sleep")]
fn sleep(seconds: f64) -> TaskResult<f64> {
    Ok(seconds)
}

#[celery::task(name = "tasks.missing")]
fn missing() -> TaskResult<()> {
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(PATIENCE, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    let queue = env::var("QUEUE")?;
    let app = CeleryBuilder::new("client", &env::var("BROKER")?).default_queue(&queue).build().await?;
    let mut ids = Map::new();
    call(&app, &mut ids, "keyword", add::new(40, 2)).await?;
    call(&app, &mut ids, "large", add::new(i64::MAX - 1, 1)).await?;
    call(&app, &mut ids, "unicode", echo::new("naïve ☃ 🦀".to_owned())).await?;
    call(&app, &mut ids, "retried", flaky::new(1)).await?;
    call(&app, &mut ids, "failure", fail::new("no luck".to_owned())).await?;
    call(&app, &mut ids, "unknown", missing::new()).await?;
    call(&app, &mut ids, "countdown", add::new(20, 22).with_countdown(1)).await?;
    call(&app, &mut ids, "expired", add::new(1, 1).with_expires(Utc::now() - Duration::from_secs(60))).await?;
    call(&app, &mut ids, "limited", sleep::new(60.0).with_time_limit(1).with_hard_time_limit(30)).await?;
    call(&app, &mut ids, "yaml", echo::new("written ☃".to_owned()).with_content_type(MessageContentType::Yaml)).await?;
    for number in 0..MANY {
        call(&app, &mut ids, "many", add::new(number, 0)).await?;
    }
    app.close().await?;
    println!("{}", Value::Object(ids));
    Ok(())
}

async fn call<T: Task>(app: &Celery, ids: &mut Map<String, Value>, name: &str, call: Signature<T>) -> Result<(), Box<dyn Error>> {
    let id = app.send_task(call).await?.task_id;
    let of_name = ids.entry(name).or_insert_with(|| json!([]));
    of_name.as_array_mut().expect("it was made above").push(id.into());
    Ok(())
}
