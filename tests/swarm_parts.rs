//! The parts of the example `swarm`, with the unit tests that stand in them: cargo runs none of an example's own when it is to
//! build the example too.

#![allow(dead_code, reason = "the parts without the program")]

#[path = "../examples/swarm/failure.rs"]
mod failure;
#[path = "../examples/swarm/http.rs"]
mod http;
#[path = "../examples/swarm/ledger.rs"]
mod ledger;
#[path = "../examples/swarm/payload.rs"]
mod payload;
#[path = "../examples/swarm/plot.rs"]
mod plot;
#[path = "../examples/swarm/reason.rs"]
mod reason;
#[path = "../examples/swarm/report.rs"]
mod report;
#[path = "../examples/swarm/scan.rs"]
mod scan;
#[path = "../examples/swarm/target.rs"]
mod target;
