//! Runs Celery's own integration tests against the host, on private servers.
//!
//! Which of them are run, and why others are not, is in `tests/celery/tests.txt`.

mod folder;

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use self::folder::{FILES, lay_out, obtain_tests};
use crate::python::{self, Packages, Python};
use crate::serve::Served;
use crate::servers::{self, Kind};
use crate::test::Count;
use crate::{Result, cargo, group, plugins};

const REQUIREMENTS: &str = include_str!("../../celery/requirements.txt");
/// How long one part may take. With nothing else to do for the machine the longest takes six minutes.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How pytest ends when it was to run nothing, as a filter may leave nothing of one part.
const NO_TESTS: i32 = 5;

/// The tests of each engine and how they are run. Each is divided among so many hosts, which work at the same time: most
/// tests wait for something.
const RUNS: [(&str, Acknowledged, usize); 2] = [("all", Acknowledged::Early, 4), ("late", Acknowledged::Late, 2)];

/// When a host acknowledges messages.
#[derive(Clone, Copy)]
enum Acknowledged {
    /// Before their tasks run, as Celery does by itself.
    Early,
    /// After they have run, as the host does by itself.
    Late,
}

/// What one host has to do: a part of the tests that the conftest knows by this name.
#[derive(Clone, Copy)]
struct Share {
    of: &'static str,
    acknowledged: Acknowledged,
    number: usize,
    count: usize,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.of, self.number)
    }
}

/// One host with its tests, on one engine.
struct Part {
    engine: &'static str,
    share: Share,
    /// Where messages and results are; nobody else is there.
    broker: String,
    backend: String,
}

impl Part {
    fn name(&self) -> String {
        format!("{}-{}", self.engine, self.share)
    }
}

/// How tests ended.
#[derive(Default)]
struct Ended {
    count: Count,
    /// Those that fail as Celery's own marks say, with its worker as well.
    marked: usize,
    /// The names of those that failed.
    failed: Vec<String>,
}

impl Ended {
    fn add(&mut self, other: &Ended) {
        self.count.passed += other.count.passed;
        self.count.failed += other.count.failed;
        self.count.skipped += other.count.skipped;
        self.marked += other.marked;
        self.failed.extend_from_slice(&other.failed);
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count.fmt(f)?;
        match self.marked {
            0 => Ok(()),
            marked => write!(f, ", {marked} as Celery marks them"),
        }
    }
}

/// `cargo xtask celery [FILTER]`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let filter = match arguments {
        [] => None,
        [filter] => Some(filter.as_str()),
        _ => return Err("celery takes one filter, a part of the names of tests".to_owned()),
    };
    let started = Instant::now();
    let packages = Packages { name: "celery", requirements: REQUIREMENTS, probe: "import celery, pytest, pydantic" };
    let python = match python::obtain_with(&packages)? {
        Python::Ready(python) => python,
        Python::Missing(reason) => return Err(format!("Celery's tests need Python: {reason}")),
    };
    let kinds = [Kind::RabbitMq, Kind::Redis];
    if servers::obtain(&kinds)?.len() < kinds.len() {
        return Err("Celery's tests need RabbitMQ and Redis".to_owned());
    }
    let tests = obtain_tests(&python)?;
    plugins::run(&["integration".to_owned()])?;
    let root = crate::root()?;
    say("building the host (the first time takes some minutes)");
    let host = cargo::build_host(&root)?;

    let mut rabbitmq = Served::start(Kind::RabbitMq)?;
    let shares = RUNS
        .iter()
        .flat_map(|&(of, acknowledged, count)| (0..count).map(move |number| Share { of, acknowledged, number, count }));
    let shares: Vec<Share> = shares.collect();
    let mut redis: Vec<Served> = (0..2 * shares.len()).map(|_| Served::start(Kind::Redis)).collect::<Result<_>>()?;
    let url = rabbitmq.url()?;
    let mut parts = Vec::new();
    for (index, redis) in redis.iter_mut().enumerate() {
        let (share, backend) = (shares[index % shares.len()], redis.url()?);
        let (engine, broker) = match index < shares.len() {
            true => ("redis", backend.clone()),
            false => ("rabbitmq", virtual_host(&mut rabbitmq, &url, share)?),
        };
        parts.push(Part { engine, share, broker, backend });
    }
    let outcomes: Vec<_> = thread::scope(|scope| {
        let runs = parts.iter().map(|part| {
            let (python, tests, root, host) = (&python, &tests, &root, &host);
            (part, scope.spawn(move || test(part, python, tests, root, host, filter)))
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|(part, run)| (part, run.join().expect("a run does not panic"))).collect()
    });
    say(&format!("took {} s", started.elapsed().as_secs()));
    let mut is_good = true;
    for engine in ["redis", "rabbitmq"] {
        let mut sums = RUNS.map(|(of, ..)| (of, Ended::default()));
        for (part, outcome) in outcomes.iter().filter(|(part, _)| part.engine == engine) {
            match outcome {
                Ok((ended, as_expected)) => {
                    is_good &= as_expected;
                    sums.iter_mut().filter(|(of, _)| *of == part.share.of).for_each(|(_, sum)| sum.add(ended));
                }
                Err(error) => {
                    is_good = false;
                    eprintln!("celery on {}: {error}", part.name());
                }
            }
        }
        for (of, sum) in sums {
            is_good &= sum.count.passed > 0 || filter.is_some();
            eprintln!("celery on {engine}, {of}: {sum}");
            sum.failed.iter().for_each(|test| eprintln!("    failed: {test}"));
        }
    }
    is_good &= outcomes.iter().any(|(_, outcome)| outcome.as_ref().is_ok_and(|(ended, _)| ended.count.passed > 0));
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A virtual host of RabbitMQ's, which nothing of another reaches: its address.
fn virtual_host(rabbitmq: &mut Served, url: &str, share: Share) -> Result<String> {
    let name = format!("part-{share}");
    rabbitmq.control(&format!("add_vhost {name}"))?;
    rabbitmq.control(&format!("set_permissions -p {name} guest .* .* .*"))?;
    Ok(format!("{}/{name}", url.trim_end_matches('/')))
}

/// A folder that is gone with this value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs one part: how many ended how, and whether all is as it should be.
fn test(
    part: &Part,
    python: &Path,
    tests: &Path,
    root: &Path,
    host: &Path,
    filter: Option<&str>,
) -> Result<(Ended, bool)> {
    let name = &part.name();
    let scratch = Scratch(env::temp_dir().join(format!("taskhost-celery-{name}-{}", process::id())));
    let folder = &scratch.0;
    lay_out(folder, tests, root)?;
    let (redis_host, redis_port) = address(&part.backend)?;
    let mut command = group::this_program(&[OsStr::new("guard"), python.as_os_str()])?;
    for (variable, _) in env::vars_os() {
        let variable = variable.to_string_lossy();
        if ["CELERY_", "HOST_", "PYTEST_", "PYTHON", "RUST_LOG"].iter().any(|prefix| variable.starts_with(prefix)) {
            command.env_remove(&*variable);
        }
    }
    for (variable, cached) in [("XDG_CACHE_HOME", "it-cache"), ("XDG_STATE_HOME", "it-state")] {
        command.env(variable, host.with_file_name(cached));
    }
    let Share { of, acknowledged, number, count } = part.share;
    let acks_late = matches!(acknowledged, Acknowledged::Late).to_string();
    command
        .args(["-u", "-m", "pytest", "t/integration"])
        .args(filter.iter().flat_map(|filter| ["-k", *filter]))
        .current_dir(folder)
        .env("PYTHONPATH", folder)
        .env("TASKHOST_TEST_HOST", host)
        .env("TASKHOST_TEST_PART", format!("{of} {number} {count}"))
        .env("HOST_TASK_ACKS_LATE", acks_late)
        .env("TMPDIR", folder.join(FILES))
        .env("TEST_BROKER", &part.broker)
        .env("TEST_BACKEND", &part.backend)
        .env("REDIS_HOST", redis_host)
        .env("REDIS_PORT", redis_port);
    say(&format!("running on {name}"));
    let status = watch(command, name)?;
    let ended = read_ended(folder)?;
    // A test that is named as one to run has no excuse.
    let ended_well = status.success() || (filter.is_some() && status.code() == Some(NO_TESTS));
    let as_expected = ended_well && ended.count.failed == 0 && ended.count.skipped == 0;
    if !as_expected {
        let log = fs::read_to_string(folder.join("host.log")).unwrap_or_default();
        let kept = host.with_file_name(format!("celery-{name}.log"));
        fs::write(&kept, log).map_err(|error| format!("write {}: {error}", kept.display()))?;
        eprintln!("{name:>14} | what the host wrote is in {}", kept.display());
    }
    Ok((ended, as_expected))
}

/// Runs pytest to its end, or to that of our patience, and prints what it says.
fn watch(mut command: Command, name: &str) -> Result<ExitStatus> {
    let (reader, writer) = io::pipe().map_err(|error| format!("make a pipe: {error}"))?;
    let also = writer.try_clone().map_err(|error| format!("make a pipe: {error}"))?;
    let mut child = command.stdout(writer).stderr(also).spawn().map_err(|error| format!("start pytest: {error}"))?;
    drop(command); // with our ends of the pipe
    let (sender, lines) = mpsc::sync_channel(100);
    thread::spawn(move || BufReader::new(reader).lines().try_for_each(|line| sender.send(line)));
    let end = Instant::now() + PATIENCE;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let line = line.map_err(|error| format!("read what pytest prints: {error}"))?;
                eprintln!("{name:>14} | {line}");
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                drop(child.stdin.take()); // ends pytest and the host
                let _ = child.wait();
                return Err(format!("pytest was not done after {} s", PATIENCE.as_secs()));
            }
        }
    }
    child.wait().map_err(|error| format!("wait for pytest: {error}"))
}

/// Host and port of a URL without login.
fn address(url: &str) -> Result<(&str, &str)> {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let address = rest.and_then(|rest| rest.split('/').next()).and_then(|address| address.split_once(':'));
    address.ok_or_else(|| format!("{url} has no host and port"))
}

/// Reads what the conftest writes: `passed=3 failed=0 ..`, and the names of those that failed.
fn read_ended(folder: &Path) -> Result<Ended> {
    let read = |name| fs::read_to_string(folder.join(name)).map_err(|error| format!("pytest left no {name}: {error}"));
    let failed = read("failed.txt")?.lines().map(str::to_owned).collect();
    Ok(Ended { failed, ..parse_count(&read("count.txt")?) })
}

fn parse_count(text: &str) -> Ended {
    let (mut count, mut marked) = (Count::default(), 0);
    for (word, number) in text.split_whitespace().filter_map(|pair| pair.split_once('=')) {
        let Ok(number) = number.parse::<usize>() else { continue };
        match word {
            "passed" | "xpassed" => count.passed += number,
            "failed" | "error" => count.failed += number,
            "marked" => marked += number,
            _ => count.skipped += number,
        }
    }
    Ended { count, marked, failed: Vec::new() }
}

fn say(message: &str) {
    eprintln!("celery: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytests_words_become_ours() {
        let count = parse_count("passed=3 failed=1 error=1 skipped=2 xfailed=1 xpassed=4 marked=0");
        assert_eq!(count.to_string(), "7 passed, 2 failed, 3 skipped");
        assert_eq!(
            parse_count("passed=1 marked=2").to_string(),
            "1 passed, 0 failed, 0 skipped, 2 as Celery marks them"
        );
    }

    #[test]
    fn an_address_is_host_and_port() {
        assert_eq!(address("redis://127.0.0.1:123/0"), Ok(("127.0.0.1", "123")));
        assert!(address("redis:").is_err());
    }
}
