//! URLs that may be shown: their password is masked by their type.
//!
//! Only for people; whoever connects keeps the real text.

use std::fmt;

/// Options behind the `?` whose values are secrets: redis-py's own, and what Sentinels are told.
const SECRETS: [&str; 2] = ["password", "sentinel_kwargs"];

/// A URL that never shows its password; or a list of URLs with `;` between them, as kombu has it, none of which does.
#[derive(Clone, PartialEq, Eq)]
pub struct RedactedUrl(String);

impl RedactedUrl {
    /// Masks the password of each URL, as far as one can be found.
    pub fn new(url: &str) -> Self {
        let mut shown = String::with_capacity(url.len());
        let mut rest = url;
        while let Some(end) = end_of_member(rest) {
            mask(&rest[..end], &mut shown);
            shown.push(';');
            rest = &rest[end + 1..];
        }
        mask(rest, &mut shown);
        Self(shown)
    }
}

/// Where the `;` is behind which another URL begins. Any other may be part of a password.
fn end_of_member(list: &str) -> Option<usize> {
    list.match_indices(';').map(|(at, _)| at).find(|at| {
        let next = &list[at + 1..];
        let scheme = next.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        })
    })
}

/// One URL, and what may follow it in a list whose later members have no scheme.
fn mask(url: &str, shown: &mut String) {
    let Some((scheme, rest)) = url.split_once("://") else { return shown.push_str(url) };
    shown.push_str(scheme);
    shown.push_str("://");
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    mask_authority(&rest[..authority_end], shown);
    for (index, member) in rest[authority_end..].split(';').enumerate() {
        let member = match index {
            0 => member,
            _ => {
                shown.push(';');
                let end = member.find(['/', '?', '#']).unwrap_or(member.len());
                mask_authority(&member[..end], shown);
                &member[end..]
            }
        };
        mask_options(member, shown);
    }
}

fn mask_authority(authority: &str, shown: &mut String) {
    let Some(at) = authority.rfind('@') else { return shown.push_str(authority) };
    let (user, mask) = match authority[..at].split_once(':') {
        Some((user, _)) => (user, ":**"),
        None => (&authority[..at], ""),
    };
    shown.push_str(user);
    shown.push_str(mask);
    shown.push_str(&authority[at..]);
}

fn mask_options(rest: &str, shown: &mut String) {
    let Some((path, query)) = rest.split_once('?') else { return shown.push_str(rest) };
    shown.push_str(path);
    let mut before = '?';
    for pair in query.split('&') {
        shown.push(before);
        before = '&';
        match pair.split_once('=') {
            Some((name, _)) if SECRETS.contains(&name) => {
                shown.push_str(name);
                shown.push_str("=**");
            }
            _ => shown.push_str(pair),
        }
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
        assert_eq!(shown("redis://b/1?password=secret&db=2"), "redis://b/1?password=**&db=2");
    }

    #[test]
    fn passwords_of_every_member_of_a_list_are_masked() {
        let shown = |url| RedactedUrl::new(url).to_string();
        assert_eq!(
            shown("sentinel://:a@b:1;sentinel://me:c@d:2;sentinel://e/0?sentinel_kwargs=%7B%7D&x=1"),
            "sentinel://:**@b:1;sentinel://me:**@d:2;sentinel://e/0?sentinel_kwargs=**&x=1"
        );
        assert_eq!(shown("amqp://a:b@c//;amqps://d:e;f@g//v"), "amqp://a:**@c//;amqps://d:**@g//v");
        // Members without a scheme, as kombu takes them.
        assert_eq!(shown("amqp://a:b@c//;d:e@f//"), "amqp://a:**@c//;d:**@f//");
        assert_eq!(shown("amqp://a:b@c;d:e@f"), "amqp://a:**@f");
    }
}
