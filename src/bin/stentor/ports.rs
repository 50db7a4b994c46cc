//! Ports of `stentor serve`: binds the addresses of the configuration.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use stentor::{Listener, Port, Server, Tls};

use super::Failure;
use super::config::{Config, ListenAddress, ListenPlace};

/// Binds all addresses of a configuration, with the certificate of the encrypted ones.
pub(crate) fn bind(io: &Server, config: &Config, tls: Option<&Tls>) -> Result<Listener, Failure> {
    let mut binder = Binder { tls, systemd: None };
    let mut ports = Vec::new();
    for address in config.listen_addresses() {
        ports.extend(binder.bind(&address)?);
    }
    let mut ports = ports.into_iter();
    // An address has at least one port.
    let first = ports.next().ok_or("nothing to listen on: expected an address in listen")?;
    let mut listener = io.listen(first)?;
    for port in ports {
        listener = listener.and(port)?;
    }
    if let Some(address) = config.internal_address() {
        for port in binder.bind(&address)? {
            listener = listener.and_internal(port)?;
        }
    }
    Ok(listener)
}

/// URLs of the ports, for the line of the start.
pub(crate) fn urls(listener: &Listener) -> impl Display {
    let internal = listener.internal_urls();
    let public = listener.urls().join(" ");
    if internal.is_empty() { public } else { format!("{public}, internally on {}", internal.join(" ")) }
}

/// Reads the certificate of the configuration, if it has one.
pub(crate) fn certificate(config: &Config) -> Result<Option<Tls>, Failure> {
    let Some((certificate, key)) = config.tls_certificate_file.as_ref().zip(config.tls_key_file.as_ref()) else {
        return Ok(None);
    };
    let tls = Tls::from_files(certificate, key);
    tls.map(Some).map_err(|error| format!("tls_certificate_file, tls_key_file: {error}").into())
}

struct Binder<'a> {
    tls: Option<&'a Tls>,
    /// Sockets of systemd that no address has taken, once they are known.
    systemd: Option<Vec<PassedSocket>>,
}

/// A socket that systemd has passed, and its name (`FileDescriptorName=` of the unit).
struct PassedSocket {
    name: String,
    port: Port,
}

impl Binder<'_> {
    fn bind(&mut self, address: &ListenAddress) -> Result<Vec<Port>, Failure> {
        let ports = match &address.place {
            ListenPlace::Ip { address: SocketAddr::V6(address), v6_only: true } => vec![Port::bind_v6_only(*address)?],
            ListenPlace::Ip { address, .. } => vec![Port::bind(address)?],
            ListenPlace::Name(name, port) => bind_name(name, *port)?,
            #[cfg(unix)]
            ListenPlace::Unix { path, mode } => vec![Port::unix(path, *mode)?],
            #[cfg(not(unix))]
            ListenPlace::Unix { .. } => return Err("this system has no unix sockets".into()),
            ListenPlace::Systemd(name) => self.take_passed(name.as_deref())?,
        };
        let Some(tls) = self.tls.filter(|_| address.tls) else { return Ok(ports) };
        Ok(ports.into_iter().map(|port| port.tls(tls)).collect())
    }

    /// Takes the sockets of this name, or all, that systemd has passed.
    fn take_passed(&mut self, name: Option<&str>) -> Result<Vec<Port>, Failure> {
        let passed = match self.systemd.take() {
            Some(passed) => passed,
            None => passed_sockets()?,
        };
        let is_wanted = |socket: &PassedSocket| name.is_none_or(|name| socket.name == name);
        let (taken, left): (Vec<_>, Vec<_>) = passed.into_iter().partition(is_wanted);
        self.systemd = Some(left);
        if taken.is_empty() {
            let wanted = name.map_or_else(String::new, |name| format!(" of the name {name:?}"));
            let message = "start this service by its .socket unit, or use another address in listen";
            return Err(format!("systemd has passed no socket{wanted} (LISTEN_FDS): {message}").into());
        }
        Ok(taken.into_iter().map(|socket| socket.port).collect())
    }
}

/// Binds those addresses of a host name that this machine has. Fails if it has none of them.
fn bind_name(name: &str, port: u16) -> Result<Vec<Port>, Failure> {
    let resolved = (name, port).to_socket_addrs();
    let addresses = resolved.map_err(|error| format!("cannot listen on {name}:{port}: not resolved: {error}"))?;
    let (mut ports, mut seen, mut missing) = (Vec::new(), Vec::new(), None);
    for address in addresses {
        if seen.contains(&address) {
            continue;
        }
        seen.push(address);
        match Port::bind(address) {
            Ok(port) => ports.push(port),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                log::warn!("address skipped, this machine does not have it name={name} address={address}");
                missing = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match missing {
        Some(error) if ports.is_empty() => Err(error.into()),
        _ if ports.is_empty() => Err(format!("cannot listen on {name}:{port}: the name has no address").into()),
        _ => Ok(ports),
    }
}

#[cfg(unix)]
fn passed_sockets() -> Result<Vec<PassedSocket>, Failure> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..passed.len() {
        let port = match passed.take_tcp_listener(at) {
            Ok(socket) => socket.map(Port::from),
            // The socket stays in its place if it is of another kind.
            Err(_) => passed.take_unix_listener(at).map_err(|_| not_a_listener(at))?.map(Port::from),
        };
        let port = port.ok_or_else(|| not_a_listener(at))?;
        sockets.push(PassedSocket { name: names.next().unwrap_or_default().to_owned(), port });
    }
    Ok(sockets)
}

#[cfg(unix)]
fn not_a_listener(at: usize) -> String {
    format!("socket {at} of systemd: expected ListenStream= with a TCP address or the path of a unix socket")
}

#[cfg(not(unix))]
fn passed_sockets() -> Result<Vec<PassedSocket>, Failure> {
    Ok(Vec::new())
}
