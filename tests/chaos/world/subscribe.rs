//! Coming and going.

use fanfare::{EndReason, EventId, LastEventId, Resumed, Subscription};

use super::{Away, World};
use crate::life::Life;
use crate::reader::Reader;
use crate::scenario::Kind;

impl World {
    /// Adds a reader. `from` is what its client sent.
    fn add(&mut self, key: usize, kind: Kind, from: LastEventId, by_handle: bool) {
        if self.readers.len() >= self.scenario.readers {
            return;
        }
        let name = self.names[key].as_str();
        let here = self.at.get(&key);
        let handle = self.handles.iter().find(|(_, life)| Some(life) == here);
        let real = match handle {
            Some((handle, _)) if by_handle => handle.subscribe_from(from),
            _ if from.is_given() => self.hub.subscribe_from(name, from),
            _ => self.hub.subscribe(name),
        };
        let real = real.unwrap();
        let life = self.life_at(key, real.position().epoch());
        let policy = self.rng.weighted(&self.scenario.policies);
        let state = &mut self.lives[life];
        state.subscriptions += 1;
        state.touched = self.now;
        let unknown = Self::begins(state, &real, from);
        self.number += 1;
        let mut reader = Reader::new(self.number, real, life, kind, policy);
        reader.unknown = unknown;
        reader.last = from.id();
        if self.rng.percent(20) {
            reader.beats = true;
            reader.real.set_heartbeats(true);
        }
        if self.rng.percent(30) {
            reader.end_handle = Some(reader.real.end_handle());
        }
        self.say(|| {
            let Reader { name, next, .. } = reader;
            let from = from.id().map_or(String::new(), |id| self.id(id));
            let from = if unknown { format!("{from} (unknown)") } else { from };
            format!(
                "reader {name} ({kind:?}, {policy:?}) from '{from}' at {next} of t{key}, life {life}"
            )
        });
        self.readers.push(reader);
    }

    /// Checks where a new subscription stands; tells whether it is not known what it missed.
    fn begins(life: &mut Life, real: &Subscription, from: LastEventId) -> bool {
        let next = real.position().offset() + 1;
        let id = from.id().filter(|id| id.epoch() == life.epoch);
        match id {
            _ if !from.is_given() => assert_eq!(next, life.end(), "from now on"),
            Some(id) if id.offset() < life.end() => {
                assert_eq!(next, id.offset() + 1, "after the id");
            }
            // Of the future: by what comes from now on.
            Some(_) => assert_eq!(next, life.end(), "after an id of the future"),
            None => life.observe(next),
        }
        let unknown = from.is_given() && id.is_none_or(|id| id.offset() >= life.end());
        match real.resumed() {
            Resumed::Unknown => assert!(unknown, "what was missed is known"),
            Resumed::Continued => {
                assert!(!unknown, "a silent gap");
                life.observe_at_least(next);
            }
            Resumed::Gap { missed } => {
                assert!(!unknown && missed > 0);
                life.observe(next + missed);
            }
            other => panic!("{other:?}"),
        }
        unknown
    }

    pub(super) fn subscribe_live(&mut self) {
        let key = self.any_key();
        let kind = self.rng.weighted(&self.scenario.kinds);
        let by_handle = self.rng.percent(25);
        self.add(key, kind, LastEventId::none(), by_handle);
    }

    pub(super) fn subscribe_from(&mut self) {
        let key = self.any_key();
        let kind = self.rng.weighted(&self.scenario.kinds);
        let from = self.an_id(key);
        let by_handle = self.rng.percent(25);
        self.add(key, kind, from, by_handle);
    }

    /// An id as a client may send it: right, old, of another life, or nonsense.
    fn an_id(&mut self, key: usize) -> LastEventId {
        const NONSENSE: [&[u8]; 7] = [
            b"",
            b"4711",
            b"00c0ffee00c0ffee-",
            b"00c0ffee00c0ffee-01",
            b"00C0FFEE00C0FFEE-1",
            b"\xff\xfe",
            &[b'0'; 200],
        ];
        let told = if self.ids.is_empty() {
            EventId::new(7, 7)
        } else {
            self.rng.pick(&self.ids)
        };
        let Some(&life) = self.at.get(&key) else {
            return LastEventId::from(told);
        };
        let Life { epoch, .. } = self.lives[life];
        let end = self.lives[life].end();
        let at = |offset| LastEventId::from(EventId::new(epoch, offset));
        match self.rng.below(10) {
            0..4 => at(self.rng.below(end)),
            4 => at(end - 1),
            5 => at(end + self.rng.below(3)),
            6 => at(self.rng.pick(&[0, u64::MAX, u64::MAX - 1])),
            7 | 8 => LastEventId::from(told),
            _ => {
                let sent = self.rng.pick(&NONSENSE);
                LastEventId::parse(sent)
            }
        }
    }

    /// A client that was away comes back.
    pub(super) fn come_back(&mut self) {
        if self.away.is_empty() || self.readers.len() >= self.scenario.readers {
            return;
        }
        let index = self.rng.index(self.away.len());
        let Away { key, last } = self.away.swap_remove(index);
        // As it is written and read again.
        let sent = last.map(|id| id.to_string()).unwrap_or_default();
        let from = LastEventId::parse(sent.as_bytes());
        assert_eq!(from.id(), last);
        self.add(key, Kind::Reconnecting, from, false);
    }

    pub(super) fn drop_reader(&mut self) {
        if let Some(index) = self.any_reader() {
            self.remove_reader(index);
        }
    }

    pub(super) fn remove_reader(&mut self, index: usize) {
        let Reader {
            name,
            real,
            life,
            kind,
            last,
            ended,
            end_handle,
            to_end,
            ..
        } = self.readers.swap_remove(index);
        self.say(|| format!("reader {name} goes"));
        drop(real);
        if let Some(handle) = end_handle {
            assert!(!handle.end(EndReason::Requested), "nobody is there to end");
        }
        self.lagged += u64::from(ended == Some(EndReason::Lagged));
        let state = &mut self.lives[life];
        state.subscriptions -= 1;
        state.touched = self.now;
        let key = state.key;
        if kind == Kind::Reconnecting && to_end.is_none() {
            self.away.push(Away { key, last });
        }
        self.forget_if_gone(life);
    }

    pub(super) fn change_policy(&mut self) {
        let Some(index) = self.any_reader() else {
            return;
        };
        let reader = self.readers.swap_remove(index);
        let policy = self.rng.weighted(&self.scenario.policies);
        self.say(|| format!("reader {} is {policy:?} now", reader.name));
        let real = reader.real.lag_policy(policy);
        self.readers.push(Reader {
            real,
            policy,
            ..reader
        });
    }

    /// Ends a reader from outside.
    pub(super) fn end_one(&mut self) {
        let Some(index) = self.any_reader() else {
            return;
        };
        let reason = self.rng.pick(&[
            EndReason::Requested,
            EndReason::Replaced,
            EndReason::Unregistered,
        ]);
        let reader = &mut self.readers[index];
        let Some(handle) = &reader.end_handle else {
            return;
        };
        let first = handle.end(reason);
        assert_eq!(first, reader.to_end.is_none(), "ended once");
        reader.to_end.get_or_insert(reason);
        let name = reader.name;
        self.say(|| format!("reader {name} is ended: {reason:?}"));
    }
}
