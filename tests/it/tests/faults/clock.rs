//! Wall clocks that are wrong, or are set while tasks run and wait.

use std::path::PathBuf;
use std::process::Command;

use it::{Engine, Host, Site};
use serde_json::json;

const HOUR: i64 = 3600;

/// The wall clock of the hosts that are given it.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// None where there is no such trick, which is said.
    #[expect(clippy::print_stdout, reason = "libtest shows it and `cargo xtask test` counts it")]
    fn new(site: &Site) -> Option<Clock> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/clock.c");
        let library = site.path("clock.so");
        let mut compiler = Command::new("cc");
        let compiled = compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]).output();
        match compiled {
            Ok(output) if output.status.success() && cfg!(target_os = "linux") => {
                let clock = Clock { library, offset: site.path("offset") };
                clock.set(0);
                Some(clock)
            }
            _ => {
                println!("skipped: the wall clock of a process can be set on Linux only, and with a C compiler");
                None
            }
        }
    }

    /// Sets it so many seconds ahead of the machine's.
    fn set(&self, seconds: i64) {
        let new = self.offset.with_extension("new");
        std::fs::write(&new, seconds.to_string()).expect("the temporary folder is writable");
        std::fs::rename(new, &self.offset).expect("the temporary folder is writable");
    }

    /// A host with this clock.
    #[track_caller]
    fn host(&self, site: &mut Site, options: &[&str]) -> Host {
        site.environment = vec![
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            ("CLOCK_OFFSET".to_owned(), self.offset.display().to_string()),
        ];
        let host = site.host(options);
        site.environment.clear();
        host
    }
}

/// Publishes one long task and, while it runs, some short ones; says that the first runs, then all values.
const LONG_AND_SHORT: &str = r#"
long = send("tasks.sleep", 16.0, task_id=QUEUE + "-long")
until(lambda: long.state == "STARTED", "the task runs")
short = [send("tasks.add", n, n) for n in range(10)]
emit("running")
emit([get(long)] + [get(result) for result in short])
"#;

#[track_caller]
fn ran_once(site: &Site, hosts: &[&Host]) {
    let received = format!("[{}-long] received", site.queue);
    let count: usize = hosts.iter().map(|host| host.lines_with(&received).len()).sum();
    assert_eq!(count, 1, "the long task was taken from who ran it");
    assert_eq!(hosts.iter().map(|host| host.lines_with("] succeeded in ").len()).sum::<usize>(), 11);
}

#[test]
fn a_worker_whose_clock_is_hours_ahead_takes_nothing_from_others_on_redis() {
    let Some(mut site) = Site::open(Engine::Redis) else { return };
    let Some(clock) = Clock::new(&site) else { return };
    let right = site.host(&["-c", "1", "--set", "task.track_started=true"]);
    let client = site.start_client(&LONG_AND_SHORT.replace("n, n)", "n, n, expires=600)"));
    client.wait_for("running");
    clock.set(2 * HOUR);
    let ahead = clock.host(&mut site, &["-c", "1"]);
    ahead.wait_for("WARNING] the clock of this machine is 72");
    // What by its clock expired long ago is not thrown away.
    assert_eq!(client.finish(), json!([16.0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18]));
    ran_once(&site, &[&right, &ahead]);
    assert!(!ahead.lines_with("] succeeded in ").is_empty(), "it got no share of the work");
}

#[test]
fn workers_whose_clock_is_set_take_nothing_from_each_other_on_the_embedded_file() {
    let Some(mut site) = Site::open(Engine::Embedded) else { return };
    let Some(clock) = Clock::new(&site) else { return };
    let options = ["-c", "1", "--set", "task.track_started=true"];
    let hosts = [clock.host(&mut site, &options), clock.host(&mut site, &options)];
    let client = site.start_client(LONG_AND_SHORT);
    client.wait_for("running");
    clock.set(HOUR);
    for host in &hosts {
        host.wait_for("the wall clock was set by 3");
    }
    clock.set(-HOUR);
    for host in &hosts {
        host.wait_for("the wall clock was set by -7");
    }
    assert_eq!(client.finish(), json!([16.0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18]));
    ran_once(&site, &[&hosts[0], &hosts[1]]);
}

#[test]
fn a_task_that_waits_for_its_eta_runs_when_the_clock_is_set_to_it() {
    let Some(mut site) = Site::open(Engine::RabbitMqRedis) else { return };
    let Some(clock) = Clock::new(&site) else { return };
    let host = clock.host(&mut site, &["--set", "worker.eta_hold=2h"]);
    let client =
        site.start_client("result = send('tasks.add', 2, 2, countdown=3600)\nemit('published')\nemit(get(result))");
    client.wait_for("published");
    host.wait_for("] received");
    clock.set(HOUR + 60);
    assert_eq!(client.finish(), json!(4));
    host.wait_for("the wall clock jumped");
}
