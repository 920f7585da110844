//! Builds guests in Rust with the cargo that started us.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Guest, say, shown};
use crate::Result;
use crate::wasm_toolchain::{self, TARGET, Toolchain};

/// The first eight bytes of every component (version 0x0d, layer 1).
const COMPONENT_PREAMBLE: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Builds all of them, in one target folder.
pub(super) fn build(root: &Path, guests: &[Guest]) -> Result<()> {
    let toolchain = Toolchain::obtain()?;
    let target_dir = target_dir(root)?.join("guests");
    say(&format!("{} to build with {}", guests.len(), toolchain.version));
    for guest in guests {
        let started = Instant::now();
        let built = compile(guest, root, &toolchain, &target_dir)?;
        let (state, bytes) = place(&built, &guest.component)?;
        let path = shown(&guest.component, root);
        let seconds = started.elapsed().as_secs_f32();
        say(&format!("{} {state}: {path} ({} KiB, {seconds:.1} s)", guest.name, bytes / 1024));
    }
    Ok(())
}

/// Cargo marks its target folder, and this program lies in it.
fn target_dir(root: &Path) -> Result<PathBuf> {
    let program = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    Ok(marked.map_or_else(|| root.join("target"), Path::to_owned))
}

/// Runs cargo in the guest's folder and gives the file it made.
fn compile(guest: &Guest, root: &Path, toolchain: &Toolchain, target_dir: &Path) -> Result<PathBuf> {
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
