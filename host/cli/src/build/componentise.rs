//! Makes a component of a core module, as `wasm-tools component embed` and `new` do, in one step.
//!
//! Whether the component is of use to a worker the check says afterwards.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, UnresolvedPackageGroup, WorldId, WorldItem};

use super::embedded;

/// The world that is meant if a project names none.
const WORLD: &str = "sdk";

/// Where a module says itself which world it is for, as what wit-bindgen generates does.
const METADATA: &str = "component-type";

/// Functions of the component model's own, by names that both ways of naming have.
const INTRINSIC: [&str; 4] = ["[export]", "cm32p2", "$root", "__main_module__"];

/// What a component may import and has to export.
pub(crate) struct World {
    resolve: Resolve,
    id: WorldId,
}

impl World {
    /// The world of SDKs, or another one of our interface.
    pub(crate) fn ours(name: Option<&str>) -> anyhow::Result<Self> {
        let mut resolve = Resolve::default();
        let package = push_ours(&mut resolve)?;
        let id = resolve.select_world(&[package], Some(name.unwrap_or(WORLD)))?;
        Ok(Self { resolve, id })
    }

    /// A world of a project's own: a folder or a file, which need not have a copy of our interface.
    pub(crate) fn read(path: &Path, name: Option<&str>) -> anyhow::Result<Self> {
        let mut resolve = Resolve::default();
        push_ours(&mut resolve)?;
        let (package, _) = match resolve.push_path(path) {
            Ok(pushed) => pushed,
            Err(error) => {
                resolve = Resolve::default();
                // What was wrong at first says more: perhaps the project has no copy of what it uses.
                resolve.push_path(path).map_err(|_| error)?
            }
        };
        let id = resolve.select_world(&[package], name)?;
        Ok(Self { resolve, id })
    }

    /// The interfaces that may be imported, by their full names.
    fn imports(&self) -> BTreeSet<String> {
        let world = &self.resolve.worlds[self.id];
        world.imports.keys().map(|key| self.resolve.name_world_key(key)).collect()
    }

    /// The functions that a module has to export, as they are called there.
    fn exports(&self) -> Vec<String> {
        let world = &self.resolve.worlds[self.id];
        let mut names = Vec::new();
        for (key, item) in &world.exports {
            let name = self.resolve.name_world_key(key);
            match item {
                WorldItem::Interface { id, .. } => {
                    let functions = self.resolve.interfaces[*id].functions.keys();
                    names.extend(functions.map(|function| format!("{name}#{function}")));
                }
                WorldItem::Function(_) => names.push(name),
                WorldItem::Type { .. } => {}
            }
        }
        names
    }
}

fn push_ours(resolve: &mut Resolve) -> anyhow::Result<wit_parser::PackageId> {
    let mut dependencies = Vec::new();
    let mut ours = wit_parser::SourceMap::default();
    for (name, content) in embedded::folder("wit").filter(|(name, _)| name.ends_with(".wit")) {
        let text = std::str::from_utf8(content).context("WIT is text")?;
        if name.starts_with("deps/") {
            let parsed = UnresolvedPackageGroup::parse(name, text);
            dependencies.push(parsed.map_err(|(map, error)| anyhow!("{}", error.render(&map)))?);
        } else {
            ours.push_str(name, text);
        }
    }
    let ours = ours.parse().map_err(|(map, error)| anyhow!("{}", error.render(&map)))?;
    Ok(resolve.push_groups(ours, dependencies)?)
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Module,
    Component,
    Neither,
}

impl Kind {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes.get(..8) {
            Some(b"\0asm\x01\0\0\0") => Self::Module,
            Some(b"\0asm\x0d\0\x01\0") => Self::Component,
            _ => Self::Neither,
        }
    }
}

/// Functions that a world promises and a module does not have.
#[derive(Debug, thiserror::Error)]
#[error("it does not export {}: is the SDK linked into it?", list(&missing.iter().map(String::as_str).collect::<Vec<_>>()))]
pub(crate) struct Unexported {
    missing: Vec<String>,
}

/// What is looked at in a module before it is taken apart.
#[derive(Default)]
struct Outline {
    /// Module and name.
    imports: Vec<(String, String)>,
    exports: BTreeSet<String>,
    has_metadata: bool,
}

impl Outline {
    fn read(module: &[u8]) -> anyhow::Result<Self> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::Version { encoding, .. } if encoding != Encoding::Module => bail!("it is not a module"),
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        outline.imports.push((import.module.to_owned(), import.name.to_owned()));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        outline.exports.insert(export?.name.to_owned());
                    }
                }
                Payload::CustomSection(section) => outline.has_metadata |= section.name().starts_with(METADATA),
                _ => {}
            }
        }
        Ok(outline)
    }

    /// What nobody could give the module.
    fn check_imports(&self, world: &World) -> anyhow::Result<()> {
        let known = world.imports();
        let is_known = |module: &str| {
            module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME
                || known.contains(module)
                || INTRINSIC.iter().any(|start| module.starts_with(start))
        };
        let unknown: Vec<_> = self.imports.iter().filter(|(module, _)| !is_known(module)).collect();
        // Linkers look for functions that no source file defines in a module of this name.
        let undefined: Vec<_> = unknown.iter().filter(|(module, _)| module == "env").map(|(_, name)| &**name).collect();
        if !undefined.is_empty() {
            bail!("nothing defines {}: is a source file or a library missing?", list(&undefined));
        }
        let unknown: Vec<_> =
            unknown.iter().map(|(module, _)| &**module).collect::<BTreeSet<_>>().into_iter().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let world = &world.resolve.worlds[world.id].name;
        bail!("it imports {}, which the world `{world}` does not have", list(&unknown))
    }

    /// What the world promises and the module does not have.
    fn check_exports(&self, world: &World) -> anyhow::Result<()> {
        if self.exports.iter().any(|name| name.starts_with("cm32p2")) {
            return Ok(()); // named in the other way, which the encoder knows
        }
        // Asynchronous functions have a mark in front.
        let has =
            |name: &String| self.exports.contains(name) || self.exports.iter().any(|export| export.ends_with(name));
        let missing: Vec<_> = world.exports().into_iter().filter(|name| !has(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Unexported { missing }.into())
    }
}

/// The module without what only debuggers read, which may be most of it. Traps name functions all the same.
fn without_debugging(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    const HEADER: usize = 8;
    let mut kept = module[..HEADER].to_vec();
    let mut end = HEADER;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        let Some((_, range)) = payload.as_section() else { continue };
        let next = usize::try_from(range.end)?;
        let debugging = matches!(&payload, Payload::CustomSection(section) if section.name().starts_with(".debug_"));
        // A section's kind and length are in front of its content.
        if !debugging {
            kept.extend_from_slice(&module[end..next]);
        }
        end = next;
    }
    Ok(kept)
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// The component. A module that says itself which world it is for is taken at its word.
pub(crate) fn componentise(mut module: Vec<u8>, world: &World) -> anyhow::Result<Vec<u8>> {
    let outline = Outline::read(&module).context("it is damaged")?;
    if !outline.has_metadata {
        outline.check_imports(world)?;
        outline.check_exports(world)?;
        embed_component_metadata(&mut module, &world.resolve, world.id, StringEncoding::UTF8)?;
    }
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&without_debugging(&module)?)?;
    if outline.imports.iter().any(|(module, _)| module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME) {
        encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    }
    encoder.encode()
}

#[cfg(test)]
mod tests;
