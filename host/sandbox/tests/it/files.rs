//! The guest that does with files what it is told.

use std::collections::BTreeMap;
use std::path::Path;

use sandbox::{Grant, Limits};
use taskhost_core::{Outcome, PluginName};

use crate::world::World;

/// A world with the guest `files`, which needs this and is granted that; none if it is not built.
pub(crate) async fn world(needs: &str, grant: &[(&str, &[&str])]) -> Option<World> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/files/files.wasm");
    let Ok(component) = std::fs::read(path) else {
        skip(&format!("{path} is not there; `cargo xtask plugins files` builds it"));
        return None;
    };
    let mut granted = Grant::default();
    for (option, entries) in grant {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        granted.set(option, &entries).unwrap_or_else(|problem| panic!("{option}: {problem}"));
    }
    let grants = BTreeMap::from([(PluginName::parse("files").expect("a name"), granted)]);
    let manifest = format!("name = \"files\"\n[needs]\n{needs}\n");
    let files = [("files/plugin.toml", manifest.into_bytes()), ("files/files.wasm", component)];
    Some(World::with_grants(Limits::default(), grants, &files).await)
}

#[expect(clippy::print_stdout, reason = "libtest shows it and `cargo xtask test` counts it")]
fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// What came of each step; a step is what is between the braces of its JSON.
pub(crate) async fn steps(world: &World, steps: &[&str]) -> Vec<String> {
    let steps: Vec<String> = steps.iter().map(|step| format!("{{{step}}}")).collect();
    match world.run(world.call("files.run", &format!("[[{}]]", steps.join(", ")))).await.outcome {
        Outcome::Success(json) => json.elements().map(|text| text.as_text().expect("a text").into_owned()).collect(),
        other => panic!("{steps:?}: {other:?}"),
    }
}

/// Does steps, each with what has to come of it.
#[track_caller]
pub(crate) fn check<'a>(world: &'a World, expected: &'a [(&'a str, &'a str)]) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let told = steps(world, &expected.iter().map(|(step, _)| *step).collect::<Vec<_>>()).await;
        for ((step, expected), told) in expected.iter().zip(&told) {
            assert_eq!(told, expected, "{step} at {caller}");
        }
    }
}

/// Whatever is in a folder.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = dir.read_dir().expect("the folder is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
