//! Runs cargo on the workspace.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The cargo that started us, to be run at the top of the checkout.
pub(crate) fn command(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned()));
    command.current_dir(root).stdin(Stdio::null());
    command
}

/// Builds the host as a user gets it, without what tests switch on in its dependencies, and gives the binary.
pub(crate) fn build_host(root: &Path) -> Result<PathBuf> {
    let mut command = command(root);
    command.args(["build", "--package", "host", "--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cannot build the host: cargo ended with {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages, "host").ok_or_else(|| "cargo named no binary `host`".to_owned())
}

/// The path of a binary among cargo's messages, one JSON object a line.
pub(crate) fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let paths = messages.lines().filter_map(|line| line.split_once(r#""executable":""#)?.1.split('"').next());
    let mut paths = paths.map(|path| PathBuf::from(path.replace(r"\\", r"\")));
    paths.find(|path| path.file_name() == Some(OsStr::new(&file)))
}
