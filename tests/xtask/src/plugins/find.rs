//! Finds the plugins of the checkout, and what each is written in.
//!
//! The host reads manifests properly; here it takes a few words of them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// Where plugins are, at any depth, and whether a crate without a manifest is a guest there.
const PLACES: [(&str, bool); 4] =
    [("plugins", false), ("tests/guests", true), ("tests/celery", false), ("examples", false)];

/// Folders in which there are none.
const NOT_IN: [&str; 5] = ["target", "node_modules", "sdk", "src", "__pycache__"];

/// One folder to build and the file it becomes.
#[derive(Clone)]
pub(crate) struct Guest {
    /// As its component is called.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(crate) component: PathBuf,
    /// As `plugin.toml` has it.
    pub(super) language: String,
}

impl Guest {
    /// The end of the variable that tells tests of it: where it is, without the places that most are in.
    pub(crate) fn variable(&self, root: &Path) -> String {
        let folder = self.folder.strip_prefix(root).unwrap_or(&self.folder);
        let short = ["plugins", "tests/guests"].iter().find_map(|place| folder.strip_prefix(place).ok());
        let path = short.unwrap_or(folder).to_string_lossy().to_uppercase();
        path.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
    }
}

/// All of them, in the order of their folders.
pub(super) fn all(root: &Path) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for (place, bare) in PLACES {
        look_into(&root.join(place), bare, &mut guests)?;
    }
    guests.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(guests)
}

fn look_into(folder: &Path, bare: bool, guests: &mut Vec<Guest>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let (folder, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if !folder.is_dir() || name.starts_with('.') || NOT_IN.contains(&&*name) {
            continue;
        }
        match guest(&folder, &name, bare)? {
            Some(guest) => guests.push(guest),
            None => look_into(&folder, bare, guests)?,
        }
    }
    Ok(())
}

fn guest(folder: &Path, name: &str, bare: bool) -> Result<Option<Guest>> {
    let (manifest, is_crate) = (folder.join("plugin.toml"), folder.join("Cargo.toml").exists());
    let (component, language) = if manifest.exists() {
        let text = fs::read_to_string(&manifest).map_err(|error| format!("read {}: {error}", manifest.display()))?;
        let word = |table, key| word(&text, table, key).map_err(|what| format!("{}: {what}", manifest.display()));
        let language = word("build", "language")?.or_else(|| is_crate.then(|| "rust".to_owned()));
        (word("", "component")?, language)
    } else {
        (None, (bare && is_crate).then(|| "rust".to_owned()))
    };
    let Some(language) = language else { return Ok(None) };
    let component = component.unwrap_or_else(|| format!("{name}.wasm"));
    let name = component.strip_suffix(".wasm").unwrap_or(&component).to_owned();
    Ok(Some(Guest { component: folder.join(component), name, folder: folder.to_owned(), language }))
}

/// The text that a key of a table has; the table without a name is what stands before the first.
fn word(text: &str, table: &str, key: &str) -> Result<Option<String>> {
    let mut current = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            current = name.split(']').next().unwrap_or_default().trim();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        if current != table || name.trim() != key {
            continue;
        }
        let text = value.trim().strip_prefix('"').and_then(|rest| rest.split('"').next());
        return text.map(|text| Some(text.to_owned())).ok_or_else(|| format!("`{key}` must be a text in quotes"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_component_and_language() {
        let text =
            "name = \"a\"\ncomponent = \"b.wasm\"\n[limits]\nlanguage = \"x\"\n[build] # how\nlanguage = \"go\"\n";
        assert_eq!(word(text, "", "component"), Ok(Some("b.wasm".to_owned())));
        assert_eq!(word(text, "build", "language"), Ok(Some("go".to_owned())));
        assert_eq!(word(text, "build", "entry"), Ok(None));
        assert!(word("component = 1\n", "", "component").is_err());
    }

    #[test]
    fn every_plugin_of_the_checkout_is_found_wherever_it_lies() {
        let root = crate::root().unwrap();
        let guests = all(&root).unwrap();
        for folder in ["plugins/demo", "tests/guests/noop", "tests/guests/contract/rust", "tests/celery/plugin"] {
            assert!(guests.iter().any(|guest| guest.folder == root.join(folder)), "{folder}");
        }
        let variables: Vec<_> = guests.iter().map(|guest| guest.variable(&root)).collect();
        for variable in ["DEMO", "NOOP", "CONTRACT_RUST", "TESTS_CELERY_PLUGIN"] {
            assert!(variables.iter().any(|name| name == variable), "{variable}: {variables:?}");
        }
    }
}
