//! What an operator says of a Redis server beside its address, by the names of kombu's transport options.

use std::time::Duration;

use taskhost_core::Json;

use crate::tls::TlsOptions;

/// What [`Options::set`] knows.
pub const OPTIONS: [&str; 3] = ["master_name", "min_other_sentinels", "sentinel_kwargs"];

/// What [`SentinelOptions`] are read from, apart from those of TLS.
const SENTINEL_OPTIONS: &str = "username, password, socket_timeout, socket_connect_timeout, ssl and those of TLS";

/// How a server is found, and what is said to it first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// What Sentinels call the server.
    pub master_name: Option<String>,
    /// A Sentinel that sees fewer others is not believed.
    pub min_other_sentinels: u32,
    /// How Sentinels themselves are spoken to.
    pub sentinel: SentinelOptions,
    /// TLS with the server; `None` is no TLS.
    pub tls: Option<TlsOptions>,
}

/// `sentinel_kwargs`: what redis-py opens connections to Sentinels with.
#[derive(Clone, Default, PartialEq)]
pub struct SentinelOptions {
    pub username: Option<String>,
    pub password: Option<String>,
    /// How long one may take until the next is asked.
    pub timeout: Option<Duration>,
    pub tls: Option<TlsOptions>,
}

impl std::fmt::Debug for SentinelOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { username, password, timeout, tls } = self;
        let password = password.as_ref().map(|_| "**");
        f.debug_struct("SentinelOptions")
            .field("username", username)
            .field("password", &password)
            .field("timeout", timeout)
            .field("tls", tls)
            .finish()
    }
}

impl Options {
    /// Takes an option by its name. False if it is none of these.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "master_name" => self.master_name = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "min_other_sentinels" => {
                let number = value.parse().map_err(|_| format!("min_other_sentinels `{value}` is no number"))?;
                self.min_other_sentinels = number;
            }
            "sentinel_kwargs" => self.sentinel = SentinelOptions::read(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl SentinelOptions {
    /// Reads an object of JSON, which may be a secret and so is not repeated.
    fn read(text: &str) -> Result<Self, String> {
        let json = Json::parse(text.to_owned()).ok().filter(|json| json.as_str().starts_with('{'));
        let json = json.ok_or("sentinel_kwargs is no object of JSON, such as {\"password\": \"secret\"}")?;
        let mut options = Self::default();
        let mut tls = TlsOptions::default();
        let (mut is_tls, mut is_plain) = (false, false);
        for (key, value) in json.members() {
            let Some(value) = as_text(&value) else { continue };
            let wrong = |problem: String| format!("sentinel_kwargs: {problem}");
            match &*key {
                "username" => options.username = Some(value),
                "password" => options.password = Some(value),
                // They are two in redis-py; what matters here is when the next one is asked.
                "socket_timeout" | "socket_connect_timeout" => {
                    options.timeout = Some(seconds(&key, &value).map_err(wrong)?);
                }
                "ssl" => (is_tls, is_plain) = (value == "true", value == "false"),
                key if key.starts_with("ssl_") && tls.set(key, &value).map_err(wrong)? => is_tls = true,
                _ => return Err(wrong(format!("there is no option `{key}`; there are: {SENTINEL_OPTIONS}"))),
            }
        }
        options.tls = Some(tls).filter(|_| is_tls && !is_plain);
        Ok(options)
    }
}

/// A value as it would stand in a URL; `null` says nothing.
fn as_text(value: &Json) -> Option<String> {
    match value.text_lossy() {
        Some(text) => Some(text.into_owned()),
        None => Some(value.as_str().to_owned()).filter(|text| text != "null"),
    }
}

/// Reads a time above zero.
pub fn seconds(key: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|timeout| !timeout.is_zero());
    seconds.ok_or_else(|| format!("{key} `{value}` is no number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SentinelOptions, String> {
        let mut options = Options::default();
        options.set("sentinel_kwargs", text).map(|known| {
            assert!(known);
            options.sentinel
        })
    }

    #[test]
    fn sentinels_have_options_of_their_own() {
        let options = read(r#"{"username": "me", "password": "se\"cret", "socket_timeout": 0.5, "client": null}"#);
        let options = options.unwrap();
        assert_eq!((options.username.as_deref(), options.password.as_deref()), (Some("me"), Some("se\"cret")));
        assert_eq!((options.timeout, &options.tls), (Some(Duration::from_millis(500)), &None));
        assert!(!format!("{options:?}").contains("cret"));
        let tls = read(r#"{"ssl": true, "ssl_ca_certs": "/ca.pem"}"#).unwrap().tls.unwrap();
        assert_eq!(tls.ca_certs.as_deref(), Some(std::path::Path::new("/ca.pem")));
        assert_eq!(read(r#"{"ssl": false, "ssl_ca_certs": "/ca.pem"}"#).unwrap().tls, None);
        assert_eq!(read("{}").unwrap(), SentinelOptions::default());
    }

    #[test]
    fn what_is_wrong_with_an_option_is_said_without_a_secret() {
        let no_object = "sentinel_kwargs is no object of JSON, such as {\"password\": \"secret\"}";
        for text in ["password=x", "[\"x\"]", "{"] {
            assert_eq!(read(text).unwrap_err(), no_object);
        }
        assert_eq!(
            read(r#"{"pasword": "x"}"#).unwrap_err(),
            "sentinel_kwargs: there is no option `pasword`; there are: username, password, socket_timeout, \
             socket_connect_timeout, ssl and those of TLS"
        );
        assert_eq!(
            read(r#"{"socket_timeout": 0}"#).unwrap_err(),
            "sentinel_kwargs: socket_timeout `0` is no number of seconds"
        );
        let mut options = Options::default();
        assert_eq!(options.set("min_other_sentinels", "x").unwrap_err(), "min_other_sentinels `x` is no number");
        assert_eq!(options.set("sep", ":"), Ok(false));
        for key in OPTIONS {
            assert_ne!(options.set(key, "1"), Ok(false), "{key}");
        }
    }
}
