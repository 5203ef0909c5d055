//! Comparisons and ratings, learned again by a reward model.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use pavlov_lm::LanguageModel;
use pavlov_schema::row::Row;
use pavlov_train::loops::reward_model::{
    Lesson, Lessons, RewardConfig, Verdict, prepare, taught_rows, train, with_head,
};
use pavlov_train::loss::Outcome;
use pavlov_train::run::{Ending, Host, load_model};
use pavlov_train::settings::Settings;

use super::{ChangeOf, changed, in_memory};
use crate::taught::Taught;
use crate::{Error, Result};

/// A run of `reward` and its verdicts.
pub(super) struct Judged {
    config: RewardConfig,
    lessons: Lessons,
    /// Of each lesson its place in the data, and what its rating is mirrored at: the sum of the ends of its scale.
    places: Vec<(usize, Option<f64>)>,
}

impl Judged {
    pub(super) fn read(taught: &Taught) -> Result<Self> {
        let mut config = RewardConfig::from_map(taught.config.clone())?;
        let (at, rows): (Vec<usize>, Vec<Row>) =
            taught_rows(&taught.run, &config.training)?.into_iter().unzip();
        in_memory(&mut config.training);
        (config.retrain_every, config.retrain_until) = (0, 0);
        let model = load_model(&config.training, &config.peft)?;
        let stop = AtomicBool::new(false);
        let mut silent = Host { stop: &stop, events: &mut |_| {}, command: &[] };
        let lessons = prepare(&model, &rows, &[], &config, &mut silent)?;
        let ends = |row: &Row| row.rated().and_then(|rated| rated.scale).map(|(low, high)| low + high);
        let places = lessons.rows.iter().map(|lesson| (at[lesson.row], ends(&rows[lesson.row]))).collect();
        Ok(Self { config, lessons, places })
    }

    pub(super) fn teach(
        &self,
        change: &ChangeOf,
        seed: u64,
        folder: &Path,
        host: &mut Host,
    ) -> Result<(LanguageModel, Ending)> {
        let mut config = self.config.clone();
        config.training.seed = seed;
        folder.clone_into(&mut config.training.output_dir);
        let flip = |i: usize, lesson: &Lesson| {
            Ok(Lesson { verdict: opposite(lesson, self.places[i].1)?, ..lesson.clone() })
        };
        let rows = changed(&self.lessons.rows, |i| self.places[i].0, change, flip)?;
        let (head, files) = (self.lessons.head.clone(), self.lessons.files.clone());
        let lessons = Lessons { rows, held_out: Vec::new(), head, files, staged: None };
        let mut model = with_head(load_model(&config.training, &config.peft)?, seed)?;
        let ending = train(&mut model, &lessons, &config, host)?;
        Ok((model, ending))
    }
}

/// The other answer is better; the worst is the best; or the rating from the other end of the scale. A tie is its own opposite.
fn opposite(lesson: &Lesson, ends: Option<f64>) -> Result<Verdict> {
    match lesson.verdict {
        Verdict::Ranking(ref ranks) => {
            let worse = |rank: &u8| ranks.iter().filter(|other| *other > rank).count() as u8;
            Ok(Verdict::Ranking(ranks.iter().map(|rank| worse(rank) + 1).collect()))
        }
        Verdict::Pair { outcome, margin } => {
            let outcome = match outcome {
                Outcome::First => Outcome::Second,
                Outcome::Second => Outcome::First,
                Outcome::Tie => Outcome::Tie,
            };
            Ok(Verdict::Pair { outcome, margin })
        }
        Verdict::Rating(rating) => ends.map(|ends| Verdict::Rating(ends - rating)).ok_or_else(|| {
            let what = "a score without a scale has no opposite; give `rating` and `scale`";
            Error::Question(format!("row {}: {what}", lesson.row + 1))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_opposites() {
        let of = |verdict| Lesson { prompt: vec![1], answers: vec![vec![2]], verdict, row: 3 };
        let pair = |outcome| of(Verdict::Pair { outcome, margin: 0.5 });
        let second = Verdict::Pair { outcome: Outcome::Second, margin: 0.5 };
        assert_eq!(opposite(&pair(Outcome::First), None).unwrap(), second);
        assert_eq!(opposite(&pair(Outcome::Tie), None).unwrap(), pair(Outcome::Tie).verdict);
        let ranked = of(Verdict::Ranking(vec![3, 1, 1, 4]));
        assert_eq!(opposite(&ranked, None).unwrap(), Verdict::Ranking(vec![2, 3, 3, 1]));
        assert_eq!(opposite(&of(Verdict::Rating(2.0)), Some(6.0)).unwrap(), Verdict::Rating(4.0));
        assert!(opposite(&of(Verdict::Rating(2.0)), None).unwrap_err().to_string().contains("row 4"));
    }
}
