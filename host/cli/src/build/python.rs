//! Builds plugins in Python with componentize-py: the interpreter, the SDK and the project's modules, already imported.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};

use super::embedded;
use super::fingerprint::Fingerprint;
use super::project::Project;
use super::tool;
use crate::exit::Failure;

/// What it generates differs from one series to the next, and the SDK is written for this one.
const VERSION: [u32; 2] = [0, 25];
const INSTALL: &str = "python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1";

/// The folder of programs in a virtual environment.
const BIN: &str = if cfg!(windows) { "Scripts" } else { "bin" };

const ENTRY: &str = "app.py";

/// What componentize-py imports: the SDK, which imports the project's module.
const MAIN: &str = "_taskhost_plugin";

/// The SDK puts what it wants to say about the project's code between these lines.
const MARKS: [&str; 2] = ["<<<taskhost", "taskhost>>>"];

/// Makes a component. It differs from build to build, so one from the same sources is taken again.
pub(crate) fn build(project: &Project, say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, Failure> {
    let tool = Tool::find(&project.dir)?;
    let module = Module::of(project)?;
    let sdk = sdk(project)?;
    let scratch = project.scratch()?;
    let (made, stamp) = (scratch.join("python.wasm"), scratch.join("python.stamp"));
    let fingerprint = fingerprint(project, &tool, &module, sdk.as_deref())?;
    if fs::read_to_string(&stamp).is_ok_and(|present| present == fingerprint)
        && let Ok(component) = fs::read(&made)
    {
        say(&format!("nothing has changed since it was compiled with {}", tool.version));
        return Ok(component);
    }
    say(&format!("compiling with {}", tool.version));
    let _ = fs::remove_file(&stamp);
    let main = scratch.join("python");
    let code = format!("from taskhost import _entry\n_entry.load({:?}, globals())\n", module.name);
    embedded::write(&main.join(MAIN).with_extension("py"), code.as_bytes())?;

    let mut command = tool.command(&project.dir);
    command.arg("-q").arg("-d").arg(project.our_wit()?).args(["-w", "sdk"]);
    if let Some(wit) = &project.settings.wit {
        command.arg("-d").arg(project.dir.join(wit));
    }
    if let Some(world) = &project.settings.world {
        command.arg("-w").arg(world);
    }
    command.args(["--full-names", "componentize", "-p"]).arg(&main).arg("-p").arg(&module.root);
    if let Some(sdk) = &sdk {
        command.arg("-p").arg(sdk.join("src"));
    }
    command.arg(MAIN).arg("-o").arg(&made);
    run(&mut command, project)?;
    fs::write(&stamp, fingerprint).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?)
}

/// The SDK, unless the package is installed in the environment.
fn sdk(project: &Project) -> Result<Option<PathBuf>, Failure> {
    if project.settings.sdk.is_none() && project.sdk().is_err() {
        return Ok(None);
    }
    let sdk = project.dir.join(project.sdk()?);
    let package = sdk.join("src/taskhost/_entry.py");
    if package.is_file() {
        Ok(Some(sdk))
    } else {
        Err(anyhow!("{} is no SDK: there is no {}", sdk.display(), package.display()).into())
    }
}

fn fingerprint(project: &Project, tool: &Tool, module: &Module, sdk: Option<&Path>) -> Result<String, Failure> {
    let mut fingerprint = Fingerprint::default();
    // The interface comes with the host.
    for text in [
        env!("CARGO_PKG_VERSION"),
        &tool.version,
        &module.name,
        embedded::text("wit/sdk.wit"),
        embedded::text("wit/task.wit"),
    ] {
        fingerprint.text(text);
    }
    fingerprint.text(project.settings.world.as_deref().unwrap_or_default());
    let own = project.settings.wit.iter().map(|wit| project.dir.join(wit));
    for path in own.chain([module.root.clone()]).chain(sdk.map(|sdk| sdk.join("src"))) {
        fingerprint.files(&path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    // Packages are not changed but replaced, and then have another version in their names.
    let libraries = tool.folder.parent().map(|environment| environment.join("lib"));
    for python in libraries.iter().flat_map(|libraries| fs::read_dir(libraries).into_iter().flatten().flatten()) {
        fingerprint.names(&python.path().join("site-packages"));
    }
    Ok(fingerprint.finish())
}

/// The module with the tasks.
struct Module {
    /// Where its name starts from.
    root: PathBuf,
    name: String,
}

impl Module {
    fn of(project: &Project) -> Result<Self, Failure> {
        let entry = project.entry(ENTRY);
        let path = project.dir.join(&entry);
        if !path.is_file() {
            let hint = "`entry` under [build] in plugin.toml names the file with the tasks";
            return Err(Failure::from(anyhow!("there is no {}", path.display())).hint(hint));
        }
        let mut name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut root = path.parent().unwrap_or(&project.dir).to_owned();
        while root.join("__init__.py").is_file() {
            name = format!("{}.{name}", root.file_name().unwrap_or_default().to_string_lossy());
            root.pop();
        }
        let importable = |part: &str| {
            let word = part.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
            word && part.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
        };
        if !name.split('.').all(importable) {
            let error = anyhow!("{} cannot be imported", entry.display());
            return Err(Failure::from(error).hint("rename it to what an identifier may be, such as my_app.py"));
        }
        Ok(Self { root, name })
    }
}

/// componentize-py, and where it is.
struct Tool {
    folder: PathBuf,
    version: String,
}

impl Tool {
    fn find(dir: &Path) -> Result<Self, Failure> {
        const NAME: &str = "componentize-py";
        let active = env::var_os("VIRTUAL_ENV").map(|environment| Path::new(&environment).join(BIN));
        let environments = [dir.join(".venv").join(BIN)].into_iter().chain(active);
        let program = tool::in_folders(NAME, environments).or_else(|| tool::in_path(NAME));
        let here = env::current_dir().is_ok_and(|here| here == dir);
        let hint = if here {
            format!("to install it: {INSTALL}")
        } else {
            format!("to install it: cd {} && {INSTALL}", dir.display())
        };
        let Some(program) = program else {
            let error =
                anyhow!("a plugin in Python is built by componentize-py 0.25.1, and there is none in .venv or in PATH");
            return Err(Failure::from(error).hint(hint));
        };
        let version = tool::output(Command::new(&program).arg("--version"))?;
        if tool::version(&version).is_none_or(|found| !found.starts_with(&VERSION)) {
            let error = anyhow!("a plugin in Python is built by componentize-py 0.25.1, and this is {version}");
            return Err(Failure::from(error).hint(hint));
        }
        let folder = program.parent().unwrap_or(dir).to_owned();
        Ok(Self { folder, version })
    }

    /// It asks the first Python in `PATH` where packages are: those of the project are meant, and no others.
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(self.folder.join("componentize-py"));
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = [self.folder.clone()].into_iter().chain(env::split_paths(&inherited));
        if let Ok(path) = env::join_paths(path) {
            command.env("PATH", path);
        }
        command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        match self.folder.parent().filter(|environment| environment.join("pyvenv.cfg").is_file()) {
            Some(environment) => command.env("VIRTUAL_ENV", environment),
            None => command.env_remove("VIRTUAL_ENV"),
        };
        command.env("RUST_BACKTRACE", "0").env("PYTHONDONTWRITEBYTECODE", "1").current_dir(dir);
        command
    }
}

fn run(command: &mut Command, project: &Project) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output().context("cannot start `componentize-py`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = [&*output.stdout, &*output.stderr].concat();
    eprintln!("{}", complaint(&String::from_utf8_lossy(&said)));
    Err(tool::failed(&project.name, "componentize-py", output.status))
}

/// Of all that it says, what is about the project's code.
fn complaint(said: &str) -> String {
    let lines = said.lines();
    let marked = lines.clone().skip_while(|line| line.trim() != MARKS[0]).skip(1);
    let marked: Vec<_> = marked.take_while(|line| line.trim() != MARKS[1]).collect();
    if !marked.is_empty() {
        return marked.join("\n");
    }
    let about_itself = |line: &&str| ["Caused by:", "Stack backtrace:"].contains(&line.trim());
    lines.take_while(|line| !about_itself(line)).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::testing;

    #[test]
    fn the_module_is_named_from_where_its_package_begins() {
        let dir = testing::project("python", &["app.py", "src/shop/__init__.py", "src/shop/tasks.py", "my-app.py"]);
        let mut project = Project::open(dir.path()).unwrap();
        let module = Module::of(&project).unwrap();
        assert_eq!((module.name.as_str(), &module.root), ("app", &project.dir));
        project.settings.entry = Some("src/shop/tasks.py".into());
        let module = Module::of(&project).unwrap();
        assert_eq!((module.name.as_str(), &module.root), ("shop.tasks", &project.dir.join("src")));
        for (entry, problem) in [("my-app.py", "cannot be imported"), ("gone.py", "there is no")] {
            project.settings.entry = Some(entry.into());
            let failure = Module::of(&project).map(drop).unwrap_err().to_string();
            assert!(failure.contains(problem), "{failure}");
        }
    }

    #[test]
    fn only_what_is_about_the_projects_code_is_shown() {
        let said = "thread panicked\n<<<taskhost\nTraceback (most recent call last):\n  ZeroDivisionError\ntaskhost>>>\nCaused by:\n  x\n";
        assert_eq!(complaint(said), "Traceback (most recent call last):\n  ZeroDivisionError");
        assert_eq!(complaint("ModuleNotFoundError: yaml\n\nCaused by:\n    0: trap\n"), "ModuleNotFoundError: yaml");
    }
}
