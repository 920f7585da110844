//! What an attempt used, as it is logged and stored.
//!
//! Limits nothing: the sandbox does, and measures.

use std::time::Duration;

use crate::protocol::content::{Json, MapWriter};

/// What an attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Wall time from start to end.
    pub wall: Duration,
    /// Time that the guest kept a processor, host functions that do not wait included.
    pub cpu: Duration,
    /// Largest sum of the guest's memories and tables, in bytes.
    pub memory_bytes_peak: u64,
    /// Calls of the guest into the host.
    pub host_calls: u64,
    /// Length of the arguments, and what came over the network.
    pub bytes_in: u64,
    /// Length of the result, or of the failure with all its texts, and what went over the network.
    pub bytes_out: u64,
}

impl Usage {
    /// As a result's document tells it (`result.usage`): times in seconds, sizes in bytes.
    pub fn to_json(&self) -> Json {
        let mut map = MapWriter::new();
        map.put("runtime", &Json::float(self.wall.as_secs_f64()))
            .put("cpu", &Json::float(self.cpu.as_secs_f64()))
            .put("memory", &count(self.memory_bytes_peak))
            .put("host_calls", &count(self.host_calls))
            .put("bytes_in", &count(self.bytes_in))
            .put("bytes_out", &count(self.bytes_out));
        map.finish()
    }
}

fn count(number: u64) -> Json {
    Json::int(i64::try_from(number).unwrap_or(i64::MAX))
}
