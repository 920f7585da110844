//! Header fields.

use taskhost::task;
use wasip2::http::types::Fields;

use crate::shown;

/// Adds so many fields, each with a name of its own, and says how many there were when one was refused.
#[task(name = "net.append")]
pub(crate) fn append(count: usize) -> (usize, Option<String>) {
    let fields = Fields::new();
    let mut names = (0..count).map(|n| fields.append(&format!("x-{n}"), b"1"));
    let refused = names.position(|added| added.is_err());
    let error = refused.and_then(|_| fields.append("y", &[b'1'; 4096]).err()).map(shown);
    (refused.unwrap_or(count), error)
}

/// Makes all fields at once, all of the same name.
#[task(name = "net.list")]
pub(crate) fn list(count: usize) -> Option<String> {
    let entries: Vec<_> = (0..count).map(|_| ("x".to_owned(), b"1".to_vec())).collect();
    Fields::from_list(&entries).err().map(shown)
}

/// Sets one field and says why that is refused.
#[task(name = "net.field")]
pub(crate) fn one(name: &str, values: Vec<String>) -> Option<String> {
    let values: Vec<_> = values.into_iter().map(String::into_bytes).collect();
    Fields::new().set(name, &values).err().map(shown)
}
