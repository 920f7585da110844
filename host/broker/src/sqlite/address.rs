//! Reads SQLite URLs by SQLAlchemy's rules.

use std::path::PathBuf;

use taskhost_core::RedactedUrl;

use crate::port::BrokerError;

/// The schemes that mean a SQLite file. `sqla+` is kombu's way to say SQLAlchemy.
pub(crate) const SCHEMES: [&str; 3] = ["sqlite", "sqla+sqlite", "sqlalchemy+sqlite"];

/// The file that a URL names: `sqlite:///relative.db` or `sqlite:////absolute.db`. What follows a `?` is
/// for Python.
pub fn sqlite_path(url: &str) -> Result<PathBuf, BrokerError> {
    let refuse = |reason: &str| BrokerError::Url { url: RedactedUrl::new(url), reason: reason.to_owned() };
    let (_, rest) = url.split_once("://").ok_or_else(|| refuse("has no scheme"))?;
    let rest = rest.split('?').next().unwrap_or_default();
    if rest.is_empty() || rest == "/" {
        return Err(refuse("names no file; a file is needed, as in `sqlite:///host.db`"));
    }
    let Some(path) = rest.strip_prefix('/') else {
        return Err(refuse("needs three slashes before a relative path and four before an absolute one"));
    };
    if path == ":memory:" {
        return Err(refuse("messages must be in a file; for a broker inside the process use `memory://`"));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_counted_as_in_sqlalchemy() {
        let path = |url| sqlite_path(url).unwrap().display().to_string();
        assert_eq!(path("sqlite:///host.db"), "host.db");
        assert_eq!(path("sqlite:////var/lib/host.db"), "/var/lib/host.db");
        assert_eq!(path("sqla+sqlite:///data/host.db?timeout=20"), "data/host.db");
        let reason = |url| sqlite_path(url).unwrap_err().to_string();
        assert!(reason("sqlite://").contains("a file is needed"));
        assert!(reason("sqlite:///").contains("a file is needed"));
        assert!(reason("sqlite://host.db").contains("three slashes"));
        assert!(reason("sqlite:///:memory:").contains("memory://"));
    }
}
