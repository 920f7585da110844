//! Patterns that name several nodes at once (kombu/matcher.py): `glob` as Python's `fnmatch`, and `pcre`, which is
//! Python's `re.match`.
//!
//! Regular expressions match in time that grows with the text and no faster: what cannot be matched so, such
//! as a backward reference, is no pattern here.

use regex_automata::nfa::thompson::{self, pikevm::PikeVM};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 1024;
/// How large the machine of a regular expression may become, in bytes.
const MACHINE_BYTES_MAX: usize = 1 << 20;

/// Which nodes a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    Glob(String),
    Pcre(String),
    /// With a matcher that nobody has here.
    Unknown,
}

impl Pattern {
    pub(super) fn new(pattern: String, matcher: &str) -> Self {
        match matcher {
            "glob" => Self::Glob(pattern),
            "pcre" => Self::Pcre(pattern),
            _ => Self::Unknown,
        }
    }

    /// True if it is this one.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Glob(pattern) if pattern.len() <= PATTERN_BYTES_MAX => {
                let pattern: Vec<char> = pattern.chars().collect();
                glob(&pattern, &name.chars().collect::<Vec<_>>())
            }
            Self::Pcre(pattern) if pattern.len() <= PATTERN_BYTES_MAX => pcre(pattern, name),
            Self::Glob(_) | Self::Pcre(_) | Self::Unknown => false,
        }
    }
}

/// At the beginning of the text, as `re.match`; the rest of it may be anything.
fn pcre(pattern: &str, text: &str) -> bool {
    let machine = PikeVM::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MACHINE_BYTES_MAX)))
        .build(pattern);
    let Ok(machine) = machine else { return false };
    machine.is_match(&mut machine.create_cache(), Input::new(text).anchored(Anchored::Yes))
}

/// The whole text. Goes back to the last `*` alone, so that no pattern takes long.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => match set(&pattern[at..], text[read]) {
                Some((length, true)) => Some(length),
                Some((_, false)) => None,
                None => (text[read] == '[').then_some(1),
            },
            Some(literal) => (*literal == text[read]).then_some(1),
            None => None,
        };
        match (step, &mut star) {
            (Some(step), _) => (at, read) = (at + step, read + 1),
            (None, Some((from, taken))) => {
                *taken += 1;
                (at, read) = (*from + 1, *taken);
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// The length of a set `[..]`, and whether the character is in it; none if it has no end.
fn set(pattern: &[char], character: char) -> Option<(usize, bool)> {
    let negated = pattern.get(1) == Some(&'!');
    let first = if negated { 2 } else { 1 };
    // A bracket that comes first is one of the set.
    let end = pattern.iter().skip(first + 1).position(|it| *it == ']')? + first + 1;
    let members = &pattern[first..end];
    let mut found = false;
    let mut at = 0;
    while at < members.len() {
        if members.get(at + 1) == Some(&'-') && at + 2 < members.len() {
            found |= (members[at]..=members[at + 2]).contains(&character);
            at += 3;
        } else {
            found |= members[at] == character;
            at += 1;
        }
    }
    Some((end + 1, found != negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_fnmatch_does() {
        for (pattern, name, expected) in [
            ("*", "celery@box", true),
            ("celery@*", "celery@box", true),
            ("celery@*", "taskhost@box", false),
            ("*@b?x", "celery@box", true),
            ("*@b?x", "celery@bx", false),
            ("w[0-9]@box", "w7@box", true),
            ("w[!0-9]@box", "w7@box", false),
            ("w[]a]x", "w]x", true),
            ("w[", "w[", true),
            ("", "", true),
            ("", "a", false),
            ("*a*a*a*a*a*a*a*a*b", &"a".repeat(200), false),
            ("grün@*", "grün@box", true),
        ] {
            assert_eq!(Pattern::Glob(pattern.to_owned()).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn regular_expressions_match_at_the_beginning() {
        for (pattern, name, expected) in [
            ("celery@", "celery@box", true),
            ("box", "celery@box", false),
            (r"w\d+@.*", "w17@box", true),
            (r"(?i)W\d+@.*$", "w17@box", true),
            ("(", "(", false),
            (r"(a)\1", "aa", false),
            (r"(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false),
            (r"(((a{100}){100}){100}){100}", "a", false),
        ] {
            assert_eq!(Pattern::Pcre(pattern.to_owned()).matches(name), expected, "{pattern} {name}");
        }
        assert!(!Pattern::new("a".to_owned(), "soundex").matches("a"));
        assert!(!Pattern::Glob("*".repeat(2_000)).matches("a"), "too long");
    }
}
