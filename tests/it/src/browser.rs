//! A browser without a window: a page as it is once its scripts have run.

use std::process::Command;

use crate::process::{Process, Stream};
use crate::settings;

/// How long scripts may run, in milliseconds of the page's own time, which passes as fast as nothing is awaited.
const BUDGET: &str = "--virtual-time-budget=20000";

/// Chromium, with a profile of its own for every page.
pub struct Browser {
    program: String,
}

impl Browser {
    /// None if this machine has none, which is said.
    pub fn find() -> Option<Browser> {
        Some(Browser { program: settings::required(settings::BROWSER)? })
    }

    /// The document of this address.
    #[track_caller]
    pub fn document(&self, url: &str) -> String {
        let profile = tempfile::tempdir().expect("the temporary folder is writable");
        let mut command = Command::new(&self.program);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args([BUDGET, "--dump-dom", url]);
        let mut process = Process::start_group("browser", &mut command);
        let status = process.wait();
        assert!(status.success(), "the browser ended with {status} at {url}");
        process.written(Stream::Out)
    }
}
