//! Whether people agree on a task, or more of them or a reviewer must be asked.

use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::Said;

use super::rankings;
use crate::settings::Settings;

/// What becomes of a task that has as many answers as were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is answered.
    Done,
    /// This many people shall answer it in all.
    Ask(u32),
    /// A reviewer decides.
    Adjudicate,
}

/// A verdict in short: equal strings agree. `a`, `b`, `tie`, `both_bad`; an order as [`rankings`] writes it; scores as `4,3`; empty of
/// texts, which are never compared.
pub fn short(said: &Said) -> String {
    match said {
        Said::Pairwise { choice, .. } => match choice {
            Choice::A => "a".into(),
            Choice::B => "b".into(),
            Choice::Tie => "tie".into(),
            Choice::BothBad => "both_bad".into(),
        },
        Said::Ranking { all_bad: true, .. } => rankings::ALL_BAD.into(),
        Said::Ranking { ranks, .. } => rankings::short(ranks),
        Said::Pointwise { scores } => {
            let shares = scores.iter().map(|score| {
                let (low, high) = score.scale;
                format!("{:.3}", (score.value - low) / (high - low))
            });
            shares.collect::<Vec<_>>().join(",")
        }
        Said::Demonstration { .. } | Said::Edit { .. } => String::new(),
    }
}

/// Whether people agree: one verdict has more than half of them; of scores, none are half a scale or more apart; of orders,
/// [`rankings::agree`].
pub fn agree(verdicts: &[String]) -> bool {
    let scores =
        |verdict: &String| verdict.split(',').map(|s| s.parse::<f64>().ok()).collect::<Option<Vec<_>>>();
    if let Some(scores) = verdicts.iter().map(scores).collect::<Option<Vec<_>>>() {
        let apart = |i: usize| {
            let of_one = || scores.iter().filter_map(|scores| scores.get(i).copied());
            of_one().fold(f64::MIN, f64::max) - of_one().fold(f64::MAX, f64::min)
        };
        return (0..scores.first().map_or(0, Vec::len)).all(|i| apart(i) < 0.5);
    }
    rankings::agree(verdicts).unwrap_or_else(|| {
        verdicts.iter().any(|one| verdicts.iter().filter(|other| *other == one).count() * 2 > verdicts.len())
    })
}

/// Whether a verdict is the known one; of orders, [`rankings::right`].
pub fn right(said: &str, gold: &str) -> bool {
    rankings::right(said, gold).unwrap_or(said == gold)
}

/// What becomes of a task with these verdicts, of which `overlap` were asked for. Two more are asked until `max_overlap`, so
/// that a majority can form.
pub fn settle(settings: &Settings, verdicts: &[String], overlap: u32) -> Settled {
    if verdicts.len() < 2 || agree(verdicts) {
        return Settled::Done;
    }
    let answered = u32::try_from(verdicts.len()).unwrap_or(u32::MAX);
    if overlap < settings.max_overlap {
        Settled::Ask(answered.max(overlap).saturating_add(2).min(settings.max_overlap))
    } else if settings.adjudicate {
        Settled::Adjudicate
    } else {
        Settled::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn agreement() {
        for (list, wanted) in [
            (&["a", "a", "b"][..], true),
            (&["a", "b"], false),
            (&["tie", "both_bad", "a"], false),
            (&["both_bad", "both_bad"], true),
            (&["", "", ""], true),
            (&["0.250,0.750", "0.500,1.000"], true),
            (&["0.250,0.750", "0.750,0.750"], false),
            (&["1.000"], true),
            (&["a>b>c", "b>a>c"], true),
            (&["a>b>c", "c>b>a"], false),
            (&["all_bad", "all_bad"], true),
        ] {
            assert_eq!(agree(&verdicts(list)), wanted, "{list:?}");
        }
    }

    #[test]
    fn disagreement_asks_two_more_then_a_reviewer() {
        let mut settings = Settings { max_overlap: 5, adjudicate: true, ..Settings::default() };
        assert_eq!(settle(&settings, &verdicts(&["a"]), 1), Settled::Done);
        assert_eq!(settle(&settings, &verdicts(&["a", "b"]), 2), Settled::Ask(4));
        assert_eq!(settle(&settings, &verdicts(&["a", "b", "tie"]), 3), Settled::Ask(5));
        assert_eq!(settle(&settings, &verdicts(&["a", "b", "a", "b"]), 4), Settled::Ask(5));
        assert_eq!(settle(&settings, &verdicts(&["a", "b", "a", "b", "a"]), 5), Settled::Done);
        let split = verdicts(&["a", "b", "a", "b", "tie"]);
        assert_eq!(settle(&settings, &split, 5), Settled::Adjudicate);
        settings.adjudicate = false;
        assert_eq!(settle(&settings, &split, 5), Settled::Done);
    }
}
