//! The operator's wish to stop, from signals (celery/apps/worker.py).
//!
//! TERM and the first INT finish what runs; QUIT and the second INT give it back; one more ends at once.

/// How to stop, from patient to rude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Finish the tasks that run.
    Warm,
    /// Stop the tasks that run and give them back.
    Cold,
    /// End the process.
    Now,
}

/// A signal that means "stop".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Terminate,
    Interrupt,
    Quit,
}

/// Listens for signals.
pub(crate) struct Signals {
    sources: Sources,
    stop: Option<Stop>,
}

impl Signals {
    /// Takes the signals over from the system's own handling.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { sources: Sources::listen()?, stop: None })
    }

    /// Waits until the wish gets stronger.
    pub(crate) async fn next(&mut self) -> Stop {
        loop {
            let signal = self.sources.next().await;
            let stop = escalate(self.stop, signal);
            if Some(stop) > self.stop {
                self.stop = Some(stop);
                return stop;
            }
        }
    }
}

/// What a signal means after what was wanted before. TERM never makes it stronger: supervisors repeat it.
fn escalate(before: Option<Stop>, signal: Signal) -> Stop {
    match (signal, before) {
        (Signal::Terminate | Signal::Interrupt, None) => Stop::Warm,
        (Signal::Terminate, Some(stop)) => stop,
        (Signal::Interrupt, Some(Stop::Warm)) => Stop::Cold,
        (Signal::Quit, None | Some(Stop::Warm)) => Stop::Cold,
        (Signal::Interrupt | Signal::Quit, Some(Stop::Cold | Stop::Now)) => Stop::Now,
    }
}

#[cfg(unix)]
struct Sources {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Sources {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.quit.recv() => Signal::Quit,
        }
    }
}

#[cfg(windows)]
struct Sources {
    interrupt: tokio::signal::windows::CtrlC,
    quit: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Sources {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self { interrupt: ctrl_c()?, quit: ctrl_break()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.quit.recv() => Signal::Quit,
            _ = self.close.recv() => Signal::Terminate,
            _ = self.shutdown.recv() => Signal::Terminate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(signals: &[Signal], expected: &[Stop]) {
        let mut stop = None;
        let stops: Vec<Stop> = signals
            .iter()
            .map(|signal| {
                let next = escalate(stop, *signal);
                stop = Some(next);
                next
            })
            .collect();
        assert_eq!(stops, expected);
    }

    #[test]
    fn each_interrupt_is_less_patient() {
        use Signal::Interrupt;
        check(&[Interrupt, Interrupt, Interrupt], &[Stop::Warm, Stop::Cold, Stop::Now]);
    }

    #[test]
    fn a_repeated_term_stays_patient() {
        use Signal::{Interrupt, Terminate};
        check(&[Terminate, Terminate, Interrupt, Terminate], &[Stop::Warm, Stop::Warm, Stop::Cold, Stop::Cold]);
    }

    #[test]
    fn quit_gives_back_at_once() {
        use Signal::{Quit, Terminate};
        check(&[Quit, Quit], &[Stop::Cold, Stop::Now]);
        check(&[Terminate, Quit, Quit], &[Stop::Warm, Stop::Cold, Stop::Now]);
    }
}
