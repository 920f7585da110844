//! Loads a plugin: checks the file, compiles it, asks it what its tasks are.
//!
//! Touches no catalog: a plugin that cannot be loaded is an error with a reason, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use taskhost_core::builtin;
use taskhost_core::{PluginName, PluginVersion, RolloutTerms, TaskName, TaskSpec, Trap};
use tokio::sync::oneshot;
use tokio::time::timeout;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use crate::abi::exports::taskhost::task::tasks::TaskInfo;
use crate::abi::{self, Answer, Invocation};
use crate::answer;
use crate::capability::Capabilities;
use crate::ceiling;
use crate::clock::Deadlines;
use crate::component::Outline;
use crate::engine::{Engine, Engines, Kind};
use crate::grant::{self, Denial, Grant, Needs, Power};
use crate::instance::Guest;
use crate::invoke::{Broken, Ended, supervise};
use crate::limits::{Config, DESCRIBE_BYTES_MAX, Limits};
use crate::load_error::LoadError;
use crate::logs::{self, Speaker};
use crate::manifest::Manifest;
use crate::reuse::Line;
use crate::sandbox::Surroundings;
use crate::tasks;
use crate::typed;
use crate::usage::Totals;

/// One version of a plugin that can run attempts. Its code is freed with the last attempt that has it.
pub(crate) struct Plugin {
    pub(crate) version: PluginVersion,
    /// The one that has compiled it.
    pub(crate) engine: Arc<Engine>,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) entry: Entry,
    pub(crate) limits: Limits,
    /// The version as its log lines have it.
    pub(crate) label: logs::Version,
    pub(crate) exception_modules: Vec<String>,
    /// None, if it was granted nothing.
    pub(crate) capabilities: Option<Arc<Capabilities>>,
    /// Its instances that wait for another attempt; none, if each attempt has one of its own.
    pub(crate) line: Option<Line>,
    /// What its attempts have used.
    pub(crate) totals: Totals,
}

/// What is called for an attempt.
pub(crate) enum Entry {
    /// The exported function `run`, for all tasks.
    Run(ComponentExportIndex),
    /// For each task a function of its own.
    Typed(typed::Functions),
}

/// What is known about a plugin, for people. Of a refused one: as much as was found out before.
#[derive(Debug, Clone, Default)]
pub struct PluginReport {
    pub name: String,
    pub version: Option<String>,
    /// The component.
    pub path: PathBuf,
    /// In hexadecimal.
    pub sha256: String,
    /// What tells it from other versions; none, if the component could not be read.
    pub digest: Option<PluginVersion>,
    /// How it is tried, while it does not serve alone.
    pub trial: Option<RolloutTerms>,
    pub size_bytes: u64,
    pub compile_time: Duration,
    /// Attempts that one instance may run, one after the other. Of nothing that was read: none.
    pub reuse: u32,
    /// True if its tasks can wait for several things at a time.
    pub is_async: bool,
    pub exports: Vec<String>,
    pub imports: Vec<Import>,
    /// What the plugin declares and what it is granted.
    pub powers: Vec<Power>,
    pub tasks: Vec<TaskReport>,
    pub warnings: Vec<String>,
    /// Why the plugin cannot be used.
    pub refused: Option<String>,
}

/// Something that a component wants from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    pub name: String,
    /// True if this host has it.
    pub known: bool,
}

/// A task as its plugin describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    /// The task with its effective options.
    pub spec: TaskSpec,
    /// Its arguments and, where it is known, its result, in one line; none, if the plugin does not say them.
    pub signature: Option<String>,
    /// The definitions of types that have a name in it.
    pub types: Vec<String>,
    /// JSON Schema of the arguments, as the plugin wrote it.
    pub schema: Option<String>,
    /// The options that were set, by `describe` or the manifest, as JSON.
    pub options: Vec<(String, String)>,
}

/// Where a plugin comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: PluginName,
    /// The file that makes it a plugin: its manifest, or the component if there is none.
    pub(crate) origin: PathBuf,
    pub(crate) component: PathBuf,
    pub(crate) manifest: Option<Manifest>,
}

impl Source {
    /// A component without a manifest, named by its file.
    pub(crate) fn bare(path: &Path) -> Result<Self, LoadError> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = free(PluginName::parse(&stem)?)?;
        Ok(Self { name, origin: path.to_owned(), component: path.to_owned(), manifest: None })
    }

    /// A folder's manifest and the component that it names.
    pub(crate) fn manifest(path: &Path) -> Result<Self, LoadError> {
        let manifest = Manifest::read(path)?;
        let (name, component) = (free(manifest.name.clone())?, manifest.component.clone());
        Ok(Self { name, origin: path.to_owned(), component, manifest: Some(manifest) })
    }
}

impl PluginReport {
    pub(crate) fn new(source: &Source) -> Self {
        Self {
            name: source.name.to_string(),
            version: source.manifest.as_ref().and_then(|manifest| manifest.version.clone()),
            path: source.component.clone(),
            reuse: source.manifest.as_ref().map_or(1, |manifest| manifest.reuse),
            ..Self::default()
        }
    }
}

/// A name that a plugin may have.
fn free(name: PluginName) -> Result<PluginName, LoadError> {
    if name.as_str() == builtin::PLUGIN { Err(LoadError::ReservedName(name)) } else { Ok(name) }
}

/// A component that has been read and not been looked at.
pub(crate) struct Opened {
    bytes: Vec<u8>,
    limits: Limits,
    pub(crate) version: PluginVersion,
}

/// Reads a component, once: what is loaded is what was hashed.
pub(crate) async fn open(config: &Config, source: &Source, report: &mut PluginReport) -> Result<Opened, LoadError> {
    // Whoever can put another file there inherits what is granted to the name.
    let folder = source.component.parent().unwrap_or(Path::new("."));
    check_exposure(folder)?;
    check_exposure(&source.component)?;
    // A link is as good as the folder that it leads to.
    if let Some(folder) = source.component.canonicalize().ok().as_deref().and_then(Path::parent) {
        check_exposure(folder)?;
    }
    let wanted = source.manifest.as_ref().map(|manifest| manifest.limits.clone()).unwrap_or_default();
    let limits = ceiling::lower(&config.limits, &wanted, &mut report.warnings);
    let (path, bytes_max) = (source.component.clone(), limits.component_bytes);
    let (bytes, hash) = on_thread(move || read(&path, bytes_max)).await??;
    report.size_bytes = bytes.len() as u64;
    // The manifest is part of a version: it changes what the plugin may do, and how its tasks are treated.
    let version = match &source.manifest {
        Some(manifest) => PluginVersion::of(&hexadecimal(Sha256::digest([&*hash, &manifest.sha256].concat()))),
        None => PluginVersion::of(&hash),
    };
    report.sha256 = hash;
    report.digest = Some(version.clone());
    Ok(Opened { bytes, limits, version })
}

/// The rest of the way to a plugin. What is found out on it goes into the report.
pub(crate) async fn load(
    engines: &Engines,
    grant: Option<&Grant>,
    surroundings: &Arc<Surroundings>,
    source: &Source,
    opened: Opened,
    report: &mut PluginReport,
) -> Result<Plugin, LoadError> {
    let Opened { bytes, limits, version } = opened;
    check_kind(&bytes)?;

    let capabilities = empower(grant, surroundings, source, report);

    let outline = Outline::read(&bytes);
    let kind = outline.kind();
    let wasi_0_3 = engines.has_wasi_0_3();
    let known = |name: &str| abi::is_linked(name, kind, wasi_0_3);
    report.imports = outline.imports.into_iter().map(|name| Import { known: known(&name), name }).collect();
    report.exports = outline.exports;
    if !wasi_0_3 {
        // An engine for these is not even made.
        let imports: Vec<_> = report.imports.iter().filter(|import| abi::is_wasi_0_3(&import.name)).collect();
        if !imports.is_empty() {
            return Err(LoadError::Wasi03 { imports: imports.into_iter().map(|import| import.name.clone()).collect() });
        }
    }
    let waiting = report.imports.iter().find(|import| import.name.starts_with(abi::WAITING_SERIES));
    if let Some(import) = waiting
        && report.exports.iter().any(|name| name.starts_with(abi::TASKS_SERIES))
        && !report.exports.iter().any(|name| name.starts_with(abi::TASKS_ASYNC_SERIES))
    {
        return Err(LoadError::WaitingWithoutAsync { import: import.name.clone() });
    }
    let engine = engines.of(kind)?;

    let started = Instant::now();
    let component = compile(&engine, bytes, &report.sha256, limits.compile_time).await?;
    let component = component.map_err(|error| LoadError::Compile(error.into_boxed_dyn_error()))?;
    report.compile_time = started.elapsed();

    let no_exports = BTreeMap::new();
    let renamed = source.manifest.as_ref().map_or(&no_exports, |manifest| &manifest.exports);
    let linked = link(&engine, &component, kind, renamed, report)?;
    let capabilities = capabilities?;
    let label = label(report);
    let speaker = Speaker::Plugin(source.name.clone(), Arc::clone(&label));
    let described = describe(&engine, &linked, &limits, surroundings, speaker).await?;
    let infos = match &linked.interface {
        Interface::Ours { .. } => described,
        Interface::Own(functions) => functions.iter().map(|(name, function)| function.describe(name)).collect(),
    };
    report.tasks = tasks::read(infos, source, &version, &mut report.warnings)?;
    let entry = match linked.interface {
        Interface::Ours { run, .. } => Entry::Run(run),
        Interface::Own(functions) => {
            for (task, (_, function)) in report.tasks.iter_mut().zip(&functions) {
                task.signature = Some(function.signature());
                task.types = function.types();
            }
            Entry::Typed(functions.into_iter().map(|(name, function)| (name, Arc::new(function))).collect())
        }
    };
    for task in &mut report.tasks {
        task.spec.plugin_concurrency = limits.plugin_concurrency;
    }
    let exception_modules =
        source.manifest.as_ref().map(|manifest| manifest.exception_modules.clone()).unwrap_or_default();
    let totals = Totals::new(report.tasks.iter().map(|task| task.spec.name.clone()));
    if kind == Kind::Concurrent && report.reuse > 1 {
        // What an attempt has begun and not waited for would go on in the next one.
        report.warnings.push(format!(
            "the manifest lets an instance run {} attempts, which is not for asynchronous tasks: each attempt has an \
             instance of its own",
            report.reuse
        ));
        report.reuse = 1;
    }
    let line = (report.reuse > 1).then(|| engine.rooms.line(report.reuse));
    let pre = linked.pre;
    Ok(Plugin { version, engine, pre, entry, limits, label, exception_modules, capabilities, line, totals })
}

/// Refuses what any user of the machine could replace.
#[cfg(unix)]
pub(crate) fn check_exposure(path: &Path) -> Result<(), LoadError> {
    use std::os::unix::fs::PermissionsExt;
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    // What is not there is the next step's trouble.
    let exposed = path.metadata().is_ok_and(|meta| meta.permissions().mode() & WRITABLE_BY_OTHERS != 0);
    if exposed { Err(LoadError::Exposed { path: path.to_owned() }) } else { Ok(()) }
}

#[cfg(not(unix))]
pub(crate) fn check_exposure(_path: &Path) -> Result<(), LoadError> {
    Ok(())
}

/// What the plugin may do: what it declares, if all of that is granted.
fn empower(
    grant: Option<&Grant>,
    surroundings: &Surroundings,
    source: &Source,
    report: &mut PluginReport,
) -> Result<Option<Arc<Capabilities>>, LoadError> {
    let plugin = &source.name;
    let (no_needs, no_grant) = (Needs::new(), Grant::default());
    let needs = source.manifest.as_ref().map_or(&no_needs, |manifest| &manifest.needs);
    let grant = grant.unwrap_or(&no_grant);
    report.powers = grant::side_by_side(needs, grant);
    let powers = grant::meet(needs, grant, &report.sha256).map_err(|denial| match denial {
        Denial::Missing(missing) => LoadError::NotGranted { plugin: plugin.clone(), missing },
        Denial::OtherComponent { pinned } => LoadError::OtherComponent { pinned, found: report.sha256.clone() },
    })?;
    let worth_pinning: Vec<&str> = [
        (!powers.secrets.is_empty(), "secrets"),
        (powers.sockets.is_some(), "sockets"),
        (!powers.publish.is_empty(), "calls of other tasks"),
    ]
    .into_iter()
    .filter_map(|(is_granted, what)| is_granted.then_some(what))
    .collect();
    if !worth_pinning.is_empty() && grant.sha256.is_none() {
        let what = worth_pinning.join(" and ");
        report.warnings.push(format!(
            "its {what} are granted to whatever file has the name `{plugin}`: add `sha256 = \"{}\"` to \
             [grants.\"{plugin}\"] of host.toml",
            report.sha256
        ));
    }
    let capabilities = Capabilities::fetch(powers, &surroundings.scratches, &mut report.warnings)?;
    Ok(capabilities.map(Arc::new))
}

/// Reading takes seconds for a large component.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(|_panicked| LoadError::CompilerPanicked)
}

/// Compiles on threads of its own, which nobody waits for once the time is over: a compiler cannot be
/// stopped, and neither the worker, nor a command that ends, nor the next plugin may hang on one.
async fn compile(
    engine: &Engine,
    bytes: Vec<u8>,
    sha256: &str,
    limit: Duration,
) -> Result<wasmtime::Result<Component>, LoadError> {
    let (wasm, cache, sha256) = (engine.wasm.clone(), engine.cache.clone(), sha256.to_owned());
    if let Some(cache) = &cache {
        let (wasm, cache, sha256) = (wasm.clone(), cache.clone(), sha256.clone());
        if let Some(component) = on_thread(move || cache.get(&wasm, &sha256)).await? {
            return Ok(Ok(component));
        }
    }
    let (done, compiled) = oneshot::channel();
    let threads = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("wasm-compiler-{n}"));
    let threads = threads.num_threads(engine.compiler_threads).build();
    // The compiler spreads its work over the pool that it is called in. The threads end when it is done.
    threads.map_err(LoadError::Threads)?.spawn(move || {
        let component = Component::from_binary(&wasm, &bytes);
        if let (Some(cache), Ok(component)) = (&cache, &component) {
            cache.put(&wasm, &sha256, component);
        }
        drop(done.send(component));
    });
    match timeout(limit, compiled).await {
        Ok(compiled) => compiled.map_err(|_panicked| LoadError::CompilerPanicked),
        Err(_elapsed) => Err(LoadError::CompileTimedOut { limit }),
    }
}

fn read(path: &Path, bytes_max: usize) -> Result<(Vec<u8>, String), LoadError> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(LoadError::Read)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(LoadError::Read)?;
    if bytes.len() > bytes_max {
        return Err(LoadError::TooLarge { bytes_max });
    }
    let hash = hexadecimal(Sha256::digest(&bytes));
    Ok((bytes, hash))
}

pub(crate) fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says what a file is that is not a component. Whether it is a good component shows in compiling it.
fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(LoadError::Precompiled);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm);
    }
    if bytes.starts_with(CORE_MODULE) {
        return Err(LoadError::CoreModule);
    }
    Ok(())
}

/// A component that can be instantiated, and the functions that make it a plugin.
struct Linked {
    pre: InstancePre<Guest>,
    interface: Interface,
}

/// Where those functions are.
enum Interface {
    /// In one of ours.
    Ours { describe: ComponentExportIndex, run: ComponentExportIndex },
    /// In one of its own, each for a task.
    Own(Vec<(TaskName, typed::Function)>),
}

fn link(
    engine: &Engine,
    component: &Component,
    kind: Kind,
    renamed: &BTreeMap<String, TaskName>,
    report: &mut PluginReport,
) -> Result<Linked, LoadError> {
    let exports = &report.exports;
    let has = |series: &str| exports.iter().any(|name| name.starts_with(series));
    let ours = match (has(abi::TASKS_SERIES), has(abi::TASKS_ASYNC_SERIES)) {
        (true, false) => Some((abi::TASKS_NAME, abi::TASKS)),
        (false, true) => Some((abi::TASKS_ASYNC_NAME, abi::TASKS_ASYNC)),
        (true, true) => return Err(LoadError::BothTasks),
        (false, false) => None,
    };
    let mut found = typed::Found::default();
    if ours.is_none() {
        let ours = [abi::TASKS_NAME, abi::TASKS_ASYNC_NAME];
        let other = exports.iter().find(|name| name.split('@').next().is_some_and(|name| ours.contains(&name)));
        if let Some(found) = other {
            return Err(LoadError::OtherVersion { found: found.clone() });
        }
        found = typed::find(&engine.wasm, component, kind == Kind::Concurrent, renamed)?;
        if found.functions.is_empty() {
            return Err(LoadError::NoTasksExport { exports: exports.clone() });
        }
        report.warnings.extend(found.warnings);
    } else if !renamed.is_empty() {
        return Err(LoadError::ExportsOfTasks);
    }
    let is_async = found.functions.iter().any(|(_, function)| function.is_async);
    report.is_async = is_async || ours.is_some_and(|(_, export)| export == abi::TASKS_ASYNC);
    for import in report.imports.iter_mut().filter(|import| !import.known) {
        import.known = has_only_types(engine, component, &import.name);
    }
    let unknown: Vec<_> = report.imports.iter().filter(|import| !import.known).map(|i| i.name.clone()).collect();
    if !unknown.is_empty() {
        return Err(LoadError::UnknownImports { unknown });
    }
    let pre = engine.linker.instantiate_pre(component);
    let pre = pre.map_err(|error| LoadError::Link(error.into_boxed_dyn_error()))?;
    let Some((interface, export)) = ours else {
        return Ok(Linked { pre, interface: Interface::Own(found.functions) });
    };
    let tasks = component.get_export_index(None, export);
    let function = |name| {
        let found = tasks.as_ref().and_then(|tasks| component.get_export_index(Some(tasks), name));
        found.ok_or_else(|| LoadError::Interface { interface, source: format!("it has no function `{name}`").into() })
    };
    Ok(Linked { pre, interface: Interface::Ours { describe: function("describe")?, run: function("run")? } })
}

/// True for an imported interface whose types are used and that has nothing to call: it needs nobody who has it.
fn has_only_types(engine: &Engine, component: &Component, import: &str) -> bool {
    let import = component.component_type().get_import(&engine.wasm, import).map(|import| import.ty);
    let Some(ComponentItem::ComponentInstance(interface)) = import else { return false };
    let mut parts = interface.exports(&engine.wasm).peekable();
    parts.peek().is_some() && parts.all(|(_, part)| matches!(part.ty, ComponentItem::Type(_)))
}

/// What log lines call this version: what the manifest does, if it does, and else the start of the hash.
fn label(report: &PluginReport) -> logs::Version {
    const HASH_DIGITS: usize = 12;
    const CHARS_MAX: usize = 64;
    match &report.version {
        Some(version) => version.chars().filter(|char| !char.is_control()).take(CHARS_MAX).collect::<String>().into(),
        None => report.sha256.get(..HASH_DIGITS).unwrap_or_default().into(),
    }
}

/// Calls `describe` in an instance of its own, under limits. Of a plugin that has no such function only the instance is
/// made, which shows whether that can be done.
async fn describe(
    engine: &Engine,
    linked: &Linked,
    limits: &Limits,
    surroundings: &Arc<Surroundings>,
    speaker: Speaker,
) -> Result<Vec<TaskInfo>, LoadError> {
    let limit = limits.describe_time;
    let deadlines = Deadlines::new(Instant::now(), limit, None, false);
    let guest = Guest::new(deadlines, speaker, *limits, Arc::clone(surroundings), None);
    let mut room = None;
    let mut store = guest.into_store(engine, DESCRIBE_BYTES_MAX);
    let call = async {
        room = Some(engine.room().await);
        let instance = linked.pre.instantiate_async(&mut store).await.map_err(Broken::Instantiate)?;
        let Interface::Ours { describe, run } = &linked.interface else { return Ok(Vec::new()) };
        let describe = instance.get_typed_func::<(), (Vec<TaskInfo>,)>(&mut store, describe);
        let describe = describe.map_err(Broken::Instantiate)?;
        // Whether every attempt will find what it needs.
        let run = instance.get_typed_func::<(Invocation<'_>,), (Answer,)>(&mut store, run);
        let _ = run.map_err(Broken::Instantiate)?;
        let (infos,) = describe.call_async(&mut store, ()).await.map_err(Broken::Call)?;
        Ok(infos)
    };
    let (ended, _) = supervise(call, std::future::pending(), &deadlines, limits.cpu_time, None).await;
    store.data().finish_output();
    match ended {
        Ended::Returned(Ok(infos)) => Ok(infos),
        Ended::Returned(Err(broken)) => {
            let limits = Limits { result_bytes: DESCRIBE_BYTES_MAX, ..*limits };
            let words = answer::words(&answer::trap(&broken, store.data(), &limits));
            Err(match linked.interface {
                Interface::Ours { .. } => LoadError::Describe(words),
                Interface::Own(_) => LoadError::Instantiate(words),
            })
        }
        Ended::CpuTime(limit) => Err(LoadError::Describe(answer::words(&Trap::CpuTimeLimit { limit }))),
        Ended::Soft | Ended::Hard | Ended::Cancelled => Err(LoadError::DescribeTimedOut { limit }),
    }
}
