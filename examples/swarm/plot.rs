//! The drawing: latency by percentile, and deliveries over time.

use std::error::Error;
use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::{Report, group, whole};

const SIZE: (u32, u32) = (900, 760);
const BLUE_LINE: RGBColor = RGBColor(31, 119, 180);
const LABELS: (&str, u32) = ("sans-serif", 14);
const RED_LINE: RGBColor = RGBColor(214, 39, 40);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// Both charts as one SVG.
pub(crate) fn svg(report: &Report) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        latency(&upper, report)?;
        deliveries(&lower, report)?;
        root.present()?;
    }
    Ok(out)
}

/// Both axes are logarithmic: each step to the right has a tenth of the events to its right.
fn latency(area: &Area<'_>, report: &Report) -> Drawn {
    // 1 / (1 - quantile), so that 90 %, 99 % and 99.9 % are as far apart as they matter.
    let points = report.latency_curve.iter().map(|&(percentile, micros)| {
        let odds = 100.0 / (100.0 - percentile).max(1e-4);
        (odds, micros / 1000.0)
    });
    let points: Vec<(f64, f64)> = points.collect();
    let most = points.iter().map(|point| point.1).fold(0.001, f64::max);
    let least = points.iter().map(|point| point.1).fold(most, f64::min);
    let right = points.iter().map(|point| point.0).fold(10.0, f64::max);
    let title = format!(
        "Latency, publish to parse, {} connections",
        group(report.connections.opened as u64)
    );
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(90)
        .build_cartesian_2d(
            (1.0..right).log_scale(),
            ((least * 0.8).max(1e-4)..most * 1.25).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("ms")
        .label_style(LABELS)
        .max_light_lines(0)
        .x_label_formatter(&|odds| percent(*odds))
        .draw()?;
    chart.draw_series(LineSeries::new(points, BLUE_LINE.stroke_width(2)))?;
    Ok(())
}

/// `10` is 90 %, `1000` is 99.9 %.
fn percent(odds: f64) -> String {
    let text = format!("{:.4}", 100.0 - 100.0 / odds);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

fn deliveries(area: &Area<'_>, report: &Report) -> Drawn {
    let points = report
        .series
        .iter()
        .map(|point| (point.seconds, point.per_second));
    let points: Vec<(f64, f64)> = points.collect();
    let most = points.iter().map(|point| point.1).fold(1.0, f64::max);
    let end = points.last().map_or(1.0, |point| point.0.max(0.1));
    let p99 = report
        .series
        .iter()
        .map(|point| (point.seconds, point.p99_us / 1000.0));
    let p99: Vec<(f64, f64)> = p99.collect();
    let slowest = p99.iter().map(|point| point.1).fold(0.01, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(
            "Deliveries per second (blue), p99 of the moment (red, ms)",
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(90)
        .right_y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..most * 1.1)?
        .set_secondary_coord(0.0..end, 0.0..slowest * 1.1);
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("deliveries per second")
        .y_label_formatter(&|count| group(whole(*count)))
        .label_style(LABELS)
        .max_light_lines(0)
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_desc("ms")
        .label_style(LABELS)
        .draw()?;
    chart.draw_series(LineSeries::new(points, BLUE_LINE.stroke_width(2)))?;
    chart.draw_secondary_series(LineSeries::new(p99, RED_LINE.stroke_width(1)))?;
    Ok(())
}

/// The table and the charts as a page that loads nothing.
pub(crate) fn html(report: &Report) -> Result<String, Box<dyn Error>> {
    let mut out = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>swarm</title>\
         <style>body{font:15px system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}\
         td{padding:.15em 1.2em .15em 0;vertical-align:top}.bad{color:#b00}svg{max-width:100%;height:auto}</style>",
    );
    write!(
        out,
        "<h1>swarm</h1><p>{}<br>{}</p>",
        escape(&report.url),
        escape(&report.machine)
    )?;
    for fault in &report.verdict.faults {
        write!(out, "<p class=\"bad\">{}</p>", escape(fault))?;
    }
    for note in &report.verdict.notes {
        write!(out, "<p>{}</p>", escape(note))?;
    }
    out.push_str("<table>");
    for (name, value) in report.rows() {
        write!(out, "<tr><td>{}<td>{}", escape(name), escape(&value))?;
    }
    write!(out, "</table>{}</html>", svg(report)?)?;
    Ok(out)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_labelled_as_one_says_them() {
        assert_eq!(percent(1.0), "0 %");
        assert_eq!(percent(10.0), "90 %");
        assert_eq!(percent(1000.0), "99.9 %");
    }
}
