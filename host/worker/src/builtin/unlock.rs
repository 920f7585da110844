//! `celery.chord_unlock`: looks up the results of a chord's header.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use rustc_hash::FxHashMap;
use taskhost_core::builtin::{Look, Unlock};
use taskhost_core::{Attempt, Exception, Json, Outcome, TaskId};
use tokio::time::timeout;

use super::Builtins;
use crate::commit::chain;

/// Results that are looked up at a time.
const LOOK_UPS_MAX: usize = 64;

impl Builtins {
    pub(super) async fn unlock(&self, attempt: &Attempt) -> Outcome {
        let chord = Unlock::read(&attempt.request).and_then(|chord| Ok((chord.members()?, chord)));
        let (members, chord) = match chord {
            Ok(chord) => chord,
            Err(exception) => return Outcome::Failure(exception, None),
        };
        chord.end(&attempt.request, self.look(&members, self.settings.chord_join_timeout).await)
    }

    /// Ends with the first that is not ready: most looks find one.
    async fn look(&self, members: &[TaskId], within: Duration) -> Look {
        let look_up = async |id: &TaskId| (id.clone(), self.store.get(id).await);
        let mut answers = stream::iter(members).map(look_up).buffered(LOOK_UPS_MAX);
        let looking = async {
            let mut found = FxHashMap::default();
            while let Some((id, answer)) = answers.next().await {
                match answer {
                    Ok(Some(stored)) if stored.state.is_ready() => drop(found.insert(id, stored)),
                    Ok(_) => return Look::Unready,
                    Err(error) => {
                        let text = Json::text(&format!("cannot {}", chain(&error)));
                        let exception = Exception::new("celery.exceptions", "BackendGetMetaError", [text]);
                        return match error.is_transient() {
                            true => Look::Failed(exception),
                            false => Look::Impossible(exception),
                        };
                    }
                }
            }
            Look::Ready(found)
        };
        let timed_out =
            || Exception::new("celery.exceptions", "TimeoutError", [Json::text("The operation timed out.")]);
        timeout(within, looking).await.unwrap_or_else(|_elapsed| Look::Failed(timed_out()))
    }
}
