//! Asks Sentinels which server is the master (redis-py's `Sentinel.discover_master`).
//!
//! The first that answers is asked first next time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Value, cmd};

use super::error::OpenError;
use super::login::{authenticate, exchange};
use super::options::Options;
use super::stream::Stream;
use crate::tls::Tls;

/// How long one may take until the next is asked, unless `sentinel_kwargs` says it.
const PATIENCE: Duration = Duration::from_secs(1);

type Host = (String, u16);

/// Which of a list is asked first. A list is as long-lived as the setting it is from, and a broker that reconnects
/// is made anew.
static FIRST: Mutex<BTreeMap<Vec<Host>, usize>> = Mutex::new(BTreeMap::new());

/// Why one does not name the master.
enum Silence {
    /// It does not answer, or what it says may change.
    Passing(String),
    /// It never heard of it.
    Unknown,
}

/// The address of the master that these options name.
pub(super) async fn master(hosts: &[Host], options: &Options, tls: Option<&Tls>) -> Result<Host, OpenError> {
    let Some(name) = &options.master_name else {
        return Err(OpenError::permanent("Sentinels know servers by name: set the transport option master_name"));
    };
    let patience = options.sentinel.timeout.unwrap_or(PATIENCE);
    let first = FIRST.lock().unwrap_or_else(PoisonError::into_inner).get(hosts).copied().unwrap_or(0);
    let mut reasons = Vec::with_capacity(hosts.len());
    let mut known_to_none = true;
    for index in (first..hosts.len()).chain(0..first) {
        let host = &hosts[index];
        let asked = tokio::time::timeout(patience, ask(host, name, options, tls)).await;
        let reason = match asked {
            Ok(Ok(master)) => {
                ask_first(hosts, index);
                return Ok(master);
            }
            Ok(Err(Silence::Passing(reason))) => {
                known_to_none = false;
                reason
            }
            Ok(Err(Silence::Unknown)) => "does not know it".to_owned(),
            Err(_) => {
                known_to_none = false;
                format!("no answer within {} s", patience.as_secs_f64())
            }
        };
        reasons.push(format!("{}:{}: {reason}", host.0, host.1));
    }
    let reason = format!("no Sentinel names the master `{name}` ({})", reasons.join("; "));
    Err(OpenError::Other { reason, transient: !known_to_none })
}

/// What was said turned out to be wrong: another may know better.
pub(super) fn distrust(hosts: &[Host]) {
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    let index = first.entry(hosts.to_vec()).or_insert(0);
    *index = (*index + 1) % hosts.len().max(1);
}

fn ask_first(hosts: &[Host], index: usize) {
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    match first.get_mut(hosts) {
        Some(known) => *known = index,
        None => drop(first.insert(hosts.to_vec(), index)),
    }
}

async fn ask((host, port): &Host, name: &str, options: &Options, tls: Option<&Tls>) -> Result<Host, Silence> {
    let passing = |error: OpenError| Silence::Passing(error.to_string());
    let mut stream = Stream::tcp(host, *port, tls).await.map_err(|error| passing(error.into()))?;
    let login = &options.sentinel;
    let mut commands: Vec<_> = authenticate(login.username.as_deref(), login.password.as_deref()).into_iter().collect();
    commands.push(cmd("SENTINEL").arg("MASTER").arg(name).to_owned());
    let mut answers = exchange(&mut stream, &commands).await.map_err(passing)?;
    let answer = answers.pop();
    if let Some(error) = answers.into_iter().find_map(Result::err) {
        return Err(passing(error.into()));
    }
    match answer {
        Some(Ok(Value::Array(state))) => judge(&state, options.min_other_sentinels),
        Some(Err(error)) if error.to_string().contains("No such master") => Err(Silence::Unknown),
        Some(Err(error)) => Err(passing(error.into())),
        _ => Err(Silence::Passing("its answer is not understood".to_owned())),
    }
}

/// Names and values in turns. Judged as redis-py does (`check_master_state`).
fn judge(state: &[Value], min_others: u32) -> Result<Host, Silence> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    let state: BTreeMap<String, String> =
        state.as_chunks::<2>().0.iter().filter_map(|[key, value]| Some((text(key)?, text(value)?))).collect();
    let get = |key: &str| state.get(key).map(String::as_str).unwrap_or_default();
    let flags: Vec<&str> = get("flags").split(',').collect();
    if !flags.contains(&"master") || flags.contains(&"s_down") || flags.contains(&"o_down") {
        return Err(Silence::Passing(format!("it is down ({})", get("flags"))));
    }
    let others: u32 = get("num-other-sentinels").parse().unwrap_or(0);
    if others < min_others {
        return Err(Silence::Passing(format!("sees {others} others, and min_other_sentinels is {min_others}")));
    }
    match get("port").parse() {
        Ok(port) if !get("ip").is_empty() => Ok((get("ip").to_owned(), port)),
        _ => Err(Silence::Passing("its answer is not understood".to_owned())),
    }
}

#[cfg(test)]
mod tests;
