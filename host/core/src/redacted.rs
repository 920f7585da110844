//! URLs that may be shown: their password is masked by their type.
//!
//! Only for people; whoever connects keeps the real text.

use std::fmt;

/// A URL that never shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedactedUrl(String);

impl RedactedUrl {
    /// Masks the password of `url`, as far as one can be found.
    pub fn new(url: &str) -> Self {
        let Some((scheme, rest)) = url.split_once("://") else { return Self(url.to_owned()) };
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let Some(at) = rest[..authority_end].rfind('@') else { return Self(url.to_owned()) };
        let user = rest[..at].split(':').next().unwrap_or_default();
        let mask = if rest[..at].contains(':') { ":**" } else { "" };
        Self(format!("{scheme}://{user}{mask}{}", &rest[at..]))
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        let shown = |url| RedactedUrl::new(url).to_string();
        assert_eq!(shown("amqp://me:secret@box:5672/v"), "amqp://me:**@box:5672/v");
        assert_eq!(shown("redis://:se@cret@box/1"), "redis://:**@box/1");
        assert_eq!(shown("amqp://box//"), "amqp://box//");
        assert_eq!(shown("sqlite:///host.db"), "sqlite:///host.db");
        assert_eq!(shown("nonsense"), "nonsense");
    }
}
