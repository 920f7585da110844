//! A folder of sources becomes a component in its place, or says what is in the way.

use std::fs;

use expect_test::{Expect, expect};

use super::*;
use crate::config;

/// What a compiler would make of a plugin with one task `images.add`: it describes itself from its memory.
fn module() -> Vec<u8> {
    let name = "images.add";
    // One `task-info` at 64: name, summary, no schema, no options; the list of it at 32.
    wat::parse_str(format!(
        r#"(module
            (memory (export "memory") 1)
            (data (i32.const 0) "{name}")
            (data (i32.const 32) "\40\00\00\00\01\00\00\00")
            (data (i32.const 64) "\00\00\00\00\0a\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
            (func (export "taskhost:task/tasks@0.1.0#describe") (result i32) i32.const 32)
            (func (export "taskhost:task/tasks@0.1.0#run") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                unreachable))"#
    ))
    .unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(manifest: &str, files: &[(&str, &[u8])]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.0.path().join("plugin.toml"), manifest).unwrap();
        files.iter().for_each(|(name, content)| fs::write(folder.0.path().join(name), content).unwrap());
        folder
    }

    fn build(&self) -> Result<Built, Failure> {
        let config = config::load(None, &["plugins.cache=none".to_owned()], Vec::new()).unwrap();
        build(self.0.path(), &config, &mut |_| ())
    }

    #[track_caller]
    fn check_refused(&self, expected: Expect) {
        let text = self.build().unwrap_err().to_string();
        let dir = self.0.path().canonicalize().unwrap();
        expected.assert_eq(&text.replace(&*dir.display().to_string(), "DIR"));
    }
}

const OWN_COMMAND: &str =
    "name = \"images\"\n[build]\nlanguage = \"c\"\ncommand = [\"cp\", \"made\", \"out.wasm\"]\nentry = \"out.wasm\"\n";

#[test]
fn a_core_module_becomes_a_component_that_workers_load() {
    let folder = Folder::new(OWN_COMMAND, &[("made", &module())]);
    let built = folder.build().unwrap();
    assert!(built.changed);
    assert_eq!(Kind::of(&fs::read(&built.component).unwrap()), Kind::Component);
    let tasks: Vec<_> = built.report.tasks.iter().map(|task| task.spec.name.as_str()).collect();
    assert_eq!(tasks, ["images.add"]);
    let stages: Vec<_> = built.stages.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, ["compiling", "componentising", "checking"]);
}

#[test]
fn a_component_that_is_there_already_is_left_alone() {
    let folder = Folder::new(OWN_COMMAND, &[("made", &module())]);
    let first = folder.build().unwrap();
    let before = fs::metadata(&first.component).unwrap().modified().unwrap();
    let second = folder.build().unwrap();
    assert!(!second.changed);
    assert_eq!(fs::metadata(&second.component).unwrap().modified().unwrap(), before);
    assert!(second.summary().contains("unchanged"), "{}", second.summary());
}

#[test]
fn what_a_worker_would_refuse_does_not_replace_what_it_loads() {
    let folder = Folder::new(OWN_COMMAND, &[("made", &module())]);
    let component = folder.build().unwrap().component;
    let good = fs::read(&component).unwrap();
    let text = String::from_utf8_lossy(&module()).into_owned();
    assert!(text.contains("images.add"));
    let mut nameless = module();
    let at = nameless.windows(10).position(|window| window == b"images.add").unwrap();
    nameless[at] = b'\n';
    fs::write(folder.0.path().join("made"), nameless).unwrap();
    folder.check_refused(expect![[r#"
        error: it was built, but a worker would refuse it: task 1 of `describe`: task name `\nmages.add` contains a control character
    "#]]);
    assert_eq!(fs::read(&component).unwrap(), good);
}

#[test]
fn what_is_declared_and_not_granted_is_no_mistake_of_the_sources() {
    let folder = Folder::new(&format!("{OWN_COMMAND}[needs]\nconfig = [\"region\"]\n"), &[("made", &module())]);
    let built = folder.build().unwrap();
    assert!(built.report.powers.iter().any(|power| power.declared && !power.granted));
}

#[test]
fn failures_speak_of_the_project() {
    Folder::new("name = \"images\"\n[build]\nlanguage = \"c\"\ncommand = [\"false\"]\n", &[]).check_refused(expect![[
        r#"
            error: cannot build images: `false` ended with exit status: 1; what it found is above
        "#
    ]]);
    Folder::new("name = \"images\"\n[build]\nlanguage = \"c\"\ncommand = [\"true\"]\n", &[]).check_refused(expect![[
        r#"
            error: cannot read what `true` should have made, DIR/images.wasm: No such file or directory (os error 2)
            hint: `entry` under [build] in plugin.toml says which file the command makes
        "#
    ]]);
    Folder::new("name = \"images\"\n[buidl]\n", &[]).check_refused(expect![[r#"
        error: `DIR/plugin.toml` line 2: unknown key `buidl`; the nearest known is `build`
    "#]]);
    Folder::new(OWN_COMMAND, &[("made", b"#!/bin/sh")]).check_refused(expect![[r#"
        error: what was built for images is not WebAssembly
    "#]]);
}
