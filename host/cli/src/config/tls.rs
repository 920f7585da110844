//! How TLS is asked for: `use_ssl` and the options beside it, of the broker and of the result backend.
//!
//! What a server's URL says of TLS, and what each server can do, its adapter knows.

use dial::tls::TlsOptions;

use crate::config::Config;
use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::origin::Origin;
use crate::config::resolve::Resolved;
use crate::config::value::Value;

/// The options beside `use_ssl`.
const OPTIONS: [&str; 5] = ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"];

/// What the settings ask for towards the broker.
pub(crate) fn of_broker(resolved: &Resolved) -> Result<Option<TlsOptions>, ConfigErrors> {
    read(resolved, "broker")
}

/// The same towards the result backend. Where that is the broker, since nobody named another, it is reached as the broker
/// is.
pub(crate) fn of_results(resolved: &Resolved) -> Result<Option<TlsOptions>, ConfigErrors> {
    let is_broker = *resolved.origin("result.backend") == Origin::Default
        && is_server_of(resolved.value("result.backend"), super::build::write_url(resolved).expose());
    match read(resolved, "result")? {
        None if is_broker && *resolved.value("result.use_ssl") == Value::None => read(resolved, "broker"),
        tls => Ok(tls),
    }
}

fn is_server_of(backend: &Value, broker: &str) -> bool {
    matches!(backend, Value::Url(backend) if broker::server_urls(broker).iter().any(|url| url == backend.expose()))
}

/// An option asks for TLS as `use_ssl` does: Celery has one dictionary for both.
fn read(resolved: &Resolved, group: &str) -> Result<Option<TlsOptions>, ConfigErrors> {
    let mut options = TlsOptions::default();
    let mut given = None;
    for name in OPTIONS {
        let key = format!("{group}.{name}");
        let value = resolved.value(&key);
        if *value == Value::None {
            continue;
        }
        let known = options.set(name, &value.to_string()).expect("it was checked when it was read");
        assert!(known, "{name} is an option of TLS");
        if *resolved.origin(&key) != Origin::Default {
            given = given.or(Some(key));
        }
    }
    match (resolved.value(&format!("{group}.use_ssl")), given) {
        (Value::Bool(false), Some(key)) => {
            let problem = format!("there is no TLS to use it for: {group}.use_ssl is false");
            Err(ConfigErrors::new(vec![ConfigError::value(resolved.origin(&key), &key, &problem)]))
        }
        (Value::Bool(true), _) | (Value::None, Some(_)) => Ok(Some(options)),
        _ => Ok(None),
    }
}

/// Reads the files that are named, and asks the adapters whether they can do what is asked for.
pub(crate) fn check(config: &Config) -> Result<(), ConfigErrors> {
    let (broker, result) = (&config.broker, &config.result);
    for url in std::iter::once(&broker.url).chain(&broker.write_url) {
        let adapter = broker::check_tls(url.expose(), broker.tls.as_ref()).map_err(|error| said(&error));
        check_group(config, "broker", "broker.url", broker.tls.as_ref(), adapter)?;
    }
    let adapter = store::check_tls(result.backend.expose(), result.tls.as_ref()).map_err(|error| said(&error));
    check_group(config, "result", "result.backend", result.tls.as_ref(), adapter)
}

fn check_group(
    config: &Config,
    group: &str,
    url: &str,
    tls: Option<&TlsOptions>,
    adapter: Result<(), String>,
) -> Result<(), ConfigErrors> {
    let wrong =
        |key: &str, problem: &str| Err(ConfigErrors::new(vec![ConfigError::value(config.origin(key), key, problem)]));
    if let Some(options) = tls
        && let Err(error) = options.load()
    {
        return wrong(&format!("{group}.{}", error.option(options)), &format!("cannot {}", said(&error)));
    }
    let Err(problem) = adapter else { return Ok(()) };
    let asked = format!("{group}.use_ssl");
    match config.origin(&asked) {
        Origin::Default => wrong(url, &problem),
        _ => wrong(&asked, &problem),
    }
}

/// An error with its causes.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
