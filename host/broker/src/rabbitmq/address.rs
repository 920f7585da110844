//! Reads AMQP URLs by kombu's rules.

use lapin::types::Heartbeat;
use lapin::uri::AMQPUri;
use taskhost_core::RedactedUrl;
use url::Url;

use crate::port::BrokerError;

/// Seconds between heartbeats, if the URL does not say. Silence for twice as long is a lost connection.
const HEARTBEAT_S: Heartbeat = 60;

/// The schemes that mean AMQP.
pub(crate) const SCHEMES: [&str; 2] = ["amqp", "pyamqp"];

/// Parses `amqp://user:password@host:port/vhost?heartbeat=60`. As in kombu a missing or empty virtual
/// host is `/`, and `//` is `/` as well.
pub(crate) fn parse(text: &str) -> Result<AMQPUri, BrokerError> {
    let refuse = |reason: String| BrokerError::Url { url: RedactedUrl::new(text), reason };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse("has no scheme".to_owned()))?;
    if scheme == "amqps" {
        return Err(refuse("TLS is not supported by this version".to_owned()));
    }
    if SCHEMES.iter().any(|scheme| rest.contains(&format!(";{scheme}://"))) {
        return Err(refuse("a list of brokers is not supported by this version".to_owned()));
    }
    let mut url = Url::parse(&format!("amqp://{rest}")).map_err(|error| refuse(error.to_string()))?;
    if url.query_pairs().any(|(key, value)| key == "ssl" && !matches!(&*value, "" | "0" | "false" | "False")) {
        return Err(refuse("TLS is not supported by this version".to_owned()));
    }
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
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let uri = parse(text).unwrap();
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
    fn what_we_cannot_do_is_said_without_the_password() {
        let reason = |text| parse(text).unwrap_err().to_string();
        assert_eq!(
            reason("amqps://me:secret@box"),
            "broker URL `amqps://me:**@box`: TLS is not supported by this version"
        );
        assert!(reason("amqp://box//?ssl=true").ends_with("TLS is not supported by this version"));
        assert!(reason("amqp://a//;amqp://b//").ends_with("a list of brokers is not supported by this version"));
        assert!(reason("amqp://me:secret@box:port/").starts_with("broker URL `amqp://me:**@box:port/`: "));
    }
}
