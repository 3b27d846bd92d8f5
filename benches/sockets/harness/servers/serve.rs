//! `fanfare::serve`: streams go to the reactor, the rest to hyper.

use fanfare::{Hub, Reactor};
use tokio::runtime;

use super::control::{self, Publish};
use super::{Listeners, Setup, fanfare as task_path};
use crate::harness::failure::{During as _, Failure};
use crate::harness::options::Engine;

#[derive(Debug)]
struct Engines {
    hub: Hub,
    reactor: Reactor,
}

impl Publish for Engines {
    fn publish(&self, topic: u32, payload: &str) {
        Publish::publish(&self.hub, topic, payload);
    }

    fn shards(&self) -> Vec<usize> {
        self.reactor.connections_per_shard()
    }
}

pub(super) fn run(listeners: Listeners, setup: &Setup) -> Result<(), Failure> {
    let hub = task_path::hub();
    let reactor = super::reactor::reactor(setup, Engine::FanfareServe)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("building a runtime")?;
    listeners.announce()?;
    let Listeners { streams, control } = listeners;
    let engines = Engines {
        hub: hub.clone(),
        reactor: reactor.clone(),
    };
    runtime.block_on(async {
        let serving = fanfare::serve(streams, task_path::router(hub))
            .stream("/stream/{topic}")
            .reactor(reactor);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("fanfare-serve: {error}");
            }
        });
        control::on_task(control, engines).await
    })?;
    runtime.shutdown_background();
    Ok(())
}
