//! Builds plugins in Go: the stock compiler makes a core module for WASI's preview 1.

use std::fs;
use std::process::Command;

use anyhow::{Context, anyhow};

use super::project::Project;
use super::tool;
use crate::exit::Failure;

/// The first version that can export functions from a module that is no program.
const VERSION_MIN: [u32; 2] = [1, 25];

/// What is compiled unless the project says otherwise: the package in its folder.
const ENTRY: &str = ".";

/// A compiler that is too old is not to fetch another.
const LOCAL: &str = "local";

/// Makes a core module.
pub(crate) fn build(project: &Project, say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, Failure> {
    let hint = tool::by_system(
        "to install Go: curl -sSfL https://go.dev/dl/go1.25.5.linux-$(dpkg --print-architecture).tar.gz | sudo tar -C /usr/local -xz; \
         export PATH=/usr/local/go/bin:$PATH",
        "to install Go: brew install go",
    );
    if tool::in_path("go").is_none() {
        return Err(Failure::from(anyhow!("a plugin in Go is built by `go`, and there is none in PATH")).hint(hint));
    }
    let mut go = Command::new("go");
    let version = tool::output(go.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", LOCAL).current_dir(&project.dir))?;
    // One that was built from the sources of no release calls itself `devel`.
    let recent =
        version.starts_with("devel") || tool::version(&version).is_some_and(|found| found >= VERSION_MIN.to_vec());
    if !recent {
        let [major, minor] = VERSION_MIN;
        return Err(
            Failure::from(anyhow!("a plugin needs Go {major}.{minor} or newer, and this is {version}")).hint(hint)
        );
    }
    say(&format!("compiling with {version}"));
    let module = project.scratch()?.join("core.wasm");
    let mut go = Command::new("go");
    // The runtime's memory is reached by its name, which the linker lets nobody do without that flag.
    go.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w -checklinkname=0", "-o"]).arg(&module);
    go.arg(project.entry(ENTRY)).current_dir(&project.dir);
    go.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("CGO_ENABLED", "0"), ("GOTOOLCHAIN", LOCAL), ("GOWORK", "off")]);
    tool::run(&mut go, "go", &project.name)?;
    Ok(fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?)
}
