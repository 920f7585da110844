//! What the operator grants to plugins: `[grants.NAME]`.
//!
//! What a grant means is the sandbox's business; here it is read, and mistakes are named with their place.

use std::collections::BTreeMap;

use sandbox::Grant;
use taskhost_core::PluginName;

use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::resolve::Resolved;
use crate::config::value::Value;

/// Reads all grants.
pub(crate) fn read(resolved: &Resolved) -> Result<BTreeMap<PluginName, Grant>, ConfigErrors> {
    let mut grants: BTreeMap<PluginName, Grant> = BTreeMap::new();
    let mut errors = Vec::new();
    for (plugin, options) in &resolved.grant_options {
        let grant = grants.entry(plugin.clone()).or_default();
        for (option, (value, origin)) in options {
            let Value::Texts(texts) = value else { unreachable!("all options of a grant are texts") };
            let set = grant.set(option, texts).and_then(|()| check(option, texts));
            if let Err(problem) = set {
                errors.push(ConfigError::value(origin, &key(plugin, option), &problem));
            }
        }
    }
    if errors.is_empty() { Ok(grants) } else { Err(ConfigErrors::new(errors)) }
}

/// What the sandbox cannot know: which URLs lead to a store.
fn check(option: &str, texts: &[String]) -> Result<(), String> {
    let urls = texts.iter().filter(|_| option == "keyvalue").filter_map(|text| text.split_once('='));
    for (bucket, url) in urls {
        if !store::can_keep_values(url) {
            return Err(format!("bucket `{bucket}`: expected the URL of a Redis server or an SQLite file"));
        }
    }
    Ok(())
}

/// The name of an option as it is shown.
pub(crate) fn key(plugin: &PluginName, option: &str) -> String {
    format!("grants.\"{plugin}\".{option}")
}
