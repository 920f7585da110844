//! Builds plugins in Rust: cargo makes a component by itself, for a target that the compiler needs to have.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use serde::Deserialize;

use super::project::Project;
use super::tool;
use crate::exit::Failure;

const TARGET: &str = "wasm32-wasip2";

const CDYLIB: &str = "\
Cargo.toml needs these lines, and the tasks are in src/lib.rs:
[lib]
crate-type = [\"cdylib\"]";

/// Makes the component.
pub(crate) fn build(project: &Project, say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, Failure> {
    let compiler = Compiler::find(&project.dir)?;
    say(&format!("compiling with {}", compiler.version));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    cargo.current_dir(&project.dir).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().context("cannot start `cargo`")?;
    if !output.status.success() {
        return Err(tool::failed(&project.name, "cargo", output.status));
    }
    let path = artifact(&String::from_utf8_lossy(&output.stdout), &project.dir)?;
    Ok(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?)
}

/// The rustc that cargo will use.
struct Compiler {
    version: String,
}

impl Compiler {
    fn find(dir: &Path) -> Result<Self, Failure> {
        let chosen = env::var_os("RUSTC").filter(|value| !value.is_empty());
        let rustc = chosen.unwrap_or_else(|| OsString::from("rustc"));
        if tool::in_path("cargo").is_none() {
            return Err(Failure::from(anyhow!("a plugin in Rust is built by cargo, and there is none in PATH")).hint(
                "to install Rust: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --target wasm32-wasip2",
            ));
        }
        // rustup chooses by the folder, too.
        let ask = |arguments: &[&str]| tool::output(Command::new(&rustc).args(arguments).current_dir(dir));
        let version = ask(&["--version"]).context("the Rust compiler does not work")?;
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"]).context("the Rust compiler does not work")?);
        if has_target(&sysroot) {
            return Ok(Self { version });
        }
        let hint = if sysroot.starts_with("/usr") {
            "for a compiler of Debian: sudo apt-get install libstd-rust-dev-wasm32"
        } else {
            "to add it: rustup target add wasm32-wasip2"
        };
        let error = anyhow!("{version} in {} cannot make components: it lacks the target {TARGET}", sysroot.display());
        Err(Failure::from(error).hint(hint))
    }
}

fn has_target(sysroot: &Path) -> bool {
    let Ok(entries) = fs::read_dir(sysroot.join("lib/rustlib").join(TARGET).join("lib")) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

/// One line of what cargo prints.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

/// The component that the package in this folder makes, or the only one that any package of a workspace makes.
fn artifact(messages: &str, dir: &Path) -> Result<PathBuf, Failure> {
    let mut found = Vec::new();
    let mut built = false;
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
        if message.reason != "compiler-artifact" {
            continue;
        }
        let here = message.manifest_path.is_some_and(|path| path.parent() == Some(dir));
        built |= here;
        let cdylib = message.target.is_some_and(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
        let component = message.filenames.into_iter().find(|path| path.extension().is_some_and(|end| end == "wasm"));
        if let Some(path) = component.filter(|_| cdylib) {
            found.push((here, path));
        }
    }
    // A package that is here is the plugin, whatever else was built for it.
    found.retain(|(here, _)| *here || !built);
    match found.len() {
        1 => Ok(found.remove(0).1),
        0 => Err(Failure::from(anyhow!("the package makes no component: it is no library of the kind `cdylib`"))
            .hint(CDYLIB)),
        _ => {
            let hint = "put plugin.toml beside the Cargo.toml of the package that is the plugin";
            Err(Failure::from(anyhow!("the workspace makes {} components", found.len())).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(manifest: &str, kind: &str, file: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","target":{{"crate_types":["{kind}"]}},"filenames":["{file}"],"fresh":true}}"#
        )
    }

    #[test]
    fn the_component_is_that_of_the_package_in_the_folder() {
        let messages = [
            message("/deps/serde/Cargo.toml", "lib", "/t/libserde.rlib"),
            message("/p/Cargo.toml", "cdylib", "/t/images.wasm"),
            message("/p/other/Cargo.toml", "cdylib", "/t/other.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        assert_eq!(artifact(&messages, Path::new("/p")).unwrap(), PathBuf::from("/t/images.wasm"));
        let failure = artifact(&messages, Path::new("/workspace")).unwrap_err().to_string();
        assert!(failure.contains("makes 2 components"), "{failure}");
    }

    #[test]
    fn a_program_and_a_library_for_rust_are_no_plugins() {
        for (kind, file) in [("lib", "/t/libimages.rlib"), ("bin", "/t/images.wasm")] {
            let failure = artifact(&message("/p/Cargo.toml", kind, file), Path::new("/p")).unwrap_err().to_string();
            assert!(failure.contains(r#"crate-type = ["cdylib"]"#), "{failure}");
        }
    }
}
