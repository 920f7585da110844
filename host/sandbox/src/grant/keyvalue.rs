//! Buckets for values that a plugin keeps: `BUCKET` in `[needs]`, and in a grant `BUCKET` or `BUCKET=URL`.

use std::fmt;

use taskhost_core::RedactedUrl;

/// Longest name of a bucket.
const BUCKET_BYTES_MAX: usize = 64;

/// The URL of a store of its own for a bucket. It may hold a password, and does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreUrl(String);

impl StoreUrl {
    /// The real text, for connecting.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RedactedUrl::new(&self.0).fmt(f)
    }
}

/// A name that is the same in keys, files and URLs.
pub(super) fn bucket(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=BUCKET_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        // What is there instead may be a URL with a password in it.
        false => Err("expected the name of a bucket: letters, digits, `-`, `_` and `.`, at most 64".to_owned()),
    }
}

/// An entry of a grant.
pub(super) fn entry(text: &str) -> Result<(String, Option<StoreUrl>), String> {
    match text.split_once('=') {
        None => Ok((bucket(text)?, None)),
        Some((name, url)) if url.contains("://") => Ok((bucket(name)?, Some(StoreUrl(url.to_owned())))),
        Some(_) => Err("expected the name of a bucket, or bucket=URL such as cache=redis://localhost/2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_plainly_and_may_have_a_store_of_its_own() {
        assert_eq!(entry("cache"), Ok(("cache".to_owned(), None)));
        let (name, url) = entry("cache=redis://:hunter2@box/2").expect("an entry");
        assert_eq!((name.as_str(), url.as_ref().map(StoreUrl::expose)), ("cache", Some("redis://:hunter2@box/2")));
        assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
        for text in ["", "a:b", "a/b", "=redis://box", "cache=", "cache=box", &"x".repeat(65), "redis://:hunter2@box"] {
            let problem = entry(text).expect_err(text);
            assert!(problem.starts_with("expected the name of a bucket") && !problem.contains("hunter2"), "{problem}");
        }
    }
}
