//! Addresses to listen on: the form of the items of `listen` and of `internal_listen`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Config;

/// Permissions of the file of a unix socket: its owner and its group may connect.
const SOCKET_MODE: u32 = 0o660;

/// An address to listen on, followed by its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    pub(crate) place: ListenPlace,
    /// True if connections are encrypted (option `tls`).
    pub(crate) tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenPlace {
    Ip {
        address: SocketAddr,
        /// True if "::" serves IPv6 alone (option `v6only`).
        v6_only: bool,
    },
    /// A host name, resolved at start to all of its addresses.
    Name(String, u16),
    Unix {
        path: PathBuf,
        mode: u32,
    },
    /// Sockets that systemd passes: those of this name, or all.
    Systemd(Option<String>),
}

impl ListenAddress {
    /// Parses an address and its options, such as `[::]:443 tls`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut place = ListenPlace::parse(words.next()?)?;
        let mut tls = false;
        for word in words {
            match (word, &mut place) {
                ("tls", _) if !tls => tls = true,
                ("v6only", ListenPlace::Ip { address, v6_only }) if address.is_ipv6() => *v6_only = true,
                (word, ListenPlace::Unix { mode, .. }) => *mode = read_mode(word.strip_prefix("mode=")?)?,
                _ => return None,
            }
        }
        Some(Self { place, tls })
    }

    /// Returns whether other machines may reach the address. Names other than `localhost`, and
    /// sockets of systemd, count as reachable.
    pub(crate) fn is_public(&self) -> bool {
        match &self.place {
            ListenPlace::Ip { address, .. } => !address.ip().to_canonical().is_loopback(),
            ListenPlace::Name(name, _) => name != "localhost",
            ListenPlace::Unix { .. } => false,
            ListenPlace::Systemd(_) => true,
        }
    }
}

impl ListenPlace {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = Path::new(path);
            return path.is_absolute().then(|| Self::Unix { path: path.to_owned(), mode: SOCKET_MODE });
        }
        if let Some(name) = text.strip_prefix("systemd") {
            return match name.strip_prefix(':') {
                Some(name) if !name.is_empty() => Some(Self::Systemd(Some(name.to_owned()))),
                _ => name.is_empty().then_some(Self::Systemd(None)),
            };
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Ip { address, v6_only: false });
        }
        let (name, port) = text.rsplit_once(':')?;
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        // Digits and dots are an address with a typo, not a name.
        let is_typo = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (is_name && !is_typo).then_some(())?;
        Some(Self::Name(name.to_ascii_lowercase(), port.parse().ok()?))
    }
}

/// Reads permissions in octal digits, such as `0660`.
fn read_mode(text: &str) -> Option<u32> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777)
}

impl Config {
    /// Addresses on which clients are served: those of `listen`, or `host` and `port`.
    pub(crate) fn listen_addresses(&self) -> Vec<ListenAddress> {
        if self.listen.is_empty() {
            let address = SocketAddr::new(self.host, self.port);
            let place = ListenPlace::Ip { address, v6_only: false };
            return vec![ListenAddress { place, tls: self.tls_certificate_file.is_some() }];
        }
        // Items that cannot be parsed were refused before.
        self.listen.iter().filter_map(|item| ListenAddress::parse(item)).collect()
    }

    /// Address of the API, metrics and health, if they have one of their own.
    pub(crate) fn internal_address(&self) -> Option<ListenAddress> {
        self.internal_listen.as_deref().and_then(ListenAddress::parse)
    }

    /// Returns whether other machines may reach the server, directly or through a proxy.
    pub(crate) fn is_public(&self) -> bool {
        self.exposure().is_some()
    }

    /// The setting by which other machines may reach the server.
    pub(crate) fn exposure(&self) -> Option<&'static str> {
        let is_reachable = self.listen_addresses().iter().any(ListenAddress::is_public);
        match () {
            () if is_reachable && self.listen.is_empty() => Some("host is not a loopback address"),
            () if is_reachable => Some("listen has an address other than loopback"),
            () if !self.trusted_proxies.is_empty() => Some("trusted_proxies is set"),
            () if !self.allowed_hosts.is_empty() => Some("allowed_hosts is set"),
            () => None,
        }
    }
}

/// Returns error texts for addresses that contradict each other or the settings of certificates.
pub(super) fn contradictions(config: &Config) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let addresses = config.listen_addresses();
    let encrypted = addresses.iter().chain(&config.internal_address()).any(|address| address.tls);
    let (certificate, key) = (&config.tls_certificate_file, &config.tls_key_file);
    if certificate.is_some() != key.is_some() {
        let (set, missing) = if key.is_none() { TLS_FILES } else { (TLS_FILES.1, TLS_FILES.0) };
        found.push((set, format!("{missing} as well")));
    } else if encrypted && certificate.is_none() {
        let name = if addresses.iter().any(|address| address.tls) { "listen" } else { "internal_listen" };
        found.push((name, "tls_certificate_file and tls_key_file as well, for the option tls".into()));
    } else if !encrypted && certificate.is_some() {
        found.push((TLS_FILES.0, "an address with the option tls in listen, such as \"[::]:443 tls\"".into()));
    }
    let any_v6 = addresses.iter().find_map(|address| match address.place {
        ListenPlace::Ip { address, v6_only: false } if address.is_ipv6() && address.ip().is_unspecified() => {
            Some(address.port())
        }
        _ => None,
    });
    let is_v4_too = |address: &ListenAddress| matches!(address.place, ListenPlace::Ip { address, .. } if address.is_ipv4() && Some(address.port()) == any_v6);
    if any_v6.is_some_and(|port| port != 0) && addresses.iter().any(is_v4_too) {
        found.push(("listen", "\"[::]\" alone, which serves IPv4 too, or with the option v6only".into()));
    }
    let is_unspecified_ip =
        |address: &ListenAddress| matches!(address.place, ListenPlace::Ip { address, .. } if address.port() == 0);
    let mut unique: Vec<&ListenPlace> = Vec::new();
    for address in addresses.iter().filter(|address| !is_unspecified_ip(address)) {
        if unique.contains(&&address.place) {
            found.push(("listen", "each address once".into()));
            break;
        }
        unique.push(&address.place);
    }
    found
}

/// Names of the settings of certificate and key.
const TLS_FILES: (&str, &str) = ("tls_certificate_file", "tls_key_file");

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn config(listen: &[&str]) -> Config {
        Config { listen: listen.iter().map(|item| (*item).to_owned()).collect(), ..Config::default() }
    }

    #[test]
    fn addresses_are_parsed_with_their_options() {
        let parsed = |text: &str| ListenAddress::parse(text).unwrap_or_else(|| panic!("{text}"));
        let ip = |text: &str, v6_only| ListenPlace::Ip { address: text.parse().unwrap(), v6_only };
        let unix = |mode| ListenPlace::Unix { path: "/run/a_b.sock".into(), mode };
        for (text, place, tls) in [
            ("0.0.0.0:80", ip("0.0.0.0:80", false), false),
            ("[::]:443 tls", ip("[::]:443", false), true),
            ("[::]:443 v6only tls", ip("[::]:443", true), true),
            ("Hub.example.org:8080", ListenPlace::Name("hub.example.org".into(), 8080), false),
            ("unix:/run/a_b.sock", unix(0o660), false),
            ("unix:/run/a_b.sock mode=0666", unix(0o666), false),
            ("systemd", ListenPlace::Systemd(None), false),
            ("systemd:web tls", ListenPlace::Systemd(Some("web".into())), true),
        ] {
            assert_eq!(parsed(text), ListenAddress { place, tls }, "{text}");
        }
        for wrong in [
            "",
            "80",
            "0.0.0.0",
            "1.2.3:80",
            "256.0.0.1:80",
            "[::1]",
            "::1:80",
            "name",
            "name:port",
            "name:70000",
            "a/b:80",
            "0.0.0.0:80 v6only",
            "0.0.0.0:80 ssl",
            "0.0.0.0:80 tls tls",
            "0.0.0.0:80 mode=0660",
            "unix:run/a.sock",
            "unix:/a mode=888",
            "unix:/a mode=1777",
            "unix:/a mode=+7",
            "systemd:",
            "systemdx",
            "http://a.example:80",
        ] {
            assert_eq!(ListenAddress::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_address_that_is_not_loopback_makes_a_server_public() {
        for (listen, public) in [
            (&[][..], false),
            (&["127.0.0.1:80", "[::1]:80", "localhost:80", "unix:/run/a.sock"], false),
            (&["[::ffff:127.0.0.1]:80"], false),
            (&["127.0.0.1:80", "0.0.0.0:81"], true),
            (&["[::]:80"], true),
            (&["hub.example.org:80"], true),
            (&["systemd"], true),
        ] {
            assert_eq!(config(listen).is_public(), public, "{listen:?}");
        }
        let host = Config { host: Ipv4Addr::UNSPECIFIED.into(), ..Config::default() };
        assert_eq!(host.exposure(), Some("host is not a loopback address"));
        let internal = Config { internal_listen: Some("0.0.0.0:9090".into()), ..Config::default() };
        assert!(!internal.is_public(), "no client is served there");
        let proxied = Config { trusted_proxies: vec!["unix".into()], ..config(&["unix:/run/a.sock"]) };
        assert_eq!(proxied.exposure(), Some("trusted_proxies is set"));
    }

    #[test]
    fn contradictions_of_addresses_and_certificates_are_named() {
        let found = |config: &Config| contradictions(config).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let with_files = |listen: &[&str]| Config {
            tls_certificate_file: Some("a.pem".into()),
            tls_key_file: Some("b.pem".into()),
            ..config(listen)
        };
        assert_eq!(found(&with_files(&[])), [""; 0]);
        assert_eq!(found(&with_files(&["[::]:443 tls", "[::]:80"])), [""; 0]);
        assert_eq!(found(&with_files(&["[::]:443"])), ["tls_certificate_file"]);
        assert_eq!(found(&config(&["[::]:443 tls"])), ["listen"]);
        let no_key = Config { tls_key_file: None, ..with_files(&[]) };
        assert_eq!(found(&no_key), ["tls_certificate_file"]);
        let no_certificate = Config { tls_certificate_file: None, ..with_files(&[]) };
        assert_eq!(found(&no_certificate), ["tls_key_file"]);
        let internal = Config { internal_listen: Some("127.0.0.1:1 tls".into()), ..Config::default() };
        assert_eq!(found(&internal), ["internal_listen"]);
        assert_eq!(found(&config(&["0.0.0.0:80", "[::]:80"])), ["listen"]);
        assert_eq!(found(&config(&["0.0.0.0:80", "[::]:80 v6only"])), [""; 0]);
        assert_eq!(found(&config(&["0.0.0.0:80", "[::]:81"])), [""; 0]);
        assert_eq!(found(&config(&["127.0.0.1:80", "127.0.0.1:80"])), ["listen"]);
        assert_eq!(found(&config(&["127.0.0.1:0", "127.0.0.1:0"])), [""; 0]);
    }
}
