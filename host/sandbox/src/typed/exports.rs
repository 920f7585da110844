//! Finds the functions of a component that can be tasks, and names them.
//!
//! What is exported under a package's name is meant for others and is a task by itself. Everything else that a component
//! exports is often there for its own tools, so it is one only if the manifest says so.

use std::collections::{BTreeMap, BTreeSet};

use taskhost_core::TaskName;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, Type};

use crate::load_error::LoadError;
use crate::typed::Function;

/// The functions of a component.
#[derive(Default)]
pub(crate) struct Found {
    /// In the order in which they are exported.
    pub(crate) functions: Vec<(TaskName, Function)>,
    /// Why others are none.
    pub(crate) warnings: Vec<String>,
}

/// A function that a component exports.
struct Export {
    /// The interface as the component names it, with its version; none at the root.
    interface: Option<String>,
    function: String,
    kind: ComponentFunc,
    index: ComponentExportIndex,
}

impl Export {
    /// As the manifest writes it.
    fn key(&self) -> String {
        match &self.interface {
            Some(interface) => format!("{interface}.{}", self.function),
            None => self.function.clone(),
        }
    }

    /// Whether the manifest means this one, whose version it may leave out.
    fn is(&self, key: &str) -> bool {
        let Some(interface) = &self.interface else { return key == self.function };
        let Some((named, function)) = key.rsplit_once('.') else { return false };
        function == self.function && (named == interface || Some(named) == interface.split('@').next())
    }

    /// The name that the task has without the manifest's doing: `images.thumbnails.resize` of `resize` in
    /// `acme:images/thumbnails@1.2.0`.
    fn name(&self) -> Option<String> {
        let interface = self.interface.as_deref()?;
        let (package, name) = interface.split('@').next()?.split_once('/')?;
        let (namespace, package) = package.split_once(':')?;
        if namespace == "wasi" {
            return None;
        }
        let name = format!("{}.{}.{}", package.replace([':', '/'], "."), name.replace('/', "."), self.function);
        Some(name.replace('-', "_").to_ascii_lowercase())
    }
}

/// Finds them. `renamed` is what the manifest says; `is_concurrent`, whether the engine is one for functions that take a
/// while.
pub(crate) fn find(
    engine: &wasmtime::Engine,
    component: &Component,
    is_concurrent: bool,
    renamed: &BTreeMap<String, TaskName>,
) -> Result<Found, LoadError> {
    let kind = component.component_type();
    let mut exports = Vec::new();
    let mut names: BTreeMap<String, Vec<(String, Type)>> = BTreeMap::new();
    for (name, export) in kind.exports(engine) {
        match export.ty {
            ComponentItem::ComponentFunc(kind) => {
                let Some(index) = component.get_export_index(None, name) else { continue };
                exports.push(Export { interface: None, function: name.to_owned(), kind, index });
            }
            ComponentItem::Type(kind) => names.entry(String::new()).or_default().push((name.to_owned(), kind)),
            ComponentItem::ComponentInstance(interface) => {
                let Some(instance) = component.get_export_index(None, name) else { continue };
                for (part, export) in interface.exports(engine) {
                    match export.ty {
                        ComponentItem::ComponentFunc(kind) => {
                            let Some(index) = component.get_export_index(Some(&instance), part) else { continue };
                            let (interface, function) = (Some(name.to_owned()), part.to_owned());
                            exports.push(Export { interface, function, kind, index });
                        }
                        ComponentItem::Type(kind) => {
                            names.entry(name.to_owned()).or_default().push((part.to_owned(), kind));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    for key in renamed.keys() {
        match exports.iter().filter(|export| export.is(key)).count() {
            1 => {}
            0 => {
                return Err(LoadError::NoSuchExport {
                    key: key.clone(),
                    exports: exports.iter().map(Export::key).collect(),
                });
            }
            _ => return Err(LoadError::ExportOfTwoVersions { key: key.clone() }),
        }
    }

    let mut found = Found::default();
    let mut taken: BTreeMap<TaskName, String> = BTreeMap::new();
    let mut unusable = BTreeSet::new();
    for export in exports {
        let key = export.key();
        let given = renamed.iter().find(|(key, _)| export.is(key)).map(|(_, name)| name.clone());
        let name = match (given, export.name()) {
            (Some(name), _) => name,
            (None, Some(name)) => match TaskName::parse(&name) {
                Ok(name) => name,
                Err(error) => {
                    unusable.insert(format!("`{key}`: {error}"));
                    continue;
                }
            },
            (None, None) => continue,
        };
        let names = names.get(export.interface.as_deref().unwrap_or_default()).map_or(&[][..], Vec::as_slice);
        match Function::new(&export.function, &export.kind, export.index, is_concurrent, names) {
            Ok(function) => {
                if let Some(first) = taken.insert(name.clone(), key.clone()) {
                    return Err(LoadError::SameTaskOfTwoExports { task: name, first, second: key });
                }
                found.functions.push((name, function));
            }
            Err(why) => {
                unusable.insert(format!("`{key}`: {why}"));
            }
        }
    }
    let unusable: Vec<String> = unusable.into_iter().collect();
    if found.functions.is_empty() && !unusable.is_empty() {
        return Err(LoadError::NoTypedTasks { why: unusable.join("; ") });
    }
    found.warnings = unusable.into_iter().map(|why| format!("the exported function {why}; it is no task")).collect();
    Ok(found)
}
