//! What the operator lends, and what is said.

use taskhost::{Bucket, TaskError, task};

/// Says something, in four ways.
#[task(name = "contract.log")]
pub(crate) fn say(text: &str) {
    log::info!("{text}");
    log::warn!("warning: {text}");
    println!("stdout: {text}");
    eprintln!("stderr: {text}");
}

/// Returns a setting.
#[task(name = "contract.config")]
pub(crate) fn config(key: &str) -> Result<String, TaskError> {
    Ok(taskhost::config(key)?)
}

/// Returns how long a secret is.
#[task(name = "contract.secret")]
pub(crate) fn secret(name: &str) -> Result<usize, TaskError> {
    Ok(taskhost::secret(name)?.len())
}

/// Keeps a value, and counts.
#[task(name = "contract.keep")]
pub(crate) fn keep(bucket: &str, key: &str, value: &str) -> Result<(String, i64), TaskError> {
    let bucket = Bucket::open(bucket)?;
    bucket.set(key, value.as_bytes())?;
    let kept = bucket.get(key)?.unwrap_or_default();
    Ok((String::from_utf8_lossy(&kept).into_owned(), bucket.increment("n", 2)?))
}
