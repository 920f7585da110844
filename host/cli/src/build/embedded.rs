//! What the binary brings along: templates of plugins, SDKs, and the interface in WIT.
//!
//! `build.rs` decides what is in it.

use std::path::Path;

use anyhow::Context;

use crate::exit::Failure;

/// Files by their names, which are sorted: `templates/LANG/..`, `sdk/LANG/..`, `wit/..`, and `workspace.toml`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files of a folder, named from there.
pub(crate) fn folder(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(move |(name, content)| {
        let rest = name.strip_prefix(folder)?.strip_prefix('/')?;
        Some((rest, *content))
    })
}

/// The text of a file that is known to be there.
pub(crate) fn text(name: &str) -> &'static str {
    let found = FILES.binary_search_by(|(other, _)| (*other).cmp(name));
    let (_, content) = FILES[found.unwrap_or_else(|_| panic!("{name} is not in this binary"))];
    std::str::from_utf8(content).expect("it is text")
}

/// Writes a file, and the folders on the way to it. One that is there already with this content stays as it is.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if std::fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?)
}

/// Writes the interface into a folder as tools of WIT expect it: `task.wit`, `sdk.wit` and `deps/`.
pub(crate) fn write_wit(to: &Path) -> Result<(), Failure> {
    folder("wit").try_for_each(|(name, content)| write(&to.join(name), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_and_found() {
        assert!(FILES.is_sorted());
        assert!(text("wit/task.wit").starts_with("/// What a plugin exports"));
        assert!(folder("sdk/rust").any(|(name, _)| name == "src/lib.rs"));
    }

    #[test]
    fn what_is_only_for_working_on_an_sdk_stays_out() {
        for (name, _) in FILES.iter().filter(|(name, _)| name.starts_with("sdk/")) {
            for part in ["/tests/", "/test/", "/node_modules/", "/target/", "/__pycache__/", "/."] {
                assert!(!name.contains(part), "{name}");
            }
        }
    }
}
