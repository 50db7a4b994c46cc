//! Which namespaces a server has, by path and by pattern, and what is registered for each.
//!
//! Written while a program sets itself up, read once per CONNECT. It is the one lock above floor 0, and on nobody's path.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use super::handler::Handlers;
use crate::ids::NamespacePath;

/// Says whether a path is one of a pattern's.
pub(crate) type Matches = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Default)]
struct Namespaces {
    by_path: HashMap<NamespacePath, Arc<Handlers>>,
    /// In the order in which they came: the first that matches counts.
    patterns: Vec<(Matches, Arc<Handlers>)>,
}

/// Handlers by namespace. A namespace that exists through a pattern alone costs nothing here.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Namespaces>);

impl Registry {
    /// The handlers of a namespace, if there is such a namespace. Sockets keep what they got when they connected.
    pub(crate) fn handlers(&self, namespace: &NamespacePath) -> Option<Arc<Handlers>> {
        let namespaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handlers) = namespaces.by_path.get(namespace) {
            return Some(handlers.clone());
        }
        // The application's code runs without the lock: it may register something itself.
        let patterns = namespaces.patterns.clone();
        drop(namespaces);
        let matches = |matches: &Matches| {
            catch_unwind(AssertUnwindSafe(|| matches(namespace.as_str()))).unwrap_or_else(|_| {
                log::error!("pattern of namespaces panicked, it does not match namespace={namespace}");
                false
            })
        };
        patterns.into_iter().find(|(pattern, _)| matches(pattern)).map(|(_, handlers)| handlers)
    }

    /// Whether there is such a namespace.
    pub(crate) fn knows(&self, namespace: &NamespacePath) -> bool {
        self.handlers(namespace).is_some()
    }

    /// Changes the handlers of a namespace, which comes to be if it was not there, with those of its pattern, if any.
    pub(crate) fn register(&self, namespace: &NamespacePath, change: impl FnOnce(&mut Handlers)) {
        let inherited = self.handlers(namespace).unwrap_or_default();
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let handlers = namespaces.by_path.entry(namespace.clone()).or_insert(inherited);
        change(Arc::make_mut(handlers));
    }

    /// Adds a pattern and gives its number.
    pub(crate) fn add_pattern(&self, matches: Matches) -> usize {
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        namespaces.patterns.push((matches, Arc::default()));
        namespaces.patterns.len() - 1
    }

    /// Changes the handlers of a pattern.
    pub(crate) fn register_pattern(&self, number: usize, change: impl FnOnce(&mut Handlers)) {
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, handlers)) = namespaces.patterns.get_mut(number) {
            change(Arc::make_mut(handlers));
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}
