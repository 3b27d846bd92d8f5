//! From key to topic: a sharded map.
//!
//! **Role.** The only file that looks topics up. A lookup takes one shard's lock for one probe.
//!
//! **Invariants.**
//! * R1: a user is counted in under the guard that found the topic in the map.
//! * R2: a topic is removed only under its shard's write lock, after it was seen there without users. By R1 nobody then
//!   sits on a topic that publishers no longer find.
//! * R3: no guard lives across user code other than the key's `Hash`, `Eq` and `Clone`, and never two at once.
//!
//! **Progress.** Takes one shard's lock. Reads share it.

use std::borrow::Borrow;
use std::hash::Hash;

use crate::error::SubscribeError;
use crate::sync::{Arc, ShardedMap};
use crate::topic::{TopicCore, User};

/// R1: called under the guard that found the topic.
fn counted(topic: &Arc<TopicCore>, user: User) -> Result<Arc<TopicCore>, SubscribeError> {
    topic.try_enter(user)?;
    Ok(Arc::clone(topic))
}

pub(crate) struct Registry<K> {
    topics: ShardedMap<K, Arc<TopicCore>>,
}

impl<K: Eq + Hash> Registry<K> {
    pub(crate) fn new(shards: Option<usize>) -> Self {
        Self {
            topics: ShardedMap::new(shards),
        }
    }

    /// Runs `f` on the topic under its shard's read lock (R3: `f` runs no user code).
    pub(crate) fn view<Q, R>(&self, key: &Q, f: impl FnOnce(&Arc<TopicCore>) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.topics.view(key, f)
    }

    /// Counts `user` in on the topic, which `make` makes if it is absent.
    pub(crate) fn enter<Q>(
        &self,
        key: &Q,
        user: User,
        make: impl FnOnce(&K) -> Result<Arc<TopicCore>, SubscribeError>,
    ) -> Result<Arc<TopicCore>, SubscribeError>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let enter = |topic: &Arc<TopicCore>| counted(topic, user);
        if let Some(entered) = self.topics.view(key, enter) {
            return entered;
        }
        let owned = key.to_owned();
        // Made outside the lock, and dropped outside it if another thread was faster.
        let fresh = match make(&owned) {
            Ok(fresh) => fresh,
            // Another thread may have taken the last place for this very key.
            Err(refused @ SubscribeError::TooManyTopics { .. }) => {
                return self.topics.view(key, enter).unwrap_or(Err(refused));
            }
            Err(refused) => return Err(refused),
        };
        let (topic, unused) = self.topics.view_or_insert(owned, fresh, enter);
        drop(unused);
        topic
    }

    /// Removes `topic` if it is still the one at `key` and is dead (R2). Tells whether it did. Key and topic are dropped outside
    /// the lock.
    pub(crate) fn remove_dead<Q>(&self, key: &Q, topic: &TopicCore) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let same = |found: &Arc<TopicCore>| std::ptr::addr_eq(&raw const **found, topic);
        let removed = self
            .topics
            .remove_if(key, |found| same(found) && found.is_dead());
        removed.is_some()
    }

    /// Removes the topic at `key` if it is closed, whoever uses it: nobody has business there any more (the exception to R2).
    pub(crate) fn remove_closed<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        drop(self.topics.remove_if(key, |found| found.log.is_closed()));
    }

    /// The topics, with a handle counted in on each.
    pub(crate) fn held_topics(&self) -> Vec<Arc<TopicCore>> {
        self.topics.collect(|_, topic| {
            topic.enter(User::Handle);
            Arc::clone(topic)
        })
    }

    /// Removes `topic`, which is closed, if it is still the one at `key`.
    pub(crate) fn remove<Q>(&self, key: &Q, topic: &TopicCore)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let same = |found: &Arc<TopicCore>| std::ptr::addr_eq(&raw const **found, topic);
        drop(self.topics.remove_if(key, same));
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn topics(&self) -> Vec<Arc<TopicCore>> {
        self.topics.collect(|_, topic| Arc::clone(topic))
    }

    pub(crate) fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        self.topics.collect(|key, _| key.clone())
    }
}
