//! Over TLS, against the server that `TASKHOST_TEST_AMQPS` names, with the certificates of `TASKHOST_TEST_CERTIFICATES`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use dial::tls::Verify;
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server and its certificates.
struct Site {
    url: String,
    folder: PathBuf,
}

impl Site {
    #[expect(clippy::print_stdout, reason = "the runner of the tests counts these lines")]
    fn open() -> Option<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                println!("skipped: {name} is not set");
            }
            value
        };
        let (url, folder) = (variable("TASKHOST_TEST_AMQPS")?, variable("TASKHOST_TEST_CERTIFICATES")?);
        Some(Self { url, folder: folder.into() })
    }

    /// Believes who has signed the server's certificate.
    fn trusting(&self) -> TlsOptions {
        TlsOptions { ca_certs: Some(self.folder.join("ca.pem")), ..TlsOptions::default() }
    }

    /// Believes somebody else.
    fn misled(&self) -> TlsOptions {
        TlsOptions { ca_certs: Some(self.folder.join("other-ca.pem")), ..TlsOptions::default() }
    }

    /// Shows a certificate as well.
    fn known(&self) -> TlsOptions {
        let (certfile, keyfile) = (self.folder.join("client.pem"), self.folder.join("client.key"));
        TlsOptions { certfile: Some(certfile), keyfile: Some(keyfile), ..self.trusting() }
    }
}

/// The error, if there is one, is what caused it.
async fn connect(url: &str, tls: TlsOptions) -> Result<(), String> {
    let options = ConnectOptions { tls: Some(tls), ..ConnectOptions::default() };
    match RabbitMq::connect(url, &options).await {
        Ok(broker) => {
            broker.close().await;
            Ok(())
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).expect("it has a cause").to_string();
            // A server can get another certificate, but it will not be told another password.
            assert!(error.is_transient() || !cause.contains("certificate"), "{error}: {cause}");
            Err(cause)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_passes_the_suite_over_tls() {
    let Some(site) = Site::open() else { return };
    let capabilities =
        Capabilities { priorities: false, json_headers: false, counts_deliveries: false, ..Capabilities::ALL };
    // Options of the URL go over those beside it, which lead nowhere.
    let url = format!("{}?ssl_ca_certs={}", site.url, site.folder.join("ca.pem").display());
    let options = ConnectOptions { tls: Some(site.misled()), ..ConnectOptions::default() };
    conformance::run(capabilities, async || {
        RabbitMq::connect(&url, &options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_nobody_believed_has_signed_is_refused() {
    let Some(site) = Site::open() else { return };
    connect(&site.url, site.trusting()).await.unwrap();
    let refused = connect(&site.url, site.misled()).await.unwrap_err();
    assert_eq!(refused, "the server's certificate is signed by nobody who is believed; ssl_ca_certs names who is");
    let chain_alone = TlsOptions { verify: Verify::Chain, ..site.misled() };
    assert!(connect(&site.url, chain_alone).await.is_err());
    let unchecked = TlsOptions { verify: Verify::Nothing, ..site.misled() };
    connect(&site.url, unchecked).await.unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_names_do_not_matter() {
    let Some(site) = Site::open() else { return };
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
    let elsewhere = format!("amqps://guest:guest@{}//", listener.local_addr().unwrap());
    let server = Address::parse(&site.url, None).unwrap().uri.authority;
    let forwarding = tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect((server.host.as_str(), server.port)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let refused = connect(&elsewhere, site.trusting()).await.unwrap_err();
    assert!(refused.contains("not for 127.0.0.2; ssl_check_hostname=false takes it nevertheless"), "{refused}");
    let nameless = TlsOptions { verify: Verify::Chain, ..site.trusting() };
    connect(&elsewhere, nameless).await.unwrap();
    forwarding.abort();
}

#[tokio::test]
async fn a_certificate_is_a_login_where_the_url_says_so() {
    let Some(site) = Site::open() else { return };
    // Nobody has that name and that password.
    let url = site.url.replace("guest:guest", "stranger:wrong");
    assert!(connect(&url, site.known()).await.is_err());
    connect(&format!("{url}?login_method=EXTERNAL"), site.known()).await.unwrap();
    assert!(connect(&format!("{url}?login_method=EXTERNAL"), site.trusting()).await.is_err());
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_told_from_one_that_lies() {
    let Some(site) = Site::open() else { return };
    let Some(plain) = server() else { return };
    let refused = connect(&plain.replace("amqp://", "amqps://"), site.trusting()).await.unwrap_err();
    assert_eq!(refused, "the server answers with something that is not TLS; is this its port for TLS?");
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_no_more_than_the_deadline() {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let url = format!("amqps://{}//", listener.local_addr().unwrap());
    let tls = Some(TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() });
    let options = ConnectOptions { tls, timeout: Duration::from_millis(200), ..ConnectOptions::default() };
    let (connected, accepted) = tokio::join!(RabbitMq::connect(&url, &options), listener.accept());
    assert!(connected.err().expect("nobody answers").is_transient());
    // Its hello is there, and after it the end: nobody waits behind this connection.
    let mut heard = Vec::new();
    accepted.unwrap().0.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard.first(), Some(&22), "a handshake was begun");
}
