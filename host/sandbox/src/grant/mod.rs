//! What a plugin declares that it needs, what the operator grants it, and what it may do: what is both.
//!
//! Pure: fetches nothing that a grant names. The capabilities do, when a plugin is loaded.

mod entry;
mod host;
mod http;
mod keyvalue;
mod need;
mod networks;
#[cfg(test)]
mod properties;
mod publish;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use taskhost_core::PluginName;

use crate::size::Size;

use entry::{directory, hash, named, one_size, pair, pattern, secret, variable};
pub(crate) use host::Host;
pub use http::HttpPattern;
pub(crate) use http::{Destination, HttpPowers, Scheme};
pub(crate) use keyvalue::StoreUrl;
pub(crate) use need::CAPABILITIES;
pub use need::{Mode, Need, Scope};
pub(crate) use networks::{Networks, Range, entry as network_entry};
pub use publish::Calls;
pub use sockets::SocketPattern;
pub(crate) use sockets::{Protocol, Refusal, SocketPowers};

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
    pub(crate) http: Vec<HttpPattern>,
    pub(crate) sockets: Vec<SocketPattern>,
    /// Networks that names may lead to beside the Internet.
    pub(crate) networks: Networks,
    /// Tasks that it may call.
    pub(crate) publish: BTreeSet<Calls>,
    /// Whose results it may see.
    pub(crate) results: Option<Scope>,
    /// Buckets, some with a store of their own.
    pub(crate) keyvalue: BTreeMap<String, Option<StoreUrl>>,
    /// How large a scratch folder may be.
    pub(crate) scratch: Option<Size>,
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
    ("http", "where it may send requests, such as [\"https://*.example.com\", \"http://10.1.2.3:8080\"]"),
    ("keyvalue", "buckets for values (wasi:keyvalue), such as [\"cache\"], or [\"cache=redis://localhost/2\"]"),
    (
        "networks",
        "what names may lead to beside the Internet: loopback, private, link-local, shared, metadata, or \"10.1.0.0/16\"",
    ),
    ("publish", "tasks that it may call, such as [\"images.*\"], or [\"mail.send@mail\"] by a queue that it names"),
    ("results", "results that it may see: [\"own\"] those of tasks that descend from its own, or [\"any\"]"),
    ("scratch", "how large the private folder of each attempt may be, such as [\"64MiB\"]"),
    ("secrets", "secrets, such as [\"key=env:VARIABLE\", \"token=file:/run/secrets/token\"]"),
    ("sha256", "the component that all this is for; any file of that name, if not given"),
    ("sockets", "machines to talk to, such as [\"tcp://db.example.com:5432\", \"udp://10.0.0.0/8:53\"]"),
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
            "http" => self.http = values.iter().map(|text| HttpPattern::parse(text)).collect::<Result<_, _>>()?,
            "sockets" => {
                self.sockets = values.iter().map(|text| SocketPattern::parse(text)).collect::<Result<_, _>>()?
            }
            "scratch" => self.scratch = Some(one_size(values)?),
            "keyvalue" => self.keyvalue = named(values, keyvalue::entry)?,
            "networks" => self.networks = Networks::parse(values)?,
            "publish" => self.publish = values.iter().map(|text| Calls::read(text)).collect::<Result<_, _>>()?,
            "results" => {
                self.results =
                    values.iter().map(|text| Scope::read(text)).collect::<Result<Vec<_>, _>>()?.into_iter().max()
            }
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
            Need::Scratch(wanted) => self.scratch.is_some_and(|granted| granted >= *wanted),
            Need::Http(wanted) => self.http.iter().any(|granted| granted.covers(wanted)),
            Need::Socket(wanted) => self.sockets.iter().any(|granted| granted.covers(wanted)),
            Need::Publish(calls) => self.publish.iter().any(|entry| entry.covers(calls)),
            Need::KeyValue(bucket) => self.keyvalue.contains_key(bucket),
            Need::Results(wanted) => self.results.is_some_and(|scope| scope >= *wanted),
        }
    }

    /// Everything that it gives.
    fn all(&self) -> Needs {
        let env = self.env.keys().cloned().map(Need::Env);
        let config = self.config.keys().cloned().map(Need::Config);
        let secrets = self.secrets.keys().cloned().map(Need::Secret);
        let fs = self.fs.iter().map(|(guest, (_, mode))| Need::Directory(guest.clone(), *mode));
        let http = self.http.iter().cloned().map(Need::Http);
        let sockets = self.sockets.iter().cloned().map(Need::Socket);
        let publish = self.publish.iter().cloned().map(Need::Publish);
        let results = self.results.map(Need::Results);
        let keyvalue = self.keyvalue.keys().cloned().map(Need::KeyValue);
        let scratch = self.scratch.map(Need::Scratch);
        env.chain(config)
            .chain(secrets)
            .chain(fs)
            .chain(http)
            .chain(sockets)
            .chain(publish)
            .chain(results)
            .chain(keyvalue)
            .chain(scratch)
            .collect()
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
    pub(crate) http: Option<HttpPowers>,
    pub(crate) sockets: Option<SocketPowers>,
    pub(crate) publish: Vec<Calls>,
    pub(crate) results: Option<Scope>,
    pub(crate) keyvalue: BTreeMap<String, Option<StoreUrl>>,
    /// As large as the plugin needs, even if more were granted.
    pub(crate) scratch: Option<Size>,
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
            Need::Scratch(size) => powers.scratch = Some(*size),
            Need::Http(pattern) => {
                let http = powers.http.get_or_insert_with(|| HttpPowers::new(&grant.http, &grant.networks));
                http.declare(pattern.clone());
            }
            Need::Socket(pattern) => {
                let sockets = powers.sockets.get_or_insert_with(|| SocketPowers::new(&grant.sockets, &grant.networks));
                sockets.declare(pattern.clone());
            }
            Need::Publish(calls) => powers.publish.push(calls.clone()),
            Need::KeyValue(bucket) => drop(powers.keyvalue.insert(bucket.clone(), grant.keyvalue[bucket].clone())),
            Need::Results(scope) => powers.results = powers.results.max(Some(*scope)),
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
