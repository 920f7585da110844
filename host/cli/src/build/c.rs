//! Builds plugins in C and C++ with Zig's compiler, which brings a C library for WebAssembly, or with the WASI SDK.
//!
//! Paths are given as seen from the project's folder: tracebacks name source files by them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};

use super::project::{Project, with_extension};
use super::tool;
use crate::exit::Failure;

const ZIG_VERSION_MIN: [u32; 2] = [0, 13];

/// Zig takes assertions out of what it optimises, as nobody expects who writes `assert`.
const FLAGS: [&str; 6] = ["-Os", "-g", "-UNDEBUG", "-Wall", "-Wextra", "-Werror=return-type"];
const LINK: [&str; 2] = ["-mexec-model=reactor", "-Wl,-z,stack-size=524288"];
/// So that the stack cannot overflow into data; Zig does that by itself, and does not take the flag.
const STACK_FIRST: &str = "-Wl,--stack-first";
const CPP: [&str; 2] = ["-std=c++20", "-fno-exceptions"];
const CPP_EXTENSIONS: [&str; 3] = ["cc", "cpp", "cxx"];

const MISSING: &str = "to install one: python3 -m venv .venv && .venv/bin/pip install ziglang==0.17.1";

/// Makes a core module.
pub(crate) fn build(project: &Project, say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, Failure> {
    let compiler = Compiler::find(&project.dir)?;
    let sources = sources(project)?;
    let sdk = project.sdk()?;
    say(&format!("compiling {} with {}", files(sources.len()), compiler.version));

    let scratch = project.scratch()?.join("core");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make the folder {}", scratch.display()))?;
    let include = [Path::new("-I").as_os_str(), sdk.join("include").as_os_str(), "-I".as_ref(), ".".as_ref()]
        .map(ToOwned::to_owned);
    let mut inputs = Vec::new();
    let mut is_cpp = false;
    for source in sources {
        if !CPP_EXTENSIONS.iter().any(|extension| source.extension().is_some_and(|found| found == *extension)) {
            inputs.push(source);
            continue;
        }
        is_cpp = true;
        let object = scratch.join(source.to_string_lossy().replace(['/', '\\'], "-")).with_added_extension("o");
        let mut command = compiler.command("c++", &project.dir);
        command.args(CPP).args(FLAGS).args(&include).arg("-c").arg(&source).arg("-o").arg(&object);
        tool::run(&mut command, compiler.name(), &project.name)?;
        inputs.push(object);
    }
    let own = project.dir.join(sdk.join("src"));
    let own =
        with_extension(&own, "c").into_iter().map(|path| sdk.join("src").join(path.file_name().unwrap_or_default()));
    // Traps name the module by the file that it was written to.
    let module = scratch.join(format!("{}.wasm", project.name));
    let mut command = compiler.command("cc", &project.dir);
    command.args(LINK).args(FLAGS).args(&include).args(inputs).args(own);
    if matches!(compiler.kind, Kind::WasiSdk(_)) {
        command.arg(STACK_FIRST);
    }
    if is_cpp {
        command.arg("-lc++");
    }
    tool::run(command.arg("-o").arg(&module), compiler.name(), &project.name)?;
    Ok(fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?)
}

fn files(number: usize) -> String {
    if number == 1 { "1 file".to_owned() } else { format!("{number} files") }
}

/// The files to compile, as seen from the project's folder.
fn sources(project: &Project) -> Result<Vec<PathBuf>, Failure> {
    if let Some(entry) = &project.settings.entry {
        return Ok(vec![entry.clone()]);
    }
    let mut found = Vec::new();
    for folder in ["", "src"] {
        for extension in CPP_EXTENSIONS.into_iter().chain(["c"]) {
            let files = with_extension(&project.dir.join(folder), extension);
            found.extend(files.iter().filter_map(|path| Some(Path::new(folder).join(path.file_name()?))));
        }
    }
    let is_test = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_test"));
    found.retain(|path| !is_test(path));
    found.sort();
    if found.is_empty() {
        return Err(anyhow!(
            "{}: there are no sources (*.c or *.cpp) in it or in its folder src",
            project.dir.display()
        )
        .into());
    }
    Ok(found)
}

/// A compiler for WebAssembly, and how it is started.
struct Compiler {
    kind: Kind,
    version: String,
}

enum Kind {
    /// The folder `bin` of the WASI SDK.
    WasiSdk(PathBuf),
    /// Zig: a program, and what comes before its own arguments.
    Zig(PathBuf, &'static [&'static str]),
}

impl Compiler {
    fn find(dir: &Path) -> Result<Self, Failure> {
        if let Some(sdk) = env::var_os("WASI_SDK_PATH").filter(|value| !value.is_empty()) {
            let bin = Path::new(&sdk).join("bin");
            let clang = tool::in_folders("clang", [bin.clone()]);
            let clang =
                clang.ok_or_else(|| anyhow!("WASI_SDK_PATH is set, and there is no clang in {}", bin.display()))?;
            let version = tool::output(Command::new(clang).arg("--version"))?;
            let version = version.lines().next().unwrap_or_default().to_owned();
            return Ok(Self { kind: Kind::WasiSdk(bin), version });
        }
        let module = &["-m", "ziglang"];
        let venv = tool::in_folders("python", [dir.join(".venv/bin")]);
        let pythons = venv.into_iter().chain(["python3", "python"].iter().filter_map(|name| tool::in_path(name)));
        let zig = tool::in_path("zig").map(|zig| Kind::Zig(zig, &[]));
        let candidates = zig.into_iter().chain(pythons.map(|python| Kind::Zig(python, module)));
        for kind in candidates {
            let Kind::Zig(program, before) = &kind else { continue };
            // A Python that has no such module says so, and is not meant.
            let Ok(version) = tool::output(Command::new(program).args(*before).arg("version").current_dir(dir)) else {
                continue;
            };
            if tool::version(&version).is_none_or(|found| found < ZIG_VERSION_MIN.to_vec()) {
                let [major, minor] = ZIG_VERSION_MIN;
                let error = anyhow!("a plugin in C needs zig {major}.{minor} or newer, and this is {version}");
                return Err(Failure::from(error).hint(MISSING));
            }
            return Ok(Self { kind, version: format!("zig {version}") });
        }
        let what = "a plugin in C needs a compiler for WebAssembly, and there is none: no `zig` in PATH, no Python package `ziglang`, \
                    no WASI_SDK_PATH";
        Err(Failure::from(anyhow!(what)).hint(MISSING))
    }

    /// For people, however it is started.
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::WasiSdk(_) => "clang",
            Kind::Zig(..) => "zig",
        }
    }

    /// `cc` or `c++`.
    fn command(&self, language: &str, dir: &Path) -> Command {
        let mut command = match &self.kind {
            Kind::WasiSdk(bin) => {
                let mut command = Command::new(bin.join(if language == "c++" { "clang++" } else { "clang" }));
                command.arg("--target=wasm32-wasip1");
                command
            }
            Kind::Zig(program, before) => {
                let mut command = Command::new(program);
                command.args(*before).args([language, "-target", "wasm32-wasi"]);
                command
            }
        };
        command.current_dir(dir);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::testing;

    #[test]
    fn sources_are_those_of_the_folder_and_of_src_without_tests() {
        let dir =
            testing::project("c", &["main.c", "main_test.c", "src/b.cpp", "src/a.c", "tests/tests.c", "sdk/src/x.c"]);
        let project = Project::open(dir.path()).unwrap();
        let found: Vec<_> = sources(&project).unwrap().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(found, ["main.c", "src/a.c", "src/b.cpp"]);
    }
}
