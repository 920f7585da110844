//! The README, executed: what it tells a person to type works and prints what it says.
//!
//! A fenced block after the line `<!-- test -->` is run, in the order of the page. In a `console` block a line
//! after `$ ` is typed into a shell, and the lines below it are what it prints (`...` stands for any text). A
//! `python` block is a program, and the comment behind a `print` says what it prints. All run in a folder that has
//! `target/debug/host` as a checkout has, and where `host run --plugins ./plugins` serves the demo plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use it::process::Stream;
use it::{Engine, Host, Process, Site, settings};

#[test]
fn the_readme_says_what_works() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    for command in ["cargo xtask demo", "cargo xtask test"] {
        assert!(text.contains(command), "the README does not name `{command}`");
    }
    let blocks = tested_blocks(&text);
    assert!(blocks.iter().any(|block| block.language == "console"), "no console block is marked `<!-- test -->`");
    assert!(blocks.iter().any(|block| block.language == "python"), "no python block is marked `<!-- test -->`");
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let Some(python) = settings::required_path(settings::PYTHON) else { return };
    let Some(binary) = settings::required_path(settings::HOST) else { return };
    let node = "readme@localhost";
    let place = site.path("target/debug/host");
    fs::create_dir_all(place.parent().expect("it is below a folder")).expect("the temporary folder is writable");
    fs::hard_link(&binary, &place).or_else(|_| fs::copy(&binary, &place).map(drop)).expect("the folder is writable");
    let mut run = it::host::command(&place, site.folder());
    let _host = Host::start(node, run.args(["run", "--plugins", "./plugins", "-n", node]));
    for block in &blocks {
        match &*block.language {
            "console" => console(block, site.folder(), &place),
            "python" => program(block, site.folder(), &python),
            other => panic!("line {}: cannot run `{other}`", block.line),
        }
    }
}

/// A fenced block and where it begins.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
}

pub(crate) fn tested_blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        if line.trim() != "<!-- test -->" {
            continue;
        }
        let Some((number, fence)) = lines.next() else { break };
        let language = fence.trim().strip_prefix("```");
        let language = language.unwrap_or_else(|| panic!("line {}: no block after the mark", number + 1)).to_owned();
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let text = body.fold(String::new(), |text, line| text + line + "\n");
        blocks.push(Block { line: number + 1, language, text });
    }
    blocks
}

/// Types each command and compares what it prints.
pub(crate) fn console(block: &Block, folder: &Path, binary: &Path) {
    let mut commands: Vec<(&str, String)> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command, String::new())),
            (None, Some((_, expected))) => *expected += &format!("{line}\n"),
            (None, None) => panic!("line {}: the block must begin with `$ `", block.line),
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = binary.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders.collect::<Vec<PathBuf>>()).expect("they came from a path");
    for (command, expected) in commands {
        let mut shell = it::host::command(Path::new("sh"), folder);
        let printed = run(command, shell.args(["-c", command]).env("PATH", &path));
        assert!(matches(&printed, &expected), "line {}: `{command}` printed\n{printed}", block.line);
    }
}

/// Runs a program and compares what it prints.
fn program(block: &Block, folder: &Path, python: &Path) {
    let prints = block.text.lines().filter(|line| line.starts_with("print("));
    let comments = prints.filter_map(|line| line.split_once(" # ").map(|(_, value)| value));
    let expected = comments.fold(String::new(), |text, value| text + value + "\n");
    let printed = run("python", Command::new(python).args(["-E", "-s", "-c", &block.text]).current_dir(folder));
    assert!(matches(&printed, &expected), "line {}: the program printed\n{printed}", block.line);
}

#[track_caller]
fn run(name: &str, command: &mut Command) -> String {
    let mut process = Process::start(name, command);
    let status = process.wait();
    assert!(status.success(), "`{name}` ended with {status}");
    process.written(Stream::Out)
}

/// True if the text is what was expected, where `...` stands for any text.
fn matches(text: &str, expected: &str) -> bool {
    let (text, expected) = (text.trim(), expected.trim());
    let Some((start, rest)) = expected.split_once("...") else { return text == expected };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split("...").collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(found) = left.find(part) else { return false };
        left = &left[found + part.len()..];
    }
    left.ends_with(end)
}

#[test]
fn marked_blocks_are_found() {
    let document = "text\n```console\n$ no\n```\n<!-- test -->\n```python\nprint(4)  # 4\n```\n";
    let expected = Block { line: 6, language: "python".to_owned(), text: "print(4)  # 4\n".to_owned() };
    assert_eq!(tested_blocks(document), [expected]);
}

#[test]
fn three_dots_stand_for_any_text() {
    for (text, expected, result) in [
        ("4\n", "4", true),
        ("5", "4", false),
        ("a b c", "a...c", true),
        ("a b d", "a...c", false),
        ("1 is SUCCESS\nand 4", "... is SUCCESS...4", true),
        ("anything", "...", true),
    ] {
        assert_eq!(matches(text, expected), result, "{text} as {expected}");
    }
}
