//! Which machines a plugin may talk to over TCP and UDP.
//!
//! Resolves nothing: what names led to is told by whoever looked them up.

use std::fmt;
use std::net::SocketAddr;

use super::host::{self, Host, HostPattern};
use super::networks::{Block, Networks, Range};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// `PROTOCOL://HOST:PORT`, with stars where anything will do, or with a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketPattern {
    protocol: Protocol,
    host: HostPattern,
    /// None is any.
    port: Option<u16>,
}

impl SocketPattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("\"{}\" is nothing such as tcp://db.example.com:5432: {why}", text.escape_debug());
        let (protocol, rest) = text.split_once("://").ok_or_else(|| wrong("it has no ://"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong("it begins with tcp or udp")),
        };
        let (host, port) = host::split(rest);
        let port = match port.ok_or_else(|| wrong("it has no port"))? {
            "*" => None,
            port => Some(host::port(port).map_err(|problem| wrong(&problem))?),
        };
        let host = if host.contains('/') { block(host).map(HostPattern::Block) } else { HostPattern::parse(host) };
        Ok(Self { protocol, host: host.map_err(|problem| wrong(&problem))?, port })
    }

    /// True if everything of the other is something of this.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let port_is_covered = self.port.is_none_or(|port| other.port == Some(port));
        self.protocol == other.protocol && port_is_covered && self.host.covers(&other.host)
    }

    fn fits(&self, protocol: Protocol, host: &Host, port: u16) -> bool {
        self.protocol == protocol && self.port.is_none_or(|only| only == port) && self.host.fits(host)
    }
}

/// IPv6 is full of colons, so it has brackets.
fn block(text: &str) -> Result<Block, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let block = Block::parse(inner.unwrap_or(text))?;
    match block.is_ipv6() == inner.is_some() {
        true => Ok(block),
        false => Err("IPv6 has brackets, IPv4 has none".to_owned()),
    }
}

impl fmt::Display for SocketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:", self.protocol, self.host)?;
        match self.port {
            Some(port) => write!(f, "{port}"),
            None => f.write_str("*"),
        }
    }
}

/// Why an address is none for the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotDeclared,
    Network(Range),
}

/// The sockets of a plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SocketPowers {
    /// What it declared, all of it granted.
    declared: Vec<SocketPattern>,
    /// What of the grant names addresses instead of names.
    literal: Vec<SocketPattern>,
    pub(crate) networks: Networks,
}

impl SocketPowers {
    pub(super) fn new(granted: &[SocketPattern], networks: &Networks) -> Self {
        let literal = granted.iter().filter(|pattern| pattern.host.is_literal()).cloned().collect();
        Self { declared: Vec::new(), literal, networks: networks.clone() }
    }

    pub(super) fn declare(&mut self, pattern: SocketPattern) {
        self.declared.push(pattern);
    }

    /// True if it may have a socket of this kind.
    pub(crate) fn uses(&self, protocol: Protocol) -> bool {
        self.declared.iter().any(|pattern| pattern.protocol == protocol)
    }

    /// True if it may ask for the addresses of this.
    pub(crate) fn may_look_up(&self, host: &Host) -> bool {
        self.declared.iter().any(|pattern| pattern.host.fits(host))
    }

    /// Decides about an address that these names led to. What they lead to was looked at then.
    pub(crate) fn refuse<'a>(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        mut names: impl Iterator<Item = &'a Host>,
    ) -> Option<Refusal> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let any = |patterns: &[SocketPattern], host: &Host| patterns.iter().any(|p| p.fits(protocol, host, port));
        if names.any(|name| any(&self.declared, name)) {
            return None;
        }
        let host = Host::Address(ip);
        if !any(&self.declared, &host) {
            return Some(Refusal::NotDeclared);
        }
        if any(&self.literal, &host) {
            return None;
        }
        self.networks.refuse(ip).map(Refusal::Network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> SocketPattern {
        SocketPattern::parse(text).unwrap_or_else(|problem| panic!("{problem}"))
    }

    #[test]
    fn a_pattern_is_read_and_shown_as_it_is_written() {
        for text in [
            "tcp://db.example.com:5432",
            "udp://10.0.0.5:53",
            "tcp://*:*",
            "tcp://*.example.com:443",
            "tcp://10.0.0.0/8:5432",
            "udp://[fd00::/8]:*",
            "tcp://[::1]:1",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
        for wrong in [
            "",
            "db:1",
            "db",
            "tcp://db",
            "tcp://db:",
            "tcp://db:0",
            "tcp://db:65536",
            "tcp://:1",
            "*://db:1",
            "sctp://db:1",
            "tcp://db:1/",
            "tcp://u@db:1",
            "tcp://::1:1",
            "tcp://fd00::/8:1",
            "tcp://[10.0.0.0/8]:1",
            "tcp://10.0.0.1/8:1",
            "tcp://127.1:1",
            "tcp://db:1-2",
        ] {
            assert!(SocketPattern::parse(wrong).is_err(), "{wrong} is {:?}", SocketPattern::parse(wrong));
        }
    }

    #[test]
    fn a_grant_covers_a_need_whole_or_not_at_all() {
        for (granted, needed, expected) in [
            ("tcp://db:5432", "tcp://db:5432", true),
            ("tcp://db:5432", "udp://db:5432", false),
            ("tcp://db:*", "tcp://db:1", true),
            ("tcp://db:1", "tcp://db:*", false),
            ("tcp://*.b:1", "tcp://a.b:1", true),
            ("tcp://10.0.0.0/8:*", "tcp://10.1.2.3:5", true),
            ("tcp://10.0.0.0/8:*", "tcp://10.1.0.0/16:5", true),
            ("tcp://10.1.0.0/16:*", "tcp://10.0.0.0/8:5", false),
            ("tcp://10.0.0.0/8:*", "tcp://db:5", false),
            ("tcp://10.0.0.0/8:*", "tcp://[fd00::/8]:5", false),
            ("tcp://*:*", "tcp://10.0.0.0/8:5", true),
            ("tcp://10.0.0.0/8:*", "tcp://*:5", false),
        ] {
            assert_eq!(pattern(granted).covers(&pattern(needed)), expected, "{granted} {needed}");
        }
    }

    #[test]
    fn an_address_is_for_a_plugin_if_it_says_so_itself_or_came_from_a_name() {
        let granted = [pattern("tcp://*:*"), pattern("tcp://10.0.0.0/8:5432")];
        let mut powers = SocketPowers::new(&granted, &Networks::parse(&["127.0.0.0/8".to_owned()]).expect("networks"));
        for declared in [
            "tcp://db.example:5432",
            "tcp://10.1.0.0/16:5432",
            "tcp://127.0.0.1:1",
            "tcp://8.8.8.8:*",
            "tcp://192.168.0.1:1",
        ] {
            powers.declare(pattern(declared));
        }
        let db = [Host::parse("db.example").expect("a name")];
        let other = [Host::parse("other.example").expect("a name")];
        use Refusal::{Network, NotDeclared};
        for (address, names, expected) in [
            ("93.184.216.34:5432", &db[..], None),
            ("93.184.216.34:5433", &db, Some(NotDeclared)),
            ("93.184.216.34:5432", &other, Some(NotDeclared)),
            ("93.184.216.34:5432", &[], Some(NotDeclared)),
            ("10.1.2.3:5432", &[], None),
            ("[::ffff:10.1.2.3]:5432", &[], None),
            ("10.2.2.3:5432", &[], Some(NotDeclared)),
            ("127.0.0.1:1", &[], None),
            ("127.0.0.1:2", &[], Some(NotDeclared)),
            ("8.8.8.8:53", &[], None),
            // It is declared, and granted by a star: that is no grant of private networks.
            ("192.168.0.1:1", &[], Some(Network(Range::Private))),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(powers.refuse(Protocol::Tcp, address, names.iter()), expected, "{address} {names:?}");
            assert_eq!(powers.refuse(Protocol::Udp, address, names.iter()), Some(NotDeclared), "{address}");
        }
        assert!(powers.uses(Protocol::Tcp) && !powers.uses(Protocol::Udp));
        assert!(powers.may_look_up(&db[0]) && !powers.may_look_up(&other[0]));
    }
}
