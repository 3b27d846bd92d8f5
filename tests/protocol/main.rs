//! The protocols' types: what is read is written again, equal values are equal bytes, and what is wrong is named.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod a2a;
mod ag_ui;
#[path = "../common/alloc.rs"]
#[expect(dead_code, reason = "only the count of allocations is needed here")]
mod alloc;
mod allocations;
mod applications;
mod json;
mod sse;
mod written;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `json`, writes it, and expects the same value. Returns what was read.
#[track_caller]
fn same<T: Serialize + DeserializeOwned>(json: &str) -> T {
    let read: T = serde_json::from_str(json).unwrap();
    let wanted: Value = serde_json::from_str(json).unwrap();
    let written = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), wanted);
    read
}

/// The error of reading `json`, without the place.
#[track_caller]
fn error<T: DeserializeOwned>(json: &str) -> String {
    let text = match serde_json::from_str::<T>(json) {
        Ok(_) => panic!("{json} was read"),
        Err(error) => error.to_string(),
    };
    text.split(" at line ").next().unwrap().to_owned()
}
