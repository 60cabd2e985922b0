//! The plots of the README, from the saved figures of the benches.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use plotters::coord::combinators::IntoLogRange;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use crate::csv::Csv;

/// One of the plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plot {
    /// Hand-over of a lock among processes: benches/handover.
    Handover,
    /// Many locks, and many waiters: benches/scale.
    Scale,
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handover => "handover",
            Self::Scale => "scale",
        })
    }
}

impl Plot {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Handover, Self::Scale];

    /// The file with its figures.
    pub fn figures(self) -> PathBuf {
        folder().join(format!("{self}.csv"))
    }

    /// The file with the plot.
    pub fn picture(self) -> PathBuf {
        folder().join(format!("{self}.svg"))
    }

    /// Draws it. The same figures give the same text.
    ///
    /// # Errors
    ///
    /// If the figures lack the shown ones.
    pub fn draw(self, figures: &str) -> Result<String, Box<dyn Error>> {
        let csv = Csv::parse(figures)?;
        let (title, panels) = match self {
            Self::Handover => ("Hand-over of a lock held for 200 µs", handover(&csv)?),
            Self::Scale => ("Many locks, many waiters", scale(&csv)?),
        };
        if let Some(panel) = panels.iter().find(|panel| panel.curves.is_empty()) {
            return Err(format!("no figures for {}", panel.title).into());
        }
        draw(title, &panels)
    }
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/pictures"))
}

struct Panel {
    title: &'static str,
    across: &'static str,
    up: &'static str,
    curves: Vec<(String, Vec<(f64, f64)>)>,
    /// The base of the logarithmic x axis.
    base: f64,
    /// The range of a linear y axis.
    linear: Option<Range<f64>>,
}

fn handover(csv: &Csv) -> Result<Vec<Panel>, String> {
    let curves = |figure| {
        csv.values("contender")?
            .into_iter()
            .map(|contender| {
                let whose = [("contender", contender), ("held_us", "200")];
                Ok((contender.to_owned(), csv.points(&whose, ("processes", figure))?))
            })
            .collect::<Result<Vec<_>, String>>()
    };
    let across = "processes";
    Ok(vec![
        Panel {
            title: "hand-over, median",
            across,
            up: "µs",
            curves: curves("handover_us_median")?,
            base: 2.0,
            linear: None,
        },
        Panel {
            title: "fairness",
            across,
            up: "Jain's index",
            curves: curves("jain")?,
            base: 2.0,
            linear: Some(0.0..1.05),
        },
    ])
}

/// The names of the curves in the figures and in the plot.
const SCALE: [(&str, &str); 7] = [
    ("list stale", "list"),
    ("sweep stale", "sweep"),
    ("status held", "status of one"),
    ("acquire all", "acquire all, one process"),
    ("threads Acquire all had it", "acquire, waiting threads, all had it"),
    ("threads Timeout all had it", "acquire_timeout, the same"),
    ("processes Acquire all had it", "acquire, waiting processes, all had it"),
];

/// The panels for the first filesystem in the figures.
fn scale(csv: &Csv) -> Result<Vec<Panel>, String> {
    let filesystem = *csv.values("filesystem")?.first().ok_or("no figures")?;
    let curves = |figure| {
        SCALE
            .iter()
            .map(|&(curve, name)| {
                let whose = [("curve", curve), ("filesystem", filesystem)];
                let mut points = csv.points(&whose, ("count", figure))?;
                // A logarithmic scale has no zero.
                points.retain(|point| point.1 > 0.0);
                Ok((name.to_owned(), points))
            })
            .filter(|curve| curve.as_ref().map_or(true, |(_, points)| !points.is_empty()))
            .collect::<Result<Vec<_>, String>>()
    };
    let across = "locks or waiters";
    Ok(vec![
        Panel {
            title: "time",
            across,
            up: "ms",
            curves: curves("milliseconds")?,
            base: 10.0,
            linear: None,
        },
        Panel {
            title: "memory",
            across,
            up: "KiB",
            curves: curves("kib")?,
            base: 10.0,
            linear: None,
        },
    ])
}

/// Colours that are safe for colour blindness (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

const WIDTH: u32 = 820;
const HEIGHT: u32 = 360;
/// A line of the legend, below the panels.
const LINE: u32 = 18;

fn draw(title: &str, panels: &[Panel]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let names: Vec<&String> = panels[0].curves.iter().map(|(name, _)| name).collect();
    let legend = LINE * names.len().div_ceil(2) as u32 + 10;
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT + legend)).into_drawing_area();
        // White, so that it is readable on a dark page.
        root.fill(&WHITE)?;
        let (plots, below) = root.titled(title, ("sans-serif", 18))?.split_vertically(HEIGHT - 30);
        for (area, panel) in plots.split_evenly((1, panels.len())).iter().zip(panels) {
            let (across, up) = (range(panel, |point| point.0), range(panel, |point| point.1));
            let mut chart = ChartBuilder::on(area);
            chart.margin(10).x_label_area_size(40).y_label_area_size(60);
            chart.caption(panel.title, ("sans-serif", 15));
            // The kind of axis is part of the chart's type.
            match &panel.linear {
                Some(up) => {
                    let chart = chart
                        .build_cartesian_2d(across.log_scale().base(panel.base), up.clone())?;
                    curves(chart, panel)?;
                }
                None => curves(
                    chart
                        .build_cartesian_2d(across.log_scale().base(panel.base), up.log_scale())?,
                    panel,
                )?,
            }
        }
        for (at, name) in names.iter().enumerate() {
            let (column, row) = ((at % 2) as i32, (at / 2) as i32);
            let (x, y) = (60 + column * WIDTH as i32 / 2, row * LINE as i32 + LINE as i32 / 2);
            let colour = COLOURS[at % COLOURS.len()];
            below.draw(&PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(2)))?;
            below.draw(&Text::new((*name).clone(), (x + 28, y - 6), ("sans-serif", 13)))?;
        }
        root.present()?;
    }
    Ok(text)
}

fn curves<'a, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, Y>>,
    panel: &Panel,
) -> Result<(), Box<dyn Error>>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(panel.across).y_desc(panel.up).max_light_lines(0);
    let label = |at: &f64| ((at * 1e4).round() / 1e4).to_string();
    mesh.x_label_formatter(&label).y_label_formatter(&label).draw()?;
    for (at, (_, points)) in panel.curves.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()].stroke_width(2);
        chart.draw_series(LineSeries::new(points.clone(), colour).point_size(3))?;
    }
    Ok(())
}

/// From the least to the greatest, with a margin at both ends.
fn range(panel: &Panel, of: fn(&(f64, f64)) -> f64) -> Range<f64> {
    let all = panel.curves.iter().flat_map(|(_, points)| points.iter().map(of));
    let (least, most) =
        all.fold((f64::MAX, f64::MIN), |(least, most), one| (least.min(one), most.max(one)));
    least * 0.8..most * 1.25
}
