//! Which namespaces a server has, and what is registered for each.
//!
//! Written while a program sets itself up, read once per CONNECT. It is the one lock above floor 0, and on nobody's path.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::handler::Handlers;
use crate::ids::NamespacePath;

/// Handlers by namespace.
#[derive(Debug, Default)]
pub(crate) struct Registry(RwLock<HashMap<NamespacePath, Arc<Handlers>>>);

impl Registry {
    /// The handlers of a namespace, if there is such a namespace. Sockets keep what they got when they connected.
    pub(crate) fn handlers(&self, namespace: &NamespacePath) -> Option<Arc<Handlers>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned()
    }

    /// Changes the handlers of a namespace, which comes to be if it was not there.
    pub(crate) fn register(&self, namespace: &NamespacePath, change: impl FnOnce(&mut Handlers)) {
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(namespaces.entry(namespace.clone()).or_default()));
    }
}
