//! Projects to try things with.

use std::fs;

/// A project in this language with these files, which are empty.
pub(crate) fn project(language: &str, files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let manifest = format!("name = \"images\"\n[build]\nlanguage = \"{language}\"\n");
    fs::write(dir.path().join("plugin.toml"), manifest).unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    dir
}
