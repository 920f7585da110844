//! Opens channels, past a mistake of lapin's.
//!
//! When the broker closes a channel, lapin keeps the reason under its number for ever, and answers with it whoever gets
//! that number next: after 2047 channels on one connection, or 256 with Qpid, where numbers begin anew.

use lapin::{Channel, Connection};

use super::failure::{Failure, timely};

/// Opens the next channel that can be opened.
pub(super) async fn open(connection: &Connection) -> Result<Channel, Failure> {
    // There are no more numbers than these, and each is tried once.
    for _ in 0..u16::MAX {
        match timely(connection.create_channel()).await {
            // Opening one is no reason to close it: this is what an earlier one was closed for.
            Err(failure) if failure.is_of_a_channel() => {}
            opened => return opened,
        }
    }
    Err(Failure::Refused("no number of a channel is left".to_owned()))
}
