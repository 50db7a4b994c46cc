//! Ports of the library: several of one listener, and what a handler knows of a connection.

use std::sync::mpsc;

use stentor::{Args, Event, Port, Server, Tls};

use crate::support::{Bridge, CertificateFiles, Client, DEADLINE, Http, Transport, address_of};

#[test]
fn a_handler_knows_whether_a_client_is_encrypted_and_has_an_address() {
    let files = CertificateFiles::new("library");
    let path = std::env::temp_dir().join(format!("stentor-it-{}-library.sock", std::process::id()));
    let (send_urls, urls) = mpsc::channel();
    let socket_path = path.clone();
    let tls = Tls::from_files(files.path("cert.pem"), files.path("key.pem")).unwrap();
    let serve = move |io: Server| async move {
        io.of("/").on("seen", |socket, event: Event<Args>| async move {
            let handshake = socket.handshake();
            event.ack.send((handshake.is_secure(), handshake.address().is_some()))?;
            Ok(())
        });
        let plain = std::net::TcpListener::bind("127.0.0.1:0")?;
        let listener =
            io.listen(Port::bind("127.0.0.1:0")?.tls(&tls))?.and(plain)?.and(Port::unix(&socket_path, 0o600)?)?;
        let listener = listener.and_internal(Port::bind("127.0.0.1:0")?)?.configure_internal(|config| {
            config.route("/inside", actix_web::web::get().to(|| async { "yes" }));
        });
        send_urls.send((listener.urls(), listener.internal_urls())).unwrap();
        listener.workers(2).disable_signals().run().await
    };
    let _io = Server::builder().spawn(serve).unwrap();
    let (urls, internal) = urls.recv_timeout(DEADLINE).unwrap();
    let schemes: Vec<_> = urls.iter().map(|url| url.split(':').next().unwrap()).collect();
    assert_eq!(schemes, ["https", "http", "unix"]);
    let [encrypted, unix] = [Bridge::tls(address_of(&urls[0]).unwrap(), &files.certificate), Bridge::unix(path)];
    let plain = address_of(&urls[1]).unwrap();
    for (address, seen) in [(encrypted.address, "true,true"), (plain, "false,true"), (unix.address, "false,false")] {
        for transport in [Transport::Polling, Transport::Websocket, Transport::Upgraded] {
            let mut client = Client::open(address, transport);
            client.connect("");
            client.send(r#"421["seen"]"#);
            client.expect(&format!("431[{seen}]"));
        }
    }
    let inside = |address| Http::connect(address).get("/inside").head.status;
    assert_eq!((inside(address_of(&internal[0]).unwrap()), inside(plain)), (200, 404));
}
