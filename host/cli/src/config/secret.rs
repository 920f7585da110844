//! URLs that may hold a password, and texts that are secret.
//!
//! Shown only masked; whoever needs the real text asks for it by name.

use std::fmt;

use taskhost_core::RedactedUrl;

/// A URL whose `Display` and `Debug` mask the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    pub(crate) fn new(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// The real text, for connecting.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The part before `://`, in lower case.
    pub(crate) fn scheme(&self) -> String {
        self.0.split("://").next().unwrap_or_default().to_lowercase()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RedactedUrl::new(&self.0).fmt(f)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RedactedUrl::new(&self.0).fmt(f)
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretText(String);

impl SecretText {
    /// Wraps a text.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The real text, for what needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("**")
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("**")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url = SecretUrl::new("amqp://me:secret@box//");
        assert_eq!(format!("{url} {url:?}"), "amqp://me:**@box// \"amqp://me:**@box//\"");
        assert_eq!(url.expose(), "amqp://me:secret@box//");
        assert_eq!(url.scheme(), "amqp");
    }
}
