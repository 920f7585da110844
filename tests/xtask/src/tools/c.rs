//! What builds plugins in C: Zig's C compiler, which brings a C library for WebAssembly along.
//!
//! It comes as a Python package, so that it can be had where Python's packages can.

use std::path::PathBuf;

use super::{Found, Tools};
use crate::Result;
use crate::cache;
use crate::debian;
use crate::python::{self, Packages, Python};

const PACKAGES: Packages = Packages { name: "zig", requirements: "ziglang==0.17.1\n", probe: "import ziglang" };

/// Finds `zig` in PATH, or fetches it into the cache folder, which takes some seconds the first time.
pub(crate) fn obtain() -> Result<Tools> {
    // What it compiles of its own C library is the same for all plugins.
    let variables = vec![("ZIG_GLOBAL_CACHE_DIR", cache::folder()?.join("zig-cache").into_os_string())];
    if debian::in_path("zig") {
        return Ok(Tools::Ready(Found { path: Vec::new(), variables }));
    }
    let interpreter = match python::obtain_with(&PACKAGES)? {
        Python::Ready(interpreter) => interpreter,
        Python::Missing(reason) => return Ok(Tools::Missing(reason)),
    };
    let mut command = std::process::Command::new(&interpreter);
    command.args(["-c", "import os, ziglang; print(os.path.dirname(ziglang.__file__))"]);
    let output = command.output().map_err(|error| format!("start {}: {error}", interpreter.display()))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    match folder.join("zig").is_file() {
        true => Ok(Tools::Ready(Found { path: vec![folder], variables })),
        false => Ok(Tools::Missing(format!("the Python package ziglang has no zig in {}", folder.display()))),
    }
}
