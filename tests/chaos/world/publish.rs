//! Publishing, in every way there is.

use fanfare::{EncodeError, Event, EventId, PublishError, Published, PublishedMany, Text};

use super::World;
use crate::life::Fact;

/// So many of the ids that were told last are kept for those who come with one.
const IDS: usize = 256;

/// The event of a fact: its number, a dot, and as much more as it takes.
fn payload(fact: &Fact) -> String {
    let mut text = fact.number.to_string();
    while (text.len() as u64) < fact.size {
        text.push('.');
    }
    text
}

fn event<'a>(fact: &Fact, payload: &'a str) -> Event<'a, Text<'a>> {
    let event = Event::text(payload).name(fact.name.unwrap_or(""));
    if fact.with_id {
        event
    } else {
        event.without_id()
    }
}

impl World {
    fn next_fact(&mut self) -> Fact {
        self.number += 1;
        let most = self.rng.weighted(&self.scenario.sizes);
        let most = most.min(self.scenario.max_event_bytes);
        let digits = self.number.to_string().len() as u64;
        Fact {
            number: self.number,
            size: self.rng.between(1, most).max(digits),
            name: self.rng.percent(30).then_some("named"),
            with_id: self.rng.percent(90),
            tick: self.now,
        }
    }

    pub(super) fn publish(&mut self, count: u64) {
        let key = self.any_key();
        for _ in 0..count {
            self.publish_to(key);
        }
        self.say(|| format!("{count} to t{key}, up to number {}", self.number));
    }

    pub(super) fn publish_to(&mut self, key: usize) {
        let fact = self.next_fact();
        let text = payload(&fact);
        let result = self
            .hub
            .publish(self.names[key].as_str(), event(&fact, &text));
        let published = result.unwrap();
        if let (Some(id), true) = (published.id(), self.scenario.history) {
            self.life_at(key, id.epoch());
        }
        let life = self.at.get(&key).copied();
        self.append(life, fact, published);
    }

    pub(super) fn publish_by_handle(&mut self) {
        let Some(index) = self.any_handle() else {
            return;
        };
        let fact = self.next_fact();
        let text = payload(&fact);
        let (handle, life) = &self.handles[index];
        let life = *life;
        let result = if self.number.is_multiple_of(3) {
            let frame = self.hub.encode(event(&fact, &text)).unwrap();
            handle.publish_frame(&frame)
        } else {
            handle.publish(event(&fact, &text))
        };
        self.say(|| format!("number {} by the handle on life {life}", fact.number));
        if self.lives[life].closed {
            assert!(matches!(result, Err(PublishError::Closed)));
            return;
        }
        // A frame by itself gets the id of the topic, whatever the event said.
        let with_id = fact.with_id || self.number.is_multiple_of(3);
        self.append(Some(life), Fact { with_id, ..fact }, result.unwrap());
    }

    /// One publish to one topic, as the engine says it went.
    fn append(&mut self, life: Option<usize>, fact: Fact, published: Published) {
        let subscribers = life.map_or(0, |life| self.lives[life].subscriptions);
        assert_eq!(published.subscribers(), subscribers, "subscribers told");
        if subscribers == 0 && !self.scenario.history {
            assert_eq!(published.id(), None, "to nobody");
            return;
        }
        let life = life.expect("a topic with subscribers or history");
        let id = EventId::new(self.lives[life].epoch, self.lives[life].end());
        assert_eq!(published.id(), Some(id));
        self.appended(life, fact, published.bytes() as u64);
    }

    fn appended(&mut self, life: usize, fact: Fact, bytes: u64) {
        let with_id = self.scenario.ids && fact.with_id;
        let bytes = bytes + if with_id { self.id_bytes } else { 0 };
        let state = &mut self.lives[life];
        let id = EventId::new(state.epoch, state.end());
        state.append(fact, bytes, &self.scenario, self.times);
        self.published += 1;
        if self.ids.len() == IDS {
            self.ids.swap_remove((id.offset() % IDS as u64) as usize);
        }
        self.ids.push(id);
    }

    pub(super) fn publish_many(&mut self) {
        let count = self.rng.index(5);
        let keys: Vec<_> = (0..count).map(|_| self.any_key()).collect();
        let fact = self.next_fact();
        let text = payload(&fact);
        let names = keys.iter().map(|&key| self.names[key].as_str());
        let sent = self.hub.publish_many(names, event(&fact, &text)).unwrap();
        self.say(|| format!("number {} to {keys:?}", fact.number));
        self.sent(&keys, &fact, &text, sent);
    }

    pub(super) fn publish_all(&mut self) {
        let keys: Vec<_> = self.at.keys().copied().collect();
        let fact = self.next_fact();
        let text = payload(&fact);
        let sent = self.hub.publish_all(event(&fact, &text)).unwrap();
        self.say(|| format!("number {} to all of {keys:?}", fact.number));
        self.sent(&keys, &fact, &text, sent);
    }

    /// One event went to so many keys.
    fn sent(&mut self, keys: &[usize], fact: &Fact, text: &str, sent: PublishedMany) {
        let bytes = self.hub.encode(event(fact, text)).unwrap().len() as u64;
        let (mut topics, mut subscribers) = (0, 0);
        for &key in keys {
            if self.scenario.history && !self.at.contains_key(&key) {
                let handle = self.hub.topic(self.names[key].as_str()).unwrap();
                self.life_at(key, handle.position().epoch());
            }
            let Some(&life) = self.at.get(&key) else {
                continue;
            };
            subscribers += self.lives[life].subscriptions;
            if self.lives[life].subscriptions > 0 || self.scenario.history {
                topics += 1;
                self.appended(life, fact.clone(), bytes);
            }
        }
        assert_eq!((sent.topics(), sent.subscribers()), (topics, subscribers));
    }

    /// What is too large is refused, and nothing is appended.
    pub(super) fn publish_too_large(&mut self) {
        let key = self.any_key();
        let size = self.scenario.max_event_bytes as usize + 1;
        let text = "x".repeat(size);
        let refused = self
            .hub
            .publish(self.names[key].as_str(), Event::text(&text));
        let limit = size - 1;
        let error = PublishError::Encode(EncodeError::TooLarge { limit, size });
        assert_eq!(refused.unwrap_err().to_string(), error.to_string());
    }

    /// A closed hub takes nothing.
    pub(super) fn refuses(&mut self) {
        let key = self.any_key();
        let name = self.names[key].as_str();
        let refused = self.hub.publish(name, Event::text("late"));
        assert!(matches!(refused, Err(PublishError::Closed)));
        assert!(self.hub.subscribe(name).is_err());
        assert!(self.hub.topic(name).is_err());
        assert!(self.hub.publish_all(Event::text("late")).is_err());
    }
}
