//! Writing allocates nothing but the output.

use fanfare::protocol::a2a::{StreamResponse, V0_3};
use fanfare::protocol::ag_ui::Event;
use fanfare::protocol::{analytics, context};
use serde::Serialize;

use crate::a2a::RESPONSES;
use crate::alloc::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[track_caller]
fn writes_without_allocation<T: Serialize>(value: &T) {
    let mut out = Vec::with_capacity(1 << 16);
    let made = allocations(|| serde_json::to_writer(&mut out, value).unwrap());
    assert_eq!(made, 0, "{}", String::from_utf8_lossy(&out));
}

#[test]
fn writing_allocates_nothing() {
    for event in crate::written::built() {
        writes_without_allocation(&event);
        writes_without_allocation(&context::Event::from(event));
    }
    for object in crate::ag_ui::fixture() {
        writes_without_allocation(&serde_json::from_value::<Event>(object).unwrap());
    }
    for (json, _) in RESPONSES {
        let response: StreamResponse = serde_json::from_str(json).unwrap();
        writes_without_allocation(&response);
        writes_without_allocation(&V0_3(&response));
    }
    writes_without_allocation(&analytics::Event::from(analytics::PageView::new("s", "/")));
}
