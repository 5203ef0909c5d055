//! `pavlov ledger`: how much did each lesson teach, in bits.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::Result;
use clap::Args;
use pavlov_insight::ledger::noise::NO_DIRECTION;
use pavlov_insight::ledger::{self, Ledger, figure};
use pavlov_insight::{Estimate, kept};

use crate::args::{EXACT, MeasureArgs};
use crate::{interrupt, screen, stdout};

/// `pavlov ledger`.
#[derive(Debug, Args)]
#[command(
    mut_arg("dtype", |dtype| dtype.help(EXACT)),
    mut_arg("json", |json| json.help("Print the reports on stdout, one JSON object a line, and nothing else there")),
    after_help = "Offered is a ceiling, absorbed what stayed beyond the lessons themselves: the code lengths of lessons before \
                        their updates, above what lessons that were not learned from cost at the end (eval_data; of rewarded \
                        answers the last ones, before they were learned from). ± is half of a 95% interval. \
                        The whole report is kept in RUN/insight/ledger.json."
)]
pub(crate) struct LedgerArgs {
    /// Folders of runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Held-out rows of prompt and completion (or answer): what became of their answers [default: a run's eval_data]
    #[arg(long, value_name = "FILE")]
    held_out: Option<PathBuf>,
    /// Rows of prompt and completion (or answer) that no lesson touched: what else moved
    #[arg(long, value_name = "FILE")]
    elsewhere: Option<PathBuf>,
    /// Most questions asked of each file
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    questions: u32,
    /// Longest answer that is drawn, in tokens
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_tokens: u32,
    /// How often two people agree on a comparison, where no pair of the data was judged twice
    #[arg(long, value_name = "SHARE", value_parser = share)]
    agreement: Option<f64>,
    #[command(flatten)]
    measure: MeasureArgs,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "give a number from 0 to 1".to_owned())
}

pub(crate) fn run(args: &LedgerArgs) -> Result<()> {
    let options = ledger::Options {
        held_out: args.held_out.clone(),
        elsewhere: args.elsewhere.clone(),
        questions: args.questions as usize,
        max_tokens: args.max_tokens as usize,
        agreement: args.agreement,
        seed: args.measure.seed,
        dtype: args.measure.compute.exact_dtype(),
    };
    let cpu = args.measure.compute.cpu();
    screen::machine(&cpu, options.dtype);
    for run in &args.runs {
        screen::line(&ledger::cost(run, &options)?);
    }
    let mut ledgers = Vec::new();
    interrupt::listen("stopping; press Ctrl-C again to stop at once")?;
    for run in &args.runs {
        let mut tell = |what: &str| screen::line(&format!("{}: {what}", run.display()));
        let mut go_on = || !interrupt::flag().load(Ordering::Relaxed);
        let mut asked = ledger::Asked { tell: &mut tell, go_on: &mut go_on };
        let measured = ledger::measure(run, &options, &cpu, &mut asked);
        let (ledger, parts) = measured.map_err(|e| super::broken_off(e, Some(run)))?;
        let file = kept::save(run, ledger::NAME, &ledger)?;
        parts.finish()?;
        screen::line(&format!("kept: {}", file.display()));
        if args.measure.json {
            stdout::json(&ledger)?;
        }
        ledgers.push(ledger);
    }
    if args.measure.json { Ok(()) } else { stdout::text(&table(&ledgers)) }
}

/// A line a quantity, a column a run; then what it means, and what was not measured.
fn table(ledgers: &[Ledger]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, cell: &dyn Fn(&Ledger) -> String| {
        let cells: Vec<String> = ledgers.iter().map(cell).collect();
        if cells.iter().any(|cell| cell != "–") {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name:<34}");
            for cell in cells {
                let _ = write!(text, " {cell:>22}");
            }
            text.push('\n');
        }
    };
    let of = |estimate: Option<&Estimate>| estimate.map_or("–".to_owned(), with_interval);
    let bare = |value: Option<f64>| value.map_or("–".to_owned(), figure);
    line("", &|l| short(&l.run));
    line("kind of lesson", &|l| l.kind.word().to_owned());
    line("lessons", &|l| l.lessons.to_string());
    line("labels", &|l| l.labels.to_string());
    line("seconds of updates", &|l| figure(l.seconds));
    line("offered, bits", &|l| of(l.offered.bits.as_ref()));
    line("  a lesson", &|l| of(l.offered.per_lesson.as_ref()));
    line("  capacity of a comparison", &|l| of(l.offered.capacity.as_ref()));
    line("usable: noise scale, lessons", &|l| of(l.usable.noise_scale.as_ref()));
    line("  in Adam's metric", &|l| of(l.usable.noise_scale_adam.as_ref()));
    line("  groups without spread", &|l| of(l.usable.zero_spread.as_ref()));
    line("  push on the logits a lesson", &|l| of(l.usable.energy.as_ref()));
    line("  evenness of the push", &|l| bare(l.usable.participation));
    line("absorbed, bits", &|l| of(l.absorbed.as_ref().map(|a| &a.bits)));
    line("  coded by", &|l| l.absorbed.as_ref().map_or("–".to_owned(), |a| a.coded_by.word().to_owned()));
    line("  noise floor", &|l| bare(l.absorbed.as_ref().and_then(|a| a.bits.noise_floor)));
    line("  a lesson", &|l| bare(l.absorbed.as_ref().map(|a| a.per_lesson)));
    line("  a label", &|l| bare(l.absorbed.as_ref().map(|a| a.per_label)));
    line("  a second", &|l| bare(l.absorbed.as_ref().map(|a| a.per_second)));
    line("  foretold before it was told", &|l| of(l.absorbed.as_ref().and_then(|a| a.foretold.as_ref())));
    line("held-out answer, bits before", &|l| of(l.gain.as_ref().map(|g| &g.before)));
    line("  bits after", &|l| of(l.gain.as_ref().map(|g| &g.after)));
    line("  bits cheaper", &|l| of(l.gain.as_ref().map(|g| &g.bits)));
    line("  change of log-odds", &|l| of(l.gain.as_ref().map(|g| &g.log_odds)));
    line("  bits a 1000 lessons", &|l| bare(l.gain.as_ref().map(|g| g.per_thousand)));
    line("  bits a second", &|l| bare(l.gain.as_ref().map(|g| g.per_second)));
    line("KL from the start, bits an answer", &|l| of(l.cost.kl.as_ref()));
    line("  bits cheaper a bit of KL", &|l| bare(l.cost.gain_per_kl));
    line("right elsewhere, before", &|l| of(l.cost.elsewhere_before.as_ref()));
    line("  after", &|l| of(l.cost.elsewhere_after.as_ref()));
    line("  change", &|l| of(l.cost.elsewhere.as_ref()));
    for ledger in ledgers {
        let _ = writeln!(text, "\n{}: {}", ledger.run, ledger.sentence());
        for missing in &ledger.missing {
            let _ = writeln!(text, "  not measured: {missing}");
        }
    }
    text
}

fn with_interval(estimate: &Estimate) -> String {
    if estimate.value >= NO_DIRECTION {
        return "too noisy to say".to_owned();
    }
    if estimate.high >= NO_DIRECTION {
        return format!("{} (≥ {})", figure(estimate.value), figure(estimate.low));
    }
    format!("{} ± {}", figure(estimate.value), figure((estimate.high - estimate.low) / 2.0))
}

/// The end of a path, as a column has room for it.
fn short(run: &str) -> String {
    const ROOM: usize = 22;
    let letters: Vec<char> = run.chars().collect();
    if letters.len() <= ROOM {
        run.to_owned()
    } else {
        format!("…{}", letters[letters.len() - ROOM + 1..].iter().collect::<String>())
    }
}
