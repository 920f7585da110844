//! The Rust SDK as a new plugin gets it: a crate of its own, which takes nothing from our workspace.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::super::embedded;

/// Where the SDK finds the interface in our workspace, and where in the copy. A folder called `wit` would be read for every
/// other world that the crate defines, too.
const WIT: [&str; 2] = ["\"../../wit\"", "\"interface\""];

/// The files of the crate `taskhost`, with its macros and the interface in folders of it.
pub(super) fn sdk() -> Vec<(PathBuf, Cow<'static, [u8]>)> {
    let workspace: Table = embedded::text("workspace.toml").parse().expect("cargo reads it, too");
    let parts = [("sdk/rust", ""), ("sdk/macros", "macros"), ("wit", "interface")];
    let mut files = Vec::new();
    for (from, to) in parts {
        for (path, content) in embedded::folder(from) {
            let content = match Path::new(path).extension().and_then(|extension| extension.to_str()) {
                Some("toml") => Cow::Owned(alone(text(content), &workspace).into_bytes()),
                Some("rs") => Cow::Owned(text(content).replace(WIT[0], WIT[1]).into_bytes()),
                _ => Cow::Borrowed(content),
            };
            files.push((Path::new(to).join(path), content));
        }
    }
    files
}

fn text(content: &'static [u8]) -> &'static str {
    std::str::from_utf8(content).expect("it is text")
}

/// A manifest with its workspace's values written out.
fn alone(manifest: &str, workspace: &Table) -> String {
    let mut manifest: Table = manifest.parse().expect("cargo reads it, too");
    let workspace = &workspace["workspace"];
    // For whoever works on the SDK.
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    if let Some(Value::Table(package)) = manifest.get_mut("package") {
        inherit(package, &workspace["package"]);
    }
    if let Some(Value::Table(dependencies)) = manifest.get_mut("dependencies") {
        inherit(dependencies, &workspace["dependencies"]);
        if let Some(macros) = dependencies.get_mut("taskhost-macros") {
            *macros = Value::Table(Table::from_iter([("path".to_owned(), Value::from("macros"))]));
        }
    }
    manifest.to_string()
}

/// Replaces `{ workspace = true, .. }`: what else is said there is added.
fn inherit(table: &mut Table, workspace: &Value) {
    for (key, value) in table.iter_mut() {
        let Some(own) =
            value.as_table().filter(|own| own.get("workspace").is_some_and(|value| value.as_bool() == Some(true)))
        else {
            continue;
        };
        let mut own = own.clone();
        own.remove("workspace");
        let inherited = workspace[&**key].clone();
        if own.is_empty() {
            *value = inherited;
            continue;
        }
        let mut whole = match inherited {
            Value::Table(table) => table,
            version => Table::from_iter([("version".to_owned(), version)]),
        };
        for (name, setting) in own {
            match (whole.get_mut(&name), setting) {
                (Some(Value::Array(present)), Value::Array(more)) => present.extend(more),
                (_, setting) => drop(whole.insert(name, setting)),
            }
        }
        *value = Value::Table(whole);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_manifest_stands_alone() {
        let workspace = "[workspace.package]\nversion = \"1.2.3\"\n[workspace.dependencies]\nserde = \"1\"\n\
                         wit = { version = \"0.6\", features = [\"a\"] }\ntaskhost-macros = { path = \"sdk/macros\" }\n";
        let manifest = "[package]\nname = \"x\"\nversion.workspace = true\n[lints]\nworkspace = true\n[dependencies]\n\
                        serde = { workspace = true, optional = true }\nwit = { workspace = true, features = [\"b\"] }\n\
                        taskhost-macros.workspace = true\n";
        expect![[r#"
            [dependencies.serde]
            optional = true
            version = "1"

            [dependencies.taskhost-macros]
            path = "macros"

            [dependencies.wit]
            features = ["a", "b"]
            version = "0.6"

            [package]
            name = "x"
            version = "1.2.3"
        "#]]
        .assert_eq(&alone(manifest, &workspace.parse().unwrap()));
    }

    #[test]
    fn the_copy_takes_nothing_from_our_workspace() {
        let files = sdk();
        let paths: Vec<_> = files.iter().map(|(path, _)| path.to_string_lossy().into_owned()).collect();
        for expected in
            ["Cargo.toml", "README.md", "src/lib.rs", "macros/Cargo.toml", "macros/src/lib.rs", "interface/task.wit"]
        {
            assert!(paths.iter().any(|path| path == expected), "{expected}: {paths:?}");
        }
        for (path, content) in &files {
            let content = String::from_utf8_lossy(content);
            if path.extension().is_some_and(|extension| extension == "toml") {
                assert!(!content.contains("workspace"), "{}:\n{content}", path.display());
            }
            if path.extension().is_some_and(|extension| extension == "rs") {
                assert!(!content.contains("\"../.."), "{}", path.display());
            }
        }
    }
}
