//! What builds guests: made once in the cache folder, or found on the machine.
//!
//! How a guest is built is the business of `host plugin build`.

mod c;
mod go;
mod js;
mod python;

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::wasm_toolchain::Toolchain;

/// The languages that have an SDK, as `plugin.toml` has them.
const LANGUAGES: [&str; 5] = ["rust", "python", "js", "go", "c"];

/// The tools of one language.
pub(crate) enum Tools {
    Ready(Found),
    /// Why this machine cannot have them.
    Missing(String),
}

/// Where tools are.
#[derive(Default)]
pub(crate) struct Found {
    /// Folders that go in front of `PATH`.
    pub(crate) path: Vec<PathBuf>,
    /// Variables that the build needs.
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

impl Found {
    /// Gives a command these tools.
    pub(crate) fn equip(&self, command: &mut Command) {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let all = self.path.iter().cloned().chain(env::split_paths(&inherited));
        if let Ok(path) = env::join_paths(all) {
            command.env("PATH", path);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

/// The tools of a language, by the name that `plugin.toml` has for it.
pub(crate) fn obtain(language: &str) -> Result<Tools> {
    match language {
        "rust" => rust(),
        "c" => c::obtain(),
        "js" => js::obtain(),
        "python" => python::obtain(),
        "go" => go::obtain(),
        other => Ok(Tools::Missing(format!("nothing is known here about tools for {other}"))),
    }
}

fn rust() -> Result<Tools> {
    let toolchain = Toolchain::obtain()?;
    let variables = vec![("RUSTC", toolchain.rustc.into_os_string())];
    Ok(Tools::Ready(Found { path: toolchain.linkers, variables }))
}

/// `cargo xtask tools [LANGUAGE]`: prints what a shell needs so that `host plugin build` finds the tools of all languages, or of
/// that one, which then has to be had.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let named = arguments.first().map(String::as_str);
    if let Some(unknown) = named.filter(|name| !LANGUAGES.contains(name)) {
        return Err(format!("unknown language `{unknown}`; known are {}", LANGUAGES.join(", ")));
    }
    let mut path = Vec::new();
    let mut variables = BTreeMap::new();
    for language in LANGUAGES.into_iter().filter(|language| named.is_none_or(|named| named == *language)) {
        match obtain(language)? {
            Tools::Ready(found) => {
                path.extend(found.path);
                variables.extend(found.variables);
            }
            Tools::Missing(reason) if named.is_some() => return Err(reason),
            Tools::Missing(reason) => eprintln!("tools: not for {language}: {reason}"),
        }
    }
    let mut lines = String::new();
    for (name, value) in &variables {
        lines.push_str(&format!("export {name}={}\n", quoted(value)));
    }
    if !path.is_empty() {
        let folders = env::join_paths(&path).map_err(|error| format!("name the folders of tools: {error}"))?;
        lines.push_str(&format!("export PATH={}:\"$PATH\"\n", quoted(&folders)));
    }
    stdout().write_all(lines.as_bytes()).map_err(|error| format!("print: {error}"))
}

/// As one word of a shell.
fn quoted(text: &OsStr) -> String {
    format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        assert_eq!(quoted(OsStr::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
