//! A worker and its client that meet over TLS, each with a certificate, and a worker that has none.

use std::path::Path;

use it::{Server, Site, settings};
use serde_json::json;

/// Whoever shows no certificate is sent away.
const DEMANDING: &str = "ssl_options.fail_if_no_peer_cert=true";

/// A site whose URL does not speak of TLS: settings do, here and there.
fn site(rabbitmq: &Server, certificates: &Path) -> Option<Site> {
    let plain = rabbitmq.url.replace("amqps://", "amqp://");
    let mut site = Site::on(&plain, &settings::required(settings::REDIS)?)?;
    let file = |name: &str| certificates.join(name);
    site.celery_settings = json!({"broker_use_ssl": {
        "ca_certs": file("ca.pem"), "certfile": file("client.pem"), "keyfile": file("client.key"),
    }});
    site.write(
        "host.toml",
        &format!(
            "[broker]\nuse_ssl = {{ ca_certs = {:?}, certfile = {:?}, keyfile = {:?} }}\n",
            file("ca.pem"),
            file("client.pem"),
            file("client.key")
        ),
    );
    Some(site)
}

#[test]
fn a_worker_with_a_certificate_serves_clients_and_comes_back_after_a_loss() {
    let Some(certificates) = settings::required_path(settings::CERTIFICATES) else { return };
    let Some(mut rabbitmq) = Server::rabbitmq_tls() else { return };
    rabbitmq.stop();
    rabbitmq.start_again_with(DEMANDING);
    let Some(site) = site(&rabbitmq, &certificates) else { return };
    let mut host = site.host(&["-c", "2"]);
    let ping = site.celery(&["inspect", "ping", "-d", &host.node]).success();
    assert!(ping.out.contains("pong"), "{}", ping.out);
    let client = site.start_client(
        r#"
results = [send("tasks.sleep", 0.125 + n / 2**20) for n in range(40)]
emit("published")
emit([get(result) == 0.125 + n / 2**20 for n, result in enumerate(results)].count(True))
"#,
    );
    client.wait_for("published");
    host.wait_for("] succeeded in ");
    rabbitmq.stop();
    host.wait_for("Connection to broker lost");
    rabbitmq.start_again_with(DEMANDING);
    assert_eq!(client.finish(), json!(40));
    assert!(host.stop().success());
}

#[test]
fn whoever_has_the_wrong_certificates_learns_what_is_wrong() {
    let Some(certificates) = settings::required_path(settings::CERTIFICATES) else { return };
    let Some(mut rabbitmq) = Server::rabbitmq_tls() else { return };
    rabbitmq.stop();
    rabbitmq.start_again_with(DEMANDING);
    let Some(site) = site(&rabbitmq, &certificates) else { return };
    let call = |more: &[&str]| site.command(&[&["call", "tasks.add", "--args", "[1, 2]"], more].concat());
    call(&[]).success();
    let other = format!("broker_ssl_ca_certs={}", certificates.join("other-ca.pem").display());
    call(&["--set", &other]).refused(&[
        "cannot reach the broker",
        "the server's certificate is signed by nobody who is believed; ssl_ca_certs names who is",
    ]);
    call(&["--set", "broker_ssl_certfile=none", "--set", "broker_ssl_keyfile=none"])
        .refused(&["cannot reach the broker", "certificate"]);
    call(&["--set", "broker_ssl_certfile=/no/such.pem"])
        .refused(&["--set broker_ssl_certfile: cannot read certificate from /no/such.pem"]);
    let plain = call(&[
        "--set",
        "broker_ssl_certfile=none",
        "--set",
        "broker_ssl_keyfile=none",
        "--set",
        "broker_ssl_ca_certs=none",
        "--set",
        "broker_use_ssl=false",
    ]);
    plain.refused(&["cannot reach the broker"]);
}
