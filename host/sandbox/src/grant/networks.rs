//! Which addresses are not of the whole Internet, and which of those an operator grants by name.
//!
//! Looks at numbers only. After IANA's registries of special addresses, both of them, and after what the clouds
//! give their machines: a name that a plugin may use can lead to any of these.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that mean something else to every machine or network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Range {
    Loopback,
    Private,
    LinkLocal,
    /// Of carriers (RFC 6598).
    Shared,
    /// Where clouds hand out credentials.
    Metadata,
    /// Everything else that is nobody's: unspecified, multicast, documentation, benchmarks, not assigned.
    Reserved,
}

/// The words for ranges. What is reserved has none: it is granted as the addresses that it is.
const WORDS: &[(&str, Range)] = &[
    ("link-local", Range::LinkLocal),
    ("loopback", Range::Loopback),
    ("metadata", Range::Metadata),
    ("private", Range::Private),
    ("shared", Range::Shared),
];

impl Range {
    /// The word that grants it, if there is one.
    pub(crate) fn word(self) -> Option<&'static str> {
        WORDS.iter().find(|(_, range)| *range == self).map(|(word, _)| *word)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word().unwrap_or("reserved"))
    }
}

/// Addresses with a common start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block {
    first: IpAddr,
    bits: u8,
}

impl Block {
    /// Reads `10.1.0.0/16`, `fd00::/8`, or an address alone.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{}\" is no block of addresses such as 10.1.0.0/16", text.escape_debug());
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_invalid| wrong())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok(),
            Some(_) => None,
            None => Some(width),
        };
        let bits = bits.filter(|bits| *bits <= width).ok_or_else(wrong)?;
        if first.to_canonical() != first {
            return Err(format!("\"{text}\" is IPv4: write it so"));
        }
        let block = Self { first, bits };
        match block.start(first) == block.start_bits() {
            true => Ok(block),
            false => Err(format!("\"{text}\" has more digits than its first {bits} bits")),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.start(address) == self.start_bits()
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.first)
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.first.is_ipv6()
    }

    fn start_bits(&self) -> u128 {
        number(self.first)
    }

    /// The address with nothing but the bits that matter.
    fn start(&self, address: IpAddr) -> u128 {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let rest = width - u32::from(self.bits);
        number(address).checked_shr(rest).map_or(0, |start| start << rest)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Networks that are granted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Networks {
    ranges: BTreeSet<Range>,
    blocks: Vec<Block>,
}

impl Networks {
    pub(super) fn parse(values: &[String]) -> Result<Self, String> {
        let mut networks = Self::default();
        for value in values {
            match WORDS.iter().find(|(word, _)| word == value) {
                Some((_, range)) => drop(networks.ranges.insert(*range)),
                None => networks.blocks.push(Block::parse(value).map_err(|problem| {
                    let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
                    format!("{problem}, and none of {}", words.join(", "))
                })?),
            }
        }
        Ok(networks)
    }

    /// What the address is, if it is not for plugins.
    pub(crate) fn refuse(&self, address: IpAddr) -> Option<Range> {
        let meant = meant(address);
        let range = range(address)?;
        let is_granted = self.ranges.contains(&range)
            || self.blocks.iter().any(|block| block.contains(address) || block.contains(meant));
        (!is_granted).then_some(range)
    }
}

/// What an operator adds to have an address of such a range.
pub(crate) fn entry(address: IpAddr, range: Range) -> String {
    range.word().map_or_else(|| meant(address).to_string(), str::to_owned)
}

/// The IPv4 address that an IPv6 address leads to, if there is one in it.
fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let within = |start: u32| IpAddr::V4(Ipv4Addr::from_bits((v6.to_bits() >> start) as u32));
    match v6.segments() {
        // Mapped, also as SIIT translates it.
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => within(0),
        // "Compatible", which nobody uses but some systems understand. The first two are :: and ::1.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0, _, _] => within(0),
        // NAT64.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => within(0),
        // 6to4.
        [0x2002, ..] => within(80),
        _ => address,
    }
}

/// None is an address that the whole Internet means.
fn range(address: IpAddr) -> Option<Range> {
    let meant = meant(address);
    if METADATA.contains(&meant) {
        return Some(Range::Metadata);
    }
    match meant {
        IpAddr::V4(v4) => range_v4(v4).or(match address {
            IpAddr::V6(v6) if !translates(v6) => Some(Range::Reserved),
            _ => None,
        }),
        IpAddr::V6(v6) => range_v6(v6),
    }
}

/// True of the ways to write IPv4 in IPv6 that a network may offer.
fn translates(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x64, 0xff9b, ..] | [0x2002, ..] | [0, 0, 0, 0, 0, 0xffff, ..])
}

/// Amazon (also for containers), Google, Azure, Oracle; Alibaba. Azure's is an ordinary address otherwise.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

fn range_v4(address: Ipv4Addr) -> Option<Range> {
    match address.octets() {
        [127, ..] => Some(Range::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(Range::Private),
        [169, 254, ..] => Some(Range::LinkLocal),
        [100, 64..=127, ..] => Some(Range::Shared),
        // "This network": systems take 0.0.0.0 for themselves.
        [0, ..] => Some(Range::Reserved),
        // Protocol assignments, documentation, 6to4 relays, benchmarks, documentation.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Some(Range::Reserved)
        }
        // Multicast, not assigned, broadcast.
        [224..=255, ..] => Some(Range::Reserved),
        _ => None,
    }
}

fn range_v6(address: Ipv6Addr) -> Option<Range> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Range::Loopback),
        [0xfc00..=0xfdff, ..] => Some(Range::Private),
        [0xfe80..=0xfebf, ..] => Some(Range::LinkLocal),
        // Protocol assignments with Teredo, benchmarks and ORCHID among them; documentation, twice.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(Range::Reserved),
        // Only this eighth is given out to the Internet.
        [0x2000..=0x3fff, ..] => None,
        _ => Some(Range::Reserved),
    }
}
