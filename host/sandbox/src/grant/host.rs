//! The other machine, by name or by address, and patterns for it.
//!
//! Resolves nothing. There is one way to write each machine: what resolvers and browsers understand
//! besides, such as `0x7f.1` for 127.0.0.1, is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::networks::Block;

/// Longest name that DNS carries, and longest part of it.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A machine as a guest names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// In lower case, without a dot at the end.
    Name(String),
    /// An IPv4 address inside of IPv6 is an IPv4 address.
    Address(IpAddr),
}

impl Host {
    /// Reads a name, an IPv4 address or an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // With the dot at the end. What is longer is not even shown.
        if text.len() > NAME_BYTES_MAX + 1 {
            return Err(format!("a name of {} bytes is too long", text.len()));
        }
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
            let address = address.ok_or_else(|| format!("\"{}\" is no IPv6 address", text.escape_debug()))?;
            return Ok(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        name(text).map(Self::Name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let refused = |why: &str| Err(format!("\"{}\" is no name of a machine: {why}", text.escape_debug()));
    if !text.is_ascii() {
        return refused("write it as DNS has it, with xn--");
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.len() > NAME_BYTES_MAX {
        return refused("it is too long");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut last = "";
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.bytes().all(plain) {
            return refused("it has letters, digits, `-` and `_` between single dots");
        }
        last = label;
    }
    // Resolvers take such names for numbers: of 127.0.0.1 there is 2130706433, 127.1, 0177.0.0.1, 0x7f.0.0.1.
    let digits = last.strip_prefix("0x").unwrap_or(last);
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || (digits != last && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_number {
        return refused("write an address as four decimal numbers");
    }
    Ok(name)
}

/// Machines that a plugin needs or that an operator grants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    Any,
    /// All names below this one, but not the name itself.
    Below(String),
    Only(Host),
    /// Addresses. Only sockets have these.
    Block(Block),
}

impl HostPattern {
    /// Reads `*`, `*.example.com`, or what [`Host::parse`] reads.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(rest) => match rest.strip_prefix('.') {
                Some(suffix) => name(suffix).map(Self::Below),
                None => Err(format!("\"{}\": `*` stands alone or before a dot", text.escape_debug())),
            },
            None => Host::parse(text).map(Self::Only),
        }
    }

    /// True if every machine of the other is one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Only(host)) => self.fits(host),
            (Self::Below(suffix), Self::Below(other)) => other == suffix || is_below(other, suffix),
            (Self::Block(block), Self::Block(other)) => block.covers(other),
            _ => false,
        }
    }

    pub(super) fn fits(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(suffix), Host::Name(name)) => is_below(name, suffix),
            (Self::Only(only), _) => only == host,
            (Self::Block(block), Host::Address(address)) => block.contains(*address),
            _ => false,
        }
    }

    /// True if it names the addresses themselves: whoever grants that knows what they are.
    pub(super) fn is_literal(&self) -> bool {
        matches!(self, Self::Only(Host::Address(_)) | Self::Block(_))
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|start| start.len() > 1 && start.ends_with('.'))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Only(host) => write!(f, "{host}"),
            Self::Block(block) if block.is_ipv6() => write!(f, "[{block}]"),
            Self::Block(block) => write!(f, "{block}"),
        }
    }
}

/// A port as it is written after a colon.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port != 0);
    port.ok_or_else(|| format!("\"{}\" is no port", text.escape_debug()))
}

/// The host and what follows its colon, if there is one. An IPv6 address is full of colons, so it has brackets.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|colon| bracket + colon),
        None => text.find(':'),
    };
    match colon {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_way_to_write_a_machine() {
        let same = [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM.", "api.example.com"),
            ("localhost", "localhost"),
            ("my_db-1", "my_db-1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.example", "1.example"),
            ("0x7f.example", "0x7f.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("[::ffff:7f00:1]", "127.0.0.1"),
            ("[2606:4700::1111]", "[2606:4700::1111]"),
        ];
        for (text, expected) in same {
            assert_eq!(Host::parse(text).map(|host| host.to_string()).as_deref(), Ok(expected), "{text}");
        }
        let refused = [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "-*",
            "*",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a%2eb",
            "a\\b",
            "a\r\nb",
            "a\0",
            "bücher.example",
            "127。0。0。1",
            "①②⑦.0.0.1",
            "2130706433",
            "0x7f000001",
            "017700000001",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "127.0.0.0x1",
            "127.0.0.01",
            "127.0.0.1.",
            "1.2.3.4.5",
            "256.0.0.1",
            "0x",
            "a.0x1f",
            "::1",
            "[::1",
            "::1]",
            "[::1]a",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "[]",
            "[localhost]",
        ];
        for text in refused {
            assert!(Host::parse(text).is_err(), "{text:?} is {:?}", Host::parse(text));
        }
        assert!(Host::parse(&format!("{}.com", "a".repeat(64))).is_err());
        assert!(Host::parse(&"a.".repeat(200)).is_err());
    }

    #[test]
    fn a_pattern_covers_what_it_says_and_no_more() {
        for (pattern, other, expected) in [
            ("*", "a.b", true),
            ("*", "*.b", true),
            ("*", "10.0.0.1", true),
            ("a.b", "*", false),
            ("*.b", "a.b", true),
            ("*.b", "x.a.b", true),
            ("*.b", "b", false),
            ("*.b", "ab", false),
            ("*.b", "*.b", true),
            ("*.b", "*.a.b", true),
            ("*.a.b", "*.b", false),
            ("*.example.com", "evilexample.com", false),
            ("*.example.com", "example.com.evil.com", false),
            ("A.b.", "a.B", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("*.1", "10.0.0.1", false),
        ] {
            let Ok(read) = HostPattern::parse(pattern) else {
                assert!(!expected, "{pattern}");
                continue;
            };
            let other = HostPattern::parse(other).expect("a pattern");
            assert_eq!(read.covers(&other), expected, "{pattern} {other}");
        }
        for wrong in ["**", "*a", "a.*", "*.*.b", "*.", "*..b", "a*b"] {
            assert!(HostPattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_port_stands_after_the_last_colon_outside_of_brackets() {
        assert_eq!(split("a:1"), ("a", Some("1")));
        assert_eq!(split("[::1]:1"), ("[::1]", Some("1")));
        assert_eq!(split("[::1]"), ("[::1]", None));
        assert_eq!(split("::1"), ("", Some(":1")));
        for wrong in ["", "0", "65536", "+1", "-1", " 1", "1 ", "0x1", "a", "*"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
        assert_eq!(port("65535"), Ok(65535));
    }
}
