//! How files of messages are called: `<ms>_<uuid>.<queue>.msg`, as kombu calls them.
//!
//! kombu reads only what stands behind the first dot, and takes files in the order of their names.

use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use super::failure::Failure;

const EXTENSION: &str = ".msg";
/// Most bytes of a queue's name: what is left of the 255 of a file's, with what we and kombu put around it.
const QUEUE_BYTES_MAX: usize = 160;
/// Between the time at which a message is due and its name.
const DUE_SEPARATOR: char = '~';

/// Whether files may be called by this queue.
pub(super) fn check_queue(queue: &str) -> Result<(), Failure> {
    if queue.contains(['/', '\0']) {
        return Err(Failure::refused(format!("queue `{queue}` cannot be part of a file's name: it has a `/` in it")));
    }
    if queue.len() > QUEUE_BYTES_MAX {
        let length = queue.len();
        return Err(Failure::refused(format!(
            "queue `{queue}` cannot be part of a file's name: of {length} bytes, and {QUEUE_BYTES_MAX} fit"
        )));
    }
    Ok(())
}

/// The queue that a file belongs to; none if it is no message.
pub(super) fn queue(file: &str) -> Option<&str> {
    file.split_once('.')?.1.strip_suffix(EXTENSION)
}

/// A name for a new message: after all others that this process has made, and among those of other processes by
/// its time.
pub(super) fn new(queue: &str) -> String {
    static LAST: Mutex<(u64, u16)> = Mutex::new((0, 0));
    // Python's `time.monotonic`.
    let now = clock_gettime(ClockId::Monotonic);
    let now_ms = u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    let (ms, count) = {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        *last = match *last {
            (ms, _) if ms < now_ms => (now_ms, 0),
            (ms, u16::MAX) => (ms + 1, 0),
            (ms, count) => (ms, count + 1),
        };
        *last
    };
    let uuid = Uuid::new_v4().hyphenated().to_string();
    // Within a millisecond the order is that of the names, too.
    format!("{ms}_{count:04x}{}.{queue}{EXTENSION}", &uuid[4..])
}

/// Sorts names as kombu does, but the time by its value: kombu takes 1000000 before 999999.
pub(super) fn order(file: &str) -> (u64, &str) {
    let digits = file.bytes().take_while(u8::is_ascii_digit).count();
    (file[..digits].parse().unwrap_or(u64::MAX), file)
}

/// The name of a message while it waits for its time, in milliseconds since 1970.
pub(super) fn waiting(due_ms: u64, file: &str) -> String {
    format!("{due_ms:013}{DUE_SEPARATOR}{file}")
}

/// When a message is due, and its own name.
pub(super) fn due(waiting: &str) -> Option<(u64, &str)> {
    let (due, file) = waiting.split_once(DUE_SEPARATOR)?;
    Some((due.parse().ok()?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kombus_and_in_the_order_in_which_they_are_made() {
        let names: Vec<_> = (0..2_000).map(|_| new("images.large")).collect();
        assert!(names.is_sorted_by_key(|name| order(name)));
        let name = &names[0];
        assert_eq!(queue(name), Some("images.large"));
        let (ms, rest) = name.split_once('_').unwrap();
        assert!(ms.parse::<u64>().is_ok());
        assert!(Uuid::parse_str(rest.split_once('.').unwrap().0).is_ok(), "{name}");
    }

    #[test]
    fn what_is_no_message_belongs_to_no_queue() {
        for file in [".taskhost", "celery-task-meta-1", "1_a.celery.msg.tmp", "1_a", "msg"] {
            assert_eq!(queue(file), None, "{file}");
        }
        assert_eq!(queue("1_a.celery.msg"), Some("celery"));
        assert_eq!(queue("1_a.a.b.msg"), Some("a.b"));
    }

    #[test]
    fn older_ones_go_first_also_when_a_digit_is_added() {
        let mut names = ["10000000_a.q.msg", "9999999_b.q.msg", "x.q.msg", "9999999_a.q.msg"];
        names.sort_by_key(|name| order(name));
        assert_eq!(names, ["9999999_a.q.msg", "9999999_b.q.msg", "10000000_a.q.msg", "x.q.msg"]);
    }

    #[test]
    fn what_waits_says_until_when() {
        let name = waiting(1_795_343_528_349, "7_a.celery.msg");
        assert_eq!(due(&name), Some((1_795_343_528_349, "7_a.celery.msg")));
        // kombu would not take it even in its own folder.
        assert_eq!(due("7_a.celery.msg"), None);
    }

    #[test]
    fn queues_that_no_file_can_be_called_by_are_refused() {
        assert!(check_queue("taskhost@box.celery.pidbox").is_ok());
        assert!(check_queue("a/b").unwrap_err().to_string().contains("has a `/` in it"));
        assert!(check_queue(&"q".repeat(161)).unwrap_err().to_string().contains("161 bytes"));
    }
}
