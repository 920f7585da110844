//! Tasks that want what is only there if the operator grants it. This plugin declares nothing, so they are all denied;
//! add `[needs]` to `plugin.toml` and `[grants.demo]` to `host.toml` to see them work.

use std::{env, fs};

use taskhost::{Bucket, Json, TaskError, config, secret, task};

/// Returns an environment variable, or nothing.
#[task(name = "tasks.env")]
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Returns a setting.
#[task(name = "tasks.config")]
pub(crate) fn setting(key: &str) -> Result<String, TaskError> {
    Ok(config(key)?)
}

/// Returns how long a secret is, and prints it, which shows in the worker's log as two stars.
#[task(name = "tasks.secret")]
pub(crate) fn length(name: &str) -> Result<usize, TaskError> {
    let secret = secret(name)?;
    println!("the secret is {secret}");
    Ok(secret.len())
}

/// Returns the text of a file.
#[task(name = "tasks.read")]
pub(crate) fn read(path: &str) -> Result<String, TaskError> {
    Ok(fs::read_to_string(path)?)
}

/// Writes a text into a file.
#[task(name = "tasks.write")]
pub(crate) fn write(path: &str, text: &str) -> Result<(), TaskError> {
    Ok(fs::write(path, text)?)
}

/// Does something with a value in a bucket: `get`, `set`, `delete`, `exists`, `keys`, `increment`, or `append`, which
/// puts text behind what is there in one step.
#[task(name = "tasks.keep")]
pub(crate) fn keep(bucket: &str, action: &str, #[default] key: &str, #[default] text: &str) -> Result<Json, TaskError> {
    let bucket = Bucket::open(bucket)?;
    let answer = match action {
        "get" => json(&bucket.get(key)?.map(|value| String::from_utf8_lossy(&value).into_owned())),
        "set" => json(&bucket.set(key, text.as_bytes())?),
        "delete" => json(&bucket.delete(key)?),
        "exists" => json(&bucket.exists(key)?),
        "keys" => json(&bucket.keys()?),
        "increment" => json(&bucket.increment(key, text.parse()?)?),
        "append" => json(&bucket.update(key, |value| Some([value.unwrap_or_default(), text.into()].concat()))?),
        _ => return Err(TaskError::new("ValueError", format!("there is no action {action}"))),
    };
    Ok(answer?)
}

fn json(value: &impl serde::Serialize) -> Result<Json, serde_json::Error> {
    Json::from_value(value)
}
