//! Counts the processor time of one call into a guest, if that has a limit.
//!
//! The clock of the thread, not the one on the wall: on a machine that is busy with something else a task
//! must not be charged for waiting its turn. It costs a system call, which is why an attempt without a limit
//! does not look at it.

use std::time::Duration;

/// What one call has used, and may use.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    limit: Option<Duration>,
    used: Duration,
    began: Duration,
}

impl CpuMeter {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, used: Duration::ZERO, began: Duration::ZERO }
    }

    /// The guest goes on, on this thread.
    pub(crate) fn begin(&mut self) {
        if self.limit.is_some() {
            self.began = thread_time();
        }
    }

    /// The guest pauses, on the same thread. The limit, if it is used up.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        let limit = self.limit?;
        self.used += thread_time().saturating_sub(self.began);
        (self.used >= limit).then_some(limit)
    }
}

#[cfg(unix)]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The next best: the time on the wall.
#[cfg(not(unix))]
fn thread_time() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
