//! Certificates for servers with TLS and for those who test them, made once with the `openssl` command.
//!
//! They prove nothing to anybody else: their keys lie beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::cache;
use crate::debian::{self, Installed};
use crate::python::{hash, run};

/// Where tests find the folder.
pub(crate) const VARIABLE: &str = "TASKHOST_TEST_CERTIFICATES";

/// The program, and the Debian package of the same name.
const OPENSSL: &str = "openssl";

/// What `openssl` is told of each; another text makes another folder.
const CONFIGURATION: &str = "\
[req]
prompt = no
distinguished_name = nobody
[nobody]
CN = nobody
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";

/// As long as anybody will have this checkout.
const DAYS: &str = "7300";

/// What brokers take the client for who logs in with its certificate.
const CLIENT: &str = "/CN=guest";

/// Finds the folder, or makes it, which takes a moment: `ca.pem`, whose certificates servers and clients are to believe;
/// `server.pem` and `server.key`, for localhost and 127.0.0.1; `client.pem` and `client.key`, for the user `guest`; and
/// `other-ca.pem`, which has signed none of them.
pub(crate) fn obtain() -> Result<PathBuf> {
    let folder = cache::folder()?.join(format!("certificates-{:08x}", hash(CONFIGURATION)));
    let marker = folder.join("complete");
    if marker.exists() {
        return Ok(folder);
    }
    let _lock = cache::lock(&folder.with_extension("lock"), "certificates")?;
    if !marker.exists() {
        make(&folder)?;
        fs::write(&marker, "").map_err(|error| format!("write {}: {error}", marker.display()))?;
    }
    Ok(folder)
}

/// The programs that make them; none, if this machine cannot have them.
pub(crate) fn fetch() -> Result<Installed> {
    if debian::in_path(OPENSSL) { Ok(Installed::Yes) } else { debian::install(&[OPENSSL]) }
}

fn make(folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder); // what an interrupted process left behind
    fs::create_dir_all(folder).map_err(|error| format!("create {}: {error}", folder.display()))?;
    let configuration = folder.join("openssl.cnf");
    fs::write(&configuration, CONFIGURATION).map_err(|error| format!("write {}: {error}", configuration.display()))?;
    authority(folder, "ca", "/CN=Taskhost tests")?;
    authority(folder, "other-ca", "/CN=Taskhost tests of strangers")?;
    signed(folder, "server", "/CN=localhost")?;
    signed(folder, "client", CLIENT)
}

/// One that signs itself, and then others.
fn authority(folder: &Path, name: &str, subject: &str) -> Result<()> {
    let mut command = request(folder, name, subject);
    run(command
        .args(["-x509", "-days", DAYS, "-extensions", "authority", "-out"])
        .arg(folder.join(format!("{name}.pem"))))
}

/// One signed by `ca`, with the extensions that are called as it is.
fn signed(folder: &Path, name: &str, subject: &str) -> Result<()> {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    run(request(folder, name, subject).arg("-out").arg(file("csr")))?;
    let mut command = Command::new(OPENSSL);
    command.args(["x509", "-req", "-sha256", "-days", DAYS, "-extensions", name, "-CAcreateserial"]);
    command.arg("-CA").arg(folder.join("ca.pem")).arg("-CAkey").arg(folder.join("ca.key"));
    command.arg("-extfile").arg(folder.join("openssl.cnf")).arg("-in").arg(file("csr")).arg("-out").arg(file("pem"));
    run(&mut command)
}

/// A new key, and the wish for a certificate of it.
fn request(folder: &Path, name: &str, subject: &str) -> Command {
    let mut command = Command::new(OPENSSL);
    command.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"]);
    command.args(["-subj", subject]).arg("-config").arg(folder.join("openssl.cnf"));
    command.arg("-keyout").arg(folder.join(format!("{name}.key")));
    command
}

/// The first words of TLS: a server that has begun to speak it answers with a handshake, which begins with
/// [`HANDSHAKE`].
pub(crate) fn client_hello() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]); // random for others
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2c, 1, 0]); // no session, ECDHE-ECDSA-AES-GCM, no compression
    let extensions: &[&[u8]] = &[
        &[0, 10, 0, 4, 0, 2, 0, 23],      // the group secp256r1
        &[0, 11, 0, 2, 1, 0],             // whose points are not compressed
        &[0, 13, 0, 6, 0, 4, 4, 3, 5, 3], // signed by ECDSA with SHA-256 or SHA-384
    ];
    let extensions = extensions.concat();
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![HANDSHAKE, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    record
}

/// The type of a record of TLS that is part of a handshake.
pub(crate) const HANDSHAKE: u8 = 22;
