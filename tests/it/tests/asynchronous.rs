//! Asynchronous tasks: from Rust's SDK, called by Python, and a thousand of them at a time.

use it::http::Http;
use it::{Engine, Site, settings};
use serde_json::json;

/// What a worker may have in memory while a thousand tasks wait in it.
const OWN_BYTES_MAX: u64 = 100 << 20;

/// A site with the guest that waits; none if this machine lacks something.
fn site(engine: Engine) -> Option<Site> {
    let plugin = settings::required_path(settings::WAITING)?;
    let site = Site::open(engine)?;
    site.add_plugin("waiting", &plugin);
    site.write("host.toml", "[grants.waiting]\npublish = [\"waiting.*@*\"]\nresults = [\"own\"]\n");
    Some(site)
}

#[test]
fn they_wait_for_several_things_at_a_time_and_end_as_any_task() {
    let Some(site) = site(Engine::Redis) else { return };
    let queue = format!("task.default_queue={}", site.queue());
    let mut host = site.host(&["-c", "20", "--set", &queue]);
    let code = r#"
def error(task, *args):
    failure = fails(task, *args)
    return [failure["type"], failure["args"]]

emit([
    call("waiting.add", 1, 2),
    call("waiting.nap", 0.01),
    # One after the other these would take an hour.
    call("waiting.together", 900, 4),
    call("waiting.ask", [1, 2, 3]),
    call("waiting.gather", [4, 5]),
    sorted(call("waiting.extend", 7)),
    error("waiting.fail"),
    error("waiting.nap", "x")[0],
    error("waiting.crash", [1])[0],
    error("waiting.spin")[0],
    # Whatever became of those.
    call("waiting.together", 2, 0.01),
])
"#;
    let expected = json!([
        3,
        true,
        900,
        [2, 3, 4],
        [5, 6],
        // The body gets what the header's member returned, and what that added to it: 7, and 7 + 7.
        [8, 15],
        ["ValueError", ["slept badly"]],
        "TypeError",
        "Trap",
        "TimeLimitExceeded",
        2,
    ]);
    assert_eq!(site.client(code), expected);
    assert!(host.stop().success());
}

/// How many attempts there are, by a worker's metrics.
fn running(metrics: &str) -> usize {
    let line = metrics.lines().find(|line| line.starts_with("taskhost_tasks_running "));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no number of running tasks in {metrics}"))
}

/// An instance maps the data of its component from where the others do: the kernel counts such a page in `VmRSS` once for
/// each of them, and it is there once. So what is held against the limit is what the worker has for itself.
#[test]
fn a_thousand_wait_in_one_worker_within_a_hundred_megabytes() {
    let Some(site) = site(Engine::Embedded) else { return };
    std::fs::remove_dir_all(site.path("plugins/demo")).expect("it was there");
    // A compiler leaves much behind in the process that it ran in.
    assert!(site.host(&[]).stop().success());
    let mut host = site.host(&["-c", "1000", "--metrics", "127.0.0.1:0"]);
    let before = host.own_bytes();
    site.client("emit(len([send('waiting.nap', 3600) for _ in range(1000)]))");
    let line = host.wait_for("metrics at http://");
    let url = line.split("metrics at http://").nth(1).expect("the line has it").trim().trim_end_matches("/metrics");
    Http(url.to_owned()).until("/metrics", |response| running(&response.body) == 1000);
    let (waiting, resident) = (host.own_bytes(), host.resident_bytes());
    eprintln!(
        "a thousand tasks wait in {} MiB: {} MiB before, {} KiB for each; VmRSS is {} MiB",
        waiting >> 20,
        before >> 20,
        (waiting.saturating_sub(before) / 1000) >> 10,
        resident >> 20,
    );
    assert!(waiting <= OWN_BYTES_MAX, "{} MiB", waiting >> 20);
    // Told to end at once, they do.
    host.signal("QUIT");
    host.wait();
}
