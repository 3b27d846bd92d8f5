//! Two publishers and one reader across a segment's end: every frame once, in offset order, fully written.

use loom::thread;

use super::check;
use crate::encode::encode;
use crate::event::Event;
use crate::frame::Frame;
use crate::log::{Cursor, Log, Reader, Step};
use crate::sync::{Arc, epoch};

fn frame(text: &str) -> Frame {
    encode(Event::text(text), 100, true).expect("a valid event")
}

fn append(log: &Log, text: &str) {
    let guard = epoch::pin();
    log.append(frame(text), 7, || 0, &guard).expect("open");
}

#[test]
fn two_publishers() {
    check("two_publishers", Some(3), || {
        let log = Arc::new(Log::new());
        let publishers: Vec<_> = ["a", "b"]
            .map(|text| {
                let log = log.clone();
                thread::spawn(move || append(&log, text))
            })
            .into();
        let mut cursor = Cursor::at(1);
        let mut seen = Vec::new();
        let mut read = |cursor: &mut Cursor| {
            let guard = epoch::pin();
            let mut reader = Reader::new(&log, &guard, cursor);
            while let Step::Frame(frame) = reader.step() {
                seen.push((
                    frame.id().expect("an id").offset(),
                    frame.data().into_owned(),
                ));
            }
        };
        read(&mut cursor);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        read(&mut cursor);
        assert_eq!(
            seen.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(),
            [1, 2]
        );
        let mut data: Vec<_> = seen.iter().map(|(_, data)| data.as_str()).collect();
        data.sort_unstable();
        assert_eq!(data, ["a", "b"]);
    });
}
