//! Redis through Sentinels and with TLS, as broker and result store of a real host and of stock Celery clients.

use it::{Server, Site, settings};
use serde_json::{Value, json};

/// A site on a set of Sentinels, with the settings that Celery's documentation shows.
pub(crate) fn behind(sentinels: &str) -> Option<Site> {
    // What is behind the `?` are options of ours for who has nothing but a URL.
    let url = sentinels.split('?').next().expect("there is one");
    let mut site = Site::on(url, url)?;
    let options = json!({"master_name": "mymaster", "sentinel_kwargs": {"password": "guard"}});
    site.celery_settings = json!({
        "broker_transport_options": options,
        "result_backend_transport_options": options,
        "broker_connection_max_retries": Value::Null,
    });
    let options = r#"["master_name=mymaster", 'sentinel_kwargs={"password": "guard"}']"#;
    site.write(
        "host.toml",
        &format!(
            "[broker]\nurl = \"{url}\"\ntransport_options = {options}\n\
             [result]\nbackend = \"{url}\"\nbackend_transport_options = {options}\n"
        ),
    );
    Some(site)
}

/// Publishes tasks, each again until somebody has taken it, and waits for the results of all of them.
const MANY: &str = r#"
def publish(n):
    while True:
        try:
            return send("tasks.sleep", 0.05 + n / 2**20)
        except Exception as error:
            print(repr(error), file=sys.stderr)
            time.sleep(0.2)

results = [publish(n) for n in range(60)]
emit("published")
emit([get(result) == 0.05 + n / 2**20 for n, result in enumerate(results)].count(True))
"#;

#[test]
fn a_worker_and_its_clients_follow_the_master() {
    let Some(mut sentinels) = Server::sentinels() else { return };
    let Some(site) = behind(&sentinels.url) else { return };
    let mut host = site.host(&["-c", "2"]);
    assert_eq!(site.client("emit([call('tasks.add', 2, 2), len(app.control.ping(timeout=5))])"), json!([4, 1]));
    let sum = site.command(&["call", "tasks.add", "--args", "[2, 2]", "--queue", &site.queue, "--wait"]).success();
    assert_eq!(sum.out, "4\n");

    // Tasks run when the master is killed; who waits for them may wait in vain, since the replica need not have them.
    let early = site.start_client("[send('tasks.sleep', 0.2) for n in range(40)]; emit('published')");
    early.wait_for("published");
    host.wait_for("] succeeded in ");
    let killed = sentinels.control("kill-master");
    host.wait_for("Connection to broker lost");
    let client = site.start_client(MANY);
    assert_eq!(client.finish(), json!(60), "nothing that the new master has taken is lost");
    assert_ne!(sentinels.control("master"), killed, "the replica is the master now");
    assert_eq!(host.lines_with("Connection to broker lost").len(), 1);

    // The old one comes back as a replica, and is made the master by hand: the one that is demoted lives on.
    sentinels.start_again();
    let demoted = sentinels.control("failover");
    host.wait_for_count("Connection to broker lost", 2);
    assert_eq!(site.start_client(MANY).finish(), json!(60));
    assert_ne!(sentinels.control("master"), demoted);
    // Its mailbox has a connection of its own, which may come back later.
    let code = "until(lambda: len(app.control.ping(timeout=1)) == 1, 'it hears and is heard'); emit(1)";
    assert_eq!(site.client(code), json!(1));
    let purged = site.bare_command(&["purge", "--force", "-Q", &site.queue]).success();
    assert!(purged.out.contains(&site.queue), "{}", purged.out);
    assert!(host.stop().success());
}

#[test]
fn rate_limits_are_counted_where_the_results_are() {
    let Some(sentinels) = Server::sentinels() else { return };
    let Some(site) = behind(&sentinels.url) else { return };
    let mut host = site.host(&[
        "--set",
        "tasks.tasks.noop.rate_limit=1000/s",
        "--set",
        "tasks.tasks.noop.rate_limit_scope=cluster",
    ]);
    let code = "call('tasks.noop'); emit([key.decode() for key in app.backend.client.keys('taskhost-rate-*')])";
    assert_eq!(site.client(code), json!(["taskhost-rate-tasks.noop"]));
    assert!(host.stop().success());
}

/// Some tasks, a chord and remote control.
const WORK: &str = r#"
from celery import chord, signature
add = lambda x, y: signature("tasks.add", (x, y), app=app, queue=QUEUE)
parts = chord([add(n, n) for n in range(4)], signature("tasks.echo", app=app, queue=QUEUE))
emit([call("tasks.add", 2, 2), get(parts()), len(app.control.ping(timeout=5))])
"#;

#[test]
fn rediss_is_read_as_celery_reads_it() {
    let Some(url) = settings::required(settings::REDISS) else { return };
    let Some(site) = Site::on(&url, &url) else { return };
    let mut host = site.host(&[]);
    assert_eq!(site.client(WORK), json!([4, [0, 2, 4, 6], 1]));
    let sum = site.command(&["call", "tasks.add", "--args", "[2, 2]", "--queue", &site.queue, "--wait"]).success();
    assert_eq!(sum.out, "4\n");
    assert!(host.stop().success());
}

#[test]
fn a_server_that_wants_a_certificate_gets_it_from_settings() {
    let Some(mut redis) = Server::redis_tls() else { return };
    let Some(certificates) = settings::required(settings::CERTIFICATES) else { return };
    redis.stop();
    redis.start_again_with("--tls-auth-clients yes");
    // Without one nobody is let in, and it is said why.
    let Some(site) = Site::on(&redis.url, &redis.url) else { return };
    site.command(&["call", "tasks.add", "--queue", &site.queue])
        .refused(&["the server wants to see a certificate; ssl_certfile and ssl_keyfile name it"]);
    let stranger = redis.url.replace("/ca.pem", "/other-ca.pem");
    site.bare_command(&["call", "tasks.add", "-b", &stranger, "-r", "disabled://"])
        .refused(&["certificate is signed by nobody who is believed"]);

    // As settings, with URLs that say nothing of it.
    let url = redis.url.split('?').next().expect("there is one").replace("rediss://", "redis://");
    let Some(mut site) = Site::on(&url, &url) else { return };
    let file = |name: &str| format!("{certificates}/{name}");
    let tls = json!({
        "ssl_ca_certs": file("ca.pem"), "ssl_certfile": file("client.pem"), "ssl_keyfile": file("client.key"),
        "ssl_cert_reqs": 2, // ssl.CERT_REQUIRED
    });
    site.celery_settings = json!({"broker_use_ssl": tls, "redis_backend_use_ssl": tls});
    let tls = format!(
        "use_ssl = {{ ssl_ca_certs = \"{}\", ssl_certfile = \"{}\", ssl_keyfile = \"{}\" }}\n",
        file("ca.pem"),
        file("client.pem"),
        file("client.key")
    );
    site.write("host.toml", &format!("[broker]\n{tls}[result]\n{tls}"));
    let mut host = site.host(&[]);
    assert_eq!(site.client(WORK), json!([4, [0, 2, 4, 6], 1]));
    redis.kill();
    host.wait_for("Connection to broker lost");
    redis.start_again_with("--tls-auth-clients yes");
    assert_eq!(site.client(WORK), json!([4, [0, 2, 4, 6], 1]), "the worker comes back by itself");
    assert!(host.stop().success());
}
