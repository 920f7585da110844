//! What is noticed of a plugin's sources, and what is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::snapshot::Snapshot;
use super::*;

/// A folder with a plugin, which is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("taskhost-watch-{}", uuid::Uuid::new_v4()));
        let folder = Self(path);
        folder.write("plugin.toml", "name = \"p\"\n[build]\nlanguage = \"rust\"\nsources = [\"data.txt\"]\n");
        for file in ["src/lib.rs", "src/deep/mod.rs", "Cargo.toml", "data.txt"] {
            folder.write(file, "one");
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is below a folder")).expect("the folder is ours");
        fs::write(&path, text).expect("the folder is ours");
    }

    /// A file as old as that.
    fn date(&self, name: &str, time: SystemTime) {
        let file = fs::File::options().append(true).open(self.0.join(name)).expect("it is there");
        file.set_modified(time).expect("it is ours");
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn sources_are_looked_at_and_what_is_made_of_them_is_not() {
    let folder = Folder::new();
    let before = folder.snapshot();
    for file in [
        "target/debug/x.o",
        "src/target/y.rs",
        "src/.lib.rs.swp",
        "src/lib.rs~",
        "src/made.wasm",
        "p.wasm",
        "node_modules/a.js",
        ".taskhost/lock",
        "README.md",
    ] {
        folder.write(file, "x");
    }
    assert_eq!(folder.snapshot().difference(&before), None);
    for (file, expected) in [
        ("src/lib.rs", "src/lib.rs has changed"),
        ("src/deep/new.rs", "src/deep/new.rs has come"),
        ("data.txt", "data.txt has changed"),
        ("Cargo.toml", "Cargo.toml has changed"),
    ] {
        let before = folder.snapshot();
        folder.write(file, "another one");
        assert_eq!(folder.snapshot().difference(&before).as_deref(), Some(expected));
    }
    let before = folder.snapshot();
    fs::remove_file(folder.0.join("src/deep/new.rs")).expect("it is there");
    assert_eq!(folder.snapshot().difference(&before).as_deref(), Some("src/deep/new.rs is gone"));
    // A manifest that is being written is a change as well.
    let before = folder.snapshot();
    folder.write("plugin.toml", "name = ");
    assert!(folder.snapshot().difference(&before).is_some());
}

#[test]
fn packages_are_folders_of_sources() {
    let folder = Folder::new();
    folder.write("plugin.toml", "name = \"p\"\n[build]\nlanguage = \"python\"\n");
    for file in ["app.py", "package/deep/a.py", ".venv/lib/b.py", "node_modules/c.py"] {
        folder.write(file, "x");
    }
    let before = folder.snapshot();
    for file in [".venv/lib/b.py", "node_modules/c.py"] {
        folder.write(file, "longer");
    }
    assert_eq!(folder.snapshot().difference(&before), None);
    folder.write("package/deep/a.py", "longer");
    assert!(folder.snapshot().difference(&before).is_some_and(|why| why.ends_with("a.py has changed")));
}

#[test]
fn what_a_build_writes_itself_is_no_change() {
    let folder = Folder::new();
    let before = folder.snapshot();
    folder.write("Cargo.lock", "made by cargo");
    let built = before.clone().with_locks_of(&folder.snapshot());
    assert_eq!(folder.snapshot().difference(&built), None);
    assert!(folder.snapshot().difference(&before).is_some());
    // But what somebody changes meanwhile is.
    folder.write("src/lib.rs", "changed while it was built");
    let built = before.with_locks_of(&folder.snapshot());
    assert_eq!(folder.snapshot().difference(&built).as_deref(), Some("src/lib.rs has changed"));
}

#[test]
fn a_component_is_built_at_the_start_only_if_it_is_older_than_its_sources() {
    let folder = Folder::new();
    assert_eq!(folder.snapshot().staleness().as_deref(), Some("there is no component"));
    folder.write("p.wasm", "made");
    let now = SystemTime::now();
    folder.date("p.wasm", now + Duration::from_secs(10));
    assert_eq!(folder.snapshot().staleness(), None);
    folder.date("src/lib.rs", now + Duration::from_secs(20));
    assert_eq!(folder.snapshot().staleness().as_deref(), Some("src/lib.rs is newer than the component"));
    // Built again, with the same outcome.
    folder.write(".taskhost/built", "");
    folder.date(".taskhost/built", now + Duration::from_secs(30));
    assert_eq!(folder.snapshot().staleness(), None);
}

#[test]
fn only_plugins_that_say_how_they_are_built_are() {
    let folder = Folder::new();
    let parent = folder.0.join("plugins");
    for (name, manifest) in [
        ("plugins/a/plugin.toml", "name = \"a\"\n[build]\nlanguage = \"go\"\n"),
        ("plugins/b/plugin.toml", "name = \"b\"\n"),
        ("plugins/c/plugin.toml", "name = \n[build]\n"),
        ("plugins/d/other.toml", "[build]\n"),
    ] {
        folder.write(name, manifest);
    }
    let found: Vec<PathBuf> = find(&parent);
    assert_eq!(found, [parent.join("a"), parent.join("c")]);
    assert_eq!(find(&folder.0), std::slice::from_ref(&folder.0));
    assert_eq!(find(Path::new("/nowhere")), Vec::<PathBuf>::new());
}
