//! The operators that address an emit, generated for whatever one can emit from, so that they are said once.

/// Generates operators that begin with `$self.$begin()`, a [`Broadcast`](super::broadcast::Broadcast).
macro_rules! operators {
    ($begin:ident) => {
        /// Narrows to a room; see [`Broadcast::to`].
        pub fn to(&self, room: impl AsRef<str>) -> Broadcast {
            self.$begin().to(room)
        }

        /// The same as [`to`](Self::to).
        pub fn within(&self, room: impl AsRef<str>) -> Broadcast {
            self.$begin().to(room)
        }

        /// Leaves out the members of a room; see [`Broadcast::except`].
        pub fn except(&self, room: impl AsRef<str>) -> Broadcast {
            self.$begin().except(room)
        }

        /// Only sockets of this process; see [`Broadcast::local`].
        pub fn local(&self) -> Broadcast {
            self.$begin().local()
        }
    };
}

/// Generates what goes to everybody there: of a server, of a namespace.
macro_rules! emitter {
    () => {
        crate::api::operators::operators!(all);

        /// May be dropped where a connection is not ready for it; see [`Broadcast::volatile`].
        pub fn volatile(&self) -> Broadcast {
            self.all().volatile()
        }

        /// How long acks are awaited; see [`Broadcast::timeout`].
        pub fn timeout(&self, timeout: std::time::Duration) -> Broadcast {
            self.all().timeout(timeout)
        }

        /// Accepted for the sake of Socket.IO's API; see [`Broadcast::compress`].
        pub fn compress(&self, compress: bool) -> Broadcast {
            self.all().compress(compress)
        }

        /// Emits to every socket there; see [`Broadcast::emit`].
        pub async fn emit<T: ToArgs>(&self, name: &str, data: T) -> Result<(), EmitError> {
            self.all().emit(name, data).await
        }

        /// Emits to every socket there and collects their acks; see [`Broadcast::emit_with_ack`].
        pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(
            &self,
            name: &str,
            data: T,
        ) -> Result<Answers<R>, EmitError> {
            self.all().emit_with_ack(name, data).await
        }

        /// Handles of every socket there; see [`Broadcast::fetch_sockets`].
        pub async fn fetch_sockets(&self) -> Result<Vec<Socket>, RoomError> {
            self.all().fetch_sockets().await
        }

        /// Puts every socket there into rooms; see [`Broadcast::sockets_join`].
        pub async fn sockets_join(&self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
            self.all().sockets_join(rooms).await
        }

        /// Takes every socket there out of rooms; see [`Broadcast::sockets_leave`].
        pub async fn sockets_leave(&self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
            self.all().sockets_leave(rooms).await
        }

        /// Puts every socket there out; see [`Broadcast::disconnect_sockets`].
        pub async fn disconnect_sockets(&self, close: bool) -> Result<usize, RoomError> {
            self.all().disconnect_sockets(close).await
        }
    };
}

pub(crate) use {emitter, operators};
