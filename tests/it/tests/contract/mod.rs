//! What every SDK can do: one suite, run against the same plugin written in each language.
//!
//! The plugins are in `tests/guests/contract/`, and `README.md` there says what each task does. What a language cannot do is
//! said in [`Language`], and nowhere else.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use it::{Engine, Host, Site, settings};
use serde_json::{Value, json};

/// Makes each scenario a test in every language.
macro_rules! in_every_language {
    ($($scenario:ident)*) => {
        mod rust {
            $(#[test] fn $scenario() { crate::contract::Contract::test(&crate::contract::RUST, super::$scenario) })*
        }
        mod python {
            $(#[test] fn $scenario() { crate::contract::Contract::test(&crate::contract::PYTHON, super::$scenario) })*
        }
        mod js {
            $(#[test] fn $scenario() { crate::contract::Contract::test(&crate::contract::JS, super::$scenario) })*
        }
        mod go {
            $(#[test] fn $scenario() { crate::contract::Contract::test(&crate::contract::GO, super::$scenario) })*
        }
        mod c {
            $(#[test] fn $scenario() { crate::contract::Contract::test(&crate::contract::C, super::$scenario) })*
        }
    };
}

mod arguments;
mod calling;
mod ending;
mod surroundings;

/// A language that has the plugin.
pub(crate) struct Language {
    /// The variable that names its component.
    component: &'static str,
    /// True if a traceback names the functions between the task and the error.
    has_stacks: bool,
    /// One at a time compiles it for all tests; the rest find it in the cache.
    compiled: Mutex<bool>,
}

impl Language {
    const fn new(component: &'static str) -> Self {
        Self { component, has_stacks: true, compiled: Mutex::new(false) }
    }
}

/// Errors of Rust know where they became the task's, and their causes.
pub(crate) static RUST: Language = Language { has_stacks: false, ..Language::new("TASKHOST_TEST_CONTRACT_RUST") };
pub(crate) static PYTHON: Language = Language::new("TASKHOST_TEST_CONTRACT_PYTHON");
pub(crate) static JS: Language = Language::new("TASKHOST_TEST_CONTRACT_JS");
pub(crate) static GO: Language = Language::new("TASKHOST_TEST_CONTRACT_GO");
pub(crate) static C: Language = Language::new("TASKHOST_TEST_CONTRACT_C");

/// A site whose only plugin is the one of the contract.
pub(crate) struct Contract {
    pub(crate) site: Site,
    pub(crate) language: &'static Language,
}

/// All that the plugin declares.
const GRANT: &str = r#"
[grants.contract]
config = ["region=eu-west"]
secrets = ["key=env:CONTRACT_KEY"]
publish = ["*@*"]
results = ["any"]
keyvalue = ["cache"]
"#;

impl Contract {
    /// Runs a scenario, unless this machine lacks what it needs.
    pub(crate) fn test(language: &'static Language, scenario: fn(&Contract)) {
        if let Some(contract) = Contract::open(language) {
            scenario(&contract);
        }
    }

    fn open(language: &'static Language) -> Option<Contract> {
        let component: PathBuf = settings::required_path(language.component)?;
        let mut site = Site::open(Engine::Redis)?;
        fs::remove_dir_all(site.path("plugins/demo")).expect("the demo plugin is there");
        site.add_plugin("contract", &component);
        site.environment.push(("CONTRACT_KEY".to_owned(), "hunter2-hunter2".to_owned()));
        site.write("host.toml", GRANT);
        let mut compiled = language.compiled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !*compiled {
            // Other tests keep the processors busy meanwhile.
            let patient = "limits.compile_time=900";
            site.environment_command(&["plugin", "check", "plugins/contract", "--set", patient]).success();
            *compiled = true;
        }
        drop(compiled);
        Some(Contract { site, language })
    }

    /// A worker that has the plugin, with all that it declares. Followers go to its queue.
    #[track_caller]
    pub(crate) fn host(&self, options: &[&str]) -> Host {
        let queue = format!("task.default_queue={}", self.site.queue());
        self.site.host(&[&["--set", &queue, "-c", "4"], options].concat())
    }

    /// Runs a client, which emits what is expected.
    #[track_caller]
    pub(crate) fn check(&self, code: &str, expected: Value) {
        assert_eq!(self.site.client(code), expected);
    }

    /// The worker has not suffered: it runs the next task.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        self.check(r#"emit(call("contract.add", 20, 22))"#, json!(42));
    }
}
