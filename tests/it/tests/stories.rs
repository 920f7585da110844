//! Examples whose README is executed as it is written: what it tells a person to type works, and prints what it says.
//!
//! As in the README of the project (`documents`), blocks after `<!-- test -->` are run. A `sh` block is what goes on in
//! a shell of its own, until the story ends. The component is the one that the guests of all tests are built with.

use std::fs;
use std::path::{Path, PathBuf};

use it::{Engine, Process, Site, settings};
use serde_json::Value;

use crate::documents::{Block, console, tested_blocks};

/// A copy of an example.
struct Story {
    folder: PathBuf,
    /// The host as one types it. Beside it are `python3` and `celery`.
    host: PathBuf,
    blocks: std::vec::IntoIter<Block>,
    running: Vec<Process>,
    _site: Site,
}

impl Story {
    fn open(name: &str, component: &str) -> Option<Story> {
        let site = Site::open(Engine::Embedded)?;
        let built = settings::required_path(component)?;
        let (binary, python) = (settings::required_path(settings::HOST)?, settings::required_path(settings::PYTHON)?);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let folder = site.path(name);
        for entry in fs::read_dir(&example).expect("the example is there").flatten() {
            // Sources are not looked at, and what somebody made of them by hand is his.
            if entry.path().is_file() && !entry.file_name().to_string_lossy().ends_with(".db") {
                let text = fs::read(entry.path()).expect("it was found");
                fs::create_dir_all(&folder).expect("the temporary folder is writable");
                fs::write(folder.join(entry.file_name()), text).expect("the temporary folder is writable");
            }
        }
        let _ = fs::remove_file(folder.join("host.toml"));
        fs::copy(&built, folder.join(built.file_name().expect("it is a file"))).expect("the folder is writable");
        let host = site.write("bin/host", "");
        fs::remove_file(&host).expect("it is ours");
        fs::hard_link(&binary, &host).or_else(|_| fs::copy(&binary, &host).map(drop)).expect("the folder is writable");
        for (name, module) in [("python3", ""), ("celery", " -m celery")] {
            let script = format!("#!/bin/sh\nexec {} -E -s{module} \"$@\"\n", python.display());
            executable(&site.write(&format!("bin/{name}"), &script));
        }
        let text = fs::read_to_string(example.join("README.md")).expect("the example has a README");
        let blocks = tested_blocks(&text).into_iter();
        Some(Story { folder, host, blocks, running: Vec::new(), _site: site })
    }

    /// Goes on to the block with this command, which is not typed yet.
    #[track_caller]
    fn tell_until(&mut self, command: &str) {
        while self.blocks.as_slice().first().is_some_and(|block| !block.text.contains(command)) {
            self.tell_one();
        }
        assert!(!self.blocks.as_slice().is_empty(), "the README has no tested block with `{command}`");
    }

    /// Goes on to its end.
    #[track_caller]
    fn tell(&mut self) {
        while !self.blocks.as_slice().is_empty() {
            self.tell_one();
        }
    }

    fn tell_one(&mut self) {
        let Some(block) = self.blocks.next() else { return };
        match &*block.language {
            "console" => console(&block, &self.folder, &self.host),
            "sh" => {
                let process = self.start(block.text.trim());
                if block.text.starts_with("host run") {
                    process.wait_for(" ready.");
                }
                self.running.push(process);
            }
            other => panic!("line {}: cannot run `{other}`", block.line),
        }
    }

    fn start(&self, line: &str) -> Process {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let bin = self.host.parent().expect("it is in a folder").to_owned();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)));
        let mut shell = it::host::command(Path::new("sh"), &self.folder);
        Process::start_group(line, shell.args(["-c", line]).env("PATH", path.expect("they came from a path")))
    }
}

#[cfg(unix)]
fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

#[cfg(not(unix))]
fn executable(_path: &Path) {}

#[test]
fn pictures_are_made_small_in_folders_that_were_granted() {
    let Some(mut story) = Story::open("thumbnails", "TASKHOST_TEST_EXAMPLES_THUMBNAILS") else { return };
    story.tell();
    let host = &story.running[0];
    assert!(!host.lines_with("thumbnails.make").is_empty(), "the worker made them");
    let small = fs::read(story.folder.join("out/harbour.jpg")).expect("the example made it");
    assert_eq!(small[..3], [0xff, 0xd8, 0xff], "it is a JPEG file");
}

#[test]
fn stock_beat_has_tasks_run_by_the_clock() {
    let Some(mut story) = Story::open("periodic", "TASKHOST_TEST_EXAMPLES_PERIODIC") else { return };
    story.tell_until("host call visitors.report");
    story.running[0].wait_for_count("came in by the door", 2);
    let mut call = story.start("host call visitors.report --wait");
    assert!(call.wait().success());
    let report: Value = serde_json::from_str(&call.written(it::process::Stream::Out)).expect("it prints JSON");
    assert!(report["samples"].as_i64().is_some_and(|samples| samples >= 2), "{report}");
    story.tell();
}
