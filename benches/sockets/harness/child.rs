//! A server in a process of its own, and what it costs.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::Patience;
use super::failure::{During as _, Failure};
use super::nchan::Nginx;
use super::options::Engine;
use super::proc;
use super::publisher::{Protocol, Publisher};
use super::servers::Setup;

#[derive(Debug)]
pub(crate) struct Server {
    /// Where `GET /stream/<topic>` and `POST /publish/<topic>` are answered.
    pub(crate) address: SocketAddr,
    pub(crate) publisher: Publisher,
    /// The process that does the work.
    pub(crate) pid: u32,
    _process: Process,
}

/// Ends with its owner.
#[derive(Debug)]
enum Process {
    Own(Child),
    Nginx { _nginx: Nginx },
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Own(child) = self {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Server {
    pub(crate) fn start(engine: Engine, setup: &Setup) -> Result<Self, Failure> {
        if engine == Engine::Nchan {
            let nginx = Nginx::start(setup.core)?;
            return Ok(Self {
                address: nginx.address,
                publisher: Publisher::connect(nginx.address, Protocol::Http)?,
                pid: nginx.worker,
                _process: Process::Nginx { _nginx: nginx },
            });
        }
        let program = env::current_exe().during("finding this program")?;
        let mut child = Command::new(program)
            .args(["--server", &engine.to_string()])
            .args(["--core", &setup.core.to_string()])
            .args(["--workers", &setup.workers.to_string()])
            .args(["--shards", &setup.shards.to_string()])
            .args(["--capacity", &setup.capacity.to_string()])
            .args(["--congestion", &setup.congestion.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .during("starting a server")?;
        let mut line = String::new();
        let stdout = child.stdout.take();
        let pid = child.id();
        let process = Process::Own(child);
        if let Some(stdout) = stdout {
            BufReader::new(stdout)
                .read_line(&mut line)
                .during("reading a server's addresses")?;
        }
        let mut addresses = line
            .split_ascii_whitespace()
            .map_while(|word| word.parse().ok());
        let (Some(address), Some(control)) = (addresses.next(), addresses.next()) else {
            return Err(Failure::Start {
                engine,
                why: format!("it said {line:?}"),
            });
        };
        Ok(Self {
            address,
            publisher: Publisher::connect(control, Protocol::Lines)?,
            pid,
            _process: process,
        })
    }

    pub(crate) fn meter(&self) -> Result<Meter, Failure> {
        Ok(Meter {
            pid: self.pid,
            cpu: proc::cpu_nanoseconds(self.pid)?,
            own: proc::cpu_nanoseconds(process::id())?,
            all: proc::busy_seconds()?,
            start: Instant::now(),
        })
    }

    /// Waits until the server has nothing to do.
    pub(crate) fn settle(
        &self,
        mut rest: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut patience = Patience::new();
        loop {
            let meter = self.meter()?;
            rest()?;
            let used = meter.read()?;
            if used.busy() < 0.02 {
                return Ok(());
            }
            patience.look(false, || "a server at rest".to_owned())?;
        }
    }
}

/// What a server has used since a moment.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    cpu: u64,
    /// Nanoseconds of this process.
    own: u64,
    /// Seconds of all.
    all: f64,
    start: Instant,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Seconds on the core.
    pub(crate) cpu: f64,
    /// Seconds that passed.
    pub(crate) wall: f64,
    /// Seconds that the cores spent on neither the server nor the client.
    others: f64,
}

impl Meter {
    pub(crate) fn read(&self) -> Result<Used, Failure> {
        let wall = self.start.elapsed().as_secs_f64();
        let seconds = |pid, before| -> Result<f64, Failure> {
            let nanoseconds = proc::cpu_nanoseconds(pid)?.saturating_sub(before);
            Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
        };
        let cpu = seconds(self.pid, self.cpu)?;
        let own = seconds(process::id(), self.own)?;
        let all = proc::busy_seconds()? - self.all;
        Ok(Used {
            cpu,
            wall,
            others: (all - cpu - own).max(0.0),
        })
    }
}

impl Used {
    /// The part of the core's time that the server was on it.
    pub(crate) fn busy(self) -> f64 {
        self.cpu / self.wall
    }

    /// What others used at the same time, in cores.
    pub(crate) fn others(self) -> f64 {
        self.others / self.wall
    }
}

/// `perf record` on a server, until it is dropped.
#[derive(Debug)]
pub(crate) struct Profile(Child);

impl Profile {
    pub(crate) fn start(pid: u32, file: Option<PathBuf>) -> Result<Option<Self>, Failure> {
        let Some(file) = file else { return Ok(None) };
        let child = Command::new("perf")
            .args(["record", "--quiet", "--call-graph", "fp", "--freq", "1999"])
            .args(["--pid", &pid.to_string(), "--output"])
            .arg(file)
            .stdout(Stdio::null())
            .spawn()
            .during("starting perf")?;
        Ok(Some(Self(child)))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // perf writes its file when it is interrupted.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::INT);
        }
        drop(self.0.wait());
    }
}
