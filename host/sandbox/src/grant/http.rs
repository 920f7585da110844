//! Where a plugin may send HTTP requests, and what one request is addressed to.
//!
//! Resolves nothing: which addresses a name may lead to, `networks` says.

use std::fmt;

use super::host::{self, Host, HostPattern};
use super::networks::Networks;

/// The schemes that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// `SCHEME://HOST[:PORT]` with stars where anything will do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpPattern {
    /// None is both.
    scheme: Option<Scheme>,
    host: HostPattern,
    ports: Ports,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ports {
    /// The one of the scheme.
    Default,
    Only(u16),
    Any,
}

impl HttpPattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("\"{}\" is no address such as https://api.example.com: {why}", text.escape_debug());
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no ://"))?;
        let scheme = match scheme {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            "*" => None,
            _ => return Err(wrong("it begins with http, https or *")),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("it ends with the host or the port, since a grant is for whole hosts"));
        }
        if rest.contains('@') {
            return Err(wrong("a user has no place in it"));
        }
        let (host, port) = host::split(rest);
        let ports = match (port, scheme) {
            (None, _) => Ports::Default,
            (Some("*"), _) => Ports::Any,
            (Some(port), scheme) => match host::port(port).map_err(|problem| wrong(&problem))? {
                port if scheme.is_some_and(|scheme| scheme.port() == port) => Ports::Default,
                port => Ports::Only(port),
            },
        };
        Ok(Self { scheme, host: HostPattern::parse(host).map_err(|problem| wrong(&problem))?, ports })
    }

    /// True if every destination of the other is one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let schemes = [Scheme::Http, Scheme::Https].into_iter().filter(|scheme| other.has(*scheme));
        let mut covered = schemes.map(|scheme| self.has(scheme) && self.covers_ports(other, scheme));
        covered.all(|covered| covered) && self.host.covers(&other.host)
    }

    fn fits(&self, destination: &Destination) -> bool {
        let Destination { scheme, host, port } = destination;
        let port_fits = self.port(*scheme).is_none_or(|only| only == *port);
        self.has(*scheme) && port_fits && self.host.fits(host)
    }

    fn has(&self, scheme: Scheme) -> bool {
        self.scheme.is_none_or(|only| only == scheme)
    }

    fn covers_ports(&self, other: &Self, scheme: Scheme) -> bool {
        self.port(scheme).is_none_or(|port| other.port(scheme) == Some(port))
    }

    /// None is any.
    fn port(&self, scheme: Scheme) -> Option<u16> {
        match self.ports {
            Ports::Default => Some(scheme.port()),
            Ports::Only(port) => Some(port),
            Ports::Any => None,
        }
    }
}

impl fmt::Display for HttpPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.map_or("*", Scheme::as_str), self.host)?;
        match self.ports {
            Ports::Default => Ok(()),
            Ports::Only(port) => write!(f, ":{port}"),
            Ports::Any => f.write_str(":*"),
        }
    }
}

/// What one request is addressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Destination {
    /// Reads what a guest names: a host, or a host and a port.
    pub(crate) fn parse(scheme: Scheme, authority: &str) -> Result<Self, String> {
        if authority.contains('@') {
            return Err("a user has no place before the host".to_owned());
        }
        let (host, port) = host::split(authority);
        let port = port.map_or(Ok(scheme.port()), host::port)?;
        Ok(Self { scheme, host: Host::parse(host)?, port })
    }

    /// As the header `Host` has it.
    pub(crate) fn authority(&self) -> String {
        match self.port == self.scheme.port() {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// The HTTP of a plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HttpPowers {
    /// What it declared, all of it granted.
    declared: Vec<HttpPattern>,
    /// What of the grant names addresses instead of names.
    literal: Vec<HttpPattern>,
    networks: Networks,
}

impl HttpPowers {
    pub(super) fn new(granted: &[HttpPattern], networks: &Networks) -> Self {
        let literal = granted.iter().filter(|pattern| pattern.host.is_literal()).cloned().collect();
        Self { declared: Vec::new(), literal, networks: networks.clone() }
    }

    pub(super) fn declare(&mut self, pattern: HttpPattern) {
        self.declared.push(pattern);
    }

    pub(crate) fn allow(&self, destination: &Destination) -> bool {
        self.declared.iter().any(|pattern| pattern.fits(destination))
    }

    /// The networks that the addresses of this destination are checked against; none if it is itself an address that
    /// was granted as such.
    pub(crate) fn networks(&self, destination: &Destination) -> Option<&Networks> {
        let is_literal = self.literal.iter().any(|pattern| pattern.fits(destination));
        (!is_literal).then_some(&self.networks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HttpPattern {
        HttpPattern::parse(text).unwrap_or_else(|problem| panic!("{problem}"))
    }

    #[test]
    fn a_pattern_is_read_and_shown_as_it_is_written() {
        for text in [
            "https://api.example.com",
            "http://10.1.2.3:8080",
            "*://*",
            "https://*.example.com:*",
            "*://a:443",
            "http://[fd00::1]:81",
            "https://a:80",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert_eq!(pattern("https://API.example.com.:443").to_string(), "https://api.example.com");
        for wrong in [
            "",
            "api.example.com",
            "https:api",
            "ftp://a",
            "HTTPS://a",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://user@a",
            "https://user:x@a",
            "https://a:0",
            "https://a:x",
            "https://a:",
            "https://a:1:2",
            "https://::1",
            "https://10.0.0.0/8",
            "https://127.1",
            "https://*a",
            "https://bücher.example",
            "https:// a",
        ] {
            assert!(HttpPattern::parse(wrong).is_err(), "{wrong} is {:?}", HttpPattern::parse(wrong));
        }
    }

    #[test]
    fn a_grant_covers_a_need_whole_or_not_at_all() {
        for (granted, needed, expected) in [
            ("https://a", "https://a", true),
            ("https://a", "http://a", false),
            ("https://a", "*://a", false),
            ("*://a", "https://a", true),
            ("*://a", "*://a", true),
            ("*://a", "http://a:443", false),
            ("*://a:443", "https://a", true),
            ("*://a:443", "*://a", false),
            ("https://a:*", "https://a:8443", true),
            ("https://a", "https://a:*", false),
            ("https://a:8443", "https://a", false),
            ("*://*:*", "*://*.b:*", true),
            ("https://*.example.com", "https://api.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://*", false),
        ] {
            assert_eq!(pattern(granted).covers(&pattern(needed)), expected, "{granted} {needed}");
        }
    }

    #[test]
    fn a_request_goes_where_it_says_and_nowhere_else() {
        let mut powers = HttpPowers::new(&[pattern("http://127.0.0.1:8080"), pattern("*://*")], &Networks::default());
        for declared in
            ["https://allowed.example", "https://*.deep.example:*", "http://127.0.0.1:8080", "http://127.0.0.1"]
        {
            powers.declare(pattern(declared));
        }
        let goes = |scheme, authority: &str| {
            Destination::parse(scheme, authority)
                .map(|destination| (powers.allow(&destination), destination.to_string()))
        };
        for (authority, shown) in [
            ("allowed.example", "https://allowed.example"),
            ("ALLOWED.example.", "https://allowed.example"),
            ("allowed.example:443", "https://allowed.example"),
            ("a.deep.example:99", "https://a.deep.example:99"),
        ] {
            assert_eq!(goes(Scheme::Https, authority), Ok((true, shown.to_owned())), "{authority}");
        }
        for authority in
            ["evil.example", "allowed.example.evil.example", "allowed.example:444", "deep.example", "xallowed.example"]
        {
            assert_eq!(goes(Scheme::Https, authority).map(|(allowed, _)| allowed), Ok(false), "{authority}");
        }
        assert_eq!(goes(Scheme::Http, "allowed.example").map(|(allowed, _)| allowed), Ok(false));
        for authority in [
            "",
            "allowed.example@evil.example",
            "allowed.example:443@evil.example",
            "@allowed.example",
            "allowed.example:",
            "allowed.example:0",
            "allowed.example:443:80",
            "allowed.example/",
            "allowed.example#@evil",
            "allowed.example\\evil",
            "allowed%2eexample",
            "allоwed.example",
            "2130706433",
            "0x7f000001",
            "127.1",
            "0177.0.0.1",
            "[::1",
            "::1",
        ] {
            assert!(goes(Scheme::Https, authority).is_err(), "{authority}: {:?}", goes(Scheme::Https, authority));
        }
        // An address that is granted as such is not looked up among the networks, on that port.
        let destination = |authority| Destination::parse(Scheme::Http, authority).expect("a destination");
        assert_eq!(powers.networks(&destination("127.0.0.1:8080")), None);
        assert_eq!(powers.networks(&destination("[::ffff:127.0.0.1]:8080")), None);
        assert!(powers.networks(&destination("127.0.0.1")).is_some());
        assert!(powers.networks(&destination("localhost:8080")).is_some());
    }
}
