//! The settings that a reload changes in a running server.

use super::super::http::Reloaded;
use super::keys::KEYS;
use super::load::{ConfigError, Problem};
use super::{Config, contradictions};

/// Settings that can change while the server runs. All others are used when something is opened or
/// allocated at the start, such as ports, stores and budgets, or have been sent to clients, such as
/// the ping interval. From `trusted_proxies` and `allowed_hosts` follow defaults of who may do
/// what, and so a change of them is one for a start.
const LIVE: &[&str] = &[
    "api_key",
    "api_keys",
    "anonymous",
    "join_default",
    "publish_default",
    "user_rooms",
    "token_hmac_key",
    "token_hmac_key_previous",
    "token_public_key_file",
    "token_jwks_url",
    "token_issuer",
    "token_audience",
    "token_user_claim",
    "token_claims",
    "token_leeway",
    "cors_origins",
    "cors_credentials",
    "origins_guard",
    "allowed_addresses",
    "denied_addresses",
    "sessions_max",
    "sessions_per_address_max",
    "allowed_addresses",
    "denied_addresses",
    "address_connects_per_second",
    "events_per_second",
    "bytes_per_second",
    "address_events_per_second",
    "address_bytes_per_second",
    "address_connects_per_second",
    "api_body_bytes_max",
    "publish_batch_max",
    "page_entries_max",
];

impl Config {
    /// Returns this configuration with those changes of `new` that can be made while the server
    /// runs, and the names of all changed settings.
    pub(crate) fn with_live_changes(&self, new: &Self) -> (Self, Reloaded) {
        let (mut next, mut done) = (self.clone(), Reloaded::default());
        for key in KEYS.iter().filter(|key| (key.differs)(self, new)) {
            if LIVE.contains(&key.name) {
                (key.copy)(&mut next, new);
                done.changed.push(key.name);
            } else {
                done.needs_restart.push(key.name);
            }
        }
        (next, done)
    }

    /// Checks the settings against each other.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match contradictions::contradictions(self) {
            wrong if wrong.is_empty() => Ok(()),
            wrong => Err(ConfigError(wrong.into_iter().map(Problem).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::secret::Secret;
    use super::*;

    #[test]
    fn live_settings_are_changed_and_others_named() {
        let old = Config::default();
        let mut new = Config { port: 1, api_key: Some(Secret::new("0123456789abcdef")), ..old.clone() };
        new.api.batch_max = 7;
        let (next, done) = old.with_live_changes(&new);
        assert_eq!((next.port, next.api.batch_max, &next.api_key), (old.port, 7, &new.api_key));
        assert_eq!((done.changed, done.needs_restart), (vec!["api_key", "publish_batch_max"], vec!["port"]));
        // What needs a restart is named again.
        assert_eq!(next.with_live_changes(&new).1.needs_restart, ["port"]);
        assert_eq!(next.with_live_changes(&next).1, Reloaded::default());
    }

    #[test]
    fn live_settings_exist() {
        for name in LIVE {
            assert!(KEYS.iter().any(|key| key.name == *name), "{name}");
        }
    }
}
