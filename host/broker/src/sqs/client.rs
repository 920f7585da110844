//! Makes clients of AWS' SDK: where they sign for whom, and how long anything may take.
//!
//! The SDK's own defaults wait for ever in some places; here every request has a deadline.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::sts::AssumeRoleProvider;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{
    Builder, Credentials, IdentityCache, Region, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use dial::tls::TlsOptions;

use super::address::Target;
use super::failure::Failure;
use super::options::{PredefinedQueue, SqsOptions};

/// How long one answer may take, besides what SQS is asked to wait.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long all attempts at one request may take.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(25);
/// How often a request is sent until it has failed: SQS asks whom it throttles to try again.
const ATTEMPTS_MAX: u32 = 3;
/// Names a file of those who are believed, and nobody else is, as boto3 and AWS' command line have it.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";
/// kombu's `default_region`.
const REGION: &str = "us-east-1";

/// The clients for one region and one set of credentials. They share connections.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// For everything that is answered at once.
    pub(super) call: Client,
    /// For what SQS waits with.
    pub(super) poll: Client,
}

/// What all clients of one connection have in common.
pub(super) struct Maker {
    base: Builder,
    region: Region,
    wait_time: Duration,
    timeout: Duration,
}

impl Maker {
    /// Finds out region and credentials, which may ask files and other machines.
    pub(super) async fn new(target: &Target, options: &SqsOptions) -> Result<Self, Failure> {
        let endpoint = endpoint(target, options);
        let http = http_client(target, options, endpoint.as_deref(), std::env::var_os(CA_BUNDLE))?;
        // As boto finds it. An instance is not asked, which elsewhere takes seconds to find out that it is none.
        let region = RegionProviderChain::first_try(options.region.clone().map(Region::new))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        let region = region.region().await.unwrap_or(Region::from_static(REGION));
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region.clone())
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            .timeout_config(timeouts(options.timeout, Duration::ZERO))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some((key, secret)) = &target.credentials {
            loader = loader.credentials_provider(Credentials::new(key, secret, None, None, "the broker's URL"));
        }
        let shared = loader.load().await;
        let mut base = Builder::from(&shared);
        let sts = &options.sts;
        if let Some(role) = &sts.role {
            let role = AssumeRoleProvider::builder(role)
                .session_name("taskhost")
                .session_length(sts.timeout)
                .region(region.clone())
                .configure(&shared);
            let role = match shared.credentials_provider() {
                Some(own) => role.build_from_provider(own).await,
                None => role.build().await,
            };
            let cache = IdentityCache::lazy().buffer_time(sts.buffer.max(Duration::from_secs(10)));
            base = base.credentials_provider(role).identity_cache(cache.build());
        }
        if let Some(endpoint) = endpoint {
            base = base.endpoint_url(endpoint);
        }
        Ok(Self { base, region, wait_time: options.wait_time, timeout: options.timeout })
    }

    /// The clients for all queues that say nothing else.
    pub(super) fn clients(&self) -> Clients {
        self.build(self.base.clone().region(self.region.clone()))
    }

    /// Those for a queue with a region or credentials of its own.
    pub(super) fn clients_for(&self, queue: &PredefinedQueue) -> Clients {
        let region = queue.region.clone().map_or_else(|| self.region.clone(), Region::new);
        let mut builder = self.base.clone().region(region);
        if let Some((key, secret, token)) = &queue.credentials {
            let credentials = Credentials::new(key, secret, token.clone(), None, "predefined_queues");
            builder = builder.credentials_provider(SharedCredentialsProvider::new(credentials));
        }
        self.build(builder)
    }

    fn build(&self, builder: Builder) -> Clients {
        let call = builder.clone().timeout_config(timeouts(self.timeout, Duration::ZERO)).build();
        let poll = builder.timeout_config(timeouts(self.timeout, self.wait_time)).build();
        Clients { call: Client::from_conf(call), poll: Client::from_conf(poll) }
    }
}

/// `wait` is what the server is asked to wait with its answer.
fn timeouts(connect: Duration, wait: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(connect)
        .read_timeout(wait + ATTEMPT_TIMEOUT)
        .operation_attempt_timeout(wait + ATTEMPT_TIMEOUT)
        .operation_timeout(wait + OPERATION_TIMEOUT)
        .build()
}

/// kombu's `Channel.endpoint_url`, and an address that somebody wrote out.
fn endpoint(target: &Target, options: &SqsOptions) -> Option<String> {
    let scheme = if options.is_secure { "https" } else { "http" };
    let named = target.host.as_ref().map(|host| format!("{scheme}://{host}"));
    options.endpoint_url.clone().or(named)
}

/// One for each connection: its sockets belong to the runtime that made them. The certificates of the machine, or of
/// the bundle, are read only where something may ask for TLS, which a role or a machine's own credentials do.
fn http_client(
    target: &Target,
    options: &SqsOptions,
    endpoint: Option<&str>,
    bundle: Option<OsString>,
) -> Result<SharedHttpClient, Failure> {
    let is_plain = |url: &str| url.starts_with("http://");
    let builder = aws_smithy_http_client::Builder::new();
    let is_all_plain = endpoint.is_some_and(is_plain)
        && target.credentials.is_some()
        && options.sts.role.is_none()
        && options.predefined_queues.values().all(|queue| is_plain(&queue.url));
    if is_all_plain {
        return Ok(builder.build_http());
    }
    let builder = builder.tls_provider(tls::Provider::Rustls(CryptoMode::Ring));
    let Some(bundle) = bundle.filter(|path| !path.is_empty()) else { return Ok(builder.build_https()) };
    let trusted = trusted(bundle.into()).map_err(|reason| Failure::permanent(format!("{CA_BUNDLE}: {reason}")))?;
    Ok(builder.tls_context(trusted).build_https())
}

/// Those of a file. The SDK ends the process that gives it a file with anything else in it, so it is read before.
fn trusted(bundle: PathBuf) -> Result<TlsContext, String> {
    let file = TlsOptions { ca_certs: Some(bundle.clone()), ..TlsOptions::default() };
    file.load().map_err(|error| error.to_string())?;
    let certificates = std::fs::read(&bundle).map_err(|error| format!("read {}: {error}", bundle.display()))?;
    let trusted = TrustStore::empty().with_pem_certificate(certificates);
    TlsContext::builder().with_trust_store(trusted).build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_none_is_named_where_tls_may_be() {
        let made = |host: Option<&str>| {
            let target =
                Target { host: host.map(str::to_owned), credentials: Some(("key".to_owned(), "hush".to_owned())) };
            let options = SqsOptions::default();
            let endpoint = endpoint(&target, &options);
            http_client(&target, &options, endpoint.as_deref(), Some("/no/ca.pem".into()))
        };
        let error = made(None).expect_err("there is no such file").to_string();
        assert!(error.starts_with("AWS_CA_BUNDLE: read certificates from /no/ca.pem"), "{error}");
        assert!(made(Some("localhost:4566")).is_ok(), "nobody asks for it");
    }
}
