//! The conversations of the users, which the system tells them about: AG-UI's threads and A2A's contexts.

use std::collections::VecDeque;

use fanfare::UserId;
use fanfare::protocol::Timestamp;
use fanfare::protocol::system::{
    ContextCreated, ContextSummary, ContextUpdated, ContextsSnapshot, Event,
};

use crate::limits::MAX_CONTEXTS;

/// Most characters of a context's name, which is how its first prompt begins.
const NAME_CHARS: usize = 40;

#[derive(Debug, Default)]
pub(crate) struct Contexts {
    /// Oldest first.
    known: VecDeque<(UserId, ContextSummary)>,
}

/// What is added to a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Message,
    Task,
}

impl Contexts {
    /// Counts a prompt in. The event tells that its context is new, or has changed.
    pub(crate) fn prompted(
        &mut self,
        user: &UserId,
        context: &str,
        prompt: &str,
        added: Added,
    ) -> Event {
        let now = Timestamp::now();
        let mut known = self.known.iter();
        let known = known.position(|(owner, known)| owner == user && known.context_id == context);
        let (at, event) = if let Some(at) = known {
            let updated = ContextUpdated::new(context).name(self.known[at].1.name.clone());
            (at, updated.timestamp(now).into())
        } else {
            if self.known.len() >= MAX_CONTEXTS {
                self.known.pop_front();
            }
            let name: String = prompt.chars().take(NAME_CHARS).collect();
            let summary = ContextSummary::new(context, name.clone(), now, now, 0, 0);
            self.known.push_back((user.clone(), summary));
            let created = ContextCreated::new(context, name).timestamp(now);
            (self.known.len() - 1, created.into())
        };
        let summary = &mut self.known[at].1;
        summary.updated_at = now;
        summary.message_count += 1;
        summary.task_count += i64::from(added == Added::Task);
        event
    }

    /// All contexts of a user.
    pub(crate) fn of(&self, user: &UserId) -> Event {
        let own = self.known.iter().filter(|(owner, _)| owner == user);
        let contexts: Vec<_> = own.map(|(_, summary)| summary.clone()).collect();
        ContextsSnapshot::new(contexts).into()
    }
}
