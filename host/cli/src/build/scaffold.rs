//! `host plugin new`: the folder of a new plugin, made from the template of its language.
//!
//! Only writes files; what has to be fetched the one who writes the plugin is told.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use taskhost_core::builtin;

use super::embedded;
use super::language::Language;
use crate::exit::Failure;

mod cargo;

/// Longest name of a new plugin: it is part of names of tasks, files and packages.
const NAME_BYTES_MAX: usize = 64;

/// What no package or module can be called, in at least one of the languages.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "case",
    "chan",
    "class",
    "const",
    "continue",
    "core",
    "crate",
    "def",
    "default",
    "defer",
    "del",
    "do",
    "dyn",
    "elif",
    "else",
    "enum",
    "except",
    "export",
    "extern",
    "fallthrough",
    "false",
    "final",
    "finally",
    "fn",
    "for",
    "from",
    "func",
    "function",
    "gen",
    "global",
    "go",
    "goto",
    "if",
    "impl",
    "import",
    "in",
    "interface",
    "is",
    "lambda",
    "let",
    "loop",
    "macro",
    "main",
    "map",
    "match",
    "mod",
    "move",
    "mut",
    "new",
    "none",
    "nonlocal",
    "not",
    "null",
    "or",
    "override",
    "package",
    "pass",
    "priv",
    "proc_macro",
    "pub",
    "raise",
    "range",
    "ref",
    "return",
    "sdk",
    "select",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "switch",
    "task",
    "taskhost",
    "test",
    "this",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "var",
    "virtual",
    "void",
    "where",
    "while",
    "with",
    "yield",
];

/// Makes the folder, whose last part is the plugin's name. It is there as a whole or not at all.
pub(crate) fn create(language: Language, dir: &Path) -> Result<String, Failure> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    check_name(&name).map_err(Failure::usage)?;
    let taken = dir.exists() && fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_some());
    if taken {
        return Err(Failure::usage(anyhow!("{}: it is there already", dir.display())).hint("give another name"));
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    let unfinished = parent.join(format!(".{name}.{}", std::process::id()));
    let made = files(language, &name)
        .into_iter()
        .try_for_each(|(path, content)| embedded::write(&unfinished.join(path), &content));
    let made = made.and_then(|()| {
        fs::rename(&unfinished, dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        Ok(())
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    made.map(|()| name)
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let letters =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || ['-', '_', '.'].contains(&letter);
    let ends = name.ends_with(['-', '_', '.']);
    if name.len() > NAME_BYTES_MAX {
        return Err(anyhow!("the name `{name}` is longer than {NAME_BYTES_MAX} letters"));
    }
    if !name.starts_with(|letter: char| letter.is_ascii_lowercase()) || !name.chars().all(letters) || ends {
        return Err(anyhow!(
            "`{name}` is no name for a plugin: give a small letter, and then small letters, digits, `-`, `_` and `.`, such as `images`"
        ));
    }
    if name == builtin::PLUGIN {
        return Err(anyhow!("`{name}` is what the worker's own tasks belong to: give the plugin another name"));
    }
    Ok(())
}

/// The name as languages want it for packages and modules.
fn module(name: &str) -> String {
    let module = name.replace(['-', '.'], "_");
    if RESERVED.contains(&&*module) { format!("{module}_plugin") } else { module }
}

/// All files of a new plugin, by their paths in its folder.
fn files(language: Language, name: &str) -> Vec<(PathBuf, Cow<'static, [u8]>)> {
    let module = module(name);
    let fill = |text: &str| {
        text.replace("{{name}}", name).replace("{{module}}", &module).replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let mut files = Vec::new();
    for (path, content) in embedded::folder(&format!("templates/{}", language.name())) {
        let mut path = PathBuf::from(fill(path));
        // Under its own name it would say what belongs to the host's repository.
        if path.file_name().is_some_and(|name| name == "gitignore") {
            path.set_file_name(".gitignore");
        }
        let content = match std::str::from_utf8(content) {
            Ok(text) => Cow::Owned(fill(text).into_bytes()),
            Err(_) => Cow::Borrowed(content),
        };
        files.push((path, content));
    }
    let sdk = match language {
        Language::Rust => cargo::sdk(),
        _ => embedded::folder(&format!("sdk/{}", language.name()))
            .map(|(path, content)| (PathBuf::from(path), Cow::Borrowed(content)))
            .collect(),
    };
    files.extend(sdk.into_iter().map(|(path, content)| (Path::new("sdk").join(path), content)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'a>(files: &'a [(PathBuf, Cow<'static, [u8]>)], path: &str) -> &'a str {
        let found = files.iter().find(|(name, _)| name == Path::new(path));
        let (_, content) = found.unwrap_or_else(|| panic!("there is no {path}"));
        std::str::from_utf8(content).unwrap()
    }

    #[test]
    fn a_template_has_all_that_a_plugin_needs_and_nothing_left_to_fill_in() {
        for language in Language::ALL {
            let files = files(language, "web-tools");
            let manifest = text(&files, "plugin.toml");
            assert!(manifest.contains("name = \"web-tools\""), "{manifest}");
            assert!(manifest.contains(&format!("language = \"{}\"", language.name())), "{manifest}");
            assert!(text(&files, "README.md").contains("host plugin build"));
            assert!(text(&files, "cases.jsonl").contains("web-tools.add"));
            assert!(text(&files, ".gitignore").contains("*.wasm"));
            assert!(files.iter().any(|(path, _)| path.starts_with("sdk")));
            for (path, content) in files.iter().filter(|(path, _)| !path.starts_with("sdk")) {
                let content = String::from_utf8_lossy(content);
                let left = ["{{name}}", "{{module}}", "{{version}}"].iter().any(|mark| content.contains(mark));
                assert!(!left, "{}:\n{content}", path.display());
            }
        }
    }

    #[test]
    fn a_name_is_one_for_files_tasks_and_packages() {
        for name in ["images", "web-tools", "a.b_c9"] {
            check_name(name).unwrap();
        }
        for name in ["", "Images", "9lives", "a b", "x/", "a-", "über", "celery", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(module("web-tools.eu"), "web_tools_eu");
        assert_eq!(module("match"), "match_plugin");
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("sub/images");
        assert_eq!(create(Language::Rust, &dir).unwrap(), "images");
        fs::write(dir.join("README.md"), "mine").unwrap();
        let failure = create(Language::Rust, &dir).unwrap_err().to_string();
        assert!(failure.contains("it is there already"), "{failure}");
        assert_eq!(fs::read_to_string(dir.join("README.md")).unwrap(), "mine");
        assert_eq!(fs::read_dir(folder.path().join("sub")).unwrap().count(), 1);
    }
}
