//! Typed values of the application for one socket.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Value = Arc<dyn Any + Send + Sync>;

/// The list is boxed, because most sockets have no values and then need only a null pointer.
type Values = Option<Box<Vec<(TypeId, Value)>>>;

/// Typed values of the application for one socket, at most one of each type.
///
/// All handles of the socket, on any thread, share the values, even after the client has
/// disconnected. The values are dropped with the last handle. A value that contains a handle of the
/// same [`Socket`](crate::Socket) is therefore never dropped.
///
/// Unlike [`Socket::data`](crate::Socket::data), the values are not journalled: a recovered socket
/// starts without values.
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
    /// Locked, because handles on any thread read and write the values. No code of the application
    /// runs while the lock is held.
    values: Mutex<Values>,
}

impl Extensions {
    /// Stores a value, and returns the previous value of this type.
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

    /// Returns the stored value of this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let values = self.lock();
        let (_, kept) = values.as_deref()?.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        kept.clone().downcast().ok()
    }

    /// Removes and returns the value of this type.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let mut values = self.lock();
        let values = values.as_deref_mut()?;
        let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        values.swap_remove(at).1.downcast().ok()
    }

    /// Copies the values for another socket of the same client.
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
    fn one_value_of_each_type_is_stored() {
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
