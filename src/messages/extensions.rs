//! Typed values that the application keeps with a socket.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Value = Arc<dyn Any + Send + Sync>;

/// Boxed, since most sockets keep nothing.
type Values = Option<Box<Vec<(TypeId, Value)>>>;

/// Values that the application keeps with one socket, at most one of each type.
///
/// Every handle of the socket has the same values, on any thread, also after the client has gone; they are dropped with the
/// last handle. They stay in this process: unlike [`Socket::data`](crate::Socket::data) they are not journalled, so a socket
/// that is recovered begins with none. A value that holds a [`Socket`](crate::Socket) of its own keeps itself alive.
///
/// ```no_run
/// # use std::sync::atomic::{AtomicU32, Ordering};
/// # use stentor::{Event, Server};
/// #[derive(Default)]
/// struct Greetings(AtomicU32);
///
/// # fn register(io: &Server) {
/// io.of("/")
///     .on_connection(|socket| async move {
///         socket.extensions().insert(Greetings::default());
///         Ok(())
///     })
///     .on("hello", |socket, _: Event<()>| async move {
///         if let Some(greetings) = socket.extensions().get::<Greetings>() {
///             greetings.0.fetch_add(1, Ordering::Relaxed);
///         }
///         Ok(())
///     });
/// # }
/// ```
#[derive(Default)]
pub struct Extensions {
    /// A lock, since handles on any thread read and write it; no code of the application runs while it is held.
    values: Mutex<Values>,
}

impl Extensions {
    /// Keeps a value, and returns the value of this type that was kept before.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        let value: Value = Arc::new(value);
        let mut values = self.lock();
        let values = values.get_or_insert_default();
        let replaced = match values.iter_mut().find(|(id, _)| *id == TypeId::of::<T>()) {
            Some((_, kept)) => Some(std::mem::replace(kept, value)),
            None => {
                values.push((TypeId::of::<T>(), value));
                None
            }
        };
        replaced.and_then(|replaced| replaced.downcast().ok())
    }

    /// The value of this type, if one is kept.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let values = self.lock();
        let (_, kept) = values.as_deref()?.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        kept.clone().downcast().ok()
    }

    /// Takes the value of this type out, if one is kept.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let mut values = self.lock();
        let values = values.as_deref_mut()?;
        let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        values.swap_remove(at).1.downcast().ok()
    }

    /// The same values, for a socket of the same client.
    pub(crate) fn copy(&self) -> Self {
        Self { values: Mutex::new(self.lock().clone()) }
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Extensions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_of_each_type_is_kept() {
        let extensions = Extensions::default();
        assert_eq!(extensions.get::<u8>(), None);
        assert_eq!(extensions.insert(1u8), None);
        assert_eq!(extensions.insert("one"), None);
        assert_eq!(extensions.insert(2u8).as_deref(), Some(&1));
        let copy = extensions.copy();
        assert_eq!(extensions.remove::<u8>().as_deref(), Some(&2));
        assert_eq!((extensions.get::<u8>(), extensions.remove::<u8>()), (None, None));
        assert_eq!(extensions.get::<&str>().as_deref(), Some(&"one"));
        assert_eq!(copy.get::<u8>().as_deref(), Some(&2));
    }
}
