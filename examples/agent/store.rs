//! A bounded memory of what the agent did: runs and tasks, by id, oldest first.

use std::collections::VecDeque;
use std::sync::Arc;

/// What a [`Store`] keeps.
pub(crate) trait Entry {
    fn id(&self) -> &str;
    /// Whether nothing is added to it any more: then it may be forgotten.
    fn is_over(&self) -> bool;
}

#[derive(Debug)]
pub(crate) struct Store<T> {
    entries: VecDeque<Arc<T>>,
    limit: usize,
}

/// There are as many as there may be, and none is over.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) limit: usize,
}

impl<T: Entry> Store<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            limit,
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<T>> {
        self.find(|entry| entry.id() == id)
    }

    /// The latest for which `condition` holds.
    pub(crate) fn find(&self, condition: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let entries = self.entries.iter().rev();
        entries.map(Arc::clone).find(|entry| condition(entry))
    }

    /// Adds an entry. If there is no room, the oldest that is over is forgotten.
    pub(crate) fn add(&mut self, entry: Arc<T>) -> Result<(), Full> {
        if self.entries.len() >= self.limit {
            let over = self.entries.iter().position(|entry| entry.is_over());
            let Some(over) = over else {
                return Err(Full { limit: self.limit });
            };
            self.entries.remove(over);
        }
        self.entries.push_back(entry);
        Ok(())
    }
}
