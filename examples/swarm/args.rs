//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;

use crate::failure::Failure;
use crate::target::{self, Url};

const EXAMPLES: &str = "\
Examples:
  swarm http://127.0.0.1:8080/events/news --publish /publish/news
  swarm http://127.0.0.1:8080/events/{i} --publish /publish/{i} --connections 1000 --paths 100 --rate 500
  swarm http://127.0.0.1:8080/events/news --publish /publish/news --connections 10000 --pid $(pgrep -x live) --svg out.svg
  swarm http://127.0.0.1:8080/events/machine --connections 100 --duration 5

The exit code is 0 if every connection opened and stayed open and every event came once and in order, 1 if not or if
the run could not be made, 2 if the options are wrong.";

/// Opens many connections to an SSE server, publishes, and checks what every connection receives
#[derive(Debug, Parser)]
#[command(name = "swarm", after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The stream, http://host:port/path; {i} in it becomes the number of the path, from 0
    url: String,

    /// Connections
    #[arg(short, long, default_value_t = 1000, value_parser = range(1, 10_000_000))]
    pub(crate) connections: usize,

    /// Different paths where the URL has {i}; connection c takes path c modulo this [default: one for each connection]
    #[arg(long, value_parser = range(1, 10_000_000))]
    paths: Option<usize>,

    /// Connections to open per second [default: as fast as they are answered]
    #[arg(long, value_parser = seconds_or_rate)]
    pub(crate) ramp: Option<f64>,

    /// Connections that may wait for their response head at a time
    #[arg(long, default_value_t = 128, value_parser = range(1, 1 << 20))]
    pub(crate) in_flight: usize,

    /// Local addresses to connect from, such as 127.0.0.1-127.0.0.8 or 10.0.0.2,10.0.0.3: each has about 28,000 ports [default: the system's choice; more of 127.0.0.0/8 on the loopback device when one is not enough]
    #[arg(long, value_name = "ADDRESSES", value_parser = Sources::parse)]
    source: Option<Sources>,

    /// Threads that read
    #[arg(long, default_value_t = 1, value_parser = range(1, 1024))]
    pub(crate) threads: usize,

    /// Where to POST events: a URL, or a path of the same server; {i} as above. Without it the run only listens
    #[arg(long, value_name = "URL")]
    publish: Option<String>,

    /// Events to publish per second, over all paths together; 0 is as fast as the server answers
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    pub(crate) rate: f64,

    /// Events to publish at a time, one after the other; the rate stays what it is
    #[arg(long, default_value_t = 1, value_parser = range(1, 1 << 20))]
    pub(crate) burst: usize,

    /// Bytes of an event; what the stamp alone needs, about 70, is the least
    #[arg(long, default_value_t = 128, value_parser = range(0, 4 << 20))]
    pub(crate) size: usize,

    /// Seconds to publish, or to listen
    #[arg(long, default_value_t = 10.0, value_parser = seconds_or_rate)]
    duration: f64,

    /// Events to publish, instead of a duration
    #[arg(long, conflicts_with = "duration", requires = "publish")]
    pub(crate) events: Option<u64>,

    /// Keep-alive connections that publish, each with paths of its own: an order across connections would mean nothing
    #[arg(long, default_value_t = 1, value_parser = range(1, 1024))]
    pub(crate) publishers: usize,

    /// Content type of what is published
    #[arg(long, default_value = "application/json")]
    pub(crate) content_type: String,

    /// Open a stream again that has ended, with Last-Event-ID, after what the server's `retry:` says (else 1 s)
    #[arg(long)]
    pub(crate) reconnect: bool,

    /// Share of the connections that read slowly, 0 to 1; they are reported apart
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) slow: f64,

    /// Bytes per second that a slow connection reads; 0 is never
    #[arg(long, default_value_t = 0)]
    pub(crate) slow_rate: u32,

    /// What slow connections miss counts as loss
    #[arg(long)]
    pub(crate) count_slow: bool,

    /// Seconds without any event after which what is missing counts as lost
    #[arg(long, default_value_t = 5.0, value_parser = seconds_or_rate)]
    drain: f64,

    /// Seconds that a response head may take
    #[arg(long, default_value_t = 10.0, value_parser = seconds_or_rate)]
    connect_timeout: f64,

    /// Processes of the server, separated by commas: their time on a core and memory are reported (Linux)
    #[arg(long, value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,

    /// Writes all figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draws latency by percentile and deliveries over time
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// The table and the drawing as a page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Where the connections and the events go.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) stream: Url,
    pub(crate) publish: Option<Url>,
    /// Paths of the streams.
    pub(crate) paths: u32,
    /// Sequences of events: one for each path, or one for all.
    pub(crate) sequences: u32,
}

impl Options {
    pub(crate) fn targets(&self) -> Result<Targets, Failure> {
        let stream = Url::parse(&self.url)?;
        let publish = self.publish.as_deref().map(|text| stream.join(text));
        let publish = publish.transpose()?;
        let paths = match (stream.has_place(), self.paths) {
            (true, paths) => paths.unwrap_or(self.connections),
            (false, None | Some(1)) => 1,
            (false, Some(_)) => {
                return Err(Failure::Options(
                    "--paths needs a {i} in the URL: it becomes the number of the path, e.g. http://host/events/{i}"
                        .to_owned(),
                ));
            }
        };
        let paths = paths.min(self.connections);
        let many = publish.as_ref().is_some_and(Url::has_place);
        if many && !stream.has_place() {
            return Err(Failure::Options(
                "--publish has a {i} but the URL has none: events of different paths would mix on one stream, and their order could not be checked"
                    .to_owned(),
            ));
        }
        let paths = u32::try_from(paths).unwrap_or(u32::MAX);
        Ok(Targets {
            stream,
            publish,
            paths,
            sequences: if many { paths } else { 1 },
        })
    }

    /// Empty where the system may choose.
    pub(crate) fn sources(&self) -> Option<&[IpAddr]> {
        self.source.as_ref().map(|sources| sources.0.as_slice())
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs_f64(self.drain)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.connect_timeout)
    }
}

/// More than one address in one option.
#[derive(Debug, Clone)]
struct Sources(Vec<IpAddr>);

impl Sources {
    fn parse(text: &str) -> Result<Self, String> {
        target::parse_sources(text).map(Self)
    }
}

fn range(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}

fn share(text: &str) -> Result<f64, String> {
    between(text, 0.0, 1.0)
}

fn rate(text: &str) -> Result<f64, String> {
    between(text, 0.0, 1e7)
}

fn seconds_or_rate(text: &str) -> Result<f64, String> {
    between(text, 0.01, 1e6)
}

fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("a number from {least} to {most}")),
    }
}
