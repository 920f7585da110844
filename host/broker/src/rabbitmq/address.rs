//! Reads AMQP URLs by kombu's rules.

use std::time::Duration;

use dial::tls::TlsOptions;
use lapin::types::Heartbeat;
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use taskhost_core::RedactedUrl;
use url::Url;

use crate::port::BrokerError;

/// Seconds between heartbeats, if the URL does not say. Silence for twice as long is a lost connection.
const HEARTBEAT_S: Heartbeat = 60;

/// The schemes that mean AMQP.
pub(crate) const SCHEMES: [&str; 3] = ["amqp", "pyamqp", SECURE];

/// The one that means AMQP over TLS.
const SECURE: &str = "amqps";

/// The options behind a URL's `?` that are not of TLS, as an error message lists them: kombu's, and those that RabbitMQ's
/// own description of URLs has.
const OPTIONS: &str = "heartbeat, connect_timeout, connection_timeout, login_method, auth_mechanism, frame_max, channel_max, ssl, \
     ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname";

/// Where a broker is and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// Without TLS, which lapin is not asked for.
    pub(crate) uri: AMQPUri,
    pub(crate) tls: Option<TlsOptions>,
    /// How long connecting may take, if the URL says so.
    pub(crate) timeout: Option<Duration>,
}

impl Address {
    /// Parses `amqps://user:password@host:port/vhost?heartbeat=60`. As in kombu a missing or empty virtual
    /// host is `/`, and `//` is `/` as well. `tls` is what is asked for beside the URL, whose own options go over it.
    pub(crate) fn parse(text: &str, tls: Option<&TlsOptions>) -> Result<Self, BrokerError> {
        let refuse = |reason: String| BrokerError::Url { url: RedactedUrl::new(text), reason };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse("has no scheme".to_owned()))?;
        let mut url = Url::parse(&format!("amqp://{rest}")).map_err(|error| refuse(error.to_string()))?;
        let host = url.host_str().filter(|host| !host.is_empty()).map(|host| host.trim_matches(['[', ']']).to_owned());
        if host.is_none() && url.set_host(Some("localhost")).is_err() {
            return Err(refuse("has no host".to_owned()));
        }
        if matches!(url.path(), "" | "/") {
            url.set_path("/%2f");
        }
        let mut uri: AMQPUri = url.as_str().parse().map_err(refuse)?;
        // lapin's own parser takes an IPv6 address for `localhost`.
        if let Some(host) = host.filter(|host| host.contains(':')) {
            uri.authority.host = host;
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        let secure = scheme == SECURE || tls.is_some();
        let mut address = Self { uri, tls: secure.then(|| tls.cloned().unwrap_or_default()), timeout: None };
        for (key, value) in url.query_pairs() {
            address.set(&key, &value).map_err(refuse)?;
        }
        if url.port().is_none() && address.tls.is_some() {
            address.uri.authority.port = AMQPScheme::AMQPS.default_port();
        }
        Ok(address)
    }

    /// Takes an option. Numbers that AMQP knows were read with the URL.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "heartbeat" | "frame_max" | "channel_max" | "auth_mechanism" => {}
            "connect_timeout" => {
                let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let seconds = seconds.filter(|timeout| !timeout.is_zero());
                self.timeout = Some(seconds.ok_or_else(|| format!("{key} `{value}` is no number of seconds"))?);
            }
            "connection_timeout" => self.timeout = self.uri.query.connection_timeout.map(Duration::from_millis),
            "login_method" => {
                let method: SASLMechanism = value.parse().map_err(|_| {
                    format!("there is no {key} `{value}`; there are: PLAIN, AMQPLAIN, and EXTERNAL for a certificate")
                })?;
                self.uri.query.auth_mechanism = Some(method);
            }
            "ssl" if matches!(value, "" | "0" | "false" | "False") => {}
            "ssl" => {
                self.tls.get_or_insert_default();
            }
            _ if key.starts_with("ssl_") && self.tls.get_or_insert_default().set(key, value)? => {}
            _ => return Err(format!("there is no option `{key}`; there are: {OPTIONS}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dial::tls::Verify;

    use super::*;

    fn parse(text: &str) -> Result<Address, BrokerError> {
        Address::parse(text, None)
    }

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let Address { uri, .. } = parse(text).unwrap();
        let authority = &uri.authority;
        let user = &authority.userinfo;
        let heartbeat = uri.query.heartbeat.unwrap();
        let found = format!(
            "{}:{} at {}:{} in {}, {heartbeat}",
            user.username, user.password, authority.host, authority.port, uri.vhost
        );
        assert_eq!(found, shown);
    }

    #[test]
    fn virtual_hosts_are_read_as_kombu_reads_them() {
        check("amqp://", "guest:guest at localhost:5672 in /, 60");
        check("amqp://box", "guest:guest at box:5672 in /, 60");
        check("amqp://box/", "guest:guest at box:5672 in /, 60");
        check("amqp://box//", "guest:guest at box:5672 in /, 60");
        check("amqp://me@box/v", "me:guest at box:5672 in v, 60");
        check("pyamqp://me:se%40cret@box:1234/v%2fw", "me:se@cret at box:1234 in v/w, 60");
        check("amqp://me:x@127.0.0.1:35672//?heartbeat=5", "me:x at 127.0.0.1:35672 in /, 5");
        check("amqp://[::1]:35672/v", "guest:guest at ::1:35672 in v, 60");
    }

    #[test]
    fn tls_is_asked_for_by_scheme_option_or_setting() {
        let tls = |text: &str, beside: Option<&TlsOptions>| {
            let address = Address::parse(text, beside).unwrap();
            (address.tls, address.uri.authority.port)
        };
        let plain = TlsOptions::default();
        assert_eq!(tls("amqp://box", None), (None, 5672));
        assert_eq!(tls("pyamqp://box//?ssl=0", None), (None, 5672));
        for url in ["amqps://box", "pyamqp://box//?ssl=true", "amqp://box?ssl_check_hostname=true"] {
            assert_eq!(tls(url, None), (Some(plain.clone()), 5671), "{url}");
        }
        assert_eq!(tls("amqp://box", Some(&plain)), (Some(plain.clone()), 5671));
        assert_eq!(tls("amqps://box:99", Some(&plain)), (Some(plain), 99));
        let beside =
            TlsOptions { ca_certs: Some("a.pem".into()), certfile: Some("me.pem".into()), ..TlsOptions::default() };
        let both = TlsOptions { ca_certs: Some("b.pem".into()), verify: Verify::Chain, ..beside.clone() };
        let url = "amqps://box?ssl_ca_certs=b.pem&ssl_check_hostname=false";
        assert_eq!(tls(url, Some(&beside)), (Some(both), 5671));
    }

    #[test]
    fn options_have_the_names_of_kombu_and_of_rabbitmq() {
        let timeout = |text: &str| parse(text).unwrap().timeout;
        assert_eq!(timeout("amqp://box"), None);
        assert_eq!(timeout("amqp://box?connect_timeout=2.5"), Some(Duration::from_millis(2500)));
        assert_eq!(timeout("amqp://box?connection_timeout=2500"), Some(Duration::from_millis(2500)));
        let login = |text: &str| parse(text).unwrap().uri.query.auth_mechanism;
        assert_eq!(login("amqps://box?login_method=EXTERNAL"), Some(SASLMechanism::External));
        assert_eq!(login("amqps://box?auth_mechanism=external"), Some(SASLMechanism::External));
    }

    #[test]
    fn what_we_cannot_do_is_said_without_the_password() {
        let reason = |text| parse(text).unwrap_err().to_string();
        assert_eq!(
            reason("amqp://me:secret@box?prefetch=3"),
            "broker URL `amqp://me:**@box?prefetch=3`: there is no option `prefetch`; there are: heartbeat, \
             connect_timeout, connection_timeout, login_method, auth_mechanism, frame_max, channel_max, ssl, \
             ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ssl_check_hostname"
        );
        assert!(reason("amqp://box?ssl_cert_reqs=maybe").ends_with("is none of required, optional and none"));
        assert!(reason("amqp://box?ssl_version=3").contains("there is no option `ssl_version`"));
        assert!(reason("amqp://box?login_method=KERBEROS").contains("there is no login_method `KERBEROS`"));
        assert!(reason("amqp://box?connect_timeout=0").ends_with("connect_timeout `0` is no number of seconds"));
        assert!(reason("amqp://me:secret@box:port/").starts_with("broker URL `amqp://me:**@box:port/`: "));
    }
}
