//! Plots as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::report::{Point, Results};

/// Of a plot, in pixels.
const SIZE: (u32, u32) = (720, 420);
/// Of the lines, in the order of the stores: tells apart without telling red from green.
const COLOURS: [RGBColor; 2] = [RGBColor(0xD5, 0x5E, 0x00), RGBColor(0x00, 0x72, 0xB2)];

/// Draws every plot of the results into `directory`.
///
/// # Errors
/// When the directory cannot be written.
pub(super) fn draw(results: &Results, directory: &Path) -> Result<()> {
    for (name, axis) in [("clients", "devices that push, 16 unanswered each"), ("payload", "bytes of an envelope")] {
        if let Some(lines) = results.plots.get(name) {
            let lines: Vec<(&str, &[Point])> =
                lines.iter().map(|(store, points)| (store.as_str(), points.as_slice())).collect();
            let path = directory.join(format!("{name}.svg"));
            // Its errors borrow from the drawing.
            one(&path, axis, &lines).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn one(path: &Path, axis: &str, lines: &[(&str, &[Point])]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points.iter());
    let bound = |values: Vec<f64>, pick: fn(f64, f64) -> f64, start| values.into_iter().fold(start, pick);
    let xs: Vec<f64> = points().map(|point| point.x).collect();
    let (from, to) = (bound(xs.clone(), f64::min, f64::MAX), bound(xs, f64::max, 0.0));
    let top = bound(points().map(|point| point.y).collect(), f64::max, 1.0) * 1.1;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((from..to.max(from * 2.0)).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(axis)
        .y_desc("durable pushes a second")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let line = || points.iter().map(|point| (point.x, point.y));
        chart
            .draw_series(LineSeries::new(line(), colour.stroke_width(2)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(line().map(|at| Circle::new(at, 3, colour.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.9)).border_style(BLACK.mix(0.3)).draw()?;
    area.present()?;
    Ok(())
}
