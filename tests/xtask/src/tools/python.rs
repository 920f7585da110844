//! Fetches what builds plugins in Python from PyPI.

use super::{Found, Tools};
use crate::Result;
use crate::python::{self, Packages, Python};

/// The exact version, with checksums.
const REQUIREMENTS: &str = include_str!("../../../fixtures/python-sdk/requirements.txt");

/// Finds the environment with componentize-py, or makes it, which takes some seconds the first time.
pub(crate) fn obtain() -> Result<Tools> {
    let packages = Packages { name: "componentize-py", requirements: REQUIREMENTS, probe: "import componentize_py" };
    match python::obtain_with(&packages)? {
        Python::Ready(interpreter) => {
            let path = interpreter.parent().map(ToOwned::to_owned).into_iter().collect();
            Ok(Tools::Ready(Found { path, ..Found::default() }))
        }
        Python::Missing(reason) => Ok(Tools::Missing(reason)),
    }
}
