//! What was found about an answer, in plain words that say the sign.

use super::answer::{AnswerCredit, Valued};
use super::verdict::Verdict;

/// Characters of a part that are quoted.
const QUOTED: usize = 60;
/// Nats a token from which on an answer is told to be another policy's.
const OFF_POLICY: f64 = 0.1;

/// The findings, the most important first.
pub(crate) fn sentences(credit: &AnswerCredit) -> Vec<String> {
    let mut sentences = Vec::new();
    if let (Some(values), Some(verdict)) = (&credit.values, credit.verdict) {
        sentences.push(total(credit, values));
        sentences.push(where_it_sits(credit, values, verdict));
    }
    if let Some(ablated) = &credit.ablated {
        let strongest = ablated.surrogate.credits.iter().enumerate().filter(|(_, c)| c.stands_out());
        let strongest = strongest.max_by(|a, b| a.1.value.abs().total_cmp(&b.1.value.abs()));
        sentences.push(match strongest {
            Some((i, points)) => format!(
                "Writing {} anew would {} the reward by about {:.2} points ({:.2} to {:.2}).",
                quote(credit, i),
                if points.value > 0.0 { "lower" } else { "raise" },
                points.value.abs(),
                points.low.abs().min(points.high.abs()),
                points.low.abs().max(points.high.abs()),
            ),
            None => {
                "Writing no single part anew would change the reward by more than chance does.".to_owned()
            }
        });
    }
    if credit.off_policy.abs() > OFF_POLICY {
        sentences.push(format!(
            "The answer was written by another policy than the one asked ({:+.2} nats a token): the credit is that of \
             the one asked.",
            credit.off_policy
        ));
    }
    if !credit.forwards.attention.is_empty() {
        sentences
            .push("Attention has no sign: it shows where the reward model looked, not what it liked.".into());
    }
    sentences
}

fn total(credit: &AnswerCredit, values: &Valued) -> String {
    let expected = &values.profile.values[0];
    let bits = match &values.profile.information {
        Some(bits) => {
            format!(", which makes it news of {:.2} bits ({:.2} to {:.2})", bits.value, bits.low, bits.high)
        }
        None => String::new(),
    };
    format!(
        "It earned {:.2}; the policy's answers to this prompt earn {:.2} ({:.2} to {:.2}) on average{bits}.",
        credit.reward, expected.value, expected.low, expected.high
    )
}

fn where_it_sits(credit: &AnswerCredit, values: &Valued, verdict: Verdict) -> String {
    let own = &values.concentration;
    let lead = &values.segments[own.lead];
    let direction = if lead.value > 0.0 { "raised" } else { "lowered" };
    let name = verdict.name();
    match verdict {
        Verdict::None => {
            format!("Verdict: {name}. What it says made no difference to the reward that could be measured.")
        }
        Verdict::Concentrated => format!(
            "Verdict: {name}. {} {direction} what was to be expected by {:.2} points; it holds {:.0}% of the credit.",
            quote(credit, own.lead),
            lead.value.abs(),
            100.0 * own.lead_share.value,
        ),
        Verdict::Additive => format!(
            "Verdict: {name}. A few of its {} parts earned it, {} most: it {direction} what was to be expected by {:.2}.",
            own.parts,
            quote(credit, own.lead),
            lead.value.abs(),
        ),
        Verdict::Interacting => {
            let pairs = credit.ablated.iter().flat_map(|ablated| &ablated.surrogate.pairs);
            let strongest = pairs.max_by(|a, b| a.effect.value.abs().total_cmp(&b.effect.value.abs()));
            let pair = strongest.map_or(String::new(), |pair| {
                let [a, b] = pair.segments.map(|i| quote(credit, i));
                format!(
                    " {a} and {b} together bring {:+.2} points beyond what each brings.",
                    pair.effect.value
                )
            });
            format!("Verdict: {name}. Parts earned together what none earns alone.{pair}")
        }
        Verdict::Diffuse => format!(
            "Verdict: {name}. There is no such part: the credit is spread over its {} parts as over {:.0} equal ones.",
            own.parts,
            (1.0 / own.c.value).min(own.parts as f64),
        ),
    }
}

fn quote(credit: &AnswerCredit, part: usize) -> String {
    let text = credit.parts[part].text.trim();
    if text.is_empty() {
        return "“(end)”".to_owned();
    }
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("“{}…”", &text[..end]),
        None => format!("“{text}”"),
    }
}
