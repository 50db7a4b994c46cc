//! A subscriber of the queue, and its operations.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::core::{Core, Socket};
use super::namespace::Namespace;
use super::queue_error::QueueError;
use super::queue_values::{
    DeadLetters, Pulled, StoredEvents, SubscriberDetails, SubscriberSummary, dead_letter, gap, pulled, summary,
    system_time,
};
use crate::ids::{NamespacePath, QueueOffset, RoomName, SocketId};
use crate::messages::answer::{NoAnswer, RequestError};
use crate::messages::attachment::{SubscriberError, SubscriberReply};
use crate::messages::session::{Request, SessionLink};
use crate::messages::subscribers::{Description, RoomQuery, StoredEventsPage, SubscriberCommand, SubscriberRequest};
use crate::queue::change::{Acked, Refusal, StartPosition};
use crate::queue::record::{SubscriberKey, SubscriberName};
use crate::queue::service::QueueService;

/// Maximum number of rooms of one [`Namespace::stored_events`].
const ROOMS_READ_MAX: usize = 64;

/// A named subscriber of the queue, which receives the durable events of its rooms until it
/// acknowledges them. Made by [`Socket::subscribe_as`] and [`Namespace::subscriber`].
///
/// # Promise
///
/// - **Existence.** A subscriber exists from its creation until it is [removed](Self::remove), or
///   until it was away for longer than
///   [`limits.queue.subscriber_expiry`](crate::limits::QueueLimits::subscriber_expiry). It exists
///   without a connection, and after a restart with [`Queue::disk`](crate::Queue::disk).
/// - **Delivery.** Each durable event that is published to one of its rooms after
///   [`subscribe`](Self::subscribe) is pending for the subscriber until it handles the event. It is
///   delivered at least once. An event that may have been received before is marked `redelivered`.
/// - **Order.** First deliveries are in the order of offsets. An event that is delivered again
///   comes when its time has come.
/// - **Gaps.** An event that a limit removes before the subscriber has handled it becomes part of a
///   [gap](crate::QueueGap), which is reported until the subscriber has confirmed it.
/// - **Durability.** Every operation that changes something completes after its commit. When the
///   store fails, it completes with [`QueueError::Unavailable`] or [`QueueError::Indeterminate`].
///
/// A subscriber receives its events in one way at a time: a socket that is attached to it with
/// [`Socket::subscribe_as`], or calls of [`pull`](Self::pull). Its name is unique in its namespace.
///
/// Cheap to clone, and usable from any thread.
#[derive(Debug, Clone)]
pub struct Subscriber {
    core: Arc<Core>,
    key: SubscriberKey,
    /// The attached socket and its session. `None` for code without a socket. Not a handle of the
    /// socket, whose extensions may contain this subscriber.
    socket: Option<(SocketId, SessionLink)>,
}

impl Socket {
    /// Attaches this socket to the subscriber `name` of its namespace, which is created if it does
    /// not exist. The client receives the event `stentor:attached`, then the pending events in
    /// order, then new ones. The socket joins the rooms of the subscriptions, also for events that
    /// are not durable.
    ///
    /// Each event requests an ack. The client acknowledges with `ack()`, refuses with
    /// `ack({nak: true, delay})` (milliseconds) to receive the event again, or gives the event up
    /// with `ack({term: true, reason})`. Any other ack acknowledges.
    ///
    /// One socket is attached at a time: a socket that was attached before receives
    /// `stentor:evicted` and is disconnected from the namespace. A socket has one subscriber.
    /// Attaching it to the same one again has no further effect. The attachment ends with the
    /// socket. Attach a socket that has [resumed its session](Socket::recovered) again: until then,
    /// it receives no durable events of these rooms.
    ///
    /// Completes when the attachment is stored.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn subscribe_as(&self, name: impl AsRef<str>) -> Result<Subscriber, QueueError> {
        let key = key(self.path().clone(), name.as_ref())?;
        let (socket, requested) = (self.id(), key.clone());
        let link = &self.reference().link;
        Core::ask(link, |done| Request::SubscribeAs { socket, key: requested, done }).await?;
        Ok(Subscriber { core: self.core.clone(), key, socket: Some((self.id(), self.reference().link.clone())) })
    }
}

impl Namespace {
    /// The subscriber `name` of this namespace, which is created if it does not exist, for code
    /// without a socket. One that had expired receives a gap. Completes when it is stored.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn subscriber(&self, name: impl AsRef<str>) -> Result<Subscriber, QueueError> {
        let subscriber = self.existing_subscriber(name)?;
        subscriber.request(SubscriberRequest::Create).await?;
        Ok(subscriber)
    }

    /// The subscriber `name` of this namespace without creating it. If it does not exist, its
    /// operations fail with [`QueueError::UnknownSubscriber`].
    ///
    /// # Errors
    ///
    /// Fails with [`QueueError::Name`] if the name is invalid, and with [`QueueError::Off`].
    pub fn existing_subscriber(&self, name: impl AsRef<str>) -> Result<Subscriber, QueueError> {
        let core = self.core().clone();
        service(&core)?;
        Ok(Subscriber { core, key: key(self.namespace_path().clone(), name.as_ref())?, socket: None })
    }

    /// Subscribers of this namespace after a name, sorted by name, at most `limit` (and 1000) of
    /// them, also expired ones.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn subscribers(&self, after: Option<&str>, limit: usize) -> Result<Vec<SubscriberSummary>, QueueError> {
        let name = after.map_or_else(|| Ok(SubscriberName::before_all()), SubscriberName::parse)?;
        let after = SubscriberKey { namespace: self.namespace_path().clone(), name };
        let found = ask(self.core(), |reply| SubscriberCommand::List { after, limit, reply }).await?;
        Ok(found.into_iter().map(summary).collect())
    }

    /// Stored events of rooms after a position, or from the oldest one, at most `limit` (and 1000)
    /// of them. If there are none, waits for the next one, for at most `wait` and
    /// [`limits.queue.pull_wait_max`](crate::limits::QueueLimits::pull_wait_max).
    ///
    /// Needs no subscriber, and changes nothing. Events are stored while a subscriber of the room
    /// has not handled them, and as
    /// [`limits.queue.retention`](crate::limits::QueueLimits::retention) says.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]. Fails with [`QueueError::Room`] if a room is a socket's own, since its
    /// events are addressed to that socket.
    pub async fn stored_events<R: AsRef<str>>(
        &self,
        rooms: impl IntoIterator<Item = R>,
        after: Option<QueueOffset>,
        limit: usize,
        wait: Duration,
    ) -> Result<StoredEvents, QueueError> {
        stored_events(self.core(), None, self.namespace_path(), rooms, (after, limit, wait)).await
    }
}

impl Socket {
    /// Stored events of rooms, as [`Namespace::stored_events`], for the client of this socket. A
    /// session has at most 16 such requests at a time; others fail with
    /// [`QueueError::TooManyRequests`].
    ///
    /// # Errors
    ///
    /// See [`Namespace::stored_events`].
    pub async fn stored_events<R: AsRef<str>>(
        &self,
        rooms: impl IntoIterator<Item = R>,
        after: Option<QueueOffset>,
        limit: usize,
        wait: Duration,
    ) -> Result<StoredEvents, QueueError> {
        let session = self.reference().link.clone();
        stored_events(&self.core, Some(session), self.path(), rooms, (after, limit, wait)).await
    }
}

async fn stored_events<R: AsRef<str>>(
    core: &Core,
    session: Option<SessionLink>,
    namespace: &NamespacePath,
    rooms: impl IntoIterator<Item = R>,
    (after, limit, wait): (Option<QueueOffset>, usize, Duration),
) -> Result<StoredEvents, QueueError> {
    let rooms = rooms.into_iter().take(ROOMS_READ_MAX + 1).map(|room| RoomName::parse(room.as_ref()));
    let rooms = rooms.collect::<Result<Vec<_>, _>>().map_err(|error| QueueError::Room(error.into()))?;
    if rooms.is_empty() || rooms.len() > ROOMS_READ_MAX {
        return Err(QueueError::Rooms { rooms: rooms.len(), limit: ROOMS_READ_MAX });
    }
    let query = RoomQuery { namespace: namespace.clone(), rooms, after, limit };
    let found = ask(core, |reply| SubscriberCommand::ReadRooms { query, wait, session, reply }).await?;
    let StoredEventsPage { events, next, head, has_more, removed_to } = found;
    let offset = offsets(service(core)?);
    let events = events.into_iter().filter_map(|event| pulled(event, &offset)).collect();
    Ok(StoredEvents { events, next: offset(next), head: offset(head), has_more, removed_to: removed_to.map(offset) })
}

impl Subscriber {
    /// Name of the subscriber.
    pub fn name(&self) -> &str {
        self.key.name.as_str()
    }

    /// Subscribes to a room: durable events that are published to it from now on are pending for
    /// this subscriber. A subscription that exists stays as it is. An attached socket joins the
    /// room and receives its other events as a member.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]. With [`QueueError::Room`], the subscription is stored, and the attached
    /// socket has not joined the room; if the room is another socket's own, nothing is stored. With
    /// [`QueueError::Overloaded`] and [`QueueError::Indeterminate`], the subscription may be stored
    /// without the join: repeat the call.
    pub async fn subscribe(&self, room: impl AsRef<str>) -> Result<(), QueueError> {
        self.subscribe_with(room.as_ref(), StartPosition::Now).await
    }

    /// Subscribes to a room like [`subscribe`](Self::subscribe), beginning after an offset: stored
    /// events after it are pending as well. If some of them are not stored any more, the subscriber
    /// receives a gap.
    ///
    /// # Errors
    ///
    /// See [`subscribe`](Self::subscribe).
    pub async fn subscribe_from(&self, room: impl AsRef<str>, offset: QueueOffset) -> Result<(), QueueError> {
        self.subscribe_with(room.as_ref(), StartPosition::After(offset)).await
    }

    async fn subscribe_with(&self, room: &str, from: StartPosition) -> Result<(), QueueError> {
        let room = room_name(room)?;
        match self.request(|reply| SubscriberRequest::Subscribe { room, from, reply }).await? {
            // A socket that disconnects meanwhile joins when it is attached again.
            Some(joined) => match joined.await {
                Err(_) | Ok(Ok(_) | Err(RequestError::NoAnswer(NoAnswer::Disconnected))) => Ok(()),
                Ok(Err(RequestError::NoAnswer(error))) => Err(error.into()),
                Ok(Err(refused)) => Err(QueueError::Room(refused.into())),
            },
            None => Ok(()),
        }
    }

    /// Ends a subscription, and with it what is pending through it alone. An attached socket leaves
    /// the room. Also succeeds without the subscription.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn unsubscribe(&self, room: impl AsRef<str>) -> Result<(), QueueError> {
        let room = room_name(room.as_ref())?;
        self.request(|reply| SubscriberRequest::Unsubscribe { room, reply }).await
    }

    /// The state of the subscriber.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn info(&self) -> Result<SubscriberDetails, QueueError> {
        let Description { info, has_socket, backlog, gaps, in_flight, oldest_in_flight, head } =
            self.request(SubscriberRequest::Describe).await?;
        let offset = offsets(service(&self.core)?);
        let SubscriberSummary { name, rooms, dead_letters, created_at, seen_at, .. } = summary(info);
        Ok(SubscriberDetails {
            name,
            rooms,
            is_attached: has_socket,
            pending: backlog.events,
            pending_capped: backlog.is_capped,
            oldest_at: backlog.oldest_at.map(system_time),
            in_flight,
            oldest_in_flight: oldest_in_flight.map(&offset),
            dead_letters,
            head: offset(head),
            gaps: gaps.iter().map(|found| gap(found, &offset)).collect(),
            created_at,
            seen_at,
        })
    }

    /// Pulls at most `limit` events, and at most as many as may be in flight. If none is pending,
    /// waits for the first one, for at most `wait` and
    /// [`limits.queue.pull_wait_max`](crate::limits::QueueLimits::pull_wait_max); then the result
    /// is empty. Of several pulls of the same subscriber that wait (at most 64), the newest
    /// receives the next events, then the one before it. Dropping the future ends the pull; an
    /// event that it was about to receive is pending again.
    ///
    /// # Errors
    ///
    /// Fails with [`QueueError::Busy`] while a socket is attached to the subscriber, or if one is
    /// attached while the pull waits, with [`QueueError::UnknownSubscriber`] or
    /// [`QueueError::Closed`] if the subscriber is removed or closed meanwhile, and with
    /// [`QueueError::Disconnected`] when the server closes.
    /// See [`QueueError`] for others.
    pub async fn pull(&self, limit: usize, wait: Duration) -> Result<Pulled, QueueError> {
        let mut guard = PullGuard(Some(self));
        let answer = self.request(|reply| SubscriberRequest::Pull { limit, wait, reply }).await;
        guard.0 = None;
        let answer = answer?;
        let offset = offsets(service(&self.core)?);
        Ok(Pulled {
            events: answer.events.into_iter().filter_map(|event| pulled(event, &offset)).collect(),
            gaps: answer.gaps.iter().map(|found| gap(found, &offset)).collect(),
        })
    }

    /// Acknowledges an event. Returns false if the event was not pending: it was acknowledged or
    /// removed before.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn ack(&self, offset: &QueueOffset) -> Result<bool, QueueError> {
        self.ack_many(&[*offset]).await.map(|events| events > 0)
    }

    /// Acknowledges several events, at most 1024, in one commit. Returns how many of them were
    /// pending.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn ack_many(&self, offsets: &[QueueOffset]) -> Result<u64, QueueError> {
        let numbers = offsets.iter().map(|offset| self.number(offset)).collect::<Result<_, _>>()?;
        self.request(|reply| SubscriberRequest::Ack { events: Acked::Numbers(numbers), reply }).await
    }

    /// Acknowledges all pending events up to an offset, except those before it whose last delivery
    /// has failed (by a nak, or without an answer in time) and that were not sent again: they come
    /// again. Events in flight are included, so acknowledge by offsets if the answer of a pull may
    /// have been lost. Gaps are confirmed only if they were reported before.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn ack_up_to(&self, offset: &QueueOffset) -> Result<(), QueueError> {
        let events = Acked::UpTo(self.number(offset)?);
        self.request(|reply| SubscriberRequest::Ack { events, reply }).await.map(drop)
    }

    /// Refuses an event in flight, which is delivered again after `delay`, or after
    /// [`limits.queue.back_off`](crate::limits::QueueLimits::back_off). The delivery has failed.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn nak(&self, offset: &QueueOffset, delay: Option<Duration>) -> Result<(), QueueError> {
        self.request_about(offset, |number, reply| SubscriberRequest::Nak { number, delay, reply }).await
    }

    /// Gives a pending event up. It becomes a dead letter with this reason, which is cut at 1 KiB.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn term(&self, offset: &QueueOffset, reason: &str) -> Result<(), QueueError> {
        let reason = reason[..reason.floor_char_boundary(1_024)].to_owned();
        self.request_about(offset, |number, reply| SubscriberRequest::Term { number, reason, reply }).await
    }

    /// Gives an event in flight more time:
    /// [`limits.queue.ack_wait`](crate::limits::QueueLimits::ack_wait) from now. Nothing is stored.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn in_progress(&self, offset: &QueueOffset) -> Result<(), QueueError> {
        self.request_about(offset, |number, reply| SubscriberRequest::Progress { number, reply }).await
    }

    /// Dead letters after an offset, at most `limit` (and 1000) of them.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn dead_letters(&self, after: Option<QueueOffset>, limit: usize) -> Result<DeadLetters, QueueError> {
        let after = after.map_or(Ok(0), |after| self.number(&after))?;
        let page = self.request(|reply| SubscriberRequest::DeadLetters { after, limit, reply }).await?;
        let offset = offsets(service(&self.core)?);
        let next = page.has_more.then(|| offset(page.next));
        let events = page.dead_letters.into_iter().filter_map(|dead| dead_letter(dead, &offset)).collect();
        Ok(DeadLetters { events, next })
    }

    /// Publishes dead letters again, to this subscriber alone, under new offsets: these (at most
    /// 1024), or all. Returns old and new offsets; others than dead letters are ignored.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn replay_dead(
        &self,
        offsets_of: Option<&[QueueOffset]>,
    ) -> Result<Vec<(QueueOffset, QueueOffset)>, QueueError> {
        let numbers = offsets_of.map(|of| of.iter().map(|offset| self.number(offset)).collect::<Result<Vec<_>, _>>());
        let numbers = numbers.transpose()?;
        let replayed = self.request(|reply| SubscriberRequest::ReplayDead { numbers, reply }).await?;
        let offset = offsets(service(&self.core)?);
        Ok(replayed.into_iter().map(|(old, new)| (offset(old), offset(new))).collect())
    }

    /// Removes all pending events up to an offset. The subscriber receives a gap.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn purge(&self, up_to: &QueueOffset) -> Result<(), QueueError> {
        let up_to = self.number(up_to)?;
        self.request(|reply| SubscriberRequest::Purge { up_to, reply }).await
    }

    /// Removes the subscriber with all that is pending for it. An attached socket receives
    /// `stentor:evicted` and is disconnected from the namespace.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    pub async fn remove(self) -> Result<(), QueueError> {
        self.request(SubscriberRequest::Remove).await
    }

    /// Ends the attachment of the socket, or pulling. Events in flight are pending again
    /// immediately. The subscriber continues to exist. The socket leaves the rooms of the
    /// subscriptions and stays connected.
    pub fn close(self) {
        if let Some(link) = &self.core.subscribers {
            let request = SubscriberRequest::Release { socket: self.socket };
            link.post(SubscriberCommand::Request { key: self.key, request });
        }
    }

    async fn request<T>(&self, request: impl FnOnce(SubscriberReply<T>) -> SubscriberRequest) -> Result<T, QueueError> {
        let key = self.key.clone();
        ask(&self.core, |reply| SubscriberCommand::Request { key, request: request(reply) }).await
    }

    /// Sends a request about one event, which errors name by its offset.
    async fn request_about(
        &self,
        offset: &QueueOffset,
        request: impl FnOnce(u64, SubscriberReply<()>) -> SubscriberRequest,
    ) -> Result<(), QueueError> {
        let (key, number) = (self.key.clone(), self.number(offset)?);
        let command = |reply| SubscriberCommand::Request { key, request: request(number, reply) };
        answer(&self.core, command).await?.map_err(|error| match error {
            SubscriberError::NotInFlight { .. } => QueueError::NotInFlight { offset: *offset },
            SubscriberError::Refused(Refusal::NotPending { .. }) => QueueError::NotPending { offset: *offset },
            error => error.into(),
        })
    }

    /// The number of an event of this queue.
    fn number(&self, offset: &QueueOffset) -> Result<u64, QueueError> {
        if offset.epoch == service(&self.core)?.epoch() { Ok(offset.number) } else { Err(QueueError::ForeignEpoch) }
    }
}

/// Ends a pull that waits when its caller drops the future, after the future has dropped the
/// receiver of the answer.
struct PullGuard<'a>(Option<&'a Subscriber>);

impl Drop for PullGuard<'_> {
    fn drop(&mut self) {
        let Some(Subscriber { core, key, .. }) = self.0 else { return };
        if let Some(link) = &core.subscribers {
            let (key, request) = (key.clone(), SubscriberRequest::PullDropped);
            // One for each pull, which was within the bound of requests.
            link.post(SubscriberCommand::Request { key, request });
        }
    }
}

/// Sends a command to the subscribers' actor and awaits its answer.
async fn ask<T>(core: &Core, command: impl FnOnce(SubscriberReply<T>) -> SubscriberCommand) -> Result<T, QueueError> {
    answer(core, command).await?.map_err(QueueError::from)
}

/// Like [`ask`], with the error of the actor as it is.
async fn answer<T>(
    core: &Core,
    command: impl FnOnce(SubscriberReply<T>) -> SubscriberCommand,
) -> Result<Result<T, SubscriberError>, QueueError> {
    let link = core.subscribers.as_ref().ok_or(QueueError::Off)?;
    let (reply, answer) = oneshot::channel();
    if !link.offer(command(reply)) {
        return Err(QueueError::Overloaded);
    }
    Ok(answer.await.unwrap_or(Err(SubscriberError::NoAnswer(NoAnswer::Disconnected))))
}

fn service(core: &Core) -> Result<&QueueService, QueueError> {
    core.queue.as_deref().ok_or(QueueError::Off)
}

/// Offsets of a queue by their numbers.
fn offsets(queue: &QueueService) -> impl Fn(u64) -> QueueOffset {
    let epoch = queue.epoch();
    move |number| QueueOffset { epoch, number }
}

fn key(namespace: NamespacePath, name: &str) -> Result<SubscriberKey, QueueError> {
    Ok(SubscriberKey { namespace, name: SubscriberName::parse(name)? })
}

fn room_name(room: &str) -> Result<RoomName, QueueError> {
    RoomName::parse(room).map_err(|error| QueueError::Room(error.into()))
}
