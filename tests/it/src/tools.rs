//! What `host plugin build` needs for a language, on a machine that may have none of it.
//!
//! `cargo xtask tools` knows; it fetches what is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{COMPILER_PATIENCE, Process, Stream};
use crate::settings;

/// The variables with which a command finds the tools; none if they cannot be had, which is said.
pub fn of(language: &str) -> Option<Vec<(String, String)>> {
    let xtask = settings::required_path(settings::XTASK)?;
    let script = "tools=$(\"$0\" tools \"$1\") && eval \"$tools\" && env -0";
    let output = Command::new("sh").args(["-c", script]).arg(xtask).arg(language).output().expect("a shell is there");
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        settings::skip(&format!("there are no tools for {language}: {reason}"));
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let variables = text.split('\0').filter_map(|variable| variable.split_once('='));
    let new = variables.filter(|(name, value)| env::var(name).as_deref() != Ok(*value));
    Some(new.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Builds a program in Go that needs packages of others, to `program`; none if they cannot be had, which is said.
#[track_caller]
pub fn build_go(folder: &Path, program: PathBuf) -> Option<PathBuf> {
    let tools = of("go")?;
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(".").current_dir(folder).envs(tools);
    // Our plugins download nothing, and this does, from where this machine gets packages.
    match env::var_os("GOPROXY") {
        Some(proxy) => go.env("GOPROXY", proxy),
        None => go.env_remove("GOPROXY"),
    };
    let mut build = Process::start("go build", &mut go);
    if build.wait_within(COMPILER_PATIENCE).success() {
        return Some(program);
    }
    let complaint = build.written(Stream::Err);
    assert!(complaint.contains("Get \"") || complaint.contains("dial tcp"), "{complaint}");
    settings::skip(&format!("the packages of {} cannot be had: {complaint}", folder.display()));
    None
}
