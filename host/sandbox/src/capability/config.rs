//! `wasi:config/store`: settings of a plugin that its operator chooses.
//!
//! A draft, whose versions differ in name only; each is linked.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};

use crate::instance::Guest;

/// Versions that guests ask for: of the proposal, of Spin's SDKs, and of wasmtime's own host.
pub(crate) const VERSIONS: &[&str] = &["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"];

/// The variant `error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    #[expect(dead_code, reason = "a case of the interface that does not happen here")]
    Io(String),
}

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for version in VERSIONS {
        let mut store = linker.instance(&format!("wasi:config/store@{version}"))?;
        store.func_wrap("get", |guest: StoreContextMut<'_, Guest>, (key,): (String,)| -> Answer<Option<String>> {
            Ok((get(guest.data(), &key),))
        })?;
        store.func_wrap("get-all", |guest: StoreContextMut<'_, Guest>, (): ()| -> Answer<Vec<(String, String)>> {
            let all = guest.data().capabilities().map(|capabilities| &capabilities.config);
            let all = all.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
            Ok((Ok(all.collect()),))
        })?;
    }
    Ok(())
}

/// A key that is declared has a value, since the plugin would not have been loaded without.
fn get(guest: &Guest, key: &str) -> Result<Option<String>, Error> {
    match guest.capabilities().and_then(|capabilities| capabilities.config.get(key)) {
        Some(value) => Ok(Some(value.clone())),
        None => Err(Error::Upstream(guest.denied("config", key))),
    }
}
