//! A stored result, waited for and shown.

use std::time::{Duration, Instant};

use anyhow::Context;
use broker::{Acknowledgement, Consumer, Delivery};
use store::{ResultStore, StoreError};
use taskhost_core::protocol::codec::Format;
use taskhost_core::protocol::content::{Json, Kind};
use taskhost_core::protocol::document;
use taskhost_core::{Exception, State, StoredResult, TaskId};

use super::Wait;

/// Longest time until the store is asked again, should a notification get lost.
const POLL: Duration = Duration::from_secs(1);

/// Asks for a result until it is final or the time is over; the last answer in either case.
pub(super) async fn wait_for(
    store: &dyn ResultStore,
    id: &TaskId,
    wait: Wait,
) -> Result<Option<StoredResult>, anyhow::Error> {
    let deadline = match wait {
        Wait::No => Some(Instant::now()),
        Wait::AtMost(duration) => Instant::now().checked_add(duration),
        Wait::WithoutEnd => None,
    };
    loop {
        let answer = get(store, id).await.with_context(|| format!("cannot read the result of task {id}"))?;
        let left = deadline.map_or(POLL, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() || answer.as_ref().is_some_and(|result| result.state.is_ready()) {
            return Ok(answer);
        }
        store.changed(id, left.min(POLL)).await;
    }
}

/// Reads a queue of replies until the final one of this task is there or the time is over.
pub(super) async fn wait_for_reply(
    replies: &dyn Consumer,
    id: &TaskId,
    wait: Wait,
    format: &Format,
) -> Result<Option<StoredResult>, anyhow::Error> {
    let reading = async {
        while let Some(deliveries) = replies.next().await.context("cannot read the result")? {
            let mut receipts = Vec::with_capacity(deliveries.len());
            let mut last = None;
            for Delivery { message, receipt, .. } in deliveries {
                receipts.push((receipt, Acknowledgement::Ack));
                if message.properties.correlation_id.as_deref() == Some(id.as_str()) {
                    last = Some(document::decode_as(&message.body, format).context("cannot read the result")?);
                }
            }
            replies.settle(receipts).await.context("cannot read the result")?;
            if let Some(result) = last.filter(|result| result.state.is_ready()) {
                return Ok(Some(result));
            }
        }
        Ok(None)
    };
    match wait {
        Wait::No => Ok(None),
        Wait::WithoutEnd => reading.await,
        Wait::AtMost(duration) => tokio::time::timeout(duration, reading).await.unwrap_or(Ok(None)),
    }
}

/// Waiting survives a store that is away for a moment.
async fn get(store: &dyn ResultStore, id: &TaskId) -> Result<Option<StoredResult>, StoreError> {
    const TRIES: u32 = 3;
    for _ in 1..TRIES {
        match store.get(id).await {
            Err(error) if error.is_transient() => tokio::time::sleep(POLL).await,
            answer => return answer,
        }
    }
    store.get(id).await
}

/// The exception as text: its traceback if there is one, else its last line.
pub(super) fn exception_text(result: &StoredResult) -> String {
    if let Some(traceback) = result.traceback.as_deref().map(str::trim_end).filter(|text| !text.is_empty()) {
        return format!("{traceback}\n");
    }
    match exception(&result.result) {
        Some(exception) => format!("{}\n", exception.headline()),
        None => format!("{}: {}\n", result.state.as_str(), result.result),
    }
}

/// True for states that hold an exception.
pub(super) fn is_failed(state: &State) -> bool {
    matches!(state, State::Failure | State::Revoked)
}

fn exception(map: &Json) -> Option<Exception> {
    let kind = map.get("exc_type")?.text_lossy()?.into_owned();
    let module = map.get("exc_module").and_then(|module| module.text_lossy().map(|text| text.into_owned()));
    let arguments = map.get("exc_message").unwrap_or_else(Json::empty_list);
    // Others than Celery write one text instead of a list.
    let arguments = if arguments.kind() == Kind::List { arguments } else { Json::array([arguments]) };
    Some(Exception { kind, module, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(result: &str, traceback: Option<&str>) -> String {
        exception_text(&StoredResult {
            state: State::Failure,
            result: Json::parse(result.to_owned()).unwrap(),
            traceback: traceback.map(str::to_owned),
            date_done: None,
            children: Json::null(),
            parent_id: None,
            call: Vec::new(),
        })
    }

    #[test]
    fn an_exception_is_shown_as_python_would() {
        let map = r#"{"exc_type": "ValueError", "exc_message": ["too wide"], "exc_module": "builtins"}"#;
        assert_eq!(failure(map, None), "ValueError: too wide\n");
        assert_eq!(failure(map, Some("Traceback ..\nValueError: too wide\n")), "Traceback ..\nValueError: too wide\n");
        assert_eq!(failure(r#"{"exc_type": "KeyError", "exc_message": "old style"}"#, None), "KeyError: old style\n");
        assert_eq!(failure("[1]", None), "FAILURE: [1]\n");
    }
}
