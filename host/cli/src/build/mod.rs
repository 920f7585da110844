//! Makes the component of a plugin from its sources, in whichever language they are.
//!
//! What each language's tools are and how they are called its own file knows; this one does what all have in common.

mod c;
mod componentise;
mod custom;
mod embedded;
mod fingerprint;
mod go;
mod js;
mod language;
mod project;
mod python;
mod rust;
pub(crate) mod scaffold;
mod settings;
mod tool;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow};
use sandbox::{LoadError, PluginReport};

use crate::config::Config;
use crate::exit::Failure;
use crate::wiring;

use componentise::{Kind, Unexported, World};
pub(crate) use language::Language;
use project::Project;
use settings::Settings;

/// The file in a project that is as old as the last build that succeeded.
pub(crate) const BUILT: &str = ".taskhost/built";

/// A component that a worker would load.
#[derive(Debug)]
pub(crate) struct Built {
    /// Beside the manifest.
    pub(crate) component: PathBuf,
    /// False if the same component was there before.
    pub(crate) changed: bool,
    pub(crate) size_bytes: usize,
    pub(crate) report: PluginReport,
    /// What was done, and how many seconds it took.
    pub(crate) stages: Vec<(&'static str, f32)>,
}

/// What a component is made from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) component: PathBuf,
    /// Files and folders that are there.
    pub(crate) watched: Vec<PathBuf>,
}

/// Says what a change of which would change the component.
pub(crate) fn sources(dir: &Path) -> Result<Sources, Failure> {
    let project = Project::open(dir)?;
    Ok(Sources { watched: project.sources(), component: project.component })
}

/// Builds the plugin in this folder and puts the component beside its manifest, in one step, once it is known to be
/// good. `say` hears each stage; compilers write to stderr.
pub(crate) fn build(dir: &Path, config: &Config, say: &mut dyn FnMut(&str)) -> Result<Built, Failure> {
    let project = Project::open(dir)?;
    let _lock = project.lock(say)?;
    let present = fs::read(&project.component).ok();
    let mut stages = Stages::default();

    let made = stages.time("compiling", || match &project.settings.command {
        Some(command) => custom::build(&project, command, say),
        None => compile(&project, say),
    })?;
    let component = match Kind::of(&made) {
        Kind::Component => made,
        Kind::Module => {
            say("componentising");
            stages.time("componentising", || componentise(&project, made))?
        }
        Kind::Neither => return Err(anyhow!("what was built for {} is not WebAssembly", project.name).into()),
    };

    say("checking");
    let file_name = project.component.file_name().expect("it is a file");
    let candidate = project.scratch()?.join(file_name);
    fs::write(&candidate, &component).with_context(|| format!("cannot write {}", candidate.display()))?;
    let report = stages.time("checking", || check(&project, &candidate, config))?;
    for warning in &report.warnings {
        say(&format!("warning: {warning}"));
    }
    let ungranted = report.powers.iter().filter(|power| power.declared && !power.granted).count();
    if ungranted > 0 {
        say(&format!(
            "it declares what it is not granted yet: `host plugin grant {}` does that",
            shown(&project.dir).display()
        ));
    }

    // Says when, also if the component stays as it is.
    fs::write(project.dir.join(BUILT), b"").with_context(|| format!("cannot write {BUILT}"))?;
    // A worker that watches must not load the same again.
    let changed = present.is_none_or(|present| present != component);
    if changed {
        let what = || format!("cannot put the component at {}", project.component.display());
        fs::rename(&candidate, &project.component).with_context(what)?;
    } else {
        let _ = fs::remove_file(&candidate);
    }
    Ok(Built { changed, size_bytes: component.len(), report, stages: stages.done, component: project.component })
}

impl Built {
    /// What came of it, in one line.
    pub(crate) fn summary(&self) -> String {
        const NAMED: usize = 6;
        let names: Vec<_> = self.report.tasks.iter().map(|task| task.spec.name.as_str()).collect();
        let tasks = match names.len() {
            1 => format!("task {}", names[0]),
            number if number <= NAMED => format!("{number} tasks: {}", names.join(", ")),
            number => format!("{number} tasks"),
        };
        let times: Vec<_> = self.stages.iter().map(|(stage, seconds)| format!("{stage} {seconds:.1} s")).collect();
        let state = if self.changed { "" } else { "unchanged, " };
        let path = shown(&self.component);
        format!("{}: {state}{}, {tasks} ({})", path.display(), size(self.size_bytes), times.join(", "))
    }
}

/// As seen from here, if it is below.
fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|dir| dir.canonicalize()).ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    match below {
        Some(below) if below.as_os_str().is_empty() => PathBuf::from("."),
        below => below.unwrap_or_else(|| path.to_owned()),
    }
}

fn size(bytes: usize) -> String {
    const KIB: usize = 1024;
    if bytes < KIB * KIB {
        return format!("{} KiB", bytes.div_ceil(KIB));
    }
    format!("{:.1} MiB", bytes as f64 / (KIB * KIB) as f64)
}

/// What was done, and how long it took.
#[derive(Default)]
struct Stages {
    done: Vec<(&'static str, f32)>,
}

impl Stages {
    fn time<T>(&mut self, stage: &'static str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.done.push((stage, started.elapsed().as_secs_f32()));
        result
    }
}

/// Makes a component or a core module with the tools of the language.
fn compile(project: &Project, say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, Failure> {
    let Settings { wit, world, .. } = &project.settings;
    if matches!(project.language, Language::Rust | Language::Js) && (wit.is_some() || world.is_some()) {
        let error = anyhow!(
            "`wit` and `world` under [build] in plugin.toml say nothing to the tools of {}",
            project.language.title()
        );
        let hint = match project.language {
            Language::Rust => "the world is the one that the sources name, in `wit_bindgen::generate!`",
            _ => "the world is that of the SDK",
        };
        return Err(Failure::usage(error).hint(hint));
    }
    match project.language {
        Language::Rust => rust::build(project, say),
        Language::Python => python::build(project, say),
        Language::Js => js::build(project, say),
        Language::Go => go::build(project, say),
        Language::C => c::build(project, say),
    }
}

fn componentise(project: &Project, module: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let world = project.settings.world.as_deref();
    let world = match &project.settings.wit {
        Some(wit) => World::read(&project.dir.join(wit), world).context("cannot read the project's WIT")?,
        None => World::ours(world).context("cannot find the world that plugin.toml names")?,
    };
    componentise::componentise(module, &world).map_err(|error| {
        let without_sdk = error.downcast_ref::<Unexported>().is_some();
        let failure =
            Failure::from(error.context(format!("cannot make a component of what was built for {}", project.name)));
        if without_sdk { failure.hint(project.language.declaring()) } else { failure }
    })
}

/// Does what a worker would do with it, short of granting anything.
fn check(project: &Project, component: &Path, config: &Config) -> Result<PluginReport, Failure> {
    let sandbox = wiring::sandbox(config)?;
    let report = wiring::client_runtime()?.block_on(sandbox.check_built(&project.manifest(), component));
    let Some(reason) = &report.refused else { return Ok(report) };
    let failure = Failure::from(anyhow!("it was built, but a worker would refuse it: {reason}"));
    let exports_tasks = report.exports.iter().any(|name| name.starts_with("taskhost:task/tasks"));
    let unknown = report.imports.iter().any(|import| !import.known);
    if (!exports_tasks && !unknown) || *reason == LoadError::NoTasks.to_string() {
        return Err(failure.hint(project.language.declaring()));
    }
    Err(failure)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
