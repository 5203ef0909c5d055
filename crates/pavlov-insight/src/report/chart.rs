//! Charts as SVG text. Lines and letters take the colour of the text around them, so that one chart is readable on white,
//! on black and on paper.

use std::ops::Range;

use plotters::prelude::*;

/// A line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// What it is.
    pub(crate) name: String,
    /// (x, y), in order of x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Ink: replaced by the colour of the text.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
/// Colours that stand out on white and on black, also for most who see few colours (Okabe and Ito).
pub(crate) const COLOURS: [RGBColor; 6] = [
    RGBColor(20, 130, 200),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(180, 140, 0),
    RGBColor(86, 160, 220),
];
const SIZE: (u32, u32) = (360, 200);

/// Curves over updates; none where there is nothing to draw.
pub(crate) fn lines(series: &[Series], x: &str) -> Option<String> {
    let finite: Vec<Series> = series
        .iter()
        .map(|s| Series {
            name: s.name.clone(),
            points: s.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect(),
        })
        .filter(|s| !s.points.is_empty())
        .collect();
    let all = || finite.iter().flat_map(|s| &s.points);
    let xs = range(all().map(|p| p.0))?;
    let ys = range(all().map(|p| p.1))?;
    let mut svg = String::new();
    // What is drawn into a String fails only where its numbers are not finite.
    draw(&mut svg, &finite, xs, ys, x).ok()?;
    Some(finish(&svg, &finite))
}

/// A little room around the values.
fn range(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return None;
    }
    let room = if high > low { 0.05 * (high - low) } else { 0.5 * high.abs().max(1e-3) };
    Some(low - room..high + room)
}

type Failed = Box<dyn std::error::Error>;

fn draw(svg: &mut String, series: &[Series], xs: Range<f64>, ys: Range<f64>, x: &str) -> Result<(), Failed> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(30)
        .y_label_area_size(46)
        .build_cartesian_2d(xs, ys)
        .map_err(|e| e.to_string())?;
    let number = |value: &f64| round(*value);
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(INK.mix(0.6))
        .label_style(("sans-serif", 12, &INK))
        .x_desc(x)
        .x_labels(4)
        .y_labels(4)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .draw()
        .map_err(|e| e.to_string())?;
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(series.points.iter().copied(), style))
            .map_err(|e| e.to_string())?;
        if series.points.len() < 30 {
            let dots = series.points.iter().map(|&point| Circle::new(point, 2, colour.filled()));
            chart.draw_series(dots).map_err(|e| e.to_string())?;
        }
    }
    root.present().map_err(|e| e.to_string())?;
    Ok(())
}

/// A number without zeros at its end.
fn round(value: f64) -> String {
    let text = crate::ledger::figure(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Makes the picture as wide as the page lets it, in the page's ink, and gives it a name for those who hear it.
fn finish(svg: &str, series: &[Series]) -> String {
    let names: Vec<String> = series.iter().map(|s| escape(&s.name)).collect();
    let (width, height) = SIZE;
    let fixed = format!("width=\"{width}\" height=\"{height}\"");
    svg.replace(&fixed, &format!("class=\"chart\" role=\"img\" aria-label=\"{}\"", names.join(", ")))
        .replace(INK_TEXT, "currentColor")
}

/// Text that is safe between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_in_the_pages_ink_and_say_what_they_show() {
        let series = [Series { name: "a <b>".into(), points: vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 4.0)] }];
        let svg = lines(&series, "updates").unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("aria-label=\"a &lt;b&gt;\""), "{svg}");
        assert!(
            svg.contains("currentColor") && !svg.contains(INK_TEXT) && !svg.contains("width=\"360\""),
            "{svg}"
        );
        assert!(!svg.contains("style="), "a strict policy forbids it: {svg}");
        assert!(lines(&[], "x").is_none());
        let flat = [Series { name: "one".into(), points: vec![(1.0, 0.0)] }];
        assert!(lines(&flat, "x").is_some());
    }
}
