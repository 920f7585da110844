//! Runs Celery's own integration tests against the host, on private servers.
//!
//! The tests come from the source distribution of Celery and are never kept in this repository; which of them are run,
//! and why others are not, is in `tests/celery/tests.txt`.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use crate::python::{self, Packages, Python};
use crate::serve::Served;
use crate::servers::Kind;
use crate::test::{Count, install_servers};
use crate::{Result, cache, cargo, group, plugins};

const REQUIREMENTS: &str = include_str!("../../celery/requirements.txt");
/// Name, version and hash of the source distribution, as pip reads them.
const SOURCE: &str = include_str!("../../celery/source.txt");
/// Unpacks `t/`, the tests, from the archive that pip has put into a folder.
const UNPACK: &str = r#"
import glob, sys, tarfile
folder, target = sys.argv[1:]
[archive] = glob.glob(folder + "/*.tar.gz")
with tarfile.open(archive) as tar:
    top = tar.getnames()[0].split("/")[0] + "/"
    members = [member for member in tar if member.name.startswith(top + "t/")]
    for member in members:
        member.name = member.name[len(top):]
    tar.extractall(target, members, filter="data")
"#;
/// As Celery's own, without what only its reports need.
const PYTEST_INI: &str = "\
[pytest]
addopts = -p no:cacheprovider -p celery.contrib.pytest --tb=short -v
python_classes = test_*
xfail_strict = true
";

/// Where the tests have their temporary files, in the folder in which they run: the plugin gets to see it.
const FILES: &str = "files";

/// How pytest ends when it was to run nothing, as a filter may leave nothing of one part.
const NO_TESTS: i32 = 5;

/// Each engine's tests are divided among so many hosts, which work at the same time: most tests wait for something.
const SHARES: usize = 3;

/// What one host has to do.
#[derive(Clone, Copy)]
enum Share {
    /// Every so-many-th test, as Celery is set by itself: messages are acknowledged before tasks run.
    Of(usize),
    /// The tests of chords once more, as this host is set by itself: messages are acknowledged after tasks have run.
    Late,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Of(number) => number.fmt(f),
            Share::Late => f.write_str("late"),
        }
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
    if install_servers(&kinds)?.len() < kinds.len() {
        return Err("Celery's tests need RabbitMQ and Redis".to_owned());
    }
    let tests = obtain_tests(&python)?;
    plugins::run(&["integration".to_owned()])?;
    let root = crate::root()?;
    say("building the host (the first time takes some minutes)");
    let host = cargo::build_host(&root)?;

    let mut rabbitmq = Served::start(Kind::RabbitMq)?;
    let shares: Vec<Share> = (0..SHARES).map(Share::Of).chain([Share::Late]).collect();
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
            (part.engine, scope.spawn(move || test(part, python, tests, root, host, filter)))
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|(engine, run)| (engine, run.join().expect("a run does not panic"))).collect()
    });
    say(&format!("took {} s", started.elapsed().as_secs()));
    let mut is_good = true;
    for engine in ["redis", "rabbitmq"] {
        let mut sum = Count::default();
        for (_, outcome) in outcomes.iter().filter(|(of, _)| *of == engine) {
            match outcome {
                Ok((count, as_expected)) => {
                    is_good &= as_expected;
                    sum.passed += count.passed;
                    sum.failed += count.failed;
                    sum.skipped += count.skipped;
                }
                Err(error) => {
                    is_good = false;
                    eprintln!("celery on {engine}: {error}");
                }
            }
        }
        is_good &= sum.passed > 0;
        eprintln!("celery on {engine}: {sum}");
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A virtual host of RabbitMQ's, which nothing of another reaches: its address.
fn virtual_host(rabbitmq: &mut Served, url: &str, share: Share) -> Result<String> {
    let name = format!("part-{share}");
    rabbitmq.control(&format!("add_vhost {name}"))?;
    rabbitmq.control(&format!("set_permissions -p {name} guest .* .* .*"))?;
    Ok(format!("{}/{name}", url.trim_end_matches('/')))
}

/// The folder with Celery's `t/`, fetched once.
fn obtain_tests(python: &Path) -> Result<PathBuf> {
    let folder = cache::folder()?.join(format!("celery-tests-{:08x}", python::hash(SOURCE)));
    let marker = folder.join("complete");
    let _lock = cache::lock(&folder.with_extension("lock"), "the folder of Celery's tests")?;
    if marker.exists() {
        return Ok(folder);
    }
    say("fetching the source distribution of Celery (once, 2 MB)");
    let _ = fs::remove_dir_all(&folder); // what an interrupted process left behind
    let archive = folder.join("archive");
    let describe = |error: std::io::Error| format!("write {}: {error}", folder.display());
    fs::create_dir_all(&archive).map_err(describe)?;
    let list = folder.join("source.txt");
    fs::write(&list, SOURCE).map_err(describe)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "5", "--no-deps"]);
    pip.args(["--no-binary", "celery", "--require-hashes", "--dest"]).arg(&archive).arg("--requirement").arg(&list);
    python::run(&mut pip)?;
    python::run(Command::new(python).args(["-c", UNPACK]).arg(&archive).arg(&folder))?;
    fs::write(&marker, "").map_err(describe)?;
    Ok(folder)
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
) -> Result<(Count, bool)> {
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
    let (part_of, acks_late) = match part.share {
        Share::Of(number) => (format!("{number} {SHARES}"), "false"),
        Share::Late => ("late".to_owned(), "true"),
    };
    command
        .args(["-u", "-m", "pytest", "t/integration"])
        .args(filter.iter().flat_map(|filter| ["-k", *filter]))
        .current_dir(folder)
        .env("PYTHONPATH", folder)
        .env("TASKHOST_TEST_HOST", host)
        .env("TASKHOST_TEST_PART", part_of)
        .env("HOST_TASK_ACKS_LATE", acks_late)
        .env("TMPDIR", folder.join(FILES))
        .env("TEST_BROKER", &part.broker)
        .env("TEST_BACKEND", &part.backend)
        .env("REDIS_HOST", redis_host)
        .env("REDIS_PORT", redis_port)
        .stdout(Stdio::piped());
    say(&format!("running on {name}"));
    let mut child = command.spawn().map_err(|error| format!("start pytest: {error}"))?;
    let input = child.stdin.take();
    for line in BufReader::new(child.stdout.take().expect("it was piped above")).lines() {
        let line = line.map_err(|error| format!("read what pytest prints: {error}"))?;
        eprintln!("{name:>10} | {line}");
    }
    let status = child.wait().map_err(|error| format!("wait for pytest: {error}"))?;
    drop(input);
    let count = read_count(&folder.join("count.txt"))?;
    // A test that is named as one to run has no excuse.
    let ended_well = status.success() || (filter.is_some() && status.code() == Some(NO_TESTS));
    let as_expected = ended_well && count.failed == 0 && count.skipped == 0;
    if !as_expected {
        let log = fs::read_to_string(folder.join("host.log")).unwrap_or_default();
        let kept = host.with_file_name(format!("celery-{name}.log"));
        fs::write(&kept, log).map_err(|error| format!("write {}: {error}", kept.display()))?;
        eprintln!("{name:>10} | what the host wrote is in {}", kept.display());
    }
    Ok((count, as_expected))
}

/// Puts Celery's tests, our additions, and the plugin into a fresh folder.
fn lay_out(folder: &Path, tests: &Path, root: &Path) -> Result<()> {
    let describe = |error: std::io::Error| format!("prepare {}: {error}", folder.display());
    let ours = root.join("tests/celery");
    let text = |name: &str| fs::read_to_string(ours.join(name)).map_err(|error| format!("read {name}: {error}"));
    let _ = fs::remove_dir_all(folder);
    let integration = folder.join("t/integration");
    fs::create_dir_all(&integration).map_err(describe)?;
    for (from, to) in [(tests.join("t"), folder.join("t")), (tests.join("t/integration"), integration.clone())] {
        for entry in fs::read_dir(&from).map_err(describe)? {
            let entry = entry.map_err(describe)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && (!name.starts_with("test_") || listed(&text("tests.txt")?, &name)) {
                fs::copy(entry.path(), to.join(name)).map_err(describe)?;
            }
        }
    }
    let conftest = integration.join("conftest.py");
    let theirs = fs::read_to_string(&conftest).map_err(describe)?;
    fs::write(&conftest, format!("{theirs}\n\n{}", text("conftest.py")?)).map_err(describe)?;
    fs::write(folder.join("pytest.ini"), PYTEST_INI).map_err(describe)?;
    let settings = text("host.toml")?.replace("FOLDER", &folder.to_string_lossy());
    fs::write(folder.join("host.toml"), settings).map_err(describe)?;
    let plugin = folder.join("plugins/integration");
    fs::create_dir_all(&plugin).map_err(describe)?;
    fs::create_dir_all(folder.join(FILES)).map_err(describe)?;
    for (from, to) in [
        (ours.join("tests.txt"), folder.join("tests.txt")),
        (ours.join("plugin/plugin.toml"), plugin.join("plugin.toml")),
        (ours.join("plugin/integration.wasm"), plugin.join("integration.wasm")),
    ] {
        fs::copy(&from, to).map_err(|error| format!("copy {}: {error}", from.display()))?;
    }
    Ok(())
}

/// True if the list has tests of this file. The others stay away: some need servers that nobody starts.
fn listed(list: &str, file: &str) -> bool {
    let mut lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.any(|line| line.split_whitespace().nth(1).is_some_and(|test| test.starts_with(file)))
}

/// Host and port of a URL without login.
fn address(url: &str) -> Result<(&str, &str)> {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let address = rest.and_then(|rest| rest.split('/').next()).and_then(|address| address.split_once(':'));
    address.ok_or_else(|| format!("{url} has no host and port"))
}

/// Reads `passed=3 failed=0 ..`, which the conftest writes.
fn read_count(file: &Path) -> Result<Count> {
    let text = fs::read_to_string(file).map_err(|error| format!("pytest left no count: {error}"))?;
    Ok(parse_count(&text))
}

fn parse_count(text: &str) -> Count {
    let mut count = Count::default();
    for (word, number) in text.split_whitespace().filter_map(|pair| pair.split_once('=')) {
        let Ok(number) = number.parse::<usize>() else { continue };
        match word {
            "passed" | "xpassed" => count.passed += number,
            "failed" | "error" => count.failed += number,
            _ => count.skipped += number,
        }
    }
    count
}

fn say(message: &str) {
    eprintln!("celery: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytests_words_become_ours() {
        let count = parse_count("passed=3 failed=1 error=1 skipped=2 xfailed=1 xpassed=4");
        assert_eq!(count.to_string(), "7 passed, 2 failed, 3 skipped");
    }

    #[test]
    fn a_file_is_listed_by_its_tests() {
        let list = "# test_b.py::test\nrun   test_a.py::test_x::test_y\nnever test_c.py::test_z  # why\n";
        let found = ["test_a.py", "test_b.py", "test_c.py"].map(|file| listed(list, file));
        assert_eq!(found, [true, false, true]);
    }

    #[test]
    fn an_address_is_host_and_port() {
        assert_eq!(address("redis://127.0.0.1:123/0"), Ok(("127.0.0.1", "123")));
        assert!(address("redis:").is_err());
    }
}
