//! The table `[build]` of `plugin.toml`: how a plugin is made from its sources.
//!
//! The worker does not read it. What else is in the file the sandbox reads.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use toml::Spanned;

use super::language::Language;
use crate::config::nearest;

/// What the table says. Paths are as written, seen from the project's folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) language: Option<Language>,
    /// The main source file, or what else the language starts from.
    pub(crate) entry: Option<PathBuf>,
    /// Where the SDK is.
    pub(crate) sdk: Option<PathBuf>,
    /// A folder or file of WIT of the project's own.
    pub(crate) wit: Option<PathBuf>,
    pub(crate) world: Option<String>,
    /// What to look at besides the language's own sources.
    pub(crate) sources: Vec<PathBuf>,
    /// Another way to build.
    pub(crate) command: Option<Vec<String>>,
}

/// As it is written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    language: Option<Spanned<String>>,
    entry: Option<PathBuf>,
    sdk: Option<PathBuf>,
    wit: Option<PathBuf>,
    world: Option<String>,
    #[serde(default)]
    sources: Vec<PathBuf>,
    command: Option<Spanned<Vec<String>>>,
}

const KEYS: [&str; 7] = ["language", "entry", "sdk", "wit", "world", "sources", "command"];

/// The rest of the manifest is not ours.
#[derive(serde::Deserialize)]
struct File {
    build: Option<Table>,
}

/// Reads the table out of a manifest. `path` is for messages.
pub(crate) fn read(path: &Path, text: &str) -> anyhow::Result<Settings> {
    let wrong = |span: Range<usize>, what: String| {
        let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
        anyhow!("`{}` line {line}: {what}", path.display())
    };
    let file: File = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        wrong(span.clone(), explain(error.message(), text.get(span)))
    })?;
    let Some(table) = file.build else { return Ok(Settings::default()) };
    let mut settings = Settings {
        language: None,
        entry: table.entry,
        sdk: table.sdk,
        wit: table.wit,
        world: table.world,
        sources: table.sources,
        command: None,
    };
    if let Some(language) = table.language {
        let known = Language::named(language.get_ref());
        settings.language = Some(known.ok_or_else(|| {
            let known = Language::ALL.map(Language::name).join(", ");
            wrong(language.span(), format!("unknown language `{}`; known are {known}", language.get_ref()))
        })?);
    }
    if let Some(command) = table.command {
        if command.get_ref().is_empty() {
            return Err(wrong(command.span(), "`command` is empty".to_owned()));
        }
        settings.command = Some(command.into_inner());
    }
    Ok(settings)
}

fn explain(message: &str, at: Option<&str>) -> String {
    match at {
        Some(key) if message.starts_with("unknown field") => {
            let hint = nearest(key, KEYS.into_iter());
            let hint =
                hint.map_or_else(|| format!("known are {}", KEYS.join(", ")), |key| format!("did you mean `{key}`?"));
            format!("unknown key `{key}` in [build]; {hint}")
        }
        _ => message.replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check_refused(text: &str, expected: Expect) {
        expected.assert_eq(&read(Path::new("plugin.toml"), text).unwrap_err().to_string());
    }

    #[test]
    fn the_table_is_read_and_the_rest_is_not_ours() {
        let text =
            "name = \"a\"\nwhatever = 1\n[build]\nlanguage = \"go\"\nentry = \"./cmd\"\ncommand = [\"make\", \"it\"]\n";
        let expected = Settings {
            language: Some(Language::Go),
            entry: Some("./cmd".into()),
            command: Some(vec!["make".to_owned(), "it".to_owned()]),
            ..Settings::default()
        };
        assert_eq!(read(Path::new("plugin.toml"), text).unwrap(), expected);
        assert_eq!(read(Path::new("plugin.toml"), "name = \"a\"\n").unwrap(), Settings::default());
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        check_refused(
            "name = \"a\"\n\n[build]\nlanguag = \"rust\"\n",
            expect!["`plugin.toml` line 4: unknown key `languag` in [build]; did you mean `language`?"],
        );
        check_refused(
            "[build]\ncolour = 1\n",
            expect![
                "`plugin.toml` line 2: unknown key `colour` in [build]; known are language, entry, sdk, wit, world, sources, command"
            ],
        );
        check_refused(
            "[build]\nlanguage = \"cobol\"\n",
            expect!["`plugin.toml` line 2: unknown language `cobol`; known are rust, python, js, go, c"],
        );
        check_refused("[build]\ncommand = []\n", expect!["`plugin.toml` line 2: `command` is empty"]);
        check_refused(
            "[build]\nsources = \"src\"\n",
            expect![[r#"`plugin.toml` line 2: invalid type: string "src", expected a sequence"#]],
        );
    }
}
