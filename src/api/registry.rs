//! Which namespaces a server has, by path and by pattern, and what is registered for each.
//!
//! Written while a program sets itself up, read once per CONNECT: a lock, on nobody's path. No code of the application runs
//! while it is held, neither a pattern nor the `Drop` of what a replaced handler had captured.

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
        let replaced = exchange(handlers, change);
        drop(namespaces);
        drop(replaced);
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
        let replaced = namespaces.patterns.get_mut(number).map(|(_, handlers)| exchange(handlers, change));
        drop(namespaces);
        drop(replaced);
    }
}

/// Changes handlers, and gives what they were: dropped without the lock, since that may run the application's code.
#[must_use]
fn exchange(handlers: &mut Arc<Handlers>, change: impl FnOnce(&mut Handlers)) -> Arc<Handlers> {
    let replaced = handlers.clone();
    change(Arc::make_mut(handlers));
    replaced
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Asks the registry when it goes.
    struct Curious {
        registry: Arc<Registry>,
        gone: mpsc::Sender<bool>,
    }

    impl Drop for Curious {
        fn drop(&mut self) {
            let _ = self.gone.send(self.registry.knows(&NamespacePath::root()));
        }
    }

    fn observe(handlers: &mut Handlers, curious: Option<Curious>) {
        handlers.incoming = vec![Arc::new(move |_, _, _| {
            let _kept = &curious;
        })];
    }

    #[test]
    fn what_a_replaced_handler_had_captured_may_ask_the_registry_as_it_goes() {
        let registry = Arc::new(Registry::default());
        let (gone, told) = mpsc::channel();
        std::thread::spawn(move || {
            let curious = || Some(Curious { registry: registry.clone(), gone: gone.clone() });
            let pattern = registry.add_pattern(Arc::new(|_| true));
            registry.register(&NamespacePath::root(), |handlers| observe(handlers, curious()));
            registry.register(&NamespacePath::root(), |handlers| observe(handlers, None));
            registry.register_pattern(pattern, |handlers| observe(handlers, curious()));
            registry.register_pattern(pattern, |handlers| observe(handlers, None));
        });
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
        }
    }
}
