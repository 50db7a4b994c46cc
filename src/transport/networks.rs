//! Networks of addresses, and the check of clients against lists of allowed and denied networks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

/// IPv4 networks are mapped to IPv6, so that one comparison suffices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<Ipv6Net>);

impl Networks {
    /// Parses networks such as `10.0.0.0/8` or `fd00::/8`, and single addresses. Returns the first
    /// invalid text as error.
    pub(crate) fn parse<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let parse = |text: T| network(text.as_ref()).ok_or_else(|| text.as_ref().to_owned());
        networks.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        self.0.iter().any(|network| network.contains(&address))
    }
}

fn network(text: &str) -> Option<Ipv6Net> {
    match text.parse().or_else(|_| text.parse().map(IpAddr::into)).ok()? {
        IpNet::V4(network) => Ipv6Net::new(network.addr().to_ipv6_mapped(), 96 + network.prefix_len()).ok(),
        IpNet::V6(network) => Some(network),
    }
}

/// Addresses from which clients may connect. By default, these are all addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AddressRules {
    /// If not empty, no other addresses are admitted.
    pub(crate) allowed: Networks,
    /// These addresses are not admitted, also if they are in `allowed`.
    pub(crate) denied: Networks,
}

impl AddressRules {
    pub(crate) fn are_set(&self) -> bool {
        *self != Self::default()
    }

    pub(crate) fn admit(&self, address: IpAddr) -> bool {
        let is_allowed = self.allowed.0.is_empty() || self.allowed.contain(address);
        is_allowed && !self.denied.contain(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_addresses_and_those_that_are_not_allowed_are_refused() {
        let rules = |allowed: &[&str], denied: &[&str]| AddressRules {
            allowed: Networks::parse(allowed).unwrap(),
            denied: Networks::parse(denied).unwrap(),
        };
        let office = rules(&["192.0.2.0/24", "2001:db8::/32"], &["192.0.2.7"]);
        for (rules, address, is_admitted) in [
            (&AddressRules::default(), "203.0.113.9", true),
            (&office, "192.0.2.1", true),
            (&office, "::ffff:192.0.2.1", true),
            (&office, "192.0.2.7", false),
            (&office, "::ffff:192.0.2.7", false),
            (&office, "192.0.3.1", false),
            (&office, "2001:db8:1::1", true),
            (&office, "2001:db9::1", false),
            (&rules(&[], &["0.0.0.0/0"]), "192.0.2.1", false),
            (&rules(&[], &["0.0.0.0/0"]), "2001:db8::1", true),
        ] {
            assert_eq!(rules.admit(address.parse().unwrap()), is_admitted, "{address} {rules:?}");
        }
        assert_eq!(Networks::parse(["192.0.2.0/24", "192.0.2.0/33"]), Err("192.0.2.0/33".to_owned()));
    }
}
