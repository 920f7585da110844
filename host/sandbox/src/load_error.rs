//! Why a plugin is refused, in the words that its author or operator needs.
//!
//! Decides nothing: whoever loads finds the reason.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use taskhost_core::{NameError, PluginName, TaskName};

use crate::abi;
use crate::capability::CapabilityError;
use crate::engine::EngineError;
use crate::grant::{Need, advice};
use crate::manifest::{self, ManifestError};
use crate::options::OptionError;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a plugin is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("read the component")]
    Read(#[source] std::io::Error),
    #[error("it is larger than {bytes_max} bytes; raise limits.component")]
    TooLarge { bytes_max: usize },
    #[error("it is empty")]
    Empty,
    #[error("it is not WebAssembly: the file does not start with `\\0asm`")]
    NotWasm,
    #[error(
        "it is a core module, not a component: build it for `wasm32-wasip2`, or turn it into a component \
         with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("it is precompiled machine code: only `.wasm` components are accepted, the host compiles them itself")]
    Precompiled,
    #[error("`{}` can be written by every user of this machine; `chmod o-w` takes that away", path.display())]
    Exposed { path: PathBuf },
    #[error("{why}; the worker has taken this version back, and takes it again once the file changes")]
    TakenBack { why: String },
    #[error("compile it")]
    Compile(#[source] BoxError),
    #[error("compiling it took longer than {} s; raise limits.compile_time", limit.as_secs_f64())]
    CompileTimedOut { limit: Duration },
    #[error("start threads that compile it")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    #[error("the compiler panicked")]
    CompilerPanicked,
    #[error("it imports {}, which this host does not have; `host plugin check` lists what it imports", join(unknown))]
    UnknownImports { unknown: Vec<String> },
    #[error(
        "it imports {}: this is WASI 0.3, which wasmtime calls unfinished; set `plugins.wasi_0_3 = true` in host.toml, or \
         build it for WASI 0.2",
        join(imports)
    )]
    Wasi03 { imports: Vec<String> },
    #[error(
        "it imports `{import}`, which only a component can use that exports `{}x` in place of `{}x`",
        abi::TASKS_ASYNC_SERIES,
        abi::TASKS_SERIES
    )]
    WaitingWithoutAsync { import: String },
    #[error("link its imports")]
    Link(#[source] BoxError),
    #[error(
        "it exports neither `{}x` nor functions of an interface that has a package, one of which makes a component a \
         plugin: {}; build it with a Taskhost SDK, export an interface such as `acme:images/thumbnails`, or say under \
         [exports] in {} which functions are tasks",
        abi::TASKS_SERIES,
        exported(exports),
        manifest::FILE_NAME
    )]
    NoTasksExport { exports: Vec<String> },
    #[error("none of the functions that it exports can be a task: {why}")]
    NoTypedTasks { why: String },
    #[error(
        "its exports `{first}` and `{second}` are both the task `{task}`: give one of them another name under [exports] in {}",
        manifest::FILE_NAME
    )]
    SameTaskOfTwoExports { task: TaskName, first: String, second: String },
    #[error("{} names the export `{key}`, and its functions are: {}", manifest::FILE_NAME, join(exports))]
    NoSuchExport { key: String, exports: Vec<String> },
    #[error(
        "{} names the export `{key}`, of which there are two versions: add the version, as in `a:b/c@1.0.0.d`",
        manifest::FILE_NAME
    )]
    ExportOfTwoVersions { key: String },
    #[error("{} has [exports], which only a component without `{}` can have", manifest::FILE_NAME, abi::TASKS_NAME)]
    ExportsOfTasks,
    #[error("instantiate it: {0}")]
    Instantiate(String),
    #[error(
        "it exports both `{}x` and `{}x`, and it is not clear which of them runs a task: export one of the two (in \
         the second, tasks that never wait are fine as well)",
        abi::TASKS_SERIES,
        abi::TASKS_ASYNC_SERIES
    )]
    BothTasks,
    #[error(
        "it exports `{found}`, but this host offers `{}x`: rebuild it with an SDK of that version",
        abi::TASKS_SERIES
    )]
    OtherVersion { found: String },
    #[error("its export `{interface}` is not the interface of this name")]
    Interface {
        interface: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("run asynchronous tasks")]
    Engine(#[from] EngineError),
    #[error("it declares {}", advice(plugin, missing))]
    NotGranted { plugin: PluginName, missing: Vec<Need> },
    #[error("its grant in host.toml is for the component with sha256 {pinned}, and this one has {found}")]
    OtherComponent { pinned: String, found: String },
    #[error("what it is granted cannot be had")]
    Capability(#[from] CapabilityError),
    #[error("`describe` took longer than {} s; raise limits.describe_time", limit.as_secs_f64())]
    DescribeTimedOut { limit: Duration },
    #[error("`describe` failed: {0}")]
    Describe(String),
    #[error("it describes no tasks")]
    NoTasks,
    #[error("task {number} of `describe`")]
    TaskName {
        number: usize,
        #[source]
        source: NameError,
    },
    #[error("it describes the task `{0}` twice")]
    TaskTwice(TaskName),
    #[error("task `{task}`: option `{option}` is `{value}`, which is not JSON")]
    OptionJson { task: TaskName, option: String, value: String },
    #[error("task `{task}`")]
    Option {
        task: TaskName,
        #[source]
        source: OptionError,
    },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("its file name is not a plugin name")]
    Name(#[from] NameError),
    #[error("`{0}` is what the worker's own tasks belong to: give the plugin another name")]
    ReservedName(PluginName),
    #[error("the plugin `{name}` is loaded from `{}` already", path.display())]
    SameName { name: PluginName, path: PathBuf },
    #[error("its task `{task}` is served by the plugin `{by}` already")]
    SameTask { task: TaskName, by: PluginName },
}

fn join(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn exported(names: &[String]) -> String {
    match names.is_empty() {
        true => "it exports nothing".to_owned(),
        false => format!("it exports {}", join(names)),
    }
}
