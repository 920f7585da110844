//! Reads URLs of Redis servers and of their Sentinels, as kombu and Celery do.
//!
//! Options that say nothing about how the server is reached are handed on.

use std::path::PathBuf;

use crate::percent::decoded;
use crate::redis::{OpenError, Options};

/// The schemes of all that is read here.
pub const SCHEMES: [&str; 5] = ["redis", "rediss", "redis+socket", "unix", "sentinel"];

/// Redis' own port, and that of its Sentinels.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A Redis server and how to log in.
#[derive(Clone, PartialEq)]
pub struct Target {
    pub address: Address,
    pub db: u32,
    pub username: Option<String>,
    pub password: Option<String>,
    pub options: Options,
    /// What else stood behind the `?`: names and values.
    pub rest: Vec<(String, String)>,
}

/// Where the server is.
#[derive(Debug, Clone, PartialEq)]
pub enum Address {
    Tcp(String, u16),
    Socket(PathBuf),
    /// Those who know, in the order in which they are asked.
    Sentinels(Vec<(String, u16)>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, db, username, password, options, rest } = self;
        let password = password.as_ref().map(|_| "**");
        write!(f, "{address:?}, db {db}, user {username:?}, password {password:?}")?;
        if *options != Options::default() {
            write!(f, ", {options:?}")?;
        }
        // Names alone: nobody knows what the values are.
        rest.iter().try_for_each(|(name, _)| write!(f, ", {name}"))
    }
}

impl Target {
    /// Reads a URL. Its options go over those that are given.
    ///
    /// A URL whose scheme is `rediss` means TLS, and so does any with an option of TLS (kombu/utils/url.py
    /// `parse_url`), and any to which settings of TLS are given (kombu/transport/redis.py `_connparams`). Behind
    /// Sentinels that is said of the server: they themselves have theirs in `sentinel_kwargs`.
    pub fn parse(url: &str, options: &Options) -> Result<Self, String> {
        let (scheme, _) = url.split_once("://").ok_or("has no scheme")?;
        match scheme {
            "redis" | "rediss" => {
                let mut one = Member::read(url, options.clone())?;
                if scheme == "rediss" {
                    one.options.tls.get_or_insert_default();
                }
                let (host, port) = one.host(PORT)?;
                one.finish(Address::Tcp(host, port))
            }
            "redis+socket" | "unix" => {
                let one = Member::read(url, options.clone())?;
                if one.options.tls.is_some() {
                    return Err("there is no TLS on a Unix socket".to_owned());
                }
                if one.path.is_empty() || !one.host.is_empty() {
                    return Err("expected the path of a socket, such as redis+socket:///run/redis.sock".to_owned());
                }
                let path = PathBuf::from(format!("/{}", decoded(one.path)?.trim_start_matches('/')));
                // All of the path is the socket's.
                Member { path: "", ..one }.finish(Address::Socket(path))
            }
            "sentinel" => Self::sentinels(url, options),
            _ => Err(format!("`{scheme}` is not Redis")),
        }
    }

    /// `sentinel://[user:password@]host[:port][/db];sentinel://..`. What is said of the server is taken from the
    /// first, as kombu and Celery's backend do; they ignore it in all others, so there it must not differ.
    fn sentinels(url: &str, options: &Options) -> Result<Self, String> {
        let mut hosts = Vec::new();
        let mut first: Option<Self> = None;
        for (index, member) in url.split(';').enumerate() {
            if !member.starts_with("sentinel://") {
                return Err(format!("number {} of the Sentinels does not begin with sentinel://", index + 1));
            }
            let known = first.as_ref().map_or(options, |first| &first.options);
            let read = Member::read(member, known.clone())?;
            hosts.push(read.host(SENTINEL_PORT)?);
            let says_login = read.username.is_some() || read.password.is_some();
            let says_db = read.db.is_some() || !read.path.trim_matches('/').is_empty();
            let read = read.finish(Address::Sentinels(Vec::new()))?;
            let Some(first) = &mut first else {
                first = Some(read);
                continue;
            };
            if says_db && read.db != first.db {
                let problem = "the Sentinels name different databases; clients take that of the first";
                return Err(format!("{problem} ({}, not {})", first.db, read.db));
            }
            if says_login && (&read.username, &read.password) != (&first.username, &first.password) {
                let problem = "the Sentinels name different users or passwords of the server";
                return Err(format!("{problem}; clients take those of the first (their own are in sentinel_kwargs)"));
            }
            first.options = read.options;
            first.rest.extend(read.rest);
        }
        let mut target = first.ok_or("names no Sentinel")?;
        target.address = Address::Sentinels(hosts);
        Ok(target)
    }

    /// Refuses what cannot be dialled: Sentinels who are not told which server is meant.
    pub fn check(&self) -> Result<(), String> {
        match (&self.address, &self.options.master_name) {
            (Address::Sentinels(_), None) => {
                Err("Sentinels know servers by name: set the transport option master_name".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Refuses TLS that cannot be had as it is asked for: reads the files.
    pub fn check_tls(&self) -> Result<(), OpenError> {
        let options = [&self.options.tls, &self.options.sentinel.tls];
        options.into_iter().flatten().try_for_each(|tls| tls.load().map(drop)).map_err(OpenError::from)
    }
}

/// The parts of one URL.
struct Member<'a> {
    username: Option<String>,
    password: Option<String>,
    host: &'a str,
    path: &'a str,
    /// The database, if it is among the options.
    db: Option<u32>,
    options: Options,
    rest: Vec<(String, String)>,
}

impl<'a> Member<'a> {
    /// `scheme://[user:password@][host[:port]][/path][?options]`.
    fn read(url: &'a str, mut options: Options) -> Result<Self, String> {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (username, password, host) = credentials(authority)?;
        let (mut db, mut others) = (None, Vec::new());
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "virtual_host" | "db" => db = Some(database(&value)?),
                key if key.starts_with("ssl_") => {
                    if !options.tls.get_or_insert_default().set(key, &value)? {
                        return Err(format!("`{key}` is no option of TLS that is known here"));
                    }
                }
                key if options.set(key, &value)? => {}
                key => others.push((key.to_owned(), value.into_owned())),
            }
        }
        Ok(Self { username, password, host, path, db, options, rest: others })
    }

    fn host(&self, default_port: u16) -> Result<(String, u16), String> {
        let (host, port) = match self.host.rsplit_once(':') {
            // The last colon of a bare IPv6 address is inside its brackets.
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
            }
            _ => (self.host, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok((if host.is_empty() { "localhost" } else { host }.to_owned(), port))
    }

    fn finish(self, address: Address) -> Result<Target, String> {
        let Self { username, password, path, db, options, rest, .. } = self;
        let db = match db {
            Some(db) if path.trim_matches('/').is_empty() => db,
            _ => database(path)?,
        };
        Ok(Target { address, db, username, password, options, rest })
    }
}

type Credentials<'a> = (Option<String>, Option<String>, &'a str);

/// User, password, and what follows the `@`.
fn credentials(authority: &str) -> Result<Credentials<'_>, String> {
    let Some((login, host)) = authority.rsplit_once('@') else { return Ok((None, None, authority)) };
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    let given = |text: &str| -> Result<Option<String>, String> {
        Ok(Some(decoded(text)?.into_owned()).filter(|text| !text.is_empty()))
    };
    Ok((given(username)?, given(password)?, host))
}

fn database(text: &str) -> Result<u32, String> {
    match text.trim_matches('/') {
        "" => Ok(0),
        number => number.parse().map_err(|_| format!("`{number}` is not the number of a database")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let shown = match Target::parse(url, &Options::default()) {
            Ok(target) => format!("{target:?}"),
            Err(error) => error,
        };
        assert_eq!(shown, expected, "{url}");
    }

    #[test]
    fn urls_are_read_as_kombu_and_celery_read_them() {
        for url in ["redis://", "redis://localhost", "redis:///"] {
            check(url, r#"Tcp("localhost", 6379), db 0, user None, password None"#);
        }
        check("redis://box:7/3", r#"Tcp("box", 7), db 3, user None, password None"#);
        check("redis://[::1]:7//3", r#"Tcp("::1", 7), db 3, user None, password None"#);
        check("redis://[::1]", r#"Tcp("::1", 6379), db 0, user None, password None"#);
        check("redis://me:s@box?db=2", r#"Tcp("box", 6379), db 2, user Some("me"), password Some("**")"#);
        check("redis+socket:///run/r.sock?virtual_host=4", r#"Socket("/run/r.sock"), db 4, user None, password None"#);
        check("unix://:s@/run/r.sock", r#"Socket("/run/r.sock"), db 0, user None, password Some("**")"#);
        check("redis://b?sep=:&password=x", r#"Tcp("b", 6379), db 0, user None, password None, sep, password"#);
    }

    #[test]
    fn a_password_may_hold_any_character() {
        let target = Target::parse("redis://:p%40ss%2Fw%C3%B6rd:x@box", &Options::default()).unwrap();
        assert_eq!(target.password.as_deref(), Some("p@ss/wörd:x"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("redis://b/x", "`x` is not the number of a database");
        check("redis://b:p", "`p` is not a port");
        check("redis://:%zz@b", "broken percent-encoding");
        check("redis+socket://b", "expected the path of a socket, such as redis+socket:///run/redis.sock");
        check("http://b", "`http` is not Redis");
        check("rediss://b?ssl_ciphers=x", "`ssl_ciphers` is no option of TLS that is known here");
        check("rediss://b?ssl_cert_reqs=x", "ssl_cert_reqs `x` is none of required, optional and none");
        check("unix:///r?ssl_cert_reqs=none", "there is no TLS on a Unix socket");
    }

    #[test]
    fn tls_is_meant_by_the_scheme_or_by_an_option_and_checks_by_default() {
        use crate::tls::{TlsOptions, Verify};
        let tls = |url: &str, given: Option<TlsOptions>| {
            let given = Options { tls: given, ..Options::default() };
            Target::parse(url, &given).unwrap().options.tls
        };
        let none = TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() };
        assert_eq!(tls("redis://b", None), None);
        assert_eq!(tls("rediss://b", None), Some(TlsOptions::default()));
        assert_eq!(tls("rediss://b", None).unwrap().verify, Verify::Full);
        assert_eq!(tls("redis://b?ssl_cert_reqs=CERT_NONE", None), Some(none.clone()));
        assert_eq!(tls("redis://b", Some(none.clone())), Some(none.clone()), "settings mean TLS");
        let ca = TlsOptions { ca_certs: Some("/ca.pem".into()), ..none.clone() };
        assert_eq!(tls("rediss://b?ssl_ca_certs=%2Fca.pem", Some(none)), Some(ca), "the URL goes over settings");
    }

    #[test]
    fn sentinels_are_a_list_and_the_first_says_what_is_said_of_the_server() {
        check("sentinel://", r#"Sentinels([("localhost", 26379)]), db 0, user None, password None"#);
        check(
            "sentinel://me:s@a/2;sentinel://b:7;sentinel://me:s@[::1]/2?master_name=m&x=1",
            r#"Sentinels([("a", 26379), ("b", 7), ("::1", 26379)]), db 2, user Some("me"), password Some("**"), Options { master_name: Some("m"), min_other_sentinels: 0, sentinel: SentinelOptions { username: None, password: None, timeout: None, tls: None }, tls: None }, x"#,
        );
        check(
            "sentinel://a;sentinel://b/1",
            "the Sentinels name different databases; clients take that of the first (0, not 1)",
        );
        check(
            "sentinel://a;sentinel://:s@b",
            "the Sentinels name different users or passwords of the server; clients take those of the first \
             (their own are in sentinel_kwargs)",
        );
        check("sentinel://a;redis://b", "number 2 of the Sentinels does not begin with sentinel://");
        check("sentinel://a;b", "number 2 of the Sentinels does not begin with sentinel://");
        let checked = |url: &str| Target::parse(url, &Options::default()).unwrap().check();
        assert_eq!(checked("sentinel://a?master_name=m"), Ok(()));
        assert_eq!(
            checked("sentinel://a").unwrap_err(),
            "Sentinels know servers by name: set the transport option master_name"
        );
    }
}
