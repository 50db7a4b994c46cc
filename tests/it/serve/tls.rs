//! Encrypted ports: certificates, their replacement, and clients that do not speak TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::listeners::{TRANSPORTS, refused};
use crate::support::{
    Bridge, CertificateFiles as Files, Client, DEADLINE, Http, Process, Transport, address_of, client_config,
    eventually,
};

fn flags(files: &Files) -> [String; 4] {
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| files.path(name));
    ["--tls-certificate-file".into(), certificate, "--tls-key-file".into(), key]
}

/// Starts a server with an encrypted port, and with a plain one for operators.
fn start(files: &Files, more: &[&str]) -> Process {
    let files = flags(files);
    let internal = ["--internal-listen", "127.0.0.1:0"].into_iter();
    let flags: Vec<_> = internal.chain(files.iter().map(String::as_str)).chain(more.iter().copied()).collect();
    Process::start(&flags)
}

fn bridge(files: &Files, process: &Process) -> Bridge {
    Bridge::tls(process.address, &files.certificate)
}

fn closed_by_tls(process: &Process) -> u64 {
    let internal = address_of(process.urls.last().unwrap()).unwrap();
    let metrics = Http::connect(internal).get("/metrics").body;
    let line = "stentor_http_connections_closed_total{reason=\"tls\"} ";
    metrics.lines().find_map(|at| at.strip_prefix(line)).expect("the metric").parse().unwrap()
}

/// Returns whether a client that trusts this certificate alone can connect.
fn is_served(address: SocketAddr, certificate: &CertificateDer<'static>) -> bool {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(client_config(certificate)), name).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    if stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_err() {
        return false;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn every_transport_works_over_tls() {
    let files = Files::new("every");
    let process = start(&files, &[]);
    assert!(process.urls[0].starts_with("https://127.0.0.1:"), "{:?}", process.urls);
    let bridged = bridge(&files, &process);
    for transport in TRANSPORTS {
        let mut client = Client::open(bridged.address, transport);
        client.connect("");
        client.expect_echo();
        // Larger than a record of TLS, and than the send buffer of the server.
        let large = "x".repeat(900_000);
        client.send(&format!(r#"421["echo","{large}"]"#));
        client.expect(&format!(r#"431["{large}"]"#));
        client.send("1");
    }
    assert_eq!(closed_by_tls(&process), 0);
}

#[test]
fn pings_and_closing_handshakes_pass_over_tls() {
    let files = Files::new("pings");
    let process = start(&files, &["--ping-interval", "200ms", "--ping-timeout", "10s"]);
    let bridged = bridge(&files, &process);
    let mut client = Client::open(bridged.address, Transport::Websocket);
    client.connect("");
    client.is_silent = true;
    client.expect("2");
    client.send("3");
    client.expect("2");
    client.send("3");
    client.wait_until_handled();
    process.signal(rustix::process::Signal::TERM);
    let ended = client.expect_end();
    assert_eq!(ended, crate::support::Ended::CloseFrame(Some(1001)));
}

#[test]
fn a_client_that_does_not_read_is_ended_over_tls() {
    let files = Files::new("reads");
    let process = start(&files, &["--outbox-bytes-max", "200kB", "--send-buffer-bytes", "16KiB"]);
    let bridged = bridge(&files, &process);
    let mut lagging = Client::open(bridged.address, Transport::Websocket);
    lagging.connect("");
    lagging.send(r#"420["join","lobby"]"#);
    assert!(lagging.recv_text().starts_with("430["));
    let mut publisher = Client::open(bridged.address, Transport::Websocket);
    publisher.connect("");
    let text = "x".repeat(50_000);
    for _ in 0..700 {
        publisher.send(&format!(r#"42["publish","lobby","message","{text}"]"#));
        publisher.expect_echo();
    }
    process.expect_log("client is lagging too far");
    publisher.expect_echo();
}

#[test]
fn clients_that_speak_no_tls_are_disconnected_and_counted() {
    let files = Files::new("plain");
    let process = start(&files, &["--log-level", "info"]);
    let mut plain = TcpStream::connect(process.address).unwrap();
    plain.set_read_timeout(Some(DEADLINE)).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    process.expect_log("TLS handshake failed address=127.0.0.1:");
    assert_eq!(closed_by_tls(&process), 1);
    assert!(is_served(process.address, &files.certificate));
}

#[test]
fn slow_handshakes_hold_no_permit_beyond_their_deadline() {
    let files = Files::new("slow");
    let process =
        start(&files, &["--request-head-timeout", "2s", "--http-connections-max", "2", "--log-level", "info"]);
    // The first byte of a record of TLS, and no more.
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(process.address).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(&[22]).unwrap();
            stream
        })
        .collect();
    for mut stream in slow {
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "the server closes the connection");
    }
    process.expect_log("connection closed, TLS handshake timed out address=127.0.0.1:");
    assert!(is_served(process.address, &files.certificate));
    assert_eq!(closed_by_tls(&process), 2);
}

#[test]
fn wrong_certificates_end_the_start_with_their_files() {
    let (files, other) = (Files::new("wrong"), Files::new("other"));
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    let start_with = |certificate: &str, key: &str| {
        refused(&["--port", "0", "--tls-certificate-file", certificate, "--tls-key-file", key])
    };
    let mismatched = start_with(&certificate, &other.path("key.pem"));
    let expected = format!("{} does not have the key of the certificate in {certificate}", other.path("key.pem"));
    assert!(mismatched.contains(&expected), "{mismatched}");
    let exchanged = start_with(&key, &certificate);
    assert!(exchanged.contains(&format!("{key}: expected a PEM file with certificates, found none")), "{exchanged}");
    let no_key = start_with(&certificate, &certificate);
    assert!(no_key.contains(&format!("{certificate}: expected a PEM file with a private key")), "{no_key}");
    let missing = start_with(&certificate, "/no/such/key.pem");
    assert!(missing.contains("/no/such/key.pem: cannot be read: "), "{missing}");
    let half = refused(&["--tls-certificate-file", &certificate]);
    assert!(half.contains("expected tls_key_file as well"), "{half}");
    let unused = refused(&["--listen", "127.0.0.1:0", "--tls-certificate-file", &certificate, "--tls-key-file", &key]);
    assert!(unused.contains("expected an address with the option tls in listen"), "{unused}");
}

#[test]
fn a_changed_certificate_is_used_and_a_wrong_one_is_not() {
    let mut files = Files::new("changed");
    let process = start(&files, &["--log-level", "info"]);
    let first = files.certificate.clone();
    let bridged = bridge(&files, &process);
    let mut client = Client::open(bridged.address, Transport::Websocket);
    client.connect("");
    files.renew();
    eventually("the new certificate is used", || is_served(process.address, &files.certificate));
    assert!(!is_served(process.address, &first));
    process.expect_log("certificate read certificate=");

    let valid = files.certificate.clone();
    fs::write(files.path("key.pem"), fs::read(Files::new("stranger").path("key.pem")).unwrap()).unwrap();
    process.expect_log("certificate not replaced, the earlier one stays in use error=");
    assert!(is_served(process.address, &valid));
    client.expect_echo();
    fs::remove_file(files.path("key.pem")).unwrap();
    process.expect_log("key.pem: cannot be read: ");
    assert!(is_served(process.address, &valid));
    files.renew();
    eventually("the certificate after that is used", || is_served(process.address, &files.certificate));
}

#[test]
fn a_hangup_reads_the_certificate_or_changes_nothing() {
    let mut files = Files::new("hangup");
    let process = start(&files, &["--log-level", "info"]);
    process.signal(rustix::process::Signal::HUP);
    process.expect_log("certificate read certificate=");
    process.expect_log("configuration reloaded");
    let valid = files.certificate.clone();
    files.renew();
    fs::write(files.path("cert.pem"), "no certificate").unwrap();
    process.signal(rustix::process::Signal::HUP);
    process.expect_log("configuration not reloaded, nothing has changed error=");
    assert!(is_served(process.address, &valid));
}
