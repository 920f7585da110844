//! Builds plugins by a command of their own: `command` under `[build]` in `plugin.toml`.

use std::fs;
use std::process::Command;

use anyhow::anyhow;

use super::project::{MANIFEST, Project};
use super::tool;
use crate::exit::Failure;

/// Runs the command in the project's folder, and takes what it made: `entry`, or else the component itself.
pub(crate) fn build(project: &Project, command: &[String], say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, Failure> {
    let (program, arguments) = command.split_first().expect("it was checked when it was read");
    say(&format!("running {}", command.join(" ")));
    tool::run(Command::new(program).args(arguments).current_dir(&project.dir), program, &project.name)?;
    let made = match &project.settings.entry {
        Some(entry) => project.dir.join(entry),
        None => project.component.clone(),
    };
    fs::read(&made).map_err(|error| {
        let hint = format!("`entry` under [build] in {MANIFEST} says which file the command makes");
        Failure::from(anyhow!("cannot read what `{program}` should have made, {}: {error}", made.display())).hint(hint)
    })
}
