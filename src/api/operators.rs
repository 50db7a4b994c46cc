//! The methods that start a broadcast, generated for each type that has them.

/// Generates the methods that start a [`Broadcast`](super::broadcast::Broadcast) with
/// `self.$begin()`.
macro_rules! operators {
    ($begin:ident) => {
        /// Selects the members of a room; see [`Broadcast::to`].
        pub fn to(&self, room: impl AsRef<str>) -> Broadcast {
            self.$begin().to(room)
        }

        /// Selects the members of a room, like [`to`](Self::to).
        pub fn within(&self, room: impl AsRef<str>) -> Broadcast {
            self.$begin().to(room)
        }

        /// Excludes the members of a room; see [`Broadcast::except`].
        pub fn except(&self, room: impl AsRef<str>) -> Broadcast {
            self.$begin().except(room)
        }

        /// Restricts the event to sockets of this server process; see [`Broadcast::local`].
        pub fn local(&self) -> Broadcast {
            self.$begin().local()
        }
    };
}

/// Generates the operations on all sockets, for a server and for a namespace.
macro_rules! emitter {
    () => {
        crate::api::operators::operators!(all);

        /// Allows the event to be dropped for sockets whose connection is not ready; see
        /// [`Broadcast::volatile`].
        pub fn volatile(&self) -> Broadcast {
            self.all().volatile()
        }

        /// Sets the time limit of acks; see [`Broadcast::timeout`].
        pub fn timeout(&self, timeout: std::time::Duration) -> Broadcast {
            self.all().timeout(timeout)
        }

        /// Has no effect; see [`Broadcast::compress`].
        pub fn compress(&self, compress: bool) -> Broadcast {
            self.all().compress(compress)
        }

        /// Emits an event to all sockets; see [`Broadcast::emit`].
        pub async fn emit<T: ToArgs>(&self, name: &str, data: T) -> Result<(), EmitError> {
            self.all().emit(name, data).await
        }

        /// Emits an event to all sockets and collects their acks; see [`Broadcast::emit_with_ack`].
        pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(
            &self,
            name: &str,
            data: T,
        ) -> Result<Answers<R>, EmitError> {
            self.all().emit_with_ack(name, data).await
        }

        /// Handles of all sockets; see [`Broadcast::fetch_sockets`].
        pub async fn fetch_sockets(&self) -> Result<Vec<Socket>, RoomError> {
            self.all().fetch_sockets().await
        }

        /// Makes all sockets join rooms; see [`Broadcast::sockets_join`].
        pub async fn sockets_join(&self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
            self.all().sockets_join(rooms).await
        }

        /// Makes all sockets leave rooms; see [`Broadcast::sockets_leave`].
        pub async fn sockets_leave(&self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
            self.all().sockets_leave(rooms).await
        }

        /// Disconnects all sockets; see [`Broadcast::disconnect_sockets`].
        pub async fn disconnect_sockets(&self, close: bool) -> Result<usize, RoomError> {
            self.all().disconnect_sockets(close).await
        }
    };
}

pub(crate) use {emitter, operators};
