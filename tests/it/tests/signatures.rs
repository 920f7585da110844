//! Signed messages (`auth`): a client that calls `app.setup_security()` and our worker believe each other, and
//! nobody else.

use it::Site;
use serde_json::json;

on_every_engine! {
    signed_tasks_run_and_their_results_are_signed
    what_is_not_signed_by_a_friend_is_refused
    a_retry_with_other_arguments_is_signed_for_a_python_worker
}

/// Makes keys for the client and the worker, an enemy's, and a store with the certificates of the first two.
const MAKE_KEYS: &str = r#"
import os
from datetime import datetime, timedelta, timezone
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

os.makedirs("certs", exist_ok=True)
for name in ("client", "worker", "enemy", "late"):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encryption = serialization.BestAvailableEncryption(b"open") if name == "worker" else serialization.NoEncryption()
    with open(name + ".key", "wb") as file:
        format = serialization.PrivateFormat.PKCS8
        file.write(key.private_bytes(serialization.Encoding.PEM, format, encryption))
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Grüße"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=2))
    signed = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    folder = "certs/" if name in ("client", "worker") else ""
    with open(folder + name + ".pem", "wb") as file:
        file.write(signed.public_bytes(serialization.Encoding.PEM))
"#;

/// Makes the client one that signs.
fn signing(name: &str, folder: &str) -> String {
    format!(
        r#"
app.conf.update(
    task_serializer="auth", accept_content=["auth"], result_serializer="auth", result_accept_content=["auth"],
    event_serializer="auth", security_key="{name}.key", security_certificate="{folder}{name}.pem",
    security_cert_store="{folder}*.pem",
)
app.setup_security()
"#
    )
}

const CONFIGURATION: &str = r#"
[accept]
content = ["auth"]

[result]
serializer = "auth"

[security]
key = "worker.key"
key_password = "open"
certificate = "certs/worker.pem"
cert_store = "certs/*.pem"
"#;

fn signed_tasks_run_and_their_results_are_signed(site: &Site) {
    site.client(MAKE_KEYS);
    site.write("host.toml", CONFIGURATION);
    let mut host = site.host(&[]);
    let code = signing("client", "certs/")
        + r#"
values = [call("tasks.add", 2, 2), call("tasks.echo", "naïve ☃"), call("tasks.flaky", 2, 0)]
end = fails("tasks.fail", "no", "KeyError")
emit([values, end["type"], end["args"]])
"#;
    assert_eq!(site.client(&code), json!([[4, "naïve ☃", 2], "KeyError", ["no"]]));
    let called = site.command(&["call", "tasks.add", "--args", "[3, 4]", "--queue", &site.queue, "--wait"]);
    assert_eq!(called.success().out, "7\n");
    let shown = site.bare_command(&["config"]).success();
    assert!(shown.out.contains("security.key_password") && !shown.out.contains("open "), "{}", shown.out);
    assert!(host.stop().success());
    assert!(host.lines_with("PRIVATE KEY").is_empty());
}

fn what_is_not_signed_by_a_friend_is_refused(site: &Site) {
    site.client(MAKE_KEYS);
    site.write("host.toml", CONFIGURATION);
    let host = site.host(&[]);
    site.client("emit(send('tasks.log', 'unsigned').id)");
    host.wait_for("it is not signed: call `app.setup_security()` in the client");
    site.client(&(signing("enemy", "") + "emit(send('tasks.log', 'of the enemy').id)"));
    host.wait_for("unknown certificate `Grüße enemy");
    let changed = signing("client", "certs/")
        + r#"
import base64
from kombu.serialization import dumps
_, _, payload = dumps([["changed"], {}, {}], serializer="auth")
fields = base64.b64decode(payload).replace(b"changed", b"chanced")
headers = {"task": "tasks.log", "id": "changed"}
body = base64.b64encode(fields)
publish_raw(body, content_type="application/data", content_encoding="utf-8", headers=headers)
emit(call("tasks.add", 2, 2))
"#;
    assert_eq!(site.client(&changed), json!(4));
    host.wait_for("bad signature of `Grüße client");
    for word in ["unsigned", "of the enemy", "chanced"] {
        assert!(host.lines_with(&format!("INFO] {word}")).is_empty());
    }
    assert!(host.lines_with("succeeded").iter().all(|line| line.contains("tasks.add")), "only what is signed ran");
    assert_eq!(site.client("emit(until(lambda: depth() == 0, 'what was refused is gone'))"), json!(true));
}

fn a_retry_with_other_arguments_is_signed_for_a_python_worker(site: &Site) {
    site.client(MAKE_KEYS);
    site.write("host.toml", CONFIGURATION);
    let mut host = site.host(&[]);
    let send = signing("client", "certs/") + "emit(send('tasks.replaced', 'first', 30).id)";
    let id = site.client(&send);
    let id = id.as_str().expect("an id");
    host.wait_for(&format!("Task tasks.replaced[{id}] retry"));
    assert!(host.stop().success());
    // The worker is gone; what it published is in the queue.
    let read = signing("client", "certs/")
        + r#"
from celery.worker.request import Request

def replaced(payload):
    return payload

task = app.task(name="tasks.replaced")(replaced)
with app.connection_for_read() as connection:
    queue = connection.SimpleQueue(QUEUE)
    queue.consumer.accept = {"application/data"}
    message = queue.get(timeout=PATIENCE)
    message.ack()
    request = Request(message, app=app, hostname="w@box", task=task)
    emit([request.args, message.content_type, request.id])
"#;
    assert_eq!(site.client(&read), json!([["second"], "application/data", id]));
}
