//! What a plugin was granted, fetched when it is loaded and ready for its attempts.
//!
//! Decides nothing about who may do what: `grant` did. What a guest does not have it is denied here, with
//! a text that names the missing line.

mod config;
mod env;
mod fs;
mod http;
mod keyvalue;
mod logging;
mod network;
mod publish;
mod remarks;
mod results;
mod scratch;
mod secrets;
mod sockets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime_wasi::WasiCtxBuilder;

use crate::grant::{self, Calls, HttpPowers, Powers, Scope, SocketPowers, StoreUrl};
use crate::instance::Guest;
use crate::logs::Speaker;
use crate::size::Size;

pub(crate) use config::VERSIONS as CONFIG_VERSIONS;
pub(crate) use http::Http;
pub(crate) use keyvalue::VERSIONS as KEYVALUE_VERSIONS;
pub use keyvalue::{Values, ValuesSource};
pub(crate) use logging::VERSION as LOGGING_VERSION;
pub(crate) use network::{Traffic, TrafficMeter};
pub(crate) use publish::{Leaving, Partial};
pub(crate) use remarks::Remarks;
pub use results::ResultSource;
pub(crate) use scratch::{Scratch, Scratches};
pub(crate) use sockets::Sockets;

use fs::Directory;
use secrets::Secret;

/// Why something that was granted cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    #[error("secret `{name}` is granted from {source_text}")]
    Secret {
        name: String,
        source_text: String,
        #[source]
        source: std::io::Error,
    },
    #[error("folder `{host}` is granted as {guest}")]
    Folder {
        guest: String,
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{read}` is granted for reading and `{written}` for writing: one holds the other")]
    Overlap { read: String, written: String },
    #[error("`{}` is granted as a folder, and is where the scratch folder is", scratch::GUEST_PATH)]
    ScratchPath,
    #[error("the scratch folders are in `{}`", dir.display())]
    Scratch {
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The powers of one version of a plugin.
#[derive(Debug)]
pub(crate) struct Capabilities {
    tasks: Vec<String>,
    env: Vec<(String, String)>,
    config: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    directories: Vec<Directory>,
    http: Option<HttpPowers>,
    sockets: Option<SocketPowers>,
    publish: Vec<Calls>,
    results: Option<Scope>,
    keyvalue: BTreeMap<String, Option<StoreUrl>>,
    /// How much may be in the scratch folder of an attempt, and where those are made.
    scratch: Option<(Size, Arc<Scratches>)>,
}

impl Capabilities {
    /// Fetches values and opens folders. None if there is nothing to fetch.
    pub(crate) fn fetch(
        powers: Powers,
        scratches: &Arc<Scratches>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, CapabilityError> {
        if powers == Powers::default() {
            return Ok(None);
        }
        if powers.scratch.is_some() {
            if powers.fs.iter().any(|(guest, ..)| guest == scratch::GUEST_PATH) {
                return Err(CapabilityError::ScratchPath);
            }
            scratches.prepare()?;
        }
        Ok(Some(Self {
            tasks: powers.tasks,
            env: env::fetch(powers.env, warnings),
            config: powers.config,
            secrets: secrets::fetch(powers.secrets)?,
            directories: fs::open(powers.fs)?,
            http: powers.http,
            sockets: powers.sockets,
            publish: powers.publish,
            results: powers.results,
            keyvalue: powers.keyvalue,
            scratch: powers.scratch.map(|size| (size, Arc::clone(scratches))),
        }))
    }

    /// True if the task may use them.
    pub(crate) fn covers(&self, task: &str) -> bool {
        grant::covers(&self.tasks, task)
    }

    /// True if there is something that an attempt cannot do without.
    pub(crate) fn needs_preparation(&self) -> bool {
        !self.directories.is_empty() || self.scratch.is_some()
    }

    /// True if an attempt may have sockets.
    pub(crate) fn has_sockets(&self) -> bool {
        self.sockets.is_some()
    }

    /// Gives a WASI context what is granted of it.
    pub(crate) fn furnish(
        &self,
        builder: &mut WasiCtxBuilder,
        scratch: Option<&Scratch>,
    ) -> Result<(), CapabilityError> {
        builder.envs(&self.env);
        if let Some(scratch) = scratch {
            scratch.furnish(builder)?;
            if self.env.iter().all(|(name, _)| name != scratch::VARIABLE) {
                builder.env(scratch::VARIABLE, scratch::GUEST_PATH);
            }
        }
        self.directories.iter().try_for_each(|directory| directory.furnish(builder))
    }

    /// True if an attempt has a scratch folder.
    pub(crate) fn has_scratch(&self) -> bool {
        self.scratch.is_some()
    }

    /// Makes the scratch folder of an attempt, if it has one.
    pub(crate) fn make_scratch(&self, remarks: Arc<Remarks>) -> Result<Option<Scratch>, CapabilityError> {
        let Some((size, scratches)) = &self.scratch else { return Ok(None) };
        scratches.make(size.0 as u64, remarks).map(Some)
    }

    /// The text without the secrets that it holds.
    pub(crate) fn mask(&self, text: String) -> String {
        self.secrets.values().fold(text, |text, secret| secret.mask(text))
    }
}

/// Links what is not WASI's own, or is otherwise than WASI's own.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    config::link(linker)?;
    keyvalue::link(linker)?;
    logging::link(linker)?;
    linker.allow_shadowing(true);
    http::link(linker)?;
    sockets::link(linker)?;
    scratch::link(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The words of a denial.
pub(crate) fn denied(speaker: &Speaker, granted: Option<&Capabilities>, option: &str, name: &str) -> String {
    let what = format!("{option} `{name}` is denied");
    let plugin = speaker.plugin();
    match (speaker.task(), granted) {
        (None, _) => format!("{what}: only tasks have what is granted, not `describe`"),
        (Some(task), Some(granted)) if !granted.covers(task) => {
            let tasks = granted.tasks.join(", ");
            format!("{what}: [grants.\"{plugin}\"] of host.toml is for tasks {tasks}, not for `{task}`")
        }
        (Some(_), _) => format!(
            "{what}: the plugin does not declare it; add `{option} = [\"{name}\"]` to [needs] of plugin.toml and grant \
             it in [grants.\"{plugin}\"] of host.toml"
        ),
    }
}
