//! The chart of `fan-out`: time per delivery over subscribers, both logarithmic, a line per engine, a panel per burst.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::combinators::LogScalable as _;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::args::{Question, grouped};
use crate::fan_out;
use crate::report::{Report, Table};

const PANEL: (u32, u32) = (430, 400);
const TOP: u32 = 84;
const BOTTOM: u32 = 54;
const FONT: &str = "sans-serif";

/// fanfare first; told apart by those who do not tell red from green as well (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(228, 228, 228);

type Failure = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Subscribers and nanoseconds per delivery of one engine.
struct Line {
    engine: String,
    points: Vec<(f64, f64)>,
}

/// One burst.
struct Panel {
    burst: u32,
    lines: Vec<Line>,
}

fn panels(tables: &[Table]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for table in tables {
        let Some(burst) = table.head.burst else {
            continue;
        };
        if table.head.question != Question::FanOut {
            continue;
        }
        let at = panels.iter().position(|panel| panel.burst == burst);
        let at = at.unwrap_or_else(|| {
            let lines = Vec::new();
            panels.push(Panel { burst, lines });
            panels.len() - 1
        });
        let lines = &mut panels[at].lines;
        for row in &table.rows {
            let at = lines.iter().position(|line| line.engine == row.engine);
            let at = at.unwrap_or_else(|| {
                lines.push(Line {
                    engine: row.engine.clone(),
                    points: Vec::new(),
                });
                lines.len() - 1
            });
            if let Some(value) = row.value {
                let point = (f64::from(table.head.size), value.median);
                lines[at].points.push(point);
            }
        }
    }
    panels
}

/// Draws all panels with one scale of time into `file`.
pub(crate) fn draw(report: &Report, file: &Path) -> Result<(), Failure> {
    let panels = panels(&report.tables);
    let count = u32::try_from(panels.len())?;
    let size = (PANEL.0 * count.max(1), TOP + PANEL.1 + BOTTOM);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, rest) = root.split_vertically(TOP);
    let (body, foot) = rest.split_vertically(PANEL.1);
    title(&head)?;
    if let Some(first) = panels.first() {
        legend(&head, size.0, &first.lines)?;
    }
    let points = || {
        let lines = panels.iter().flat_map(|panel| &panel.lines);
        lines.flat_map(|line| line.points.iter().copied())
    };
    let (across, up) = (
        decades(points().map(|(x, _)| x)),
        decades(points().map(|(_, y)| y)),
    );
    let areas = body.split_evenly((1, panels.len().max(1)));
    for (panel, area) in panels.iter().zip(&areas) {
        draw_panel(panel, area, across.clone(), up.clone())?;
    }
    footnote(&foot, report)?;
    root.present()?;
    Ok(())
}

fn title(area: &Area<'_>) -> Result<(), Failure> {
    let style = (FONT, 25).into_font().style(FontStyle::Bold).color(&INK);
    let text = "Time per delivery until all subscribers have received, a tokio task each";
    area.draw(&Text::new(text, (24, 16), style))?;
    Ok(())
}

/// Names in a row, as wide as the whole.
fn legend(area: &Area<'_>, width: u32, lines: &[Line]) -> Result<(), Failure> {
    let width = i32::try_from(width)? - 48;
    let count = i32::try_from(lines.len().max(1))?;
    let rows = if width / count < 130 { 2 } else { 1 };
    let in_row = (count + rows - 1) / rows;
    let anchor = Pos::new(HPos::Left, VPos::Center);
    for (at, (line, color)) in (0..).zip(lines.iter().zip(COLORS)) {
        let x = 24 + at % in_row * (width / in_row).min(150);
        let y = 52 + at / in_row * 18;
        let style = color.stroke_width(thickness(&line.engine));
        area.draw(&PathElement::new(vec![(x, y), (x + 20, y)], style))?;
        area.draw(&Circle::new((x + 10, y), 3, color.filled()))?;
        let text = (FONT, 16).into_font().color(&INK).pos(anchor);
        area.draw(&Text::new(line.engine.clone(), (x + 26, y), text))?;
    }
    Ok(())
}

fn thickness(engine: &str) -> u32 {
    if engine == "fanfare" { 3 } else { 2 }
}

/// The powers of ten around `values`.
fn decades(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    if most <= 0.0 {
        return 1.0..10.0;
    }
    let floor = 10.0_f64.powf(least.log10().floor());
    let ceiling = 10.0_f64.powf(most.log10().ceil());
    floor..ceiling.max(floor * 10.0)
}

fn draw_panel(
    panel: &Panel,
    area: &Area<'_>,
    across: Range<f64>,
    up: Range<f64>,
) -> Result<(), Failure> {
    let caption = fan_out::events(panel.burst);
    let label = (FONT, 15).into_font().color(&INK);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 19).into_font().color(&INK))
        .margin_left(12)
        .margin_right(36)
        .x_label_area_size(50)
        .y_label_area_size(66)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(label.clone())
        .axis_desc_style(label)
        .x_desc("subscribers")
        .y_desc("nanoseconds per delivery")
        .x_label_formatter(&|x| plain(x.as_f64()))
        .y_label_formatter(&|y| plain(y.as_f64()))
        .draw()?;
    // fanfare last, on top of the others.
    for (line, color) in panel.lines.iter().zip(COLORS).rev() {
        let style = color.stroke_width(thickness(&line.engine));
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        let points = line.points.iter();
        chart.draw_series(points.map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    Ok(())
}

fn plain(value: f64) -> String {
    if value < 1.0 {
        return format!("{value}");
    }
    grouped(format!("{value:.0}"))
}

fn footnote(area: &Area<'_>, report: &Report) -> Result<(), Failure> {
    let machine = &report.machine;
    let style = (FONT, 15).into_font().color(&RGBColor(110, 110, 110));
    let text = format!(
        "{}, {} cores · {} · {}",
        machine.cpu, machine.cores, machine.system, machine.rustc
    );
    area.draw(&Text::new(text, (24, 8), style.clone()))?;
    let text = format!(
        "cargo run --release --example compare · commit {} · medians of {} interleaved rounds · lower is better",
        machine.commit, report.settings.rounds
    );
    area.draw(&Text::new(text, (24, 28), style))?;
    Ok(())
}
