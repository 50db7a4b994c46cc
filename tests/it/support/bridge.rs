//! A TCP port that passes its connections on to an encrypted port or a unix socket, so that every
//! client of these tests can use those.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>>>>;

pub(crate) struct Bridge {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Passes connections on to an encrypted port that has this certificate.
    pub(crate) fn tls(server: SocketAddr, certificate: &CertificateDer<'static>) -> Self {
        let connector = TlsConnector::from(Arc::new(client_config(certificate)));
        Self::start(move || {
            let connector = connector.clone();
            Box::pin(async move {
                let stream = TcpStream::connect(server).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").expect("a name");
                Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Stream>)
            })
        })
    }

    /// Passes connections on to a unix socket.
    pub(crate) fn unix(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::start(move || {
            let path = path.clone();
            Box::pin(async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>) })
        })
    }

    fn start(connect: impl Fn() -> Connecting + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (mut client, _) = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap(),
                        _ = &mut stopped => return,
                    };
                    client.set_nodelay(true).unwrap();
                    let connecting = connect();
                    tokio::task::spawn_local(async move {
                        // The client sees the end of its connection, whichever side it came from.
                        if let Ok(mut server) = connecting.await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        }
                    });
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client that trusts this certificate alone.
pub(crate) fn client_config(certificate: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    builder.unwrap().with_root_certificates(roots).with_no_client_auth()
}
