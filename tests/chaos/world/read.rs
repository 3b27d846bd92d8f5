//! Reading, in every way there is.

use std::task::{Context, Poll};

use fanfare::{Frame, Item, Lag, Readiness, TryRecvError};

use super::World;
use crate::reader::Reader;
use crate::scenario::Kind;

impl World {
    /// A reader does what is in its nature.
    pub(super) fn act(&mut self, index: usize) {
        match self.readers[index].kind {
            Kind::Prompt => self.read_all_and_park(index),
            Kind::Slow => {
                self.read_some(index);
            }
            Kind::Stalled => {
                if self.rng.percent(3) {
                    self.read_some(index);
                }
            }
            Kind::Flapping => {
                if self.rng.percent(30) {
                    self.read_all_and_park(index);
                } else {
                    self.remove_reader(index);
                    self.subscribe_live();
                }
            }
            Kind::Reconnecting => match self.rng.below(4) {
                0 => self.remove_reader(index),
                1 => self.read_all_and_park(index),
                _ => {
                    self.read_some(index);
                }
            },
        }
    }

    fn read_all_and_park(&mut self, index: usize) {
        // A heartbeat is nothing to read, and not the end either.
        for _ in 0..2 {
            while self.read_some(index) {}
        }
        self.park(index);
    }

    pub(super) fn park_one(&mut self) {
        if let Some(index) = self.any_reader() {
            self.park(index);
        }
    }

    fn park(&mut self, index: usize) {
        if self.rng.percent(50) {
            self.poll_recv(index);
        } else {
            self.poll_ready(index);
        }
    }

    /// One call of a kind that is drawn. Tells whether it gave anything.
    pub(super) fn read_some(&mut self, index: usize) -> bool {
        match self.rng.below(5) {
            0 => self.try_recv(index),
            1 => self.poll_recv(index),
            2 => self.poll_ready(index) && self.batch(index, usize::MAX),
            3 => {
                let most = self.rng.between(1, 40) as usize;
                self.batch(index, most)
            }
            _ => self.batch(index, usize::MAX),
        }
    }

    fn got(&mut self, index: usize, item: Item) {
        let reader = &mut self.readers[index];
        let life = &mut self.lives[reader.life];
        life.touched = self.now;
        let (name, next) = (reader.name, reader.next);
        match item {
            Item::Frame(frame) => {
                reader.got_frame(life, &frame, self.scenario.ids, false);
                self.say(|| format!("reader {name} reads {next}"));
            }
            Item::Lagged(lag) => {
                reader.got_lag(life, lag);
                self.say(|| format!("reader {name} at {next} is told of {}", self.lag(lag)));
            }
            other => panic!("{other:?}"),
        }
    }

    fn got_nothing(&mut self, index: usize, why: TryRecvError) {
        let reader = &mut self.readers[index];
        let before = reader.noted;
        reader.got_nothing(&self.lives[reader.life], why);
        if reader.noted != before {
            self.lives[reader.life].touched = self.now;
        }
        let (name, next) = (reader.name, reader.next);
        self.say(|| format!("reader {name} finds {why:?} at {next}"));
    }

    fn try_recv(&mut self, index: usize) -> bool {
        match self.readers[index].real.try_recv() {
            Ok(item) => self.got(index, item),
            Err(why) => {
                self.got_nothing(index, why);
                return false;
            }
        }
        true
    }

    fn poll_recv(&mut self, index: usize) -> bool {
        let reader = &mut self.readers[index];
        let waker = reader.waker();
        let polled = reader.real.poll_recv(&mut Context::from_waker(&waker));
        reader.unpark();
        match polled {
            Poll::Ready(Some(item)) => {
                self.got(index, item);
                return true;
            }
            Poll::Ready(None) => self.got_nothing(index, TryRecvError::Closed),
            Poll::Pending => {
                reader.park(self.now);
                self.got_nothing(index, TryRecvError::Empty);
            }
        }
        false
    }

    /// Tells whether there is something to read.
    fn poll_ready(&mut self, index: usize) -> bool {
        let reader = &mut self.readers[index];
        let waker = reader.waker();
        let polled = reader.real.poll_ready(&mut Context::from_waker(&waker));
        reader.unpark();
        let life = &self.lives[reader.life];
        match polled {
            Poll::Ready(Readiness::Readable) => {
                assert!(reader.has_something(life), "readable, at the end");
                return true;
            }
            Poll::Ready(Readiness::Heartbeat) => {
                assert!(reader.beats, "a heartbeat that nobody wants");
                assert!(!reader.has_something(life), "a heartbeat before an event");
            }
            Poll::Ready(Readiness::Closed) => self.got_nothing(index, TryRecvError::Closed),
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => {
                reader.park(self.now);
                self.got_nothing(index, TryRecvError::Empty);
            }
        }
        false
    }

    /// Up to `most` frames in one batch.
    fn batch(&mut self, index: usize, most: usize) -> bool {
        let (mut frames, mut told, mut nothing) = (Vec::new(), None, None);
        let end = self.lives[self.readers[index].life].end();
        match self.readers[index].real.try_batch() {
            Ok(mut batch) => {
                told = batch.lag();
                if most == usize::MAX {
                    let count = batch.for_each(|frame| frames.push(frame.clone()));
                    assert_eq!(count, frames.len());
                } else {
                    while frames.len() < most
                        && let Some(frame) = batch.next_frame()
                    {
                        frames.push(frame.clone());
                    }
                }
            }
            Err(why) => nothing = Some(why),
        }
        if let Some(why) = nothing {
            self.got_nothing(index, why);
            return false;
        }
        let count = frames.len();
        self.got_batch(index, told, &frames, false);
        let reader = &mut self.readers[index];
        let all = reader.next == end || reader.ended.is_some();
        assert!(all || count == most, "a batch that ends early");
        true
    }

    fn got_batch(&mut self, index: usize, told: Option<Lag>, frames: &[Frame], amid: bool) {
        let reader = &mut self.readers[index];
        let life = &mut self.lives[reader.life];
        let Reader { name, next, .. } = *reader;
        // Lag in the middle ends a batch; then the next one tells of it.
        assert!(
            amid || told.is_some() || !frames.is_empty(),
            "a batch of nothing"
        );
        if let Some(lag) = told {
            reader.got_lag(life, lag);
        }
        for frame in frames {
            reader.got_frame(life, frame, self.scenario.ids, amid);
        }
        reader.noted = reader.next;
        life.touched = self.now;
        let count = frames.len();
        self.say(|| {
            let told = told.map_or(String::new(), |lag| format!(", told of {}", self.lag(lag)));
            format!("reader {name} at {next}: a batch of {count}{told}")
        });
    }

    /// A lag notice as a trace has it.
    fn lag(&self, lag: Lag) -> String {
        let after = self.id(lag.resumed_after());
        match lag.missed() {
            Some(missed) => format!("{missed} missed, on after {after}"),
            None => format!("nobody knows what, on after {after}"),
        }
    }

    /// A reader takes some frames of a batch, others publish, and it takes the rest: what was there when the batch began,
    /// as far as it is still there.
    pub(super) fn hold_batch(&mut self) {
        let Some(index) = self.any_reader() else {
            return;
        };
        let some = self.rng.between(0, 20) as usize;
        let burst = self.rng.between(1, self.scenario.burst);
        // Taken out, so that the batch borrows nothing of the world.
        let mut reader = self.readers.swap_remove(index);
        let key = self.lives[reader.life].key;
        let end = self.lives[reader.life].end();
        let (mut frames, mut told, mut nothing) = (Vec::new(), None, None);
        match reader.real.try_batch() {
            Ok(mut batch) => {
                told = batch.lag();
                while frames.len() < some
                    && let Some(frame) = batch.next_frame()
                {
                    frames.push(frame.clone());
                }
                // What it is told of a gap is compared with the log as it is now.
                if told.is_none() {
                    for _ in 0..burst {
                        self.publish_to(key);
                    }
                }
                batch.for_each(|frame| frames.push(frame.clone()));
            }
            Err(why) => nothing = Some(why),
        }
        self.readers.push(reader);
        let index = self.readers.len() - 1;
        if let Some(why) = nothing {
            return self.got_nothing(index, why);
        }
        if told.is_none() {
            self.say(|| format!("{burst} to t{key} amid a batch that began before {end}"));
        }
        self.got_batch(index, told, &frames, told.is_none());
        let reader = &self.readers[index];
        assert!(reader.next <= end, "more than there was when it began");
    }
}
