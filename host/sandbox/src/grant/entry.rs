//! The entries of a grant as texts: reads one each, and says what was expected instead.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Mode, SecretSource};
use crate::size::Size;

/// The name of a variable, a key or a secret, as `[needs]` has it.
pub(super) fn name(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('=') || text.chars().any(char::is_control) {
        true => Err(format!("\"{}\" is no name", text.escape_debug())),
        false => Ok(text.to_owned()),
    }
}

/// A directory as `[needs]` has it.
pub(super) fn needed_directory(text: &str) -> Result<(String, Mode), String> {
    let (guest, mode) = mode_of(text);
    Ok((guest_path(guest)?, mode))
}

pub(super) fn named<T>(
    values: &[String],
    read: impl Fn(&str) -> Result<(String, T), String>,
) -> Result<BTreeMap<String, T>, String> {
    let mut entries = BTreeMap::new();
    for value in values {
        let (name, entry) = read(value)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(format!("\"{}\" has no name before `=`", value.escape_debug()));
        }
        if entries.insert(name.clone(), entry).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(entries)
}

pub(super) fn variable(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

pub(super) fn pair(text: &str, expected: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("expected {expected}, found \"{}\"", text.escape_debug()))
}

pub(super) fn secret(text: &str) -> Result<(String, SecretSource), String> {
    // What is there instead may be the secret itself, which belongs into no error.
    let wrong = || "expected name=env:VARIABLE or name=file:/path".to_owned();
    let (name, source) = text.split_once('=').ok_or_else(wrong)?;
    let source = match source.split_once(':') {
        Some(("env", variable)) if !variable.is_empty() => SecretSource::Variable(variable.to_owned()),
        Some(("file", path)) if Path::new(path).is_absolute() => SecretSource::File(path.into()),
        _ => return Err(wrong()),
    };
    Ok((name.to_owned(), source))
}

pub(super) fn directory(text: &str) -> Result<(String, (PathBuf, Mode)), String> {
    let (guest, host) = pair(text, "/path/for/the/plugin=/folder/of/this/machine")?;
    let (host, mode) = mode_of(&host);
    if !Path::new(host).is_absolute() {
        return Err(format!("`{host}` is no absolute path"));
    }
    Ok((guest_path(guest.as_str())?, (host.into(), mode)))
}

fn mode_of(text: &str) -> (&str, Mode) {
    match text.strip_suffix(":rw") {
        Some(path) => (path, Mode::ReadWrite),
        None => (text.strip_suffix(":ro").unwrap_or(text), Mode::ReadOnly),
    }
}

/// The path under which a guest sees a directory: absolute, and the same however it is written.
fn guest_path(text: &str) -> Result<String, String> {
    let plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    let is_plain = text.starts_with('/') && Path::new(text).components().all(plain);
    let path = text.trim_end_matches('/');
    match is_plain && !path.is_empty() && !path.contains("//") && !path.chars().any(char::is_control) {
        true => Ok(path.to_owned()),
        false => Err(format!("\"{}\" is no path for a plugin, such as /data", text.escape_debug())),
    }
}

/// The size of a scratch folder.
pub(super) fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| format!("\"{}\" is no size such as \"64MiB\"", text.escape_debug()))
}

/// The one size that a grant gives.
pub(super) fn one_size(values: &[String]) -> Result<Size, String> {
    match values {
        [only] => size(only),
        _ => Err("expected one size, such as [\"64MiB\"]".to_owned()),
    }
}

pub(super) fn pattern(text: &str) -> Result<String, String> {
    match text.trim_end_matches('*').contains('*') || text.is_empty() || text.ends_with("**") {
        true => Err(format!("\"{text}\" is no name of tasks such as \"images.resize\" or \"images.*\"")),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn hash(values: &[String]) -> Result<String, String> {
    match values {
        [hash] if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(hash.to_ascii_lowercase())
        }
        _ => Err("expected 64 hexadecimal digits, as `host plugin check` shows them".to_owned()),
    }
}
