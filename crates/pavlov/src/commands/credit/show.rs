//! Credit for people: a heat map where there are colours, and a table of parts.

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};

use pavlov_insight::Estimate;
use pavlov_insight::credit::AnswerCredit;

/// Characters of a part's text in the table.
const SHOWN: usize = 28;

/// One answer.
pub(super) fn answer(credit: &AnswerCredit) -> String {
    let mut text = format!(
        "prompt {}, answer {}: reward {:.3}\n\n  {}\n\n",
        credit.prompt_id,
        credit.choice + 1,
        credit.reward,
        heat_map(credit)
    );
    let bits = credit.values.as_ref().is_some_and(|values| !values.profile.bits.is_empty());
    let columns = ["log-ratio", "prefix", "look", "anew", "value", if bits { "bits" } else { "" }];
    let _ = writeln!(
        text,
        "  {:<SHOWN$} {}",
        "part",
        columns.map(|name| format!("{name:>18}")).concat().trim_end()
    );
    let sums = |numbers: Option<&[f64]>, range: std::ops::Range<usize>| {
        let sum = numbers.filter(|n| !n.is_empty()).map(|n| n[range].iter().sum::<f64>());
        sum.map_or_else(|| "·".to_owned(), |sum| format!("{sum:+.3}"))
    };
    let bit_tokens = credit.bit_tokens();
    for (i, part) in credit.parts.iter().enumerate() {
        let of = |numbers: &[f64]| sums(Some(numbers), part.tokens.clone());
        let cells = [
            of(&credit.forwards.log_ratio),
            of(&credit.forwards.prefix),
            of(&credit.forwards.attention).trim_start_matches('+').to_owned(),
            credit.ablated.as_ref().map_or_else(|| "·".into(), |own| figure(&own.surrogate.credits[i])),
            credit.values.as_ref().map_or_else(|| "·".into(), |own| figure(&own.segments[i])),
            if bits { sums(bit_tokens.as_deref(), part.tokens.clone()) } else { String::new() },
        ];
        let name: String = part.text.replace('\n', "⏎").trim().chars().take(SHOWN).collect();
        let name = if name.is_empty() { "(end)".to_owned() } else { name };
        let cells = cells.map(|cell| format!("{cell:>18}")).concat();
        let _ = writeln!(text, "  {name:<SHOWN$} {}", cells.trim_end());
    }
    text.push('\n');
    for sentence in &credit.sentences {
        let _ = writeln!(text, "  {sentence}");
    }
    for agreement in &credit.agreement {
        let [a, b] = &agreement.between;
        let rho = &agreement.rho;
        let floor = rho.noise_floor.unwrap_or(0.0);
        let _ = writeln!(
            text,
            "  {a} and {b} order the parts with a rank correlation of {:+.2} (chance reaches {floor:.2})",
            rho.value
        );
    }
    text.push('\n');
    text
}

fn figure(estimate: &Estimate) -> String {
    format!("{:+.3} ±{:.3}", estimate.value, (estimate.high - estimate.low) / 2.0)
}

/// The answer with each token on a ground of its credit: green for what raised the reward, red for what lowered it.
fn heat_map(credit: &AnswerCredit) -> String {
    let numbers = credit.value_tokens().or_else(|| credit.ablated_tokens());
    let numbers = numbers.or_else(|| credit.weights().map(|(w, _)| w.into_iter().map(f64::from).collect()));
    let plain = || credit.completion.replace('\n', "\n  ");
    let Some(numbers) = numbers.filter(|_| stdout().is_terminal()) else { return plain() };
    let most = numbers.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    if most == 0.0 {
        return plain();
    }
    let token = |(text, number): (&String, &f64)| {
        // From the terminal's 6×6×6 cube: black to full red or green.
        let level = (number.abs() / most * 5.0).round() as usize;
        let colour = 16 + if *number > 0.0 { 6 * level } else { 36 * level };
        let text = if text.is_empty() { "⏹" } else { text };
        format!("\x1b[48;5;{colour}m\x1b[38;5;255m{}\x1b[0m", text.replace('\n', "⏎\n  "))
    };
    credit.tokens.iter().zip(&numbers).map(token).collect()
}
