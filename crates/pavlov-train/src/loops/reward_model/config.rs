//! The keys of `pavlov reward`.

use serde::{Deserialize, Serialize};

use super::collected;
use crate::loss::TieModel;
use crate::reward::FeedbackSettings;
use crate::run::{PeftSettings, TrainingConfig};
use crate::settings::{require, settings};
use crate::{Error, Result};

/// What a reward model learns from (`kind`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Which of two answers is better (Bradley-Terry), or in which order several are (Plackett-Luce); the model scores each
    /// alone.
    #[default]
    Comparisons,
    /// Points on a scale; the model scores each answer alone.
    Ratings,
    /// Which of two answers is better; the model reads both.
    Joint,
}

/// What is learned from a tie (`ties`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// Nothing: ties are left out.
    #[default]
    None,
    /// Davidson (1970).
    Davidson,
    /// Rao and Kupper (1967).
    RaoKupper,
}

impl Ties {
    /// The law of ties, if there is one.
    pub fn model(self) -> Option<TieModel> {
        match self {
            Self::None => None,
            Self::Davidson => Some(TieModel::Davidson),
            Self::RaoKupper => Some(TieModel::RaoKupper),
        }
    }
}

/// How ratings are learned (`rating_loss`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatingLoss {
    /// The proportional-odds model of McCullagh (1980), for whole points: only their order is trusted.
    #[default]
    Ordinal,
    /// Squared error of the points, divided by their variance.
    Regression,
}

settings! {
    /// What `pavlov reward` reads.
    pub struct RewardConfig {
        [training: TrainingConfig { learning_rate: 1e-4 }, peft: PeftSettings {}, feedback: FeedbackSettings {}]
        /// What is learned from: comparisons and rankings (one score an answer), ratings (one score an answer) or joint
        /// (comparisons, by a model that reads both answers).
        kind: Kind = Kind::Comparisons,
        /// What is learned from ties: none (they are left out), davidson or rao_kupper. For kind = comparisons; a joint
        /// model learns a tie as one half.
        ties: Ties = Ties::None,
        /// How ratings are learned: ordinal (whole points on a scale) or regression.
        rating_loss: RatingLoss = RatingLoss::Ordinal,
        /// Longest prompt with its answer (joint: both answers), in tokens; longer rows are left out, never cut.
        max_length: usize = 1024,
        /// Weight of the squared sum of a pair's scores, which holds them near 0; 0.01 is usual. Without ties only.
        center_rewards_coefficient: f64 = 0.0,
        /// Peak learning rate of the tie parameter or the thresholds of ratings, in nats per update.
        scalar_learning_rate: f64 = 0.01,
        /// With data = "feedback:PROJECT": whenever so many more judgments are sealed, teach the model anew on all of them, tell the project what it foretells of held-out ones, and wait for more, until Ctrl-C; 0: once.
        retrain_every: u64 = 0,
        /// Judgments after which retraining ends by itself; 0: never.
        retrain_until: u64 = 0,
    }
}

impl RewardConfig {
    fn validate(&self) -> Result<()> {
        require(self.max_length > 1, "max_length", self.max_length, "at least 2")?;
        let center = self.center_rewards_coefficient;
        require(center >= 0.0 && center.is_finite(), "center_rewards_coefficient", center, "0 or more")?;
        let rate = self.scalar_learning_rate;
        require(rate >= 0.0 && rate.is_finite(), "scalar_learning_rate", rate, "0 or more")?;
        self.validate_retraining()?;
        let with_ties = self.ties != Ties::None;
        require(
            !with_ties || self.kind == Kind::Comparisons,
            "ties",
            "given",
            "none unless kind = \"comparisons\"",
        )?;
        let centred = center > 0.0;
        require(
            !centred || (self.kind == Kind::Comparisons && !with_ties),
            "center_rewards_coefficient",
            center,
            "0 unless kind = \"comparisons\" and ties = \"none\"",
        )
    }

    fn validate_retraining(&self) -> Result<()> {
        let (every, until) = (self.retrain_every, self.retrain_until);
        require(until == 0 || every > 0, "retrain_until", until, "0 unless retrain_every is above 0")?;
        if every == 0 {
            return Ok(());
        }
        let data = self.training.data.display();
        let asks = collected::project(&self.training.data).is_some();
        require(asks, "data", data, "feedback:PROJECT with retrain_every")?;
        if self.training.eval_data.is_none() {
            let problem =
                "is missing, and retraining is for what it shows; name the project here too, or a file";
            return Err(Error::setting("eval_data", problem));
        }
        require(self.training.save_final_model, "save_final_model", false, "true with retrain_every")
    }
}
