//! Which servers a URL names, and which of them has a key.
//!
//! Both as Celery's client does it (pymemcache 4): who asks with the same list finds what we have stored.

use std::path::PathBuf;

/// memcached's own port.
const PORT: u16 = 11211;
/// How many servers one list may name.
const SERVERS_MAX: usize = 64;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String, u16),
    Socket(PathBuf),
}

/// The servers of a store, in the order of its URL, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Servers {
    pub(super) addresses: Vec<Address>,
    /// As pymemcache calls them when it distributes keys.
    names: Vec<String>,
}

/// What `cache+SCHEME://REST` names; none for another scheme.
pub(crate) enum Cache {
    Servers(Servers),
    /// `cache+memory://`: the client's own process, and here ours.
    Memory,
}

impl Cache {
    /// Reads what follows `cache+` (celery/backends/cache.py `backends`).
    pub(crate) fn parse(scheme: &str, rest: &str) -> Result<Self, String> {
        match scheme {
            "memory" => Ok(Self::Memory),
            "memcached" | "memcache" | "pymemcache" | "pylibmc" => Servers::parse(rest).map(Self::Servers),
            other => Err(format!("Celery has no cache `{other}`; known are cache+memcached:// and cache+memory://")),
        }
    }
}

impl Servers {
    /// `host[:port];host[:port];/path/of/socket/` (celery/backends/cache.py `CacheBackend`, pymemcache
    /// `normalize_server_spec`).
    fn parse(rest: &str) -> Result<Self, String> {
        let mut servers = Self { addresses: Vec::new(), names: Vec::new() };
        for text in rest.trim_end_matches('/').split(';').filter(|text| !text.is_empty()) {
            let (address, name) = address(text)?;
            if !servers.names.contains(&name) {
                servers.addresses.push(address);
                servers.names.push(name);
            }
        }
        match servers.addresses.len() {
            0 => Err("no server is named; expected cache+memcached://host:11211/".to_owned()),
            count if count > SERVERS_MAX => Err(format!("{count} servers are more than {SERVERS_MAX}")),
            _ => Ok(servers),
        }
    }

    /// The one that has this key: the highest of all hashes of server and key (pymemcache `RendezvousHash`).
    pub(super) fn of(&self, key: &str) -> usize {
        if self.names.len() == 1 {
            return 0;
        }
        let score = |name: &String| murmur3(format!("{name}-{key}").as_bytes());
        let mut best = 0;
        let mut high = score(&self.names[0]);
        for (index, name) in self.names.iter().enumerate().skip(1) {
            let score = score(name);
            if score > high || score == high && *name > self.names[best] {
                (best, high) = (index, score);
            }
        }
        best
    }
}

fn address(text: &str) -> Result<(Address, String), String> {
    if text.contains('@') {
        return Err("a login needs memcached's binary protocol with SASL, which neither Celery's client nor this \
                    store speaks"
            .to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("Celery reads no options from this URL; they would be part of the last server's name".to_owned());
    }
    if let Some(path) = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
        return Ok((Address::Socket(PathBuf::from(path)), path.to_owned()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
        }
        _ => (text, PORT),
    };
    let host = if host.starts_with('[') { host.trim_matches(['[', ']']) } else { host };
    if host.is_empty() || host.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '/') {
        return Err(format!("`{text}` names no host"));
    }
    Ok((Address::Tcp(host.to_owned(), port), format!("{host}:{port}")))
}

/// MurmurHash3 of 32 bits with seed 0.
fn murmur3(data: &[u8]) -> u32 {
    let scrambled = |word: u32| word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let mut hash: u32 = 0;
    let words = data.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        hash = (hash ^ scrambled(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64);
    }
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word: u32, byte| word << 8 | u32::from(*byte));
        hash ^= scrambled(word);
    }
    hash ^= data.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ hash >> 13).wrapping_mul(0xC2B2_AE35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(rest: &str) -> Servers {
        Servers::parse(rest).unwrap_or_else(|error| panic!("{rest}: {error}"))
    }

    #[test]
    fn servers_are_read_as_pymemcache_reads_them() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        assert_eq!(servers("box:7/").addresses, [tcp("box", 7)]);
        assert_eq!(servers("box;other:7;;box:11211").addresses, [tcp("box", 11211), tcp("other", 7)]);
        assert_eq!(servers("[::1]:7;[::2]").addresses, [tcp("::1", 7), tcp("::2", 11211)]);
        for socket in ["/run/m.sock/", "unix:/run/m.sock"] {
            assert_eq!(servers(socket).addresses, [Address::Socket(PathBuf::from("/run/m.sock"))]);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        let refused = |rest: &str| Servers::parse(rest).expect_err(rest);
        assert!(refused("").contains("no server is named"));
        assert!(refused("/").contains("no server is named"));
        assert!(refused("me:secret@box").contains("SASL"));
        assert!(!refused("me:secret@box").contains("secret"));
        assert!(refused("box?timeout=5").contains("no options"));
        assert!(refused("box:x").contains("`x` is not a port"));
        assert!(refused("box/db").contains("names no host"));
    }

    #[test]
    fn a_key_is_where_pymemcache_looks_for_it() {
        // Drawn with pymemcache 4.0: RendezvousHash(["h1:11211", "h2:11211", "h3:1"]).get_node(key).
        let of = servers("h1;h2;h3:1");
        let places: Vec<usize> = (0..16).map(|n| of.of(&format!("celery-task-meta-{n}"))).collect();
        assert_eq!(places, [1, 0, 0, 1, 0, 2, 2, 1, 2, 1, 1, 0, 2, 1, 2, 1]);
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"hello"), 0x248b_fa47);
        assert_eq!(murmur3(b"hello, world"), 0x149b_bb7f);
    }
}
