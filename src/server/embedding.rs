//! Routes of a server inside an application's `HttpServer`, and preparation of the connections.

use std::any::Any;
use std::sync::Once;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderMap, UPGRADE};
use actix_web::web::{self, Payload, ServiceConfig};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::Server;
use crate::transport::polling;
use crate::transport::websocket::pump::{self, HostSocket};

/// Maximum time for which a peer may leave bytes unacknowledged: Socket.IO's default ping interval
/// plus ping timeout.
const USER_TIMEOUT: Duration = Duration::from_secs(25 + 20);

/// Marker of a connection that [`on_connect`] has prepared.
struct Prepared;

static UNPREPARED: Once = Once::new();

impl Server {
    /// Mounts this server in an actix-web application on `path`, with and without a trailing slash,
    /// inside the scope that is being configured. The path of the [`Builder`](super::Builder) is
    /// ignored.
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// use actix_web::{App, HttpServer};
    ///
    /// let io = stentor::Server::builder().build()?;
    /// let app = move || App::new().configure(io.routes("/socket.io"));
    /// HttpServer::new(app).on_connect(stentor::on_connect).bind(("127.0.0.1", 3000))?.run().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The server behaves as on a port of its own ([`Server::run`]), with these differences:
    ///
    /// - A websocket uses about 20 KiB more memory, since actix-http keeps the buffers of the
    ///   connection.
    /// - If a client stops reading, its session ends in time, but its connection stays open until
    ///   the kernel's timeout, which [`on_connect`] sets.
    /// - A websocket's connection closes as soon as both sides have sent their close frames. For
    ///   that, [`on_connect`] keeps a second descriptor of each connection. On TLS connections, and
    ///   without `on_connect`, actix-http 3.20 first waits for the client for
    ///   [`HttpServer::client_disconnect_timeout`], 1 s by default, as it does after a refused
    ///   POST. Set this timeout to zero, or to at least half a second, since shorter timeouts may
    ///   be missed.
    /// - If a client closes its connection by FIN, not RST, while a poll waits, the server notices
    ///   that at the ping timeout. With [`HttpServer::h1_allow_half_closed`]`(false)`, the server
    ///   notices immediately.
    /// - [`HttpServer::keep_alive`] should be 75 s, which is longer than proxies keep their
    ///   connections (60 s for nginx and AWS) and longer than the ping interval. With a shorter
    ///   time, polling clients open a connection for every POST.
    ///
    /// Sessions run on the workers of the `HttpServer`, and end with the workers without notice. So
    /// call [`Server::close`] before the `HttpServer` stops, preferably in the future of
    /// `HttpServer::shutdown_signal`, as `examples/embedded.rs` does.
    ///
    /// [`HttpServer::client_disconnect_timeout`]: actix_web::HttpServer::client_disconnect_timeout
    /// [`HttpServer::h1_allow_half_closed`]: actix_web::HttpServer::h1_allow_half_closed
    /// [`HttpServer::keep_alive`]: actix_web::HttpServer::keep_alive
    pub fn routes(&self, path: &str) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + use<> {
        let endpoint = self.endpoint.clone();
        let path = path.strip_suffix('/').unwrap_or(path).to_owned();
        move |config| {
            let handler = move |request: HttpRequest, payload: Payload| {
                let endpoint = endpoint.clone();
                async move {
                    warn_if_unprepared(&request);
                    if !request.head().upgrade() {
                        drop(request.conn_data::<HostSocket>().and_then(HostSocket::take));
                        polling::handle(endpoint, request, payload).await
                    } else if asks_for_websocket(request.headers()) {
                        pump::handle(endpoint, request, payload).await
                    } else {
                        // Other upgrades, such as h2c, are ignored. The response announces the
                        // close of the connection, since actix-http does not keep it alive after
                        // such a request.
                        let mut response = polling::handle(endpoint, request, payload).await;
                        response.head_mut().set_connection_type(ConnectionType::Close);
                        response
                    }
                }
            };
            let slashed = format!("{path}/");
            config.service(web::resource([path, slashed]).route(web::to(handler)));
        }
    }
}

/// Prepares the connections of an `HttpServer` for [`Server::routes`]. Register this callback
/// before `bind`, which copies the callback:
/// `HttpServer::new(…).on_connect(stentor::on_connect).bind(…)`.
///
/// Sets TCP_NODELAY, without which packets wait for the acknowledgement of earlier packets (40 ms).
/// Sets TCP_USER_TIMEOUT to 45 s, the default ping interval plus ping timeout. After this time, the
/// kernel closes the connection of a peer that acknowledges nothing.
///
/// Keeps a second descriptor of the connection until the connection ends, or until its first
/// polling request to the routes, so that a websocket closes immediately. This applies to all
/// connections of the `HttpServer`, so the limit on open files should be twice the number of
/// connections.
///
/// On systems without TCP_USER_TIMEOUT, this option is skipped. TLS connections stay unprepared,
/// since their sockets are inaccessible. The first request to the routes on an unprepared
/// connection logs a warning, once per process.
pub fn on_connect(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
    let socket = SockRef::from(stream);
    let prepared = socket.set_tcp_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let prepared = prepared.and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    match socket.try_clone() {
        Ok(second) => drop(data.insert(HostSocket::new(second))),
        Err(error) => {
            log::debug!("descriptor not duplicated, a websocket will wait for its client to close error={error}")
        }
    }
    match prepared {
        Ok(()) => drop(data.insert(Prepared)),
        Err(error) => log::debug!("connection not prepared error={error}"),
    }
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut asked = headers.get_all(UPGRADE).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    asked.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

fn warn_if_unprepared(request: &HttpRequest) {
    if request.conn_data::<Prepared>().is_none() {
        UNPREPARED.call_once(|| {
            log::warn!(
                "connection not prepared, packets may be delayed and connections of stalled clients stay open: \
                 add .on_connect(stentor::on_connect) to the HttpServer before it is bound (TLS connections cannot be prepared)"
            );
        });
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn tcp_connections_are_prepared_and_others_left_alone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        actix::System::new().block_on(async {
            let stream = TcpStream::from_std(stream).unwrap();
            let mut data = Extensions::new();
            on_connect(&"no socket", &mut data);
            assert!(!data.contains::<Prepared>());

            on_connect(&stream, &mut data);
            assert!(data.contains::<Prepared>());
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(45)));
        });
    }
}
