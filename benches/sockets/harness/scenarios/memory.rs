//! What connections cost while nothing happens, and while some of them do not read.

use super::stage::Stage;
use super::{Cell, Metric, Values, float};
use crate::harness::client::Wanted;
use crate::harness::failure::Failure;
use crate::harness::options::{Engine, Options};
use crate::harness::proc::{SocketMemory, anonymous_bytes, socket_memory};

/// One of so many connections is there before the rest is counted, so that what a server needs once is not.
const BEFORE: usize = 39;

/// One of so many clients does not read.
const STALLED: usize = 10;

/// Bytes sent to each client that reads, and to a stalled one as far as it takes them.
const SENT: u64 = 26_000_000;

/// Events outstanding at the clients that read.
const OUTSTANDING: u64 = 16;

/// Memory is looked at after so many events.
const LOOK: u64 = 1_000;

/// Receive buffer of a client that does not read, in bytes: the least that the system gives.
const SMALL: usize = 1;

pub(super) fn idle(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::bare(cell, engine, &options.setup())?;
    let first = cell.connections / BEFORE + 1;
    stage.connect(first)?;
    stage.warm_up()?;
    let pid = stage.server.pid;
    let base = anonymous_bytes(pid)?;
    stage.connect(cell.connections - first)?;
    stage.settle()?;
    let per_connection =
        |bytes: u64| (float(bytes) - float(base)) / float((cell.connections - first) as u64);
    let idle = per_connection(anonymous_bytes(pid)?);
    stage.deliver(1)?;
    stage.settle()?;
    let used = per_connection(anonymous_bytes(pid)?);
    Ok(vec![(Metric::Idle, idle), (Metric::Used, used)])
}

pub(super) fn stalled(cell: &Cell, engine: Engine, options: &Options) -> Result<Values, Failure> {
    let mut stage = Stage::bare(cell, engine, &options.setup())?;
    let stalled = cell.connections.div_ceil(STALLED);
    let wanted = Wanted {
        receive_buffer: Some(SMALL),
        ..Wanted::topic(0)
    };
    let prepared = stage.client.prepare(std::iter::repeat_n(wanted, stalled))?;
    stage.client.connect(stage.server.address, prepared)?;
    stage.connect(cell.connections - stalled)?;
    stage.warm_up()?;
    for index in 0..stalled {
        stage.client.stall(index)?;
    }
    let pid = stage.server.pid;
    let port = stage.server.address.port();
    let base = anonymous_bytes(pid)?;
    let kernel_base = socket_memory(port).unwrap_or_default();
    let mut peak = base;
    let mut next_look = LOOK;
    let first = stage.next;
    let bytes = cell.bytes as u64;
    let events = if options.is_smoke() {
        LOOK
    } else {
        SENT / bytes
    };
    stage.deliver_many(cell.connections - stalled, OUTSTANDING, |window| {
        let sent = window.complete - first;
        if sent >= next_look {
            next_look += LOOK;
            peak = peak.max(anonymous_bytes(pid)?);
        }
        Ok(sent >= events)
    })?;
    stage.settle()?;
    peak = peak.max(anonymous_bytes(pid)?);
    let mut values = vec![(Metric::Growth, float(peak - base) / 1024.0)];
    if let Some(SocketMemory { held, send_limit }) = socket_memory(port) {
        let each = float(held.saturating_sub(kernel_base.held)) / float(stalled as u64);
        values.push((Metric::Kernel, each / 1024.0));
        // The kernel doubles what it is asked for.
        values.push((Metric::KernelPerBuffer, each / (float(send_limit) / 2.0)));
    }
    Ok(values)
}
