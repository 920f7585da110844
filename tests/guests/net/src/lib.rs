//! Talks to the network as it is told. Errors are results here: tests want to read them.

mod fetch;
mod fields;

taskhost::plugin!(fetch::fetch, fetch::flood, fetch::follow, fields::append, fields::list, fields::one);

/// An error of an interface as its own bindings show it.
fn shown(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
