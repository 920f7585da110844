//! Builds plugins and test guests of every language, and puts each component where the host looks for it.
//!
//! Those in Rust cargo builds, and it decides what needs rebuilding; all others `host plugin build` does. A component that
//! did not change keeps its file untouched, so that a host which watches the folder does not reload.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::tools::{self, Found, Tools};
use crate::{Result, cargo};

mod find;
mod rust;

pub(crate) use find::Guest;

/// `cargo xtask plugins [NAME..]`: gives those that could be built on this machine.
pub(crate) fn run(names: &[String]) -> Result<Vec<Guest>> {
    let root = crate::root()?;
    let mut guests = find::all(&root)?;
    if let Some(unknown) = names.iter().find(|name| !guests.iter().any(|guest| guest.name == **name)) {
        let known: Vec<_> = guests.iter().map(|guest| guest.name.as_str()).collect();
        return Err(format!("no plugin or guest is called `{unknown}`; there are: {}", known.join(", ")));
    }
    if !names.is_empty() {
        guests.retain(|guest| names.contains(&guest.name));
    }
    let (ours, others): (Vec<_>, Vec<_>) = guests.into_iter().partition(|guest| guest.language == "rust");
    if !ours.is_empty() {
        rust::build(&root, &ours)?;
    }
    let mut built = ours;
    if !others.is_empty() {
        build_with_host(&root, others, &mut built)?;
    }
    Ok(built)
}

/// Has the host build those whose tools can be had, language by language.
fn build_with_host(root: &Path, mut guests: Vec<Guest>, built: &mut Vec<Guest>) -> Result<()> {
    guests.sort_by(|a, b| a.language.cmp(&b.language));
    let mut host: Option<PathBuf> = None;
    for of_one in guests.chunk_by(|a, b| a.language == b.language) {
        let language = &of_one[0].language;
        let found = match tools::obtain(language)? {
            Tools::Ready(found) => found,
            Tools::Missing(reason) => {
                for guest in of_one {
                    say(&format!("skipped: {} ({language}): {reason}", shown(&guest.folder, root)));
                }
                continue;
            }
        };
        let host = match &host {
            Some(host) => host.clone(),
            None => {
                say("building the host, which builds the rest (the first time takes some minutes)");
                host.insert(cargo::build_host(root)?).clone()
            }
        };
        for guest in of_one {
            host_builds(&host, guest, &found, root)?;
            built.push(guest.clone());
        }
    }
    Ok(())
}

fn host_builds(host: &Path, guest: &Guest, tools: &Found, root: &Path) -> Result<()> {
    let started = Instant::now();
    let mut command = Command::new(host);
    command.args(["plugin", "build"]).arg(&guest.folder).current_dir(root).stdin(Stdio::null());
    // Its own configuration is not this machine's user's; what it compiles tests find where they look.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("HOST_") {
            command.env_remove(name);
        }
    }
    command.env("HOST_PLUGINS_CACHE", host.with_file_name("it-cache").join("taskhost/compiled"));
    command.env("HOST_PLUGINS_CACHE_KEY", host.with_file_name("it-state").join("taskhost/cache.key"));
    // Python's takes long where much else is built.
    command.env("HOST_LIMITS_COMPILE_TIME", "10m");
    command.env_remove("LD_LIBRARY_PATH");
    tools.equip(&mut command);
    let status = command.status().map_err(|error| format!("start {}: {error}", host.display()))?;
    let folder = shown(&guest.folder, root);
    if !status.success() {
        return Err(format!("cannot build {folder}: `host plugin build` ended with {status}"));
    }
    say(&format!("{folder} ({}) is built ({:.1} s)", guest.language, started.elapsed().as_secs_f32()));
    Ok(())
}

fn shown(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn say(message: &str) {
    eprintln!("plugins: {message}");
}
