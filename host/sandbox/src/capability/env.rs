//! Variables of the environment that a plugin sees through `wasi:cli/environment`.
//!
//! Never the worker's own environment: that has the credentials of broker and store.

/// The values, as they are when the plugin is loaded.
pub(super) fn fetch(granted: Vec<(String, Option<String>)>, warnings: &mut Vec<String>) -> Vec<(String, String)> {
    let mut variables = Vec::with_capacity(granted.len());
    for (name, value) in granted {
        match value.or_else(|| std::env::var(&name).ok()) {
            Some(value) => variables.push((name, value)),
            None => warnings.push(format!("env `{name}` is granted, but the worker has no such variable")),
        }
    }
    variables
}
