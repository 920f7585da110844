//! What a component says of itself before it is compiled: what it imports and exports, by name.
//!
//! Believes what it reads, and reads as far as it can: whether a component is a good one shows in compiling it.

use wasmparser::{ComponentType, ComponentTypeDeclaration, InstanceTypeDeclaration, Parser, Payload};

use crate::abi;
use crate::engine::Kind;

/// The names of a component's imports and exports.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outline {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    /// It knows functions that take a while.
    has_async: bool,
}

impl Outline {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut outline = Self::default();
        // Modules and components within it have imports and exports of their own.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload {
                Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
                Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
                Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                    outline.imports.extend(section.into_iter().flatten().map(|import| import.name.name.to_owned()));
                }
                Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                    outline.exports.extend(section.into_iter().flatten().map(|export| export.name.name.to_owned()));
                }
                Ok(Payload::ComponentTypeSection(section)) if depth == 0 => {
                    outline.has_async |= section.into_iter().flatten().any(|kind| has_async(&kind));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        outline
    }

    /// The engine that it needs.
    pub(crate) fn kind(&self) -> Kind {
        let is_concurrent = self.has_async
            || self.exports.iter().any(|name| name.starts_with(abi::TASKS_ASYNC_SERIES))
            || self.imports.iter().any(|name| abi::is_wasi_0_3(name));
        if is_concurrent { Kind::Concurrent } else { Kind::Sequential }
    }
}

/// True if there is a function in it that takes a while, or one in it has one.
fn has_async(kind: &ComponentType<'_>) -> bool {
    match kind {
        ComponentType::Func(function) => function.async_,
        ComponentType::Instance(parts) => {
            parts.iter().any(|part| matches!(part, InstanceTypeDeclaration::Type(kind) if has_async(kind)))
        }
        ComponentType::Component(parts) => {
            parts.iter().any(|part| matches!(part, ComponentTypeDeclaration::Type(kind) if has_async(kind)))
        }
        ComponentType::Defined(_) | ComponentType::Resource { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_component_and_not_of_what_is_in_it() {
        let text = r#"(component
            (import "a:b/c@1.0.0" (instance $i (export "f" (func))))
            (component $inner (import "x:y/z@1.0.0" (instance)) (export "q:r/tasks-async@0.1.0" (instance 0)))
            (core module (import "m" "n" (func)) (func (export "e")))
            (export "d:e/f@1.0.0" (instance $i))
        )"#;
        let outline = Outline::read(&wat::parse_str(text).expect("valid"));
        assert_eq!(
            (outline.imports.join(","), outline.exports.join(",")),
            ("a:b/c@1.0.0".into(), "d:e/f@1.0.0".into())
        );
        assert_eq!(Outline::read(b"\0asm\x0d\0\x01\0nonsense"), Outline::default());
    }

    #[test]
    fn only_what_needs_concurrency_gets_it() {
        let kind = |imports: &[&str], exports: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Outline { imports: names(imports), exports: names(exports), has_async: false }.kind()
        };
        assert_eq!(kind(&["wasi:cli/stdout@0.2.6"], &["taskhost:task/tasks@0.1.0"]), Kind::Sequential);
        assert_eq!(kind(&[], &["taskhost:task/tasks-async@0.1.0"]), Kind::Concurrent);
        assert_eq!(kind(&["wasi:cli/stdout@0.3.0"], &["taskhost:task/tasks@0.1.0"]), Kind::Concurrent);
        let read = |text: &str| Outline::read(&wat::parse_str(text).expect("valid")).kind();
        assert_eq!(read(r#"(component (import "a:b/c" (instance (export "f" (func)))))"#), Kind::Sequential);
        assert_eq!(read(r#"(component (import "a:b/c" (instance (export "f" (func async)))))"#), Kind::Concurrent);
    }
}
