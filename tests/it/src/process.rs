//! A process under test: what it writes is collected, every wait has a deadline, and it ends with its test.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::settings;

/// How long a test waits for anything: generous, since a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How long one may take that compiles, beside other tests that do.
pub const COMPILER_PATIENCE: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(10);

/// Which of its outputs a process wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stream {
    Out,
    Err,
}

/// A running process and what it has written so far.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    /// It leads a process group, which is killed as a whole.
    leads: bool,
}

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<(Stream, String)>,
    streams_ended: usize,
}

impl Process {
    /// Starts it; `name` stands for it in messages.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("start {command:?}: {error}"),
        };
        let log = Arc::new(Log::default());
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("it was piped above"));
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("it was piped above"));
        let readers = [(Stream::Out, out), (Stream::Err, err)].map(|(stream, pipe)| {
            let log = Arc::clone(&log);
            thread::spawn(move || log.collect(stream, pipe))
        });
        Process { name: name.to_owned(), child, log, readers: readers.into(), leads: false }
    }

    /// As [`Process::start`], for one that starts others, which end with it.
    #[track_caller]
    pub fn start_group(name: &str, command: &mut Command) -> Process {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mut process = Process::start(name, command);
        process.leads = cfg!(unix);
        process
    }

    /// How much memory it has now, in bytes (Linux).
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// How much of that is its own, in bytes (Linux): without its program's file, and with pages that it has in several
    /// places counted once.
    #[track_caller]
    pub fn own_bytes(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).expect("it runs, on Linux");
        let kilobytes = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says it");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
        };
        (kilobytes("Pss_Anon:") + kilobytes("Pss_Shmem:")) * 1024
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that holds `text` and returns the first.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_count(text, 1).remove(0)
    }

    /// As [`Process::wait_for`], from one that has much to do before.
    #[track_caller]
    pub fn wait_for_within(&self, text: &str, patience: Duration) -> String {
        self.wait_for_lines(text, 1, patience).remove(0)
    }

    /// Waits until `count` lines hold `text` and returns all that do.
    #[track_caller]
    pub fn wait_for_count(&self, text: &str, count: usize) -> Vec<String> {
        self.wait_for_lines(text, count, PATIENCE)
    }

    #[track_caller]
    fn wait_for_lines(&self, text: &str, count: usize, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        let mut state = self.log.lock();
        loop {
            let found = state.containing(text);
            if found.len() >= count {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.streams_ended == 2 {
                let seen = found.len();
                drop(state); // the panic prints the log
                let why = if left.is_zero() { format!("within {patience:?}") } else { "before it ended".to_owned() };
                panic!("{}: expected {count} line(s) with `{text}` {why}, saw {seen}", self.name);
            }
            state = self.log.changed.wait_timeout(state, left).expect("a reader does not panic").0;
        }
    }

    /// The lines so far that hold `text`.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.log.lock().containing(text)
    }

    /// Everything it wrote to one of its streams.
    pub fn written(&self, stream: Stream) -> String {
        let state = self.log.lock();
        let lines = state.lines.iter().filter(|(from, _)| *from == stream);
        lines.fold(String::new(), |text, (_, line)| text + line + "\n")
    }

    /// Sends a signal by its name: `TERM`, `QUIT`, `INT`, `STOP`, `CONT`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.id());
        let status = Command::new("sh").arg("-c").arg(script).stderr(Stdio::null()).status().expect("there is a shell");
        assert!(status.success(), "{} has ended, cannot send it {name}", self.name);
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if std::mem::take(&mut self.leads) {
            let script = format!("kill -KILL -{}", self.id());
            let _ = Command::new("sh").arg("-c").arg(script).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until it has ended and everything it wrote is collected.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(PATIENCE)
    }

    /// As [`Process::wait`], for one that has much to do.
    #[track_caller]
    pub fn wait_within(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                self.readers.drain(..).for_each(|reader| reader.join().expect("a reader does not panic"));
                return status;
            }
            assert!(Instant::now() < deadline, "{} has not ended within {patience:?}", self.name);
            thread::sleep(POLL);
        }
    }

    /// All it wrote, for people.
    pub fn transcript(&self) -> String {
        let mut text = format!("---- {} (process {}) wrote:\n", self.name, self.id());
        for (stream, line) in &self.log.lock().lines {
            let mark = if *stream == Stream::Out { "out" } else { "err" };
            let _ = writeln!(text, "{mark} | {line}");
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() || settings::is_set(settings::VERBOSE) {
            eprintln!("{}", self.transcript());
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn collect(&self, stream: Stream, pipe: impl Read) {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while pipe.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            self.lock().lines.push((stream, line));
            self.changed.notify_all();
            bytes.clear();
        }
        self.lock().streams_ended += 1;
        self.changed.notify_all();
    }
}

impl LogState {
    fn containing(&self, text: &str) -> Vec<String> {
        self.lines.iter().filter(|(_, line)| line.contains(text)).map(|(_, line)| line.clone()).collect()
    }
}
