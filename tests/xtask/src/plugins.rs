//! Builds the plugins and test guests that are written in Rust, and puts each component where the host looks for it.
//!
//! What needs rebuilding is cargo's decision; a component that did not change keeps its file untouched, so that
//! a host which watches the folder does not reload.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Result;
use crate::wasm_toolchain::{self, TARGET, Toolchain};

/// The first eight bytes of every component (version 0x0d, layer 1).
const COMPONENT_PREAMBLE: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// One folder to build and the file it becomes.
struct Guest {
    name: String,
    folder: PathBuf,
    component: PathBuf,
}

/// `cargo xtask plugins [NAME..]`.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let root = crate::root()?;
    let mut guests = find(&root)?;
    if let Some(unknown) = names.iter().find(|name| !guests.iter().any(|guest| guest.name == **name)) {
        let known: Vec<_> = guests.iter().map(|guest| guest.name.as_str()).collect();
        return Err(format!("no Rust plugin or guest is called `{unknown}`; there are: {}", known.join(", ")));
    }
    if !names.is_empty() {
        guests.retain(|guest| names.contains(&guest.name));
    }
    let toolchain = Toolchain::obtain()?;
    let target_dir = target_dir(&root)?.join("guests");
    eprintln!("plugins: {} to build with {}", guests.len(), toolchain.version);
    for guest in &guests {
        let started = Instant::now();
        let built = build(guest, &root, &toolchain, &target_dir)?;
        let (state, bytes) = place(&built, &guest.component)?;
        let path = guest.component.strip_prefix(&root).unwrap_or(&guest.component);
        let seconds = started.elapsed().as_secs_f32();
        eprintln!("plugins: {} {state}: {} ({} KiB, {seconds:.1} s)", guest.name, path.display(), bytes / 1024);
    }
    Ok(())
}

/// A plugin is a folder of `plugins` with a `plugin.toml`, or the one of `tests/celery`, a guest any folder of
/// `tests/guests`; only those with a `Cargo.toml` are ours. Each is called as its component is.
fn find(root: &Path) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for (parent, needs_manifest) in [("plugins", true), ("tests/guests", false), ("tests/celery", true)] {
        let Ok(entries) = fs::read_dir(root.join(parent)) else { continue };
        for entry in entries.flatten() {
            let folder = entry.path();
            let manifest = folder.join("plugin.toml");
            if !folder.join("Cargo.toml").exists() || (needs_manifest && !manifest.exists()) {
                continue;
            }
            let name = entry.file_name();
            let component = component_name(&manifest)?.unwrap_or_else(|| format!("{}.wasm", name.to_string_lossy()));
            let name = component.strip_suffix(".wasm").unwrap_or(&component).to_owned();
            guests.push(Guest { component: folder.join(component), name, folder });
        }
    }
    guests.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(guests)
}

/// The `component` of a manifest, which stands before its first table. The host reads the rest of it properly.
fn component_name(manifest: &Path) -> Result<Option<String>> {
    if !manifest.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(manifest).map_err(|error| format!("read {}: {error}", manifest.display()))?;
    for line in text.lines().take_while(|line| !line.trim_start().starts_with('[')) {
        let Some((key, value)) = line.split_once('=') else { continue };
        if key.trim() != "component" {
            continue;
        }
        let name = value.trim().strip_prefix('"').and_then(|rest| rest.split('"').next());
        return match name {
            Some(name) => Ok(Some(name.to_owned())),
            None => Err(format!("{}: `component` must be a file name in quotes", manifest.display())),
        };
    }
    Ok(None)
}

/// Cargo marks its target folder, and this program lies in it.
fn target_dir(root: &Path) -> Result<PathBuf> {
    let program = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    Ok(marked.map_or_else(|| root.join("target"), Path::to_owned))
}

/// Runs cargo in the guest's folder and gives the file it made.
fn build(guest: &Guest, root: &Path, toolchain: &Toolchain, target_dir: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    wasm_toolchain::isolate(&mut command);
    command
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(target_dir)
        .current_dir(&guest.folder)
        .env("RUSTC", &toolchain.rustc)
        .env("PATH", toolchain.path())
        .env("CARGO_ENCODED_RUSTFLAGS", remapped(root))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cannot build {}: cargo ended with {}", guest.folder.display(), output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    artifact(&messages).ok_or_else(|| {
        let manifest = guest.folder.join("Cargo.toml");
        format!("{} builds no component: it needs `[lib]` with `crate-type = [\"cdylib\"]`", manifest.display())
    })
}

/// Panics name source files; without this a component would depend on where the checkout and cargo's folder lie.
fn remapped(root: &Path) -> OsString {
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(root);
    flags.push("=.");
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    if let Some(folder) = cargo_home {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(folder);
        flags.push("=cargo");
    }
    flags
}

/// The last `.wasm` among cargo's messages, one JSON object a line.
fn artifact(messages: &str) -> Option<PathBuf> {
    let artifacts = messages.lines().filter(|line| line.contains(r#""reason":"compiler-artifact""#));
    let mut files = artifacts.flat_map(|line| line.split('"')).filter(|word| word.ends_with(".wasm"));
    files.next_back().map(|file| PathBuf::from(file.replace(r"\\", r"\")))
}

/// Copies the component, in one step and only if it differs, and says what happened and how large it is.
fn place(built: &Path, component: &Path) -> Result<(&'static str, usize)> {
    let bytes = fs::read(built).map_err(|error| format!("read {}: {error}", built.display()))?;
    if !bytes.starts_with(&COMPONENT_PREAMBLE) {
        return Err(format!("{} is not a WebAssembly component", built.display()));
    }
    if fs::read(component).is_ok_and(|present| present == bytes) {
        return Ok(("unchanged", bytes.len()));
    }
    let temporary = component.with_extension(format!("wasm.tmp{}", std::process::id()));
    fs::write(&temporary, &bytes).map_err(|error| format!("write {}: {error}", temporary.display()))?;
    fs::rename(&temporary, component).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        format!("replace {}: {error}", component.display())
    })?;
    Ok(("built", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_last_wasm_file_that_cargo_names() {
        let messages = r#"{"reason":"compiler-artifact","filenames":["/t/release/libtaskhost.rlib"]}
{"reason":"build-script-executed","out_dir":"/t/x.wasm"}
{"reason":"compiler-artifact","filenames":["C:\\t\\demo.wasm"],"executable":null}
{"reason":"build-finished","success":true}"#;
        assert_eq!(artifact(messages), Some(PathBuf::from(r"C:\t\demo.wasm")));
        assert_eq!(artifact(""), None);
    }
}
