//! Programs of a language: where they are, which version, and what they say.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};

use crate::exit::Failure;

/// The program of this name in `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    in_folders(name, env::split_paths(&path))
}

/// The program of this name in one of these folders.
pub(crate) fn in_folders(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    folders.into_iter().map(|folder| folder.join(&name)).find(|path| path.is_file())
}

/// The same advice in the words of this machine.
pub(crate) fn by_system(linux: &'static str, macos: &'static str) -> &'static str {
    if cfg!(target_os = "macos") { macos } else { linux }
}

/// What a command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{name}`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(anyhow!("`{name}` ended with {}: {}", output.status, complaint.trim()))
}

/// Runs a compiler: people see everything that it says, on stderr. `name` is what they call it.
pub(crate) fn run(command: &mut Command, name: &str, what: &str) -> Result<(), Failure> {
    command.stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().with_context(|| format!("cannot start `{name}`"))?;
    if status.success() { Ok(()) } else { Err(failed(what, name, status)) }
}

/// Why there is no component; the compiler has said what is wrong.
pub(crate) fn failed(what: &str, name: &str, status: std::process::ExitStatus) -> Failure {
    Failure::from(anyhow!("cannot build {what}: `{name}` ended with {status}; what it found is above"))
}

/// The first numbers with dots between them in a text, such as `[1, 25, 3]`.
pub(crate) fn version(text: &str) -> Option<Vec<u32>> {
    let start = text.find(|letter: char| letter.is_ascii_digit())?;
    let rest = &text[start..];
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    rest[..end].trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(version("go version go1.25.3 linux/amd64"), Some(vec![1, 25, 3]));
        assert_eq!(version("v22.4.0"), Some(vec![22, 4, 0]));
        assert_eq!(version("componentize-py 0.25.1"), Some(vec![0, 25, 1]));
        assert_eq!(version("Debian clang version 22"), Some(vec![22]));
        assert_eq!(version("none"), None);
        assert!(version("go1.9").unwrap() < vec![1, 25]);
    }
}
