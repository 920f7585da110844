//! The shape of the source: who may depend on whom, and what every file begins with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Every package of the workspace: its folder, its name if that differs, and the packages of ours it may use.
const PACKAGES: &[(&str, &str, &[&str])] = &[
    ("host/core", "core", &[]),
    ("host/dial", "dial", &["core"]),
    ("host/broker", "broker", &["core", "dial"]),
    ("host/store", "store", &["core", "dial"]),
    ("host/sandbox", "sandbox", &["core"]),
    ("host/worker", "worker", &["core", "broker", "store"]),
    ("host/cli", "host", &["core", "dial", "broker", "store", "sandbox", "worker"]),
    ("sdk/rust", "taskhost", &["taskhost-macros"]),
    ("sdk/macros", "taskhost-macros", &[]),
    ("tests/bench", "bench", &["core", "broker", "sandbox"]),
    // What a user has is tested, not what a crate has.
    ("tests/it", "it", &[]),
    ("tests/xtask", "xtask", &[]),
];

/// What `core` may use from outside: nothing that waits, opens, listens or draws lots.
const PURE: &[&str] = &[
    "base64",
    "brotli-decompressor",
    "bytes",
    "bzip2",
    "flate2",
    "jiff",
    "lru",
    "lzma-rust2",
    "regex-automata",
    "rmp",
    "rsa",
    "rustc-hash",
    "ruzstd",
    "saphyr-parser",
    "sha2",
    "thiserror",
    "uuid",
    "x509-cert",
];

/// What `core` may not use from std.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::",
    "SystemTime",
    "Zoned::now",
    "Timestamp::now",
];

/// Modules of the ports' crates that are adapters, which one file alone may choose between.
const ADAPTERS: &[(&str, &[&str])] = &[
    ("broker", &["filesystem", "memory", "postgresql", "rabbitmq", "redis", "sqlite", "sqs"]),
    ("store", &["amqp", "filesystem", "memcached", "memory", "redis", "rpc", "sql", "sqlite"]),
];

#[test]
fn packages_depend_only_on_those_they_may_know() {
    let metadata = metadata();
    let mut problems = Vec::new();
    for package in packages(&metadata) {
        let Some((folder, _, allowed)) = PACKAGES.iter().find(|(_, name, _)| *name == package.name) else {
            problems.push(format!("{} is not in the list of this test", package.name));
            continue;
        };
        if !package.folder.ends_with(folder) {
            problems.push(format!("{} lies in {}, not in {folder}", package.name, package.folder.display()));
        }
        for dependency in &package.dependencies {
            let ours = PACKAGES.iter().any(|(_, name, _)| name == dependency);
            if ours && !allowed.contains(&&**dependency) {
                problems.push(format!("{} must not know {dependency}", package.name));
            }
            let heavy = ["wasmtime", "cranelift"].iter().any(|start| dependency.starts_with(start));
            if heavy && package.name != "sandbox" {
                problems.push(format!("{} must not name {dependency}", package.name));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn core_is_pure() {
    let metadata = metadata();
    let core = packages(&metadata).find(|package| package.name == "core").expect("there is a core");
    let foreign: Vec<_> = core.needed.iter().filter(|name| !PURE.contains(&&***name)).collect();
    assert!(foreign.is_empty(), "core does no I/O; if {foreign:?} is as pure, add it to the list here");
    for file in rust_files(&root().join("host/core/src")) {
        if file.file_name().is_some_and(|name| name == "golden.rs" || name == "tests.rs") {
            continue; // compiled for tests alone
        }
        let text = fs::read_to_string(&file).expect("it was listed");
        let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        for line in code.filter(|line| !line.trim_start().starts_with("//")) {
            let found = IMPURE.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}: {line}", file.display());
        }
    }
}

#[test]
fn versions_stand_in_the_workspace_table_alone() {
    let metadata = metadata();
    let mut problems = Vec::new();
    for package in packages(&metadata) {
        let manifest = package.folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("cargo has read it");
        let mut in_dependencies = false;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && !line.contains("workspace = true") {
                problems.push(format!("{}: {line}", manifest.display()));
            }
        }
    }
    assert!(problems.is_empty(), "dependencies without `workspace = true`: {problems:#?}");
}

#[test]
fn only_the_wiring_names_adapters() {
    let folder = root().join("host/cli/src");
    for file in rust_files(&folder).into_iter().filter(|file| !file.ends_with("wiring.rs")) {
        let text = fs::read_to_string(&file).expect("it was listed");
        for (name, adapters) in ADAPTERS {
            for adapter in *adapters {
                let path = format!("{name}::{adapter}");
                assert!(!text.contains(&path), "{} names {path}", file.display());
            }
        }
    }
}

#[test]
fn every_module_opens_with_a_sentence() {
    let files: Vec<_> = ["host", "sdk", "tests"].iter().flat_map(|folder| rust_files(&root().join(folder))).collect();
    assert!(files.len() > 50, "only {} files were found", files.len());
    let without: Vec<_> = files.iter().filter(|file| !opens_with_a_sentence(file)).collect();
    assert!(without.is_empty(), "files whose first paragraph is no `//! Sentence.`: {without:#?}");
}

fn opens_with_a_sentence(file: &Path) -> bool {
    let text = fs::read_to_string(file).expect("it was listed");
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let first: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    first.last().is_some_and(|end| end.ends_with(['.', ':']))
}

struct Package {
    name: String,
    folder: PathBuf,
    /// Names of all dependencies, those of tests among them.
    dependencies: BTreeSet<String>,
    /// Those without the ones of tests.
    needed: BTreeSet<String>,
}

fn packages(metadata: &Value) -> impl Iterator<Item = Package> {
    metadata["packages"].as_array().expect("cargo lists packages").iter().map(|package| {
        let dependencies = package["dependencies"].as_array().expect("cargo lists dependencies");
        let name = |value: &Value| value["name"].as_str().expect("everything has a name").to_owned();
        let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a package has a manifest"));
        Package {
            name: name(package),
            folder: manifest.parent().expect("a manifest lies in a folder").to_owned(),
            dependencies: dependencies.iter().map(name).collect(),
            needed: dependencies.iter().filter(|dependency| dependency["kind"] != "dev").map(name).collect(),
        }
    })
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let output = command.current_dir(root()).stdin(Stdio::null()).output().expect("there is a cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout exists")
}

/// All sources below a folder, without what was built there.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display())) {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
