//! How good scores are: TRL's names, and calibration.

use std::collections::BTreeMap;

use serde_json::json;

use super::head::{Head, class, each, outcome, rating};
use super::lessons::{Lesson, Verdict};
use crate::calibration::{Prediction, accuracy, brier, clustered_wilson, expected_calibration_error};
use crate::loss::{Outcome, class_probabilities};
use crate::run::Metrics;

/// Bins of the expected calibration error, as in Guo et al. 2017.
const BINS: usize = 15;
/// 0.975 quantile of the standard normal.
const Z95: f64 = 1.959_963_984_540_054;

/// Numbers about lessons and their scores (those of one lesson together), each name after `prefix`.
///
/// Comparisons: `accuracy` (over decided pairs; each two answers of a ranking that are not equal are one), `min_reward`, `mean_reward`, `max_reward` (raw scores; not of a joint
/// model) and `margin` (how far the better one leads). Ratings: the rewards, `mae` in points, and `accuracy` (the most
/// probable rating is right; in regression, the rating is right to half a point). With `calibrated` also the 95% interval
/// of the accuracy, clustered by prompt (`accuracy_low`, `accuracy_high`), how many pairs or ratings it is over (`decided`), and `ece`
/// and `brier`: of P(first is better | decided), or of P(rating > k) over all k.
pub(crate) fn measure(
    head: &Head,
    lessons: &[&Lesson],
    scores: &[f32],
    prefix: &str,
    calibrated: bool,
) -> Metrics {
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            metrics.insert(format!("{prefix}{name}"), json!(value));
        }
    };
    let hits = hits(head, lessons, scores);
    put("accuracy", mean(&hits.iter().map(|hit| hit.1).collect::<Vec<_>>()));
    let predictions = match head {
        Head::Comparisons { .. } | Head::Joint => {
            let pairs = pairs(lessons, scores);
            put("margin", mean(&pairs.iter().map(Decided::lead).collect::<Vec<_>>()));
            pairs.iter().map(|pair| pair.foretold(head)).collect()
        }
        Head::Ordinal { lowest, free } => {
            put("mae", mean(&misses(head, lessons, scores)));
            exceedances(lessons, scores, *lowest, free)
        }
        Head::Regression { .. } => {
            put("mae", mean(&misses(head, lessons, scores)));
            Vec::new()
        }
    };
    if !head.is_joint() {
        let scores: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
        put("min_reward", scores.iter().copied().reduce(f64::min));
        put("mean_reward", mean(&scores));
        put("max_reward", scores.iter().copied().reduce(f64::max));
    }
    if calibrated {
        let mut prompts: BTreeMap<&[u32], (f64, usize)> = BTreeMap::new();
        for &(lesson, hit) in &hits {
            let cluster = prompts.entry(&lesson.prompt).or_default();
            *cluster = (cluster.0 + hit, cluster.1 + 1);
        }
        let (low, high) = clustered_wilson(&prompts.into_values().collect::<Vec<_>>(), Z95);
        put("accuracy_low", (!hits.is_empty()).then_some(low));
        put("accuracy_high", (!hits.is_empty()).then_some(high));
        put("decided", Some(hits.len() as f64));
        put("ece", expected_calibration_error(&predictions, BINS));
        put("brier", brier(&predictions));
    }
    metrics
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Whether each rating, and each pair that was decided, was foretold: 1, 0, or ½ for a pair that scores alike.
fn hits<'a>(head: &Head, lessons: &[&'a Lesson], scores: &[f32]) -> Vec<(&'a Lesson, f64)> {
    let yes = |right: bool| f64::from(u8::from(right));
    match head {
        Head::Comparisons { .. } | Head::Joint => {
            let hit = |prediction| accuracy(&[prediction]).unwrap_or(0.0);
            pairs(lessons, scores).iter().map(|pair| (pair.lesson, hit(pair.foretold(head)))).collect()
        }
        Head::Ordinal { lowest, free } => {
            let right = |lesson: &Lesson, score: f32| {
                most_probable(&class_probabilities(score, free)) == class(lesson, *lowest)
            };
            lessons.iter().zip(scores).map(|(lesson, &score)| (*lesson, yes(right(lesson, score)))).collect()
        }
        Head::Regression { .. } => {
            let right = misses(head, lessons, scores).into_iter().map(|miss| yes(miss <= 0.5));
            lessons.iter().copied().zip(right).collect()
        }
    }
}

/// Two answers of which one is better, and their scores.
struct Decided<'a> {
    lesson: &'a Lesson,
    scores: [f32; 2],
    first_is_better: bool,
}

impl Decided<'_> {
    /// P(first better) and whether it was.
    fn foretold(&self, head: &Head) -> Prediction {
        (head.decided(self.scores[0], self.scores[1]), self.first_is_better)
    }

    /// By how much the better answer's score leads.
    fn lead(&self) -> f64 {
        let lead = f64::from(self.scores[0] - self.scores[1]);
        if self.first_is_better { lead } else { -lead }
    }
}

/// Every pair that was decided; a ranking decides several.
fn pairs<'a>(lessons: &[&'a Lesson], scores: &[f32]) -> Vec<Decided<'a>> {
    let mut found = Vec::new();
    for (lesson, scores) in each(lessons, scores) {
        if let Verdict::Ranking(ranks) = &lesson.verdict {
            let two = (0..ranks.len()).flat_map(|i| (i + 1..ranks.len()).map(move |j| (i, j)));
            found.extend(two.filter(|&(i, j)| ranks[i] != ranks[j]).map(|(i, j)| Decided {
                lesson,
                scores: [scores[i], scores[j]],
                first_is_better: ranks[i] < ranks[j],
            }));
        } else if outcome(lesson) != Outcome::Tie {
            let first_is_better = outcome(lesson) == Outcome::First;
            found.push(Decided { lesson, scores: [scores[0], scores[1]], first_is_better });
        }
    }
    found
}

/// How far each rating is from the one its score means, in points.
fn misses(head: &Head, lessons: &[&Lesson], scores: &[f32]) -> Vec<f64> {
    let miss = |(lesson, &score): (&&Lesson, &f32)| Some((head.rating(score)? - rating(lesson)).abs());
    lessons.iter().zip(scores).filter_map(miss).collect()
}

fn most_probable(probabilities: &[f64]) -> usize {
    (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap_or(0)
}

/// P(rating > k) and whether it was, of each answer and each k.
fn exceedances(lessons: &[&Lesson], scores: &[f32], lowest: f64, free: &[f64]) -> Vec<Prediction> {
    let of_one = |(lesson, &score): (&&Lesson, &f32)| {
        let (probabilities, class) = (class_probabilities(score, free), class(lesson, lowest));
        (0..free.len()).map(|k| (probabilities[k + 1..].iter().sum(), class > k)).collect::<Vec<_>>()
    };
    lessons.iter().zip(scores).flat_map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::spread_thresholds;

    fn lesson(verdict: Verdict) -> Lesson {
        let answers = match &verdict {
            Verdict::Pair { .. } => 2,
            Verdict::Ranking(ranks) => ranks.len(),
            Verdict::Rating(_) => 1,
        };
        Lesson { prompt: vec![1], answers: vec![vec![2]; answers], verdict, row: 0 }
    }

    fn number(metrics: &Metrics, name: &str) -> f64 {
        metrics[name].as_f64().unwrap()
    }

    #[test]
    fn comparisons_by_hand() {
        let of = |outcome| lesson(Verdict::Pair { outcome, margin: 0.0 });
        let lessons = [of(Outcome::First), of(Outcome::Second), of(Outcome::Tie)];
        let lessons: Vec<&Lesson> = lessons.iter().collect();
        let head = Head::Comparisons { ties: None, eta: 0.0 };
        let metrics = measure(&head, &lessons, &[2.0, 0.0, 1.0, 0.0, 5.0, 5.0], "eval_", true);
        assert!((number(&metrics, "eval_accuracy") - 0.5).abs() < 1e-12);
        assert!((number(&metrics, "eval_margin") - 0.5).abs() < 1e-12);
        assert!((number(&metrics, "eval_mean_reward") - 13.0 / 6.0).abs() < 1e-12);
        let (p, q) = (1.0 / (1.0 + (-2.0_f64).exp()), 1.0 / (1.0 + (-1.0_f64).exp()));
        assert!((number(&metrics, "eval_brier") - 0.5 * ((1.0 - p).powi(2) + q * q)).abs() < 1e-12);
        assert!((number(&metrics, "eval_ece") - 0.5 * ((1.0 - p) + q)).abs() < 1e-12);
        // Both are of one prompt, one right: as one trial, of which Wilson's interval is wide.
        assert_eq!(number(&metrics, "eval_decided"), 2.0);
        assert!(number(&metrics, "eval_accuracy_low") < 0.1 && number(&metrics, "eval_accuracy_high") > 0.9);
    }

    #[test]
    fn rankings_count_each_pair_that_they_decide() {
        let lessons = [lesson(Verdict::Ranking(vec![1, 2, 2])), lesson(Verdict::Ranking(vec![3, 1, 2]))];
        let lessons: Vec<&Lesson> = lessons.iter().collect();
        let head = Head::Comparisons { ties: None, eta: 0.0 };
        // Of the first both pairs are right, by 1 and 3; of the second one of three, by 1; the others miss by 1 and 2.
        let metrics = measure(&head, &lessons, &[3.0, 2.0, 0.0, 0.0, -1.0, -2.0], "", true);
        assert_eq!(number(&metrics, "decided"), 5.0);
        let leads: [f64; 5] = [1.0, 3.0, -1.0, -2.0, 1.0];
        assert!((number(&metrics, "accuracy") - 0.6).abs() < 1e-12, "{metrics:?}");
        assert!((number(&metrics, "margin") - leads.iter().sum::<f64>() / 5.0).abs() < 1e-12);
    }

    #[test]
    fn ratings_by_hand() {
        let lessons = [lesson(Verdict::Rating(1.0)), lesson(Verdict::Rating(3.0))];
        let lessons: Vec<&Lesson> = lessons.iter().collect();
        let head = Head::Ordinal { lowest: 1.0, free: spread_thresholds(3) };
        let metrics = measure(&head, &lessons, &[-9.0, 0.0], "", true);
        // At score 0 the middle class is not the most probable of three with thresholds ±½, but class 1 and 3 tie
        // above it: σ(−½) = 0.378 > 0.245.
        assert!((number(&metrics, "mae") - 0.5).abs() < 1e-3, "{metrics:?}");
        assert_eq!(number(&metrics, "max_reward"), 0.0);
        let regression = Head::Regression { rating_mean: 2.0, rating_std: 1.0 };
        let metrics = measure(&regression, &lessons, &[-1.0, 0.0], "", true);
        assert_eq!((number(&metrics, "mae"), number(&metrics, "accuracy")), (0.5, 0.5));
        assert!(!metrics.contains_key("ece"));
    }
}
