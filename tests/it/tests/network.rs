//! Plugins that use the network go where they may, on the real host.

use it::{Engine, Site, settings};
use serde_json::json;

/// The site with the guest `net` as well, which needs this and is granted that; none if this machine lacks something.
fn site(needs: &str, grant: &str) -> Option<Site> {
    let component = settings::required_path(settings::NET)?;
    let site = Site::open(Engine::Embedded)?;
    site.write("plugins/net/plugin.toml", &format!("name = \"net\"\n[needs]\n{needs}\n"));
    std::fs::copy(component, site.path("plugins/net/net.wasm")).expect("the temporary folder is writable");
    site.write("host.toml", &format!("[grants.net]\n{grant}\n"));
    Some(site)
}

/// A certificate for `localhost` that signs itself.
const CERTIFICATE: &str = r#"
import datetime
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
builder = builder.not_valid_after(now + datetime.timedelta(days=1))
builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
kind = serialization.PrivateFormat.PKCS8
private = key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
open("certificate.pem", "wb").write(certificate)
open("server.pem", "wb").write(certificate + private)
emit(None)
"#;

/// Two web servers, one of them with TLS.
const SERVERS: &str = r#"
import http.server, ssl, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"hello from {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", len(body))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
def serve(tls):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("server.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
plain, tls = serve(False), serve(True)
def fetch(authority, scheme="http"):
    report = call("net.fetch", {"authority": authority, "scheme": scheme, "path": "/page"})
    return report["error"] or report["text"]
"#;

#[test]
fn a_plugin_fetches_from_where_it_may_over_tls_and_without() {
    let needs = "http = [\"*://localhost:*\", \"https://127.0.0.1:*\"]";
    let Some(mut site) = site(needs, "http = [\"*://*:*\"]\nnetworks = [\"loopback\"]") else { return };
    site.client(CERTIFICATE);
    site.environment.push(("SSL_CERT_FILE".to_owned(), site.path("certificate.pem").display().to_string()));
    let host = site.host(&[]);
    let code = r#"
emit([fetch(f"localhost:{plain}"), fetch(f"localhost:{tls}", "https"), fetch(f"127.0.0.1:{tls}", "https"),
      fetch(f"localhost:{plain}", "https"), fetch(f"localhost:{tls}"), fetch(f"127.0.0.1:{plain}")])
"#;
    let got = site.client(&format!("{SERVERS}{code}"));
    assert_eq!(got[0], json!("hello from /page"));
    assert_eq!(got[1], json!("hello from /page"));
    // A certificate for another name, no TLS where it is wanted, TLS where it is not, and what was not declared.
    assert_eq!(got[2], json!("ErrorCode::TlsCertificateError"));
    assert_eq!(got[3], json!("ErrorCode::TlsProtocolError"));
    assert!(got[4].as_str().is_some_and(|error| error.contains("ErrorCode::")), "{got}");
    assert!(got[5].as_str().is_some_and(|error| error.contains("the plugin does not declare it; add")), "{got}");
    let line = host.wait_for("failed: invalid peer certificate");
    assert!(line.contains("https://127.0.0.1:"), "{line}");
}

#[test]
fn a_name_does_not_lead_to_a_network_that_was_not_granted() {
    let Some(site) = site("http = [\"http://localhost:*\"]", "http = [\"http://localhost:*\"]") else { return };
    let host = site.host(&[]);
    let got = site.client("emit(call('net.fetch', {'authority': 'localhost:1'})['error'])");
    let text = "is loopback; add `networks = [";
    assert!(got.as_str().is_some_and(|error| error.contains(text)), "{got}");
    host.wait_for("is loopback; add `networks = [\"loopback\"]` to [grants.\"net\"] of host.toml");
}

#[test]
fn a_need_that_is_not_granted_whole_keeps_the_plugin_from_loading() {
    let needs = "http = [\"https://api.example.com\", \"https://*.example.com:*\"]";
    let Some(site) = site(needs, "http = [\"https://*.example.com\"]") else { return };
    let line = "it declares http `https://*.example.com:*`, not granted: add `http = [\"https://*.example.com:*\"]` to \
                [grants.\"net\"] of host.toml";
    let refused = site.bare_command(&["plugin", "list", "--plugins", "plugins"]);
    assert!(refused.out.contains(line), "{}", refused.out);
    let checked = site.bare_command(&["plugin", "check", "plugins/net"]);
    assert!(!checked.status.success());
    for text in ["http `https://api.example.com`  declared and granted", "declared, NOT GRANTED", "wasi:http/", line] {
        assert!(checked.out.contains(text), "no `{text}` in\n{}", checked.out);
    }
    // What is missing can be granted without anybody having to say more.
    site.bare_command(&["plugin", "grant", "net", "-f"]).success();
    let written = std::fs::read_to_string(site.path("host.toml")).expect("it is there");
    let granted = "http = [\"https://*.example.com\", \"https://*.example.com:*\"]";
    assert!(written.contains(granted), "{written}");
    site.bare_command(&["plugin", "list", "--plugins", "plugins"]).success();
}

#[test]
fn a_plugin_talks_to_machines_that_it_may_talk_to() {
    let needs = "sockets = [\"tcp://localhost:*\"]";
    let Some(site) = site(needs, "sockets = [\"tcp://localhost:*\"]\nnetworks = [\"loopback\"]") else { return };
    let host = site.host(&[]);
    host.wait_for("its sockets are granted to whatever file has the name `net`");
    let code = r#"
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
def serve():
    while True:
        connection, _ = server.accept()
        connection.sendall(b"you said " + connection.recv(100))
        connection.close()
threading.Thread(target=serve, daemon=True).start()
port = server.getsockname()[1]
emit([call("net.tcp", f"localhost:{port}", "hello"), fails("net.tcp", f"127.0.0.1:{port}", "hello")["state"]])
"#;
    assert_eq!(site.client(code), json!(["you said hello", "FAILURE"]));
    host.wait_for("sockets `tcp://127.0.0.1:");
}
