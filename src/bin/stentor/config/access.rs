//! Defaults of the settings by which clients are admitted, which follow from other settings.

use stentor::{AccessRules, Auth, DefaultAccess};

use super::super::vocabulary::Policy;
use super::value::Value;
use super::{Config, Named, TokenSettingError};

impl Config {
    /// Returns whether clients have to show who they are, or the back end is asked.
    pub(super) fn identifies_clients(&self) -> bool {
        self.tokens.is_set() || self.hooks.asks_connect()
    }

    /// Returns why no client may connect, if none may: nothing says who clients are, and strangers
    /// reach the server.
    pub(super) fn nobody_may_connect(&self) -> Option<&'static str> {
        match self.anonymous {
            _ if self.identifies_clients() => None,
            Some(true) => None,
            Some(false) => Some("no client could connect"),
            None => self.exposure(),
        }
    }

    /// Returns whether clients without a token may connect.
    pub(crate) fn admits_anonymous(&self) -> bool {
        self.anonymous.unwrap_or_else(|| !self.identifies_clients() && self.exposure().is_none())
    }

    /// Access in rooms that neither token nor hook names. Unless set, clients may do everything if
    /// only this machine reaches the server and nothing states who they are, and nothing otherwise.
    pub(crate) fn access_rules(&self) -> AccessRules {
        let is_open = !self.identifies_clients() && self.exposure().is_none();
        let default = if is_open { DefaultAccess::Any } else { DefaultAccess::Deny };
        let mut rules = AccessRules::default();
        rules.join_default = self.join_default.unwrap_or(default);
        rules.publish_default = self.publish_default.unwrap_or(default);
        rules.user_rooms = self.user_rooms;
        rules
    }

    /// The default of a setting that follows from other settings, and the reason.
    pub(super) fn derived(&self, name: &str) -> Option<(Value, &'static str)> {
        let (access, reason) = self.subscriber_access();
        let rules = self.access_rules();
        let of_clients = match self.exposure() {
            _ if self.tokens.is_set() => "clients have tokens",
            _ if self.identifies_clients() => "the back end is asked about clients",
            Some(reason) => reason,
            None => "only this machine reaches the server",
        };
        Some(match name {
            "subscribers" => (Value::Text(access.name().into()), reason),
            "anonymous" => (Value::Switch(self.admits_anonymous()), of_clients),
            "join_default" => (Value::Text(rules.join_default.name().into()), of_clients),
            "publish_default" => (Value::Text(rules.publish_default.name().into()), of_clients),
            _ => return None,
        })
    }

    /// The policy by which clients connect and act, without the hooks. `kept` is the
    /// verification of tokens of the same settings, whose keys are known already.
    pub(crate) fn policy(&self, kept: Option<Auth>) -> Result<Policy, TokenSettingError> {
        // The back end decides about clients without a token, if it is asked.
        let anonymous = self.admits_anonymous() || self.hooks.asks_connect();
        let auth = kept.map_or_else(|| self.auth(), |auth| Ok(Some(auth)))?;
        let auth = auth.map(|auth| auth.anonymous(anonymous));
        Ok(Policy { auth, rules: self.access_rules(), ..Policy::open(self.access(), self.api.rooms_max) })
    }
}
