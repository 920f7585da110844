//! Scratch folders on the real host: given, limited, and gone, also when the worker was killed.

use std::path::Path;

use it::{Engine, Site, settings};
use serde_json::json;

/// The site with the guest `files`, which may have a scratch folder; none if this machine lacks something.
fn site() -> Option<Site> {
    let component = settings::required_path(settings::FILES)?;
    let site = Site::open(Engine::Embedded)?;
    site.write("plugins/files/plugin.toml", "name = \"files\"\n[needs]\nscratch = [\"1MiB\"]\n");
    std::fs::copy(component, site.path("plugins/files/files.wasm")).expect("the temporary folder is writable");
    site.write("host.toml", "[sandbox]\nscratch_dir = \"scratch\"\n[grants.files]\nscratch = [\"8MiB\"]\n");
    Some(site)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = dir.read_dir().expect("the folder is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_task_has_a_private_folder_with_a_quota() {
    let Some(site) = site() else { return };
    let mut host = site.host(&[]);
    let code = r#"
steps = [
    {"do": "open", "name": "f", "path": "/scratch/f"},
    {"do": "fill", "name": "f"},
    {"do": "list", "path": "/scratch"},
]
emit([call("files.run", steps), call("files.run", steps), call("files.variables")])
"#;
    let filled = json!(["ok", "1048576 quota", "f"]);
    assert_eq!(site.client(code), json!([filled, filled, ["TMPDIR=/scratch", ""]]));
    host.wait_for("the scratch folder is full: 1MiB; raise `scratch = [\"1MiB\"]` in [needs] of plugin.toml");
    assert!(host.stop().success());
    assert_eq!(names(&site.path("scratch")), [""; 0]);
    let checked = site.bare_command(&["plugin", "check", "plugins/files"]).success();
    assert!(checked.out.contains("scratch `1MiB`"), "{}", checked.out);
}

#[test]
fn what_a_killed_worker_left_is_removed_by_the_next() {
    let Some(site) = site() else { return };
    let code = r#"
send("files.run", [
    {"do": "make_folder", "path": "/scratch/d"},
    {"do": "open", "name": "f", "path": "/scratch/d/f"},
    {"do": "write", "name": "f", "bytes": 1000},
    {"do": "say", "text": "it is there"},
    {"do": "wait", "seconds": 600},
])
"#;
    let mut first = site.host(&[]);
    site.client(code);
    first.wait_for("it is there");
    first.kill();
    let scratch = site.path("scratch");
    let left = names(&scratch);
    let [folder, lock] = left.as_slice() else { panic!("{left:?}") };
    assert_eq!(&format!("{folder}.lock"), lock);
    assert_eq!(names(&scratch.join(folder)).len(), 1);
    let mut second = site.host(&[]);
    second.wait_for(&format!("removing what a worker left in {}", scratch.join(folder).display()));
    // The message comes again, to a worker with a folder of its own.
    second.wait_for("it is there");
    second.kill();
    let left = names(&scratch);
    assert!(left.len() == 2 && !left.contains(folder), "{left:?}");
}
