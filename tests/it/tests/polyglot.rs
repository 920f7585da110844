//! Examples in which languages meet: one chain through four of them, and a producer in Go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use it::process::Stream;
use it::{COMPILER_PATIENCE, Engine, Process, Site, settings, tools};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Starts the worker of an example as its README does. Compiling a component of Python's takes a while on a machine
/// that is busy with other tests.
#[track_caller]
fn worker(site: &Site, example: &Path, options: &[&str]) -> Process {
    let settings = fs::read_to_string(example.join("host.toml")).expect("the example has one");
    site.write("host.toml", &settings);
    let arguments = [&["run", "--set", "limits.compile_time=600"], options].concat();
    let host = site.start_command(&arguments);
    host.wait_for_within(" ready.", COMPILER_PATIENCE);
    host
}

/// Runs a program to its end, and gives what it printed: on stdout, or if it fails on stderr.
#[track_caller]
fn run(name: &str, command: &mut Command) -> Result<String, String> {
    let mut process = Process::start(name, command);
    match process.wait().success() {
        true => Ok(process.written(Stream::Out)),
        false => Err(process.written(Stream::Err)),
    }
}

#[test]
fn one_chain_goes_through_rust_python_typescript_and_go() {
    const PLUGINS: [(&str, &str); 4] = [
        ("words", "TASKHOST_TEST_EXAMPLES_POLYGLOT_PLUGINS_WORDS"),
        ("counts", "TASKHOST_TEST_EXAMPLES_POLYGLOT_PLUGINS_COUNTS"),
        ("chart", "TASKHOST_TEST_EXAMPLES_POLYGLOT_PLUGINS_CHART"),
        ("pack", "TASKHOST_TEST_EXAMPLES_POLYGLOT_PLUGINS_PACK"),
    ];
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let Some(python) = settings::required_path(settings::PYTHON) else { return };
    let example = example("polyglot");
    for (name, variable) in PLUGINS {
        let Some(component) = settings::required_path(variable) else { return };
        site.add_plugin(name, &component);
    }
    let host = worker(&site, &example, &[]);
    let program = fs::read_to_string(example.join("report.py")).expect("the example has one");
    let program = site.write("report.py", &program);
    let report = |text: &str| {
        let text = site.write("speech.txt", text);
        let mut command = Command::new(&python);
        command.args(["-E", "-s"]).args([&program, &text]).current_dir(site.folder());
        run("report.py", command.env_remove("CELERY_BROKER_URL").env_remove("CELERY_RESULT_BACKEND"))
    };

    let printed = report("Größe, größe & more! More or <less>: größe.").unwrap_or_else(|error| panic!("{error}"));
    assert!(printed.starts_with("report.svg: 3 bars, 1 KiB packed, sha256 "), "{printed}");
    let drawing = fs::read_to_string(site.path("report.svg")).expect("it was drawn");
    let names: Vec<&str> = drawing.lines().filter_map(|line| line.split("text-anchor=\"end\">").nth(1)).collect();
    assert!(names[0].starts_with("größe<") && names[0].ends_with(">3</text>"), "{drawing}");
    assert!(names[1].starts_with("more<") && names[2].starts_with("less<"), "{drawing}");

    let error = report("a b c").expect_err("there is nothing to count");
    assert!(error.trim_end().ends_with("ValueError: no words to count"), "{error}");
    assert_eq!(host.lines_with("Task pack.gzip").len(), 2, "received and succeeded once: a chain ends where it fails");
}

#[test]
fn a_program_in_go_has_formulas_worked_out() {
    let Some(site) = Site::open(Engine::RabbitMqRpc) else { return };
    let Some(component) = settings::required_path("TASKHOST_TEST_EXAMPLES_GO_PRODUCER_PLUGINS_FORMULAS") else {
        return;
    };
    let example = example("go-producer");
    if tools::build_go(&example, site.path("producer")).is_none() {
        return;
    }
    site.add_plugin("formulas", &component);
    let _host = worker(&site, &example, &["-b", &site.broker, "-Q", site.queue()]);

    let mut producer = Command::new("sh");
    producer.args(["-c", "printf 'x*x + rate\\n1/x\\ny\\n' | ./producer"]).current_dir(site.folder());
    producer.env("CELERY_BROKER_URL", &site.broker).env("QUEUE", site.queue());
    let printed = run("producer", &mut producer).unwrap_or_else(|error| panic!("{error}"));
    let readme = fs::read_to_string(example.join("README.md")).expect("the example has one");
    let shown = readme.lines().skip_while(|line| !line.contains("go run .")).skip(2).take(3);
    assert_eq!(printed.lines().collect::<Vec<_>>(), shown.map(str::trim).collect::<Vec<_>>());
}
