//! Builds plugins in JavaScript and TypeScript: the SDK has a program for it, which Node.js runs.

use std::fs;
use std::process::Command;

use anyhow::{Context, anyhow};

use super::project::Project;
use super::tool;
use crate::exit::Failure;

const VERSION_MIN: u32 = 20;

/// Makes a component.
pub(crate) fn build(project: &Project, say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, Failure> {
    let hint = tool::by_system(
        "to install Node.js: sudo apt-get install nodejs npm; where that is too old: https://nodejs.org",
        "to install Node.js: brew install node",
    );
    if tool::in_path("node").is_none() {
        let what = "a plugin in TypeScript or JavaScript is built by Node.js, and there is no `node` in PATH";
        return Err(Failure::from(anyhow!(what)).hint(hint));
    }
    let version = tool::output(Command::new("node").arg("--version"))?;
    if tool::version(&version).is_none_or(|version| version < vec![VERSION_MIN]) {
        let error = anyhow!("a plugin needs Node.js {VERSION_MIN} or newer, and this is {version}");
        return Err(Failure::from(error).hint(hint));
    }
    say(&format!("compiling with Node.js {version}"));
    let sdk = project.dir.join(project.sdk()?);
    let out = project.scratch()?.join("js.wasm");
    let mut node = Command::new("node");
    node.arg(sdk.join("build.mjs")).arg("--project").arg(&project.dir).args(["--name", &project.name]);
    node.arg("--wit").arg(project.our_wit()?).arg("--out").arg(&out);
    if let Some(entry) = &project.settings.entry {
        node.arg("--entry").arg(entry);
    }
    node.current_dir(&project.dir);
    tool::run(&mut node, "node", &project.name)?;
    Ok(fs::read(&out).with_context(|| format!("cannot read {}", out.display()))?)
}
