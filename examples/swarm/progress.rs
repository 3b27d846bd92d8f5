//! What is shown while it runs: bars on a terminal, else a line now and then. Both go to stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::shared::{Plan, Shared};

/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// The last second or so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    pub(crate) per_second: f64,
    pub(crate) p99_nanos: u64,
}

pub(crate) struct Progress {
    /// `None` where there is no terminal.
    bars: Option<Bars>,
    lined: Instant,
    began: Instant,
}

struct Bars {
    connections: ProgressBar,
    events: ProgressBar,
    deliveries: ProgressBar,
}

impl Progress {
    pub(crate) fn new(plan: &Plan) -> Self {
        let now = Instant::now();
        Self {
            bars: io::stderr().is_terminal().then(|| Bars::new(plan)),
            lined: now,
            began: now,
        }
    }

    pub(crate) fn show(
        &mut self,
        plan: &Plan,
        shared: &Shared,
        now: Now,
        published_for: Option<Duration>,
    ) {
        use std::sync::atomic::Ordering::Relaxed;

        let (opened, failed) = (shared.opened.load(Relaxed), shared.failed.load(Relaxed));
        let (taken, refused) = (shared.taken.load(Relaxed), shared.refused.load(Relaxed));
        let rate = format!(
            "{:.0} deliveries/s, p99 {}",
            now.per_second,
            crate::report::time(now.p99_nanos)
        );
        let failures = if failed > 0 {
            format!(", {failed} failed")
        } else {
            String::new()
        };
        let refusals = if refused > 0 {
            format!(", {refused} not taken")
        } else {
            String::new()
        };
        if let Some(bars) = &self.bars {
            bars.connections.set_position(opened as u64);
            bars.connections.set_message(failures);
            let position = match (plan.options.events, published_for) {
                (Some(_), _) => taken + refused,
                (None, time) => time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0)),
            };
            bars.events.set_position(position);
            bars.events
                .set_message(format!("{taken} published{refusals}"));
            bars.deliveries.set_message(rate);
        } else if self.lined.elapsed() >= LINE {
            self.lined = Instant::now();
            let seconds = self.began.elapsed().as_secs();
            let all = plan.options.connections;
            // A closed stderr is no reason to end.
            drop(writeln!(
                io::stderr(),
                "{seconds:>4} s: {opened} of {all} connections{failures}, {taken} published{refusals}, {rate}"
            ));
        }
    }

    /// Takes the bars away: the report takes their place.
    pub(crate) fn finish(&self) {
        if let Some(bars) = &self.bars {
            for bar in [&bars.connections, &bars.events, &bars.deliveries] {
                bar.finish_and_clear();
            }
        }
    }
}

impl Bars {
    fn new(plan: &Plan) -> Self {
        let all = MultiProgress::new();
        let style = |template: &str| {
            // The templates are constants; a bad one would show the default.
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let events = plan.options.events;
        let millis = u64::try_from(plan.options.duration().as_millis()).unwrap_or(u64::MAX);
        let bars = Self {
            connections: all.add(ProgressBar::new(plan.options.connections as u64)),
            events: all.add(ProgressBar::new(events.unwrap_or(millis))),
            deliveries: all.add(ProgressBar::no_length()),
        };
        let connections = "connections {bar:40} {pos}/{len}{msg}";
        bars.connections.set_style(style(connections));
        bars.events.set_style(style("events      {bar:40} {msg}"));
        bars.deliveries.set_style(style("            {msg}"));
        bars
    }
}
