//! Fetches what builds plugins in TypeScript from npm: the bundler, the compiler of components, and TypeScript.

use super::{Found, Tools};
use crate::Result;
use crate::node::{self, Modules, Node};

const TOOLS: Modules = Modules {
    name: "js",
    package: include_str!("../../../fixtures/js/package.json"),
    lock: include_str!("../../../fixtures/js/package-lock.json"),
    // What the SDK's build needs.
    version_min: 20,
};
/// Where the SDK's build looks for modules that a project does not have.
const VARIABLE: &str = "TASKHOST_NODE_MODULES";

/// Finds the modules, or fetches them, which takes some seconds the first time.
pub(crate) fn obtain() -> Result<Tools> {
    Ok(match node::obtain_with(&TOOLS)? {
        Node::Ready(modules) => {
            Tools::Ready(Found { variables: vec![(VARIABLE, modules.into_os_string())], ..Found::default() })
        }
        Node::Missing(reason) => Tools::Missing(reason),
    })
}
