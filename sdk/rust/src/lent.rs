//! What the operator lends to a plugin: settings and secrets. Files and environment variables are std's business.

use std::fmt;

/// The value of a setting, from `wasi:config`. Its key is declared under `config` in `[needs]` of `plugin.toml`, and the
/// operator gives it a value in `host.toml`.
pub fn config(key: &str) -> Result<String, Denied> {
    #[cfg(target_family = "wasm")]
    return match crate::bindings::config::wasi::config::store::get(key) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Denied(format!("config `{key}` has no value"))),
        Err(error) => {
            use crate::bindings::config::wasi::config::store::Error::{Io, Upstream};
            let (Upstream(why) | Io(why)) = error;
            Err(Denied(why))
        }
    };
    #[cfg(not(target_family = "wasm"))]
    Err(outside(&format!("config `{key}`")))
}

/// A secret. Its name is declared under `secrets` in `[needs]` of `plugin.toml`, and the operator says in `host.toml`
/// where the worker finds it.
pub fn secret(name: &str) -> Result<String, Denied> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::taskhost::task::secrets::get(name).map_err(|error| {
        let crate::bindings::taskhost::task::secrets::SecretError::Denied(why) = error;
        Denied(why)
    });
    #[cfg(not(target_family = "wasm"))]
    Err(outside(&format!("secret `{name}`")))
}

#[cfg(not(target_family = "wasm"))]
fn outside(what: &str) -> Denied {
    Denied(format!("{what} is lent by a host, and this is none"))
}

/// Something that was not lent. The text says what is missing, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied(String);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Denied {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_host_nothing_is_lent() {
        assert!(
            config("region").is_err_and(|denied| denied.to_string().starts_with("config `region` is lent by a host"))
        );
        assert!(secret("key").is_err());
    }
}
