//! Reload of the configuration while the server runs, by SIGHUP or over HTTP.
//!
//! A reload reads the sources of the start again: flags, environment, file. It changes everything
//! that can change, or nothing if there is an error.

use std::sync::{Arc, Mutex, PoisonError};

use stentor::{Server, Tls};

use super::config::{Config, ConfigError, Effective};
use super::http::{ApiSettings, Reloaded};
use super::live::Live;
use super::process;
use super::vocabulary::SharedPolicy;

/// The parts of a running server that a reload replaces.
pub(crate) struct LiveParts {
    pub(crate) io: Server,
    pub(crate) api: Arc<Live<ApiSettings>>,
    /// Certificate of the encrypted ports.
    pub(crate) tls: Option<Tls>,
    pub(crate) policy: SharedPolicy,
    /// Limit on open files, which limits the number of sessions.
    pub(crate) open_files: u64,
}

impl LiveParts {
    /// Replaces all parts by those of `config`, or none if there is an error.
    fn replace(&self, config: &Config) -> Result<(), String> {
        let mut fitted = config.clone();
        process::fit_connections(&mut fitted.limits, self.open_files, config.threads());
        let builder = fitted.builder();
        builder.check().map_err(|error| error.to_string())?;
        let policy = config.policy().map_err(|error| error.to_string())?;
        // The last part that may fail, and so it is replaced first.
        self.tls.as_ref().map_or(Ok(()), Tls::reload).map_err(|error| error.to_string())?;
        self.io.reload(&builder).map_err(|error| error.to_string())?;
        self.api.set(config.api());
        self.policy.set(policy);
        Ok(())
    }
}

/// Everything that a reload needs.
pub(crate) struct Reloader {
    load: Box<dyn Fn() -> Result<Effective, ConfigError> + Send + Sync>,
    parts: LiveParts,
    /// The configuration in force. Locked during a reload.
    current: Mutex<Config>,
}

impl Reloader {
    /// `load` reads the configuration again, `current` is the one of the start.
    pub(crate) fn new(
        load: impl Fn() -> Result<Effective, ConfigError> + Send + Sync + 'static,
        parts: LiveParts,
        current: Config,
    ) -> Self {
        Self { load: Box::new(load), parts, current: Mutex::new(current) }
    }

    /// Reloads the configuration and logs the result.
    pub(crate) fn reload(&self) -> Result<Reloaded, String> {
        let done = self.try_reload();
        match &done {
            Ok(Reloaded { changed, needs_restart }) => {
                log::info!("configuration reloaded changed={changed:?} needs_restart={needs_restart:?}");
                if !needs_restart.is_empty() {
                    log::warn!("settings changed that take effect at the next start settings={needs_restart:?}");
                }
            }
            Err(error) => log::error!("configuration not reloaded, nothing has changed error={error:?}"),
        }
        done
    }

    fn try_reload(&self) -> Result<Reloaded, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let new = (self.load)().map_err(|error| error.to_string())?;
        let (next, done) = current.with_live_changes(&new.config);
        next.check().map_err(|error| format!("a change needs a restart together with others: {error}"))?;
        self.parts.replace(&next)?;
        *current = next;
        Ok(done)
    }
}
