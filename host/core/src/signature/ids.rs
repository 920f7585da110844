//! Ids that follow from other ids, so that whatever is done again publishes the same tasks again and not others.

use uuid::Uuid;

use crate::name::TaskId;
use crate::request::Request;

/// The space of ids that are derived from other ids; drawn once.
const DERIVED: Uuid = Uuid::from_u128(0x6f1c_83d2_94e5_4b0a_9c37_2d5e_8a41_f0b6);

/// The version of UUIDs that are derived.
const DERIVED_VERSION: usize = 5;

/// How many earlier executions of a task are thought of.
const EARLIER_MAX: usize = 16;

/// Ids in a row. The first is that of the result of what they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The numbers first: ids may hold anything but control characters.
    head: String,
    of: String,
    next: u32,
}

impl Ids {
    /// For what an execution sends as its number `index`.
    pub fn of_call(request: &Request, index: u32) -> Self {
        Self::of_execution(request, &index.to_string())
    }

    /// For what follows the success of an execution: callbacks, and the next step of a chain.
    pub fn of_callbacks(request: &Request) -> Self {
        Self::of_execution(request, "callbacks")
    }

    /// For what follows the failure of a task, here or elsewhere.
    pub fn of_errbacks(id: &str) -> Self {
        Self::new("errbacks".to_owned(), id)
    }

    /// For what takes the place of an execution.
    pub fn of_replacement(request: &Request) -> Self {
        Self::of_execution(request, "replacement")
    }

    /// For the body of a chord.
    pub fn of_chord(group: &str) -> Self {
        Self::new("chord".to_owned(), group)
    }

    fn of_execution(request: &Request, what: &str) -> Self {
        let Request { retries, replaced_task_nesting, .. } = request;
        Self::new(format!("{retries} {replaced_task_nesting} {what}"), &execution(request))
    }

    fn new(head: String, of: &str) -> Self {
        Self { head, of: of.to_owned(), next: 0 }
    }

    /// The next one.
    pub fn next_id(&mut self) -> TaskId {
        let id = self.number(self.next);
        self.next += 1;
        id
    }

    /// All that were drawn, in order.
    pub fn into_drawn(self) -> Vec<TaskId> {
        (0..self.next).map(|number| self.number(number)).collect()
    }

    fn number(&self, number: u32) -> TaskId {
        let Self { head, of, .. } = self;
        let name = match number {
            0 => format!("{head}\n{of}"),
            number => format!("{head} {number}\n{of}"),
        };
        TaskId::parse(&derived(&name).to_string()).expect("a UUID is an id")
    }
}

/// True if an earlier execution of the task derived this id for one of its first `calls` calls.
pub fn was_sent_before(request: &Request, id: &TaskId, calls: u32) -> bool {
    // Almost all ids of other tasks are random, and of another version.
    let Ok(id) = Uuid::parse_str(id.as_str()) else { return false };
    if id.get_version_num() != DERIVED_VERSION {
        return false;
    }
    let (nesting, of) = (request.replaced_task_nesting, execution(request));
    let earlier = (0..request.retries).rev().take(EARLIER_MAX);
    let name = |retries, index| format!("{retries} {nesting} {index}\n{of}");
    let mut derived = earlier.flat_map(|retries| (0..calls).map(move |index| derived(&name(retries, index))));
    derived.any(|derived| derived == id)
}

/// What tells an execution from others, but for its numbers. A task that is replaced by a chord has its id run once more by
/// the last task of that, without a higher nesting, and perhaps replaced in turn; but with another parent.
fn execution(request: &Request) -> String {
    let parent = request.parent_id.as_ref().map_or_else(String::new, |parent| format!("\n{parent}"));
    format!("{}{parent}", request.id)
}

fn derived(name: &str) -> Uuid {
    Uuid::new_v5(&DERIVED, name.as_bytes())
}
