//! Takes what `host plugin new` writes and `host plugin build` needs into the binary: templates, SDKs, and the interface.
//!
//! What is embedded is read by `src/build/embedded.rs`. Files that are only for working on an SDK stay out.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The name of each part in the binary, where it is, and whether its tests belong to it.
const PARTS: [(&str, &str, bool); 4] = [
    ("templates", "templates", true),
    ("sdk", "../../sdk", false),
    ("wit", "../../wit", false),
    ("workspace.toml", "../../Cargo.toml", false),
];

/// Folders that tools make.
const MADE: [&str; 4] = ["target", "node_modules", "__pycache__", "dist"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut found = Vec::new();
    for (name, place, with_tests) in PARTS {
        collect(name, &root.join(place), with_tests, &mut found);
    }
    found.sort();
    let mut code = String::from("&[\n");
    for (name, path) in &found {
        writeln!(code, "    ({name:?}, include_bytes!({path:?})),").expect("text grows");
    }
    code.push(']');
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("embedded.rs");
    fs::write(&output, code).unwrap_or_else(|error| panic!("write {}: {error}", output.display()));
    println!("cargo:rerun-if-changed=build.rs");
}

/// Adds the files of a folder, or one file. Cargo is told of the folder as a whole, so that it sees new files; of one
/// with folders in it that tools write to, only what we look at.
fn collect(name: &str, path: &Path, with_tests: bool, found: &mut Vec<(String, PathBuf)>) {
    if path.is_file() {
        println!("cargo:rerun-if-changed={}", path.display());
        found.push((name.to_owned(), path.to_owned()));
        return;
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let mut volatile = false;
    let mut kept = Vec::new();
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let file_name = entry.file_name().into_string().unwrap_or_else(|name| panic!("{name:?} is not UTF-8"));
        let made = file_name.starts_with('.') || MADE.contains(&&*file_name) || file_name.ends_with(".egg-info");
        if made {
            volatile = true;
        } else if with_tests || !is_test(&file_name) {
            kept.push((format!("{name}/{file_name}"), entry.path()));
        }
    }
    if !volatile {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    for (name, path) in kept {
        collect(&name, &path, with_tests, found);
    }
}

fn is_test(name: &str) -> bool {
    ["tests", "test", "testdata"].contains(&name) || name.ends_with("_test.go")
}
