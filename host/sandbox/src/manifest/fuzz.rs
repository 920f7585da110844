//! A manifest is read or refused, never more: real ones (`tests/corpus/manifests`), changed at random.
//!
//! Runs for `TASKHOST_TEST_FUZZ_SECONDS`, a moment if that is not set.

use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Manifest, ManifestError};

const WORDS: &[&str] = &[
    "\"",
    "'''",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    "\n",
    ".",
    ",",
    "#",
    "\\u0000",
    "\\",
    "inf",
    "nan",
    "-0",
    "1e400",
    "9223372036854775808",
    "0x",
    "1979-05-27T07:32:00Z",
    "name",
    "limits",
    "needs",
    "tasks",
    "rollout",
    "memory",
    "\u{202e}",
    "\0",
    "MiB",
    "*",
    "://",
    "[::ffff:127.0.0.1]",
    ":rw",
    "@",
];

#[test]
fn a_manifest_is_read_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/manifests");
    let entries = folder.read_dir().expect("the corpus is in the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let corpus: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).expect("a file")).collect();
    assert!(corpus.iter().filter(|text| Manifest::parse(Path::new("plugin.toml"), text).is_ok()).count() > 1);

    let seconds = env::var("TASKHOST_TEST_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0.5);
    let target = bolero::check!().with_type::<(u8, Vec<(u8, u16, u8, u8)>)>();
    target.with_test_time(Duration::from_secs_f64(seconds)).for_each(|(which, changes)| {
        let mut text: Vec<char> = corpus[usize::from(*which) % corpus.len()].chars().collect();
        for &(what, at, one, two) in changes {
            let at = usize::from(at) % (text.len() + 1);
            let end = (at + usize::from(one)).min(text.len());
            match what % 5 {
                0 => text.iter_mut().skip(at).take(1).for_each(|char| *char = char::from(one)),
                1 => drop(text.drain(at..end)),
                2 => {
                    let again = text[at..end].repeat(usize::from(two % 16));
                    text.splice(at..at, again);
                }
                3 => text.insert(at, char::from_u32(u32::from(one) << 8 | u32::from(two)).unwrap_or('\u{fffd}')),
                _ => drop(text.splice(at..at, WORDS[usize::from(two) % WORDS.len()].chars())),
            }
        }
        let text: String = text.into_iter().collect();
        match Manifest::parse(Path::new("plugin.toml"), &text) {
            // Whatever it says, its component lies beside it.
            Ok(manifest) => assert_eq!(manifest.component.parent(), Some(Path::new(""))),
            Err(ManifestError::Content { line, what, .. }) => {
                assert!(line <= text.matches('\n').count() + 1 && !what.is_empty(), "line {line}: {what}");
            }
            Err(error) => panic!("{error}"),
        }
    });
}
