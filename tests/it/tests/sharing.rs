//! Several processes on one embedded file.

use std::collections::BTreeSet;

use it::{Engine, Site};
use serde_json::json;

#[test]
fn two_workers_and_two_clients_share_a_file() {
    const TASKS: usize = 300;
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let hosts = [site.host(&["-c", "4"]), site.host(&["-c", "4"])];
    let clients = ["a", "b"].map(|name| {
        site.start_client(&format!(
            r#"
results = [send("tasks.log", f"mark {name}{{n}} end") for n in range({TASKS})]
emit([get(result) for result in results].count(None))
"#
        ))
    });
    for client in clients {
        assert_eq!(client.finish(), json!(TASKS));
    }
    // What a task writes tells how often it ran.
    let lines: Vec<String> = hosts.iter().flat_map(|host| host.lines_with("mark ")).collect();
    let marks = lines.iter().map(|line| &line[line.find("mark ").expect("it was selected by this")..]);
    let distinct: BTreeSet<&str> = marks.collect();
    assert_eq!(distinct.len(), 2 * TASKS, "tasks that ran");
    assert_eq!(lines.len(), 2 * TASKS, "runs");
    for host in &hosts {
        assert!(host.lines_with("database is locked").is_empty());
        assert!(!host.lines_with("mark ").is_empty(), "{} got no share of the work", host.node);
    }
    assert_eq!(site.client("emit(depth())"), json!(0));
}
