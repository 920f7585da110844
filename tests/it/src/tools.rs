//! What `host plugin build` needs for a language, on a machine that may have none of it.
//!
//! `cargo xtask tools` knows; it fetches what is missing.

use std::env;
use std::process::Command;

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
