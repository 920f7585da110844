//! The languages that plugins are written in, and how a project's is told from its files.

use std::fs;
use std::path::Path;

use anyhow::anyhow;
use clap::ValueEnum;

use crate::exit::Failure;

/// A language that has an SDK. Its name is that of the folder in `sdk/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    #[value(alias = "rs")]
    Rust,
    #[value(alias = "py")]
    Python,
    /// JavaScript and TypeScript
    #[value(alias = "ts", alias = "javascript", alias = "typescript")]
    Js,
    #[value(alias = "golang")]
    Go,
    C,
}

impl Language {
    pub(crate) const ALL: [Language; 5] = [Self::Rust, Self::Python, Self::Js, Self::Go, Self::C];

    /// As `plugin.toml` and the command line have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Js => "js",
            Self::Go => "go",
            Self::C => "c",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::Js => "TypeScript",
            Self::Go => "Go",
            Self::C => "C",
        }
    }

    /// The language of a project, by files that only projects of that language have.
    pub(crate) fn of(dir: &Path) -> Result<Self, Failure> {
        let there = |name: &str| dir.join(name).is_file();
        let mut found = Vec::new();
        for language in Self::ALL {
            let marks = match language {
                Self::Rust => there("Cargo.toml"),
                Self::Python => there("pyproject.toml") || there("requirements.txt"),
                Self::Js => there("package.json"),
                Self::Go => there("go.mod"),
                Self::C => false,
            };
            if marks {
                found.push(language);
            }
        }
        if found.is_empty() {
            // What may lie beside projects of other languages.
            let by_extension = [(Self::Python, "py"), (Self::C, "c")];
            let languages = by_extension.into_iter().filter(|(_, extension)| has_source(dir, extension));
            found.extend(languages.map(|(language, _)| language));
        }
        let problem = match *found {
            [language] => return Ok(language),
            [] => "cannot tell which language it is written in: there is no Cargo.toml, pyproject.toml, \
                   requirements.txt, package.json, go.mod, *.py or *.c"
                .to_owned(),
            _ => {
                let names: Vec<_> = found.iter().map(|language| language.name()).collect();
                format!("it could be written in {}", names.join(" or in "))
            }
        };
        let hint = "say it in plugin.toml, such as\n[build]\nlanguage = \"rust\"";
        Err(Failure::from(anyhow!("{}: {problem}", dir.display())).hint(hint))
    }

    /// Where a project of this language has its sources, unless it says otherwise: files, folders, all files with an ending, or all
    /// folders with such files in them.
    pub(crate) fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["src", "Cargo.toml", "Cargo.lock", "build.rs", ".cargo", "wit"],
            Self::Python => &["*.py", "*/*.py", "pyproject.toml", "requirements.txt", "wit"],
            Self::Js => {
                &["src", "*.js", "*.mjs", "*.ts", "*.mts", "package.json", "package-lock.json", "tsconfig.json", "wit"]
            }
            Self::Go => &["*.go", "*/*.go", "go.mod", "go.sum", "wit"],
            Self::C => &["*.c", "*.cc", "*.cpp", "*.cxx", "*.h", "*.hpp", "src", "wit"],
        }
    }

    /// What is to be fetched once for each project before it can be built.
    pub(crate) fn preparing(self) -> Option<&'static str> {
        match self {
            Self::Rust | Self::Go | Self::C => None,
            Self::Python => Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
            Self::Js => Some("npm install"),
        }
    }

    /// What a component without tasks has forgotten.
    pub(crate) fn declaring(self) -> &'static str {
        match self {
            Self::Rust => "name your #[task] functions in `taskhost::plugin!(..);` at the end of src/lib.rs",
            Self::Python => {
                "tasks are functions with the decorator `@task` in the main file, or in modules that it imports"
            }
            Self::Js => "tasks are declared with `task(..)` in the main file, or in modules that it imports",
            Self::Go => {
                "tasks are registered with `taskhost.Task(..)` in an `init` function of package main, or of packages that it imports"
            }
            Self::C => "tasks are declared with `TASKHOST_TASK(..)` in one of the source files",
        }
    }
}

fn has_source(dir: &Path, extension: &str) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|found| found == extension))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(files: &[&str], expected: Expect) {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| fs::write(dir.path().join(file), "").unwrap());
        let found = match Language::of(dir.path()) {
            Ok(language) => language.name().to_owned(),
            Err(failure) => failure.to_string().replace(&*dir.path().display().to_string(), "DIR"),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn the_language_is_told_from_files() {
        check(&["Cargo.toml", "helper.py"], expect!["rust"]);
        check(&["app.py"], expect!["python"]);
        check(&["package.json", "x.c"], expect!["js"]);
        check(&["go.mod", "main.go"], expect!["go"]);
        check(&["tasks.c"], expect!["c"]);
    }

    #[test]
    fn what_cannot_be_told_is_to_be_said() {
        check(
            &["README.md"],
            expect![[r#"
                error: DIR: cannot tell which language it is written in: there is no Cargo.toml, pyproject.toml, requirements.txt, package.json, go.mod, *.py or *.c
                hint: say it in plugin.toml, such as
                [build]
                language = "rust"
            "#]],
        );
        check(
            &["Cargo.toml", "package.json"],
            expect![[r#"
                error: DIR: it could be written in rust or in js
                hint: say it in plugin.toml, such as
                [build]
                language = "rust"
            "#]],
        );
    }
}
