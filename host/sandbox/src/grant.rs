//! What a plugin declares that it needs, what the operator grants it, and what it may do: what is both.
//!
//! Pure: fetches nothing that a grant names. The capabilities do, when a plugin is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use taskhost_core::PluginName;

/// Whether a directory can only be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    ReadOnly,
    ReadWrite,
}

/// One power that a plugin declares in `[needs]` of `plugin.toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A variable of the environment.
    Env(String),
    /// A key of `wasi:config/store`.
    Config(String),
    /// A directory under this path of the guest.
    Directory(String, Mode),
    Secret(String),
}

/// Everything that a plugin declares.
pub(crate) type Needs = BTreeSet<Need>;

/// What the operator grants to a plugin: `[grants.NAME]` of `host.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// The component that it is for; any of that name, if not given.
    pub(crate) sha256: Option<String>,
    /// The tasks that it is for; all of them, if none is given.
    pub(crate) tasks: Vec<String>,
    /// Variables with their values; none takes the worker's own.
    pub(crate) env: BTreeMap<String, Option<String>>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Directories by the path that the guest sees.
    pub(crate) fs: BTreeMap<String, (PathBuf, Mode)>,
}

/// Where the worker finds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    Variable(String),
    File(PathBuf),
}

/// The options of a grant, in the order in which they are shown.
pub const GRANT_OPTIONS: &[(&str, &str)] = &[
    ("config", "what wasi:config tells the plugin, such as [\"region=eu\"]"),
    ("env", "environment variables: [\"LANG\"] as the worker has it, or [\"LANG=C\"]"),
    ("fs", "folders, such as [\"/data=/srv/data\", \"/out=/srv/out:rw\"]; read-only without :rw"),
    ("secrets", "secrets, such as [\"key=env:VARIABLE\", \"token=file:/run/secrets/token\"]"),
    ("sha256", "the component that all this is for; any file of that name, if not given"),
    ("tasks", "the tasks that may use it, such as [\"images.*\"]; all of the plugin, if not given"),
];

impl Grant {
    /// Reads one option. `sha256` has a single value.
    pub fn set(&mut self, option: &str, values: &[String]) -> Result<(), String> {
        match option {
            "sha256" => self.sha256 = Some(hash(values)?),
            "tasks" => self.tasks = values.iter().map(|text| pattern(text)).collect::<Result<_, _>>()?,
            "env" => self.env = named(values, |text| Ok(variable(text)))?,
            "config" => self.config = named(values, |text| pair(text, "key=value"))?,
            "secrets" => self.secrets = named(values, secret)?,
            "fs" => self.fs = named(values, directory)?,
            _ => return Err(format!("a grant has no `{option}`")),
        }
        Ok(())
    }

    /// True if it gives this.
    pub fn gives(&self, need: &Need) -> bool {
        match need {
            Need::Env(name) => self.env.contains_key(name),
            Need::Config(key) => self.config.contains_key(key),
            Need::Secret(name) => self.secrets.contains_key(name),
            Need::Directory(guest, wanted) => self.fs.get(guest).is_some_and(|(_, mode)| mode >= wanted),
        }
    }

    /// Everything that it gives.
    fn all(&self) -> Needs {
        let env = self.env.keys().cloned().map(Need::Env);
        let config = self.config.keys().cloned().map(Need::Config);
        let secrets = self.secrets.keys().cloned().map(Need::Secret);
        let fs = self.fs.iter().map(|(guest, (_, mode))| Need::Directory(guest.clone(), *mode));
        env.chain(config).chain(secrets).chain(fs).collect()
    }
}

/// What a plugin may do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Powers {
    pub(crate) tasks: Vec<String>,
    pub(crate) env: Vec<(String, Option<String>)>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secrets: Vec<(String, SecretSource)>,
    pub(crate) fs: Vec<(String, PathBuf, Mode)>,
}

/// Why a plugin is not given what it declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denial {
    Missing(Vec<Need>),
    /// The grant is for another component.
    OtherComponent {
        pinned: String,
    },
}

/// What both want. A plugin that declares something it is not granted would only fail later.
pub(crate) fn meet(needs: &Needs, grant: &Grant, sha256: &str) -> Result<Powers, Denial> {
    if needs.is_empty() {
        return Ok(Powers::default());
    }
    if let Some(pinned) = grant.sha256.as_ref().filter(|pinned| *pinned != sha256) {
        return Err(Denial::OtherComponent { pinned: pinned.clone() });
    }
    let missing: Vec<Need> = needs.iter().filter(|need| !grant.gives(need)).cloned().collect();
    if !missing.is_empty() {
        return Err(Denial::Missing(missing));
    }
    let mut powers = Powers { tasks: grant.tasks.clone(), ..Powers::default() };
    for need in needs {
        match need {
            Need::Env(name) => powers.env.push((name.clone(), grant.env[name].clone())),
            Need::Config(key) => drop(powers.config.insert(key.clone(), grant.config[key].clone())),
            Need::Secret(name) => powers.secrets.push((name.clone(), grant.secrets[name].clone())),
            // What is only read is given for reading, even if more were granted.
            Need::Directory(guest, mode) => powers.fs.push((guest.clone(), grant.fs[guest].0.clone(), *mode)),
        }
    }
    Ok(powers)
}

/// A power with the word of both sides, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Power {
    pub need: Need,
    pub declared: bool,
    pub granted: bool,
}

/// Everything that either side names.
pub(crate) fn side_by_side(needs: &Needs, grant: &Grant) -> Vec<Power> {
    let granted = grant.all();
    // A folder that is needed for reading and granted for writing is one row.
    let beyond = granted.iter().filter(|given| !needs.iter().any(|need| need.is_about(given)));
    let rows = needs.iter().map(|need| Power { need: need.clone(), declared: true, granted: grant.gives(need) });
    rows.chain(beyond.map(|given| Power { need: given.clone(), declared: false, granted: true })).collect()
}

/// True if one of these patterns fits the name of a task, or there is none.
pub(crate) fn covers(patterns: &[String], task: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => task.starts_with(start),
        None => task == pattern,
    };
    patterns.is_empty() || patterns.iter().any(fits)
}

/// Two directories of which one holds the other, though only one may be written. What can be read only
/// under one name could be written under the other.
pub(crate) fn conflict<'a>(directories: &[(&'a Path, Mode)]) -> Option<(&'a Path, &'a Path)> {
    let read_only = directories.iter().filter(|(_, mode)| *mode == Mode::ReadOnly);
    read_only.into_iter().find_map(|(read, _)| {
        let mut written = directories.iter().filter(|(_, mode)| *mode == Mode::ReadWrite);
        let other = written.find(|(written, _)| read.starts_with(written) || written.starts_with(read));
        other.map(|(written, _)| (*read, *written))
    })
}

impl Need {
    /// The key in `[needs]` and in the grant.
    pub fn capability(&self) -> &'static str {
        match self {
            Self::Env(_) => "env",
            Self::Config(_) => "config",
            Self::Directory(..) => "fs",
            Self::Secret(_) => "secrets",
        }
    }

    /// What it is about, as `[needs]` has it.
    pub fn name(&self) -> String {
        match self {
            Self::Env(name) | Self::Config(name) | Self::Secret(name) => name.clone(),
            Self::Directory(guest, Mode::ReadOnly) => guest.clone(),
            Self::Directory(guest, Mode::ReadWrite) => format!("{guest}:rw"),
        }
    }

    /// An entry of a grant that would give it; words in capitals are for the operator to choose.
    pub fn example(&self) -> String {
        match self {
            Self::Env(name) => name.clone(),
            Self::Config(key) => format!("{key}=VALUE"),
            Self::Secret(name) => format!("{name}=env:VARIABLE"),
            Self::Directory(guest, Mode::ReadOnly) => format!("{guest}=/FOLDER"),
            Self::Directory(guest, Mode::ReadWrite) => format!("{guest}=/FOLDER:rw"),
        }
    }

    fn is_about(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(guest, _), Self::Directory(other, _)) => guest == other,
            _ => self == other,
        }
    }

    /// A directory as `[needs]` names it: `/data`, or `/data:rw`.
    pub(crate) fn directory(text: &str) -> Result<Self, String> {
        let (guest, mode) = mode_of(text);
        Ok(Self::Directory(guest_path(guest)?, mode))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.capability(), self.name())
    }
}

/// The lines that are missing from `host.toml`, in words.
pub(crate) fn advice(plugin: &PluginName, missing: &[Need]) -> String {
    let what = missing.iter().map(Need::to_string).collect::<Vec<_>>().join(", ");
    let lines = lines(missing).join(" and ");
    format!("{what}, not granted: add {lines} to [grants.\"{plugin}\"] of host.toml")
}

/// The options of a grant that would give all these, as TOML.
fn lines(needs: &[Need]) -> Vec<String> {
    let mut options: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for need in needs {
        options.entry(need.capability()).or_default().push(format!("{:?}", need.example()));
    }
    options.into_iter().map(|(option, entries)| format!("`{option} = [{}]`", entries.join(", "))).collect()
}

fn named<T>(
    values: &[String],
    read: impl Fn(&str) -> Result<(String, T), String>,
) -> Result<BTreeMap<String, T>, String> {
    let mut entries = BTreeMap::new();
    for value in values {
        let (name, entry) = read(value)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(format!("\"{}\" has no name before `=`", value.escape_debug()));
        }
        if entries.insert(name.clone(), entry).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(entries)
}

fn variable(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn pair(text: &str, expected: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("expected {expected}, found \"{}\"", text.escape_debug()))
}

fn secret(text: &str) -> Result<(String, SecretSource), String> {
    // What is there instead may be the secret itself, which belongs into no error.
    let wrong = || "expected name=env:VARIABLE or name=file:/path".to_owned();
    let (name, source) = text.split_once('=').ok_or_else(wrong)?;
    let source = match source.split_once(':') {
        Some(("env", variable)) if !variable.is_empty() => SecretSource::Variable(variable.to_owned()),
        Some(("file", path)) if Path::new(path).is_absolute() => SecretSource::File(path.into()),
        _ => return Err(wrong()),
    };
    Ok((name.to_owned(), source))
}

fn directory(text: &str) -> Result<(String, (PathBuf, Mode)), String> {
    let (guest, host) = pair(text, "/path/for/the/plugin=/folder/of/this/machine")?;
    let (host, mode) = mode_of(&host);
    if !Path::new(host).is_absolute() {
        return Err(format!("`{host}` is no absolute path"));
    }
    Ok((guest_path(guest.as_str())?, (host.into(), mode)))
}

fn mode_of(text: &str) -> (&str, Mode) {
    match text.strip_suffix(":rw") {
        Some(path) => (path, Mode::ReadWrite),
        None => (text.strip_suffix(":ro").unwrap_or(text), Mode::ReadOnly),
    }
}

/// The path under which a guest sees a directory: absolute, and the same however it is written.
fn guest_path(text: &str) -> Result<String, String> {
    let plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    let is_plain = text.starts_with('/') && Path::new(text).components().all(plain);
    let path = text.trim_end_matches('/');
    match is_plain && !path.is_empty() && !path.contains("//") && !path.chars().any(char::is_control) {
        true => Ok(path.to_owned()),
        false => Err(format!("\"{}\" is no path for a plugin, such as /data", text.escape_debug())),
    }
}

fn pattern(text: &str) -> Result<String, String> {
    match text.trim_end_matches('*').contains('*') || text.is_empty() || text.ends_with("**") {
        true => Err(format!("\"{text}\" is no name of tasks such as \"images.resize\" or \"images.*\"")),
        false => Ok(text.to_owned()),
    }
}

fn hash(values: &[String]) -> Result<String, String> {
    match values {
        [hash] if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(hash.to_ascii_lowercase())
        }
        _ => Err("expected 64 hexadecimal digits, as `host plugin check` shows them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(options: &[(&str, &[&str])]) -> Grant {
        let mut grant = Grant::default();
        for (option, values) in options {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            grant.set(option, &values).unwrap_or_else(|problem| panic!("{option}: {problem}"));
        }
        grant
    }

    fn needs(needs: &[Need]) -> Needs {
        needs.iter().cloned().collect()
    }

    fn env(name: &str) -> Need {
        Need::Env(name.to_owned())
    }

    fn directory(guest: &str, mode: Mode) -> Need {
        Need::Directory(guest.to_owned(), mode)
    }

    const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_plugin_may_do_what_it_declares_and_is_granted() {
        use Mode::{ReadOnly, ReadWrite};
        let all = grant(&[
            ("env", &["LANG", "TZ=UTC"]),
            ("config", &["region=eu=1"]),
            ("secrets", &["key=env:KEY", "token=file:/run/token"]),
            ("fs", &["/data=/srv/data", "/out/=/srv/out:rw"]),
            ("tasks", &["images.*"]),
        ]);
        let wanted = needs(&[
            env("TZ"),
            Need::Config("region".to_owned()),
            Need::Secret("key".to_owned()),
            directory("/data", ReadOnly),
            directory("/out", ReadOnly),
        ]);
        let powers = meet(&wanted, &all, HASH).expect("all is granted");
        assert_eq!(powers.env, [("TZ".to_owned(), Some("UTC".to_owned()))]);
        assert_eq!(powers.config, BTreeMap::from([("region".to_owned(), "eu=1".to_owned())]));
        assert_eq!(powers.secrets, [("key".to_owned(), SecretSource::Variable("KEY".to_owned()))]);
        // What is granted for writing and declared for reading can be read.
        let folder = |guest: &str, host: &str| (guest.to_owned(), PathBuf::from(host), ReadOnly);
        assert_eq!(powers.fs, [folder("/data", "/srv/data"), folder("/out", "/srv/out")]);
        assert_eq!(powers.tasks, ["images.*"]);
        // Who declares nothing may do nothing.
        assert_eq!(meet(&Needs::new(), &all, HASH), Ok(Powers::default()));
        let writing = needs(&[directory("/data", ReadWrite), directory("/out", ReadWrite)]);
        assert_eq!(meet(&writing, &all, HASH), Err(Denial::Missing(vec![directory("/data", ReadWrite)])));
    }

    #[test]
    fn what_is_missing_is_named_with_the_line_to_add() {
        let name = PluginName::parse("images").expect("a name");
        let wanted = needs(&[
            env("LANG"),
            env("TZ"),
            Need::Config("region".to_owned()),
            Need::Secret("key".to_owned()),
            directory("/out", Mode::ReadWrite),
        ]);
        let Err(Denial::Missing(missing)) = meet(&wanted, &grant(&[("env", &["LANG"])]), HASH) else {
            panic!("not all is granted")
        };
        assert_eq!(
            advice(&name, &missing),
            "env `TZ`, config `region`, fs `/out:rw`, secrets `key`, not granted: \
             add `config = [\"region=VALUE\"]` and `env = [\"TZ\"]` and `fs = [\"/out=/FOLDER:rw\"]` and \
             `secrets = [\"key=env:VARIABLE\"]` to [grants.\"images\"] of host.toml"
        );
    }

    #[test]
    fn a_pinned_grant_is_for_one_component() {
        let pinned = grant(&[("sha256", &[HASH]), ("env", &["LANG"])]);
        assert!(meet(&needs(&[env("LANG")]), &pinned, HASH).is_ok());
        let other = meet(&needs(&[env("LANG")]), &pinned, "bb");
        assert_eq!(other, Err(Denial::OtherComponent { pinned: HASH.to_owned() }));
        assert!(meet(&Needs::new(), &pinned, "bb").is_ok());
    }

    #[test]
    fn both_sides_are_shown_beside_each_other() {
        let granted = grant(&[("env", &["LANG", "HOME"]), ("fs", &["/data=/srv:rw"])]);
        let wanted = needs(&[env("LANG"), env("TZ"), directory("/data", Mode::ReadOnly)]);
        let rows: Vec<_> = side_by_side(&wanted, &granted)
            .into_iter()
            .map(|Power { need, declared, granted }| (need.to_string(), declared, granted))
            .collect();
        let row = |need: &str, declared, granted| (need.to_owned(), declared, granted);
        assert_eq!(
            rows,
            [
                row("env `LANG`", true, true),
                row("env `TZ`", true, false),
                row("fs `/data`", true, true),
                row("env `HOME`", false, true),
            ]
        );
    }

    #[test]
    fn a_grant_that_cannot_be_read_says_what_was_expected() {
        for (option, value, expected) in [
            ("env", "=x", "has no name"),
            ("config", "region", "expected key=value, found \"region\""),
            ("secrets", "key=hunter2", "expected name=env:VARIABLE or name=file:/path"),
            ("secrets", "key=file:token", "expected name=env:VARIABLE or name=file:/path"),
            ("fs", "/data", "expected /path/for/the/plugin=/folder/of/this/machine"),
            ("fs", "/data=srv", "`srv` is no absolute path"),
            ("fs", "data=/srv", "\"data\" is no path for a plugin, such as /data"),
            ("fs", "/a/../b=/srv", "is no path for a plugin"),
            ("fs", "/=/srv", "is no path for a plugin"),
            ("tasks", "*.resize", "is no name of tasks"),
            ("sha256", "abc", "expected 64 hexadecimal digits"),
            ("gpu", "1", "a grant has no `gpu`"),
        ] {
            let problem = Grant::default().set(option, &[value.to_owned()]).expect_err(value);
            assert!(problem.contains(expected), "{option} {value}: {problem}");
            assert!(!problem.contains("hunter2"));
        }
        let twice = Grant::default().set("env", &["A".to_owned(), "A=1".to_owned()]);
        assert_eq!(twice, Err("`A` is there twice".to_owned()));
    }

    #[test]
    fn patterns_name_one_task_or_all_that_begin_alike() {
        for (patterns, task, expected) in [
            (vec![], "any", true),
            (vec!["images.*"], "images.resize", true),
            (vec!["images.*"], "image", false),
            (vec!["a", "b"], "b", true),
            (vec!["a"], "ab", false),
            (vec!["*"], "ab", true),
        ] {
            let patterns: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
            assert_eq!(covers(&patterns, task), expected, "{patterns:?} {task}");
        }
    }

    #[test]
    fn one_tree_is_never_both_read_only_and_writable() {
        use Mode::{ReadOnly, ReadWrite};
        let path = Path::new;
        let both = [(path("/srv/a"), ReadOnly), (path("/srv"), ReadWrite)];
        assert_eq!(conflict(&both), Some((path("/srv/a"), path("/srv"))));
        assert!(conflict(&[(path("/srv"), ReadOnly), (path("/srv/a"), ReadWrite)]).is_some());
        assert!(conflict(&[(path("/srv"), ReadOnly), (path("/srv"), ReadWrite)]).is_some());
        assert_eq!(conflict(&[(path("/srv/a"), ReadOnly), (path("/srv/ab"), ReadWrite)]), None);
        assert_eq!(conflict(&[(path("/srv/a"), ReadWrite), (path("/srv"), ReadWrite)]), None);
    }
}
