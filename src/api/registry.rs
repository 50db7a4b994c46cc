//! The namespaces of a server, by path and by pattern, with the handlers of each.
//!
//! The registry is written while a program starts, and is read once per CONNECT. No code of the
//! application runs while the lock is held. Such code includes the namespace patterns, and the
//! `Drop` of values that a replaced handler has captured.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use crate::ids::NamespacePath;

/// Returns true for a path that matches the pattern.
pub(crate) type Matches = Arc<dyn Fn(&str) -> bool + Send + Sync>;

struct Namespaces<H> {
    by_path: HashMap<NamespacePath, Arc<H>>,
    /// The patterns in the order of registration. The first pattern that matches applies.
    patterns: Vec<(Matches, Arc<H>)>,
}

/// Handlers `H` of each namespace. A namespace that exists only through a pattern takes no memory
/// here.
pub(crate) struct Registry<H>(RwLock<Namespaces<H>>);

impl<H> Default for Registry<H> {
    fn default() -> Self {
        Self(RwLock::new(Namespaces { by_path: HashMap::new(), patterns: Vec::new() }))
    }
}

impl<H: Clone + Default> Registry<H> {
    /// Returns the handlers of a namespace, if the namespace exists. A connected socket keeps the
    /// handlers that the namespace had when the socket connected.
    pub(crate) fn handlers(&self, namespace: &NamespacePath) -> Option<Arc<H>> {
        let namespaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handlers) = namespaces.by_path.get(namespace) {
            return Some(handlers.clone());
        }
        // Patterns run without the lock, since they are code of the application and may register
        // handlers.
        let patterns = namespaces.patterns.clone();
        drop(namespaces);
        let matches = |matches: &Matches| {
            catch_unwind(AssertUnwindSafe(|| matches(namespace.as_str()))).unwrap_or_else(|_| {
                log::error!("namespace pattern panicked, treated as no match namespace={namespace}");
                false
            })
        };
        patterns.into_iter().find(|(pattern, _)| matches(pattern)).map(|(_, handlers)| handlers)
    }

    pub(crate) fn contains(&self, namespace: &NamespacePath) -> bool {
        self.handlers(namespace).is_some()
    }

    /// Changes the handlers of a namespace. A new namespace starts with the handlers of the first
    /// pattern that its path matches, if any.
    pub(crate) fn register(&self, namespace: &NamespacePath, change: impl FnOnce(&mut H)) {
        let inherited = self.handlers(namespace).unwrap_or_default();
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let handlers = namespaces.by_path.entry(namespace.clone()).or_insert(inherited);
        let replaced = exchange(handlers, change);
        drop(namespaces);
        drop(replaced);
    }

    /// Adds a pattern and returns its number.
    pub(crate) fn add_pattern(&self, matches: Matches) -> usize {
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        namespaces.patterns.push((matches, Arc::default()));
        namespaces.patterns.len() - 1
    }

    pub(crate) fn register_pattern(&self, number: usize, change: impl FnOnce(&mut H)) {
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = namespaces.patterns.get_mut(number).map(|(_, handlers)| exchange(handlers, change));
        drop(namespaces);
        drop(replaced);
    }
}

/// Changes handlers and returns the previous ones. The caller must drop them after releasing the
/// lock.
#[must_use]
fn exchange<H: Clone>(handlers: &mut Arc<H>, change: impl FnOnce(&mut H)) -> Arc<H> {
    let replaced = handlers.clone();
    change(Arc::make_mut(handlers));
    replaced
}

impl<H> fmt::Debug for Registry<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    type Handler = Option<Arc<ReadsRegistry>>;

    /// A value that a handler captures. When dropped, it reads the registry.
    struct ReadsRegistry {
        registry: Arc<Registry<Handler>>,
        dropped: mpsc::Sender<bool>,
    }

    impl Drop for ReadsRegistry {
        fn drop(&mut self) {
            let _ = self.dropped.send(self.registry.contains(&NamespacePath::root()));
        }
    }

    #[test]
    fn a_replaced_handler_may_read_the_registry_while_it_is_dropped() {
        let registry = Arc::new(Registry::default());
        let (dropped, reports) = mpsc::channel();
        std::thread::spawn(move || {
            let handler = || Some(Arc::new(ReadsRegistry { registry: registry.clone(), dropped: dropped.clone() }));
            let pattern = registry.add_pattern(Arc::new(|_| true));
            registry.register(&NamespacePath::root(), |registered| *registered = handler());
            registry.register(&NamespacePath::root(), |registered| *registered = None);
            registry.register_pattern(pattern, |registered| *registered = handler());
            registry.register_pattern(pattern, |registered| *registered = None);
        });
        for _ in 0..2 {
            assert_eq!(reports.recv_timeout(Duration::from_secs(10)), Ok(true));
        }
    }
}
