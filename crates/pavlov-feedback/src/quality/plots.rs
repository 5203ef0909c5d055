//! Plots as SVG text: in the colour of the text around them, so that they are dark where the page is; `plot-mark` is the class of
//! what is measured. Each has a title that a screen reader reads.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Quality;
use crate::stats::Interval;

/// A plot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plot {
    /// Names it in addresses and pages.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub title: &'static str,
    /// `<svg>…</svg>`
    pub svg: String,
}

/// Drawn in the text's colour.
const INK: RGBColor = RGBColor(0, 0, 0);
/// Drawn in the colour of what is measured.
const MARK: RGBColor = RGBColor(1, 2, 3);
/// As wide as on a phone: letters keep their size there.
const WIDTH: u32 = 340;
/// The place of rows' names, and how many letters have room there.
const LABELS: u32 = 120;
const LETTERS: usize = 17;
/// Rows of a plot at most; the page has all in its table.
const ROWS: usize = 40;

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Every plot for which there is something to show.
pub fn plots(quality: &Quality) -> Vec<Plot> {
    let gold = quality
        .raters
        .iter()
        .filter_map(|rater| Some((rater.rater.clone(), rater.gold?)))
        .collect::<Vec<_>>();
    let left = quality
        .raters
        .iter()
        .filter_map(|rater| Some((rater.rater.clone(), rater.left?)))
        .collect::<Vec<_>>();
    let crowd = quality
        .raters
        .iter()
        .filter_map(|rater| Some((rater.rater.clone(), rater.crowd_bt?)))
        .collect::<Vec<_>>();
    let even: Vec<_> =
        quality.policies.iter().filter_map(|one| Some((one.policy.clone(), one.at_equal_style?))).collect();
    let strengths: Vec<_> = quality.policies.iter().map(|one| (one.policy.clone(), one.strength)).collect();
    let agreement: Vec<_> = quality
        .agreement
        .iter()
        .flat_map(|one| {
            let row =
                |what: &str, value: Option<Interval>| Some((format!("{}, {what}", one.question), value?));
            [row("same", one.raw), row("α nominal", one.nominal), row("α ordinal", one.ordinal)]
        })
        .flatten()
        .collect();
    let titles = [
        "Answers a day",
        "How far people say the same, with 95% intervals",
        "Log-strength of each policy, with 95% intervals clustered by task and rater",
        "Log-strength of each policy at equal style: length, headings, lists and bold text",
        "Each rater's accuracy on tasks with a known answer, with 95% intervals",
        "Each rater's share of decisions for the left answer, with 95% intervals",
        "How far each rater follows the policies' strengths: Crowd-BT's η, with 95% intervals",
        "Held-out accuracy of the reward model over judgments collected, beside how often people agree",
    ];
    let drawn = [
        ("throughput", throughput(titles[0], &quality.days)),
        ("agreement", intervals(titles[1], &agreement, "", Some(0.0))),
        ("strengths", intervals(titles[2], &strengths, "nats", Some(0.0))),
        ("equal_style", intervals(titles[3], &even, "nats", Some(0.0))),
        ("gold", intervals(titles[4], &gold, "share right", Some(0.5))),
        ("position", intervals(titles[5], &left, "share left", Some(0.5))),
        ("crowd", intervals(titles[6], &crowd, "η", Some(0.5))),
        ("lessons", lessons(titles[7], quality)),
    ];
    let plot = |((name, svg), title): ((_, Option<String>), _)| Some(Plot { name, title, svg: svg? });
    drawn.into_iter().zip(titles).filter_map(plot).collect()
}

fn draw(
    height: u32,
    title: &str,
    paint: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> Drawn,
) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        // Nothing is written but memory; what cannot be drawn (a range without width) is no plot.
        paint(&area).and_then(|()| Ok(area.present()?)).ok()?;
    }
    Some(themed(&svg, title))
}

/// The colours of the page instead of plotters' own, and a title for screen readers.
fn themed(svg: &str, title: &str) -> String {
    let start = svg.find("<svg").unwrap_or(0);
    let body = svg[start..]
        .replace("fill=\"#010203\"", "class=\"plot-mark\" fill=\"currentColor\"")
        .replace("stroke=\"#010203\"", "class=\"plot-mark\" stroke=\"currentColor\"")
        .replace("#000000", "currentColor");
    let opened = body.replacen("<svg ", "<svg class=\"plot\" role=\"img\" ", 1);
    let mut escaped = String::new();
    for c in title.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    opened.replacen('>', &format!("><title>{escaped}</title>"), 1)
}

/// The label of a count; none between two.
fn whole(x: f64) -> String {
    // Adding zero takes the sign from a negative one.
    if (x - x.round()).abs() < 1e-6 { format!("{:.0}", x.round() + 0.0) } else { String::new() }
}

fn throughput(title: &str, days: &[(i64, usize)]) -> Option<String> {
    let (first, last) = (days.first()?.0, days.last()?.0);
    let most = days.iter().map(|day| day.1).max()?;
    let number = |at: i64| ((at - first) / 86_400_000) as f64;
    draw(220, title, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d(-0.6..number(last) + 0.6, 0.0..most as f64 * 1.08)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(INK)
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .x_desc("days since the first answer")
            .y_desc("answers")
            .x_labels(8)
            .x_label_formatter(&|x| whole(*x))
            .y_label_formatter(&|y| whole(*y))
            .draw()?;
        chart.draw_series(days.iter().map(|&(at, n)| {
            Rectangle::new([(number(at) - 0.4, 0.0), (number(at) + 0.4, n as f64)], MARK.filled())
        }))?;
        Ok(())
    })
}

/// Values with their intervals, one below the other; `zero` is where nothing would be.
fn intervals(title: &str, rows: &[(String, Interval)], unit: &str, zero: Option<f64>) -> Option<String> {
    let rows = &rows[..rows.len().min(ROWS)];
    let ends = rows.iter().flat_map(|(_, one)| [one.low, one.high]).chain(zero).filter(|end| end.is_finite());
    let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), end| (low.min(end), high.max(end)));
    if rows.is_empty() || low > high {
        return None;
    }
    let pad = ((high - low) * 0.06).max(1e-3);
    let height = 70 + 24 * rows.len() as u32;
    draw(height, title, |area| {
        let bottom = -(rows.len() as f64) + 0.5;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(low - pad..high + pad, bottom..0.5)?;
        let label = |y: &f64| {
            let name = rows.get((-y).round().max(0.0) as usize).map_or("", |row| &row.0);
            let cut = if name.chars().count() > LETTERS { "…" } else { "" };
            name.chars().take(LETTERS - cut.chars().count()).collect::<String>() + cut
        };
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(INK)
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .x_desc(unit)
            .x_labels(5)
            .y_labels(0)
            .x_label_formatter(&|x| format!("{x:.2}"))
            .draw()?;
        if let Some(zero) = zero {
            chart.draw_series([PathElement::new(vec![(zero, bottom), (zero, 0.5)], INK.stroke_width(1))])?;
        }
        for (place, (_, one)) in rows.iter().enumerate() {
            let y = -(place as f64);
            chart.draw_series([PathElement::new(vec![(one.low, y), (one.high, y)], MARK.stroke_width(3))])?;
            chart.draw_series([Circle::new((one.value, y), 4, MARK.filled())])?;
            let at = chart.backend_coord(&(low - pad, y));
            let style = ("sans-serif", 12).into_font().color(&INK);
            let shown = label(&y);
            area.draw_text(&shown, &style, (at.0 - LABELS as i32 + 2, at.1 - 7))?;
        }
        Ok(())
    })
}

/// A line for each run.
fn lessons(title: &str, quality: &Quality) -> Option<String> {
    let most = quality.lessons.iter().map(|one| one.judgments).max()?.max(1) as f64;
    let least = quality.lessons.iter().map(|one| one.low).fold(0.4, f64::min);
    let ceiling = quality.agreement.iter().find(|one| one.question == "choice").and_then(|one| one.raw);
    draw(240, title, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..most * 1.05, least..1.0)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(INK)
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .x_desc("judgments learned from")
            .y_desc("share foretold")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .draw()?;
        for run in quality.lessons.chunk_by(|a, b| a.run == b.run) {
            let points = run.iter().map(|one| (one.judgments as f64, one.accuracy));
            chart.draw_series([PathElement::new(points.collect::<Vec<_>>(), MARK.stroke_width(2))])?;
            for one in run {
                let x = one.judgments as f64;
                let ends = vec![(x, one.low), (x, one.high)];
                chart.draw_series([PathElement::new(ends, MARK.stroke_width(1))])?;
                chart.draw_series([Circle::new((x, one.accuracy), 3, MARK.filled())])?;
            }
        }
        if let Some(ceiling) = ceiling {
            let line = vec![(0.0, ceiling.value), (most * 1.05, ceiling.value)];
            chart.draw_series([PathElement::new(line, INK.stroke_width(1))])?;
            let style = ("sans-serif", 12).into_font().color(&INK);
            let at = chart.backend_coord(&(0.0, ceiling.value));
            area.draw_text("people with people", &style, (at.0 + 6, at.1 - 16))?;
        }
        Ok(())
    })
}
