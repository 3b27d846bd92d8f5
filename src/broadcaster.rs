//! Typed events to all connections of a user.
//!
//! **Role.** A [`Broadcaster`] is a hub for one type of event, with a name for each connection: who is connected, since
//! when, and that of two connections with one name the older one ends.
//!
//! **Invariants.**
//! * B1: an entry of the table belongs to one subscription, and goes with it: its drop removes it only if the entry is still
//!   its own.
//! * B2: no subscription is ended, and no waker runs, under a lock of the table.
//!
//! **Progress.** Publishing is the hub's. Registering and leaving take the lock of one shard of the table for one probe.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Instant;

use crate::config::HubBuilder;
use crate::ending::{EndHandle, EndReason};
use crate::error::{EventError, EventResult};
use crate::event::{Event, Payload};
use crate::event_id::EventId;
use crate::frame::Frame;
use crate::hub::{Hub, PublishedMany};
use crate::position::{LagPolicy, Notices};
use crate::resume::LastEventId;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::stats::StripedCounter;
use crate::subscription::Subscription;
use crate::sync::{HostArc, ShardedMap};
use crate::topic::{Published, Topic};
use crate::user_id::UserId;

/// Longest id of a connection, in bytes.
pub const MAX_CONNECTION_ID_BYTES: usize = 256;

/// What a broadcaster publishes: how it becomes an event, and what a connection does that cannot keep up.
///
/// # Examples
///
/// ```
/// use fanfare::{Broadcaster, Event, Payload, ToSse, UserId};
///
/// #[derive(serde::Serialize)]
/// struct Order { id: u64, state: &'static str }
///
/// impl ToSse for Order {
///     fn to_sse(&self) -> Event<'_, impl Payload> {
///         Event::json(self).name("order")
///     }
/// }
///
/// let orders = Broadcaster::<Order>::new();
/// let ann = UserId::from("ann");
/// let tab = orders.register(&ann, "tab-1")?;
/// assert_eq!(orders.broadcast(&ann, &Order { id: 7, state: "paid" })?.subscribers(), 1);
/// # drop(tab);
/// # Ok::<(), fanfare::EventError>(())
/// ```
pub trait ToSse {
    /// What happens to a connection that lags, unless the broadcaster is told otherwise. In most streams of an agent no
    /// event may be skipped, so it is [`LagPolicy::Disconnect`]: the client comes back and takes a fresh start.
    const LAG_POLICY: LagPolicy = LagPolicy::Disconnect;

    /// The event to publish. Whether it carries an id is up to the broadcaster's hub.
    fn to_sse(&self) -> Event<'_, impl Payload>;
}

/// Publishes events of one type to all connections of a user.
///
/// A broadcaster made by [`new`](Self::new) has a hub of its own, without ids and history; [`with_hub`](Self::with_hub) takes one that was
/// set up otherwise. Clones are cheap and share everything. The keys are user ids, or any other type that a [`Hub`] takes.
///
/// # Delivery
///
/// As in a [`Hub`]. Lag, and the end of a connection, are told as comments: a protocol's clients take any event for one of
/// theirs.
///
/// # Examples
///
/// ```
/// use fanfare::{Broadcaster, EndReason, Event, Payload, ToSse, UserId};
/// # struct Ping;
/// # impl ToSse for Ping {
/// #     fn to_sse(&self) -> Event<'_, impl Payload> { Event::text("ping") }
/// # }
///
/// let pings = Broadcaster::<Ping>::new();
/// let ann = UserId::from("ann");
/// let mut first = pings.register(&ann, "tab-1")?;
/// let second = pings.register(&ann, "tab-1")?; // The page was loaded again: the older connection ends.
/// assert!(first.try_recv().is_err());
/// assert_eq!(first.end_reason(), Some(EndReason::Replaced));
/// assert_eq!(pings.connection_count(&ann), 1);
/// drop(second);
/// assert_eq!(pings.connection_count(&ann), 0);
/// # Ok::<(), fanfare::EventError>(())
/// ```
pub struct Broadcaster<E, K = UserId>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
{
    hub: Hub<K>,
    table: HostArc<Table<K>>,
    lag_policy: LagPolicy,
    event: PhantomData<fn(&E)>,
}

/// A [`Broadcaster`] to users.
pub type GenericBroadcaster<E> = Broadcaster<E, UserId>;

/// Who is connected.
struct Table<K: Eq + Hash> {
    users: ShardedMap<K, HashMap<HostArc<str>, Entry>>,
    connections: StripedCounter,
    replaced: StripedCounter,
    unregistered: StripedCounter,
    evicted: StripedCounter,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    end: EndHandle,
}

/// A subscription's part of the table; its drop takes the entry out (B1).
struct Registration<K: Eq + Hash + Send + Sync + 'static> {
    table: HostArc<Table<K>>,
    user: K,
    id: HostArc<str>,
    end: EndHandle,
}

impl<K: Eq + Hash> Table<K> {
    /// Takes out an entry that `is_it`.
    fn remove(&self, user: &K, id: &str, is_it: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let removed = self.users.update(user, |connections| {
            if !connections.get(id).is_some_and(is_it) {
                return None;
            }
            connections.remove_entry(id)
        });
        let (_, entry) = removed.flatten()?;
        self.connections.add(-1);
        // Looked at again under the lock: somebody may have come.
        let gone = self.users.remove_if(user, HashMap::is_empty);
        drop(gone);
        Some(entry)
    }
}

impl<K: Eq + Hash + Send + Sync> Drop for Registration<K> {
    fn drop(&mut self) {
        let own = |entry: &Entry| entry.end.is_same(&self.end);
        drop(self.table.remove(&self.user, &self.id, own));
    }
}

impl<E: ToSse> Broadcaster<E> {
    /// A broadcaster to users with a hub of its own: without ids and history, other limits as [`Hub::new`] has them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<E: ToSse, K: Eq + Hash + Clone + Send + Sync + 'static> Default for Broadcaster<E, K> {
    fn default() -> Self {
        match HubBuilder::new().event_ids(false).build_keyed() {
            Ok(hub) => Self::with_hub(hub),
            Err(error) => unreachable!("the default limits are valid: {error}"),
        }
    }
}

impl<E: ToSse, K: Eq + Hash + Clone + Send + Sync + 'static> Broadcaster<E, K> {
    /// A broadcaster over `hub`, which says what its events carry and how long they are kept. With ids and history, clients come back with
    /// their `Last-Event-ID`: see [`register_from`](Self::register_from).
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::{Broadcaster, Hub};
    /// # struct Ping;
    /// # impl fanfare::ToSse for Ping {
    /// #     fn to_sse(&self) -> fanfare::Event<'_, impl fanfare::Payload> { fanfare::Event::text("ping") }
    /// # }
    ///
    /// // Keyed by room number, with a history.
    /// let hub = Hub::builder().history(true).build_keyed::<u64>()?;
    /// let rooms = Broadcaster::<Ping, u64>::with_hub(hub);
    /// rooms.broadcast(&17, &Ping)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_hub(hub: Hub<K>) -> Self {
        let shards = hub.shards();
        Self {
            hub,
            table: HostArc::new(Table {
                users: ShardedMap::new(shards),
                connections: StripedCounter::new(),
                replaced: StripedCounter::new(),
                unregistered: StripedCounter::new(),
                evicted: StripedCounter::new(),
            }),
            lag_policy: E::LAG_POLICY,
            event: PhantomData,
        }
    }

    /// Sets what happens to connections that lag: those that are registered through this handle from now on.
    #[must_use]
    pub fn lag_policy(mut self, policy: LagPolicy) -> Self {
        self.lag_policy = policy;
        self
    }

    /// The hub, for what is not typed: closing, statistics, subscriptions without a name.
    #[must_use]
    pub fn hub(&self) -> &Hub<K> {
        &self.hub
    }

    /// Registers a connection of `user`: it gets what is published from now on. Dropping the subscription, or what it was
    /// made into, unregisters it.
    ///
    /// A connection that is registered by this id already is replaced: it ends with [`EndReason::Replaced`] before this
    /// returns, and what it has not read by then it does not get. An id should be new for each page or process that
    /// connects: two tabs that share one replace each other for ever, because `EventSource` comes back when its stream ends.
    /// (Only an answer of status 204 makes it stop; that is also what to send to a client that was shut out.)
    ///
    /// # Errors
    ///
    /// [`EventError::ConnectionIdTooLong`], or [`EventError::Closed`] if the hub is closed.
    ///
    /// # Panics
    ///
    /// If the waker of the replaced connection panics: then neither of the two is registered.
    pub fn register(&self, user: &K, connection_id: &str) -> EventResult<Subscription> {
        check_id(connection_id)?;
        Ok(self.enter(user, connection_id, self.hub.subscribe(user)?))
    }

    /// [`register`](Self::register), continuing after `id`, such as a client's [`LastEventId`]; see [`Hub::subscribe_from`].
    ///
    /// With [`LagPolicy::Disconnect`] look at [`Subscription::resumed`] first: a client that has a gap would be told and ended
    /// at once, and come back the same way. It needs a fresh start, such as a [snapshot](Self::register_with_snapshot).
    ///
    /// # Errors
    ///
    /// As `register`.
    pub fn register_from(
        &self,
        user: &K,
        connection_id: &str,
        id: impl Into<LastEventId>,
    ) -> EventResult<Subscription> {
        check_id(connection_id)?;
        Ok(self.enter(user, connection_id, self.hub.subscribe_from(user, id)?))
    }

    /// [`register`](Self::register), with a snapshot first; see [`Hub::subscribe_with_snapshot`]. The connection is registered when the
    /// snapshot is there.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Snapshot`] with what `snapshot` failed with. [`SnapshotError::Closed`] if the hub is closed, and
    /// [`SnapshotError::ConnectionIdTooLong`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future unsubscribes. Nothing was registered or replaced.
    pub async fn register_with_snapshot<S, F>(
        &self,
        user: &K,
        connection_id: &str,
        snapshot: impl FnMut(EventId) -> F,
    ) -> Result<Subscription, SnapshotError<S>>
    where
        F: Future<Output = Result<Snapshot, S>>,
    {
        let len = connection_id.len();
        if len > MAX_CONNECTION_ID_BYTES {
            let limit = MAX_CONNECTION_ID_BYTES;
            return Err(SnapshotError::ConnectionIdTooLong { limit, len });
        }
        let subscription = self.hub.subscribe_with_snapshot(user, snapshot).await?;
        Ok(self.enter(user, connection_id, subscription))
    }

    /// An event as a frame for a [`Snapshot`].
    ///
    /// # Errors
    ///
    /// [`EventError::Encode`].
    pub fn encode(&self, event: &E) -> EventResult<Frame> {
        Ok(self.hub.encode(event.to_sse())?)
    }

    fn enter(&self, user: &K, connection_id: &str, subscription: Subscription) -> Subscription {
        let mut subscription = subscription
            .lag_policy(self.lag_policy)
            .notices(Notices::Comments);
        let end = subscription.end_handle();
        let id = HostArc::<str>::from(connection_id);
        // First: should anything below panic, the entry goes all the same.
        subscription.keep(Box::new(Registration {
            table: HostArc::clone(&self.table),
            user: user.clone(),
            id: HostArc::clone(&id),
            end: end.clone(),
        }));
        let (table, of, name, own) = (
            HostArc::clone(&self.table),
            user.clone(),
            HostArc::clone(&id),
            end.clone(),
        );
        // Whoever is given up is on no list, however long the body stays that is not read.
        subscription.when_evicted(move || {
            let evicted = table.remove(&of, &name, |entry| entry.end.is_same(&own));
            if evicted.is_some() {
                table.evicted.add(1);
            }
        });
        let entry = Entry {
            since: Instant::now(),
            end,
        };
        let (replaced, unused) = self
            .table
            .users
            .update_or_insert(user.clone(), |connections| connections.insert(id, entry));
        drop(unused);
        match replaced {
            None => self.table.connections.add(1),
            // B2
            Some(replaced) => {
                self.table.replaced.add(1);
                replaced.end.end(EndReason::Replaced);
            }
        }
        subscription
    }

    /// Ends a connection with [`EndReason::Unregistered`]. `false` if there is none of this id.
    ///
    /// # Panics
    ///
    /// If the connection's waker panics.
    pub fn unregister(&self, user: &K, connection_id: &str) -> bool {
        let Some(entry) = self.table.remove(user, connection_id, |_| true) else {
            return false;
        };
        self.table.unregistered.add(1);
        entry.end.end(EndReason::Unregistered);
        true
    }

    /// What takes a connection out of the table and ends it, if it is still the one at its id.
    #[cfg(feature = "compat")]
    pub(crate) fn leave_with(
        &self,
        user: &K,
        connection_id: &str,
        end: EndHandle,
    ) -> Box<dyn FnOnce() + Send + Sync> {
        let (table, user) = (HostArc::clone(&self.table), user.clone());
        let id = connection_id.to_owned();
        Box::new(move || {
            drop(table.remove(&user, &id, |entry| entry.end.is_same(&end)));
            end.end(EndReason::Unregistered);
        })
    }

    /// Publishes `event` to all connections of `user`.
    ///
    /// # Errors
    ///
    /// [`EventError`] if the event cannot be encoded or the hub is closed. That nobody is connected is none.
    ///
    /// # Panics
    ///
    /// If the waker of a connection panics: after all others were woken.
    pub fn broadcast(&self, user: &K, event: &E) -> EventResult<Published> {
        Ok(self.hub.publish(user, event.to_sse())?)
    }

    /// Publishes `event` to all connections of all users: encoded once. See [`Hub::publish_all`].
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_all(&self, event: &E) -> EventResult<PublishedMany> {
        Ok(self.hub.publish_all(event.to_sse())?)
    }

    /// A handle on a user's stream: publishes without a lookup, and tells whether anybody listens.
    ///
    /// # Errors
    ///
    /// [`EventError::Closed`] if the hub is closed.
    pub fn topic(&self, user: &K) -> EventResult<Topic> {
        Ok(self.hub.topic(user)?)
    }

    /// Connections of `user`.
    #[must_use]
    pub fn connection_count(&self, user: &K) -> usize {
        let count = |connections: &HashMap<_, _>| connections.len();
        self.table.users.view(user, count).unwrap_or(0)
    }

    /// Connections of all users. Exact at quiescence; takes no lock.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "pointers have 64 bits")]
    pub fn total_connections(&self) -> usize {
        self.table.connections.sum() as usize
    }

    /// The users who are connected, in no order. Locks one shard of the table after the other.
    #[must_use]
    pub fn connected_users(&self) -> Vec<K> {
        self.table.users.collect(|user, _| user.clone())
    }

    /// How many users are connected, and by how many connections. Locks one shard of the table after the other.
    #[must_use]
    pub fn connection_info(&self) -> ConnectionInfo {
        ConnectionInfo {
            users: self.table.users.len(),
            connections: self.total_connections(),
        }
    }

    /// The connections of `user`, in no order.
    #[must_use]
    pub fn connections(&self, user: &K) -> Vec<Connected> {
        let list = |connections: &HashMap<HostArc<str>, Entry>| {
            let connected = |(id, entry): (&HostArc<str>, &Entry)| Connected {
                id: HostArc::clone(id),
                since: entry.since,
            };
            connections.iter().map(connected).collect()
        };
        self.table.users.view(user, list).unwrap_or_default()
    }

    /// What the broadcaster holds and has done.
    #[must_use]
    pub fn stats(&self) -> BroadcasterStats {
        let ConnectionInfo { users, connections } = self.connection_info();
        let hub = self.hub.stats();
        BroadcasterStats {
            users,
            connections,
            published: hub.published,
            lagged: hub.lagged,
            replaced: self.table.replaced.sum(),
            unregistered: self.table.unregistered.sum(),
            evicted: self.table.evicted.sum(),
        }
    }
}

fn check_id(id: &str) -> EventResult<()> {
    if id.len() > MAX_CONNECTION_ID_BYTES {
        return Err(EventError::ConnectionIdTooLong {
            limit: MAX_CONNECTION_ID_BYTES,
            len: id.len(),
        });
    }
    Ok(())
}

impl<E, K: Eq + Hash + Clone + Send + Sync + 'static> Clone for Broadcaster<E, K> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            table: HostArc::clone(&self.table),
            lag_policy: self.lag_policy,
            event: PhantomData,
        }
    }
}

impl<E, K: Eq + Hash + Clone + Send + Sync + 'static> fmt::Debug for Broadcaster<E, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcaster")
            .field("hub", &self.hub)
            .field("lag_policy", &self.lag_policy)
            .finish_non_exhaustive()
    }
}

/// How many are connected; see [`Broadcaster::connection_info`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Users with at least one connection.
    pub users: usize,
    /// Connections in all.
    pub connections: usize,
}

/// A connection of a user; see [`Broadcaster::connections`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connected {
    /// What it was registered by.
    pub id: HostArc<str>,
    /// When it was registered.
    pub since: Instant,
}

/// What a broadcaster holds and has done; see [`Broadcaster::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BroadcasterStats {
    /// Users with at least one connection.
    pub users: usize,
    /// Connections in all.
    pub connections: usize,
    /// Events that were published to at least one connection, or kept.
    pub published: u64,
    /// Connections that were ended because they lagged.
    pub lagged: u64,
    /// Connections that were replaced by one of the same id.
    pub replaced: u64,
    /// Connections that were [unregistered](Broadcaster::unregister).
    pub unregistered: u64,
    /// Connections that stood still and were [given up](crate::HubBuilder::evict_after), by a hub that does so.
    pub evicted: u64,
}
