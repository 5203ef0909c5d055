//! What is asked of the two models: the log-odds of a behaviour, or the reward of what they write.

use std::ops::Range;

use pavlov_engine::{Activations, Batch, Intervention, OutputGradients, Sampler, SegmentId};
use pavlov_lm::Encoder;
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_train::stage::rollout::{Drawing, EncodedPrompt};
use pavlov_train::stage::score::Reward;

use super::models::{Models, Weights};
use crate::estimate::Unit;
use crate::{Error, Result};

/// Rows of a forward pass, at most, unless one contrast alone has more.
pub const ROWS: usize = 4096;

/// A prompt, an answer that shows a behaviour and one that does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The answer that shows the behaviour, with its end token.
    pub behaviour: Vec<u32>,
    /// The other answer.
    pub alternative: Vec<u32>,
}

impl Contrast {
    /// Encodes an example; `place` names it in errors.
    pub fn encode(encoder: &Encoder<'_>, prompt: &Text, answers: [&Text; 2], place: &str) -> Result<Self> {
        let answers = answers.map(Clone::clone);
        let encoded = encoder.encode_answers(prompt, &answers, place)?;
        let [behaviour, alternative] = <[Vec<u32>; 2]>::try_from(encoded.answers)
            .map_err(|_| Error::Question(format!("{place}: needs two answers")))?;
        if behaviour == alternative {
            let what = "both answers are the same tokens: there is no behaviour to tell from another";
            return Err(Error::Question(format!("{place}: {what}; remove the row")));
        }
        Ok(Self { prompt: encoded.prompt, behaviour, alternative })
    }

    /// Its tokens.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.behaviour.len() + self.alternative.len()
    }

    /// Never true: a prompt has tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Contrasts in one batch: each a tree of a prompt and its two answers.
pub struct Packed {
    /// The trees; the targets are the tokens of the answers.
    pub batch: Batch,
    /// Of each contrast, in order.
    pub placed: Vec<Placed>,
}

/// Where a contrast lies in a batch.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its rows: the prompt, the behaviour, the alternative.
    pub rows: Range<u32>,
    /// The targets of the behaviour and of the alternative.
    pub targets: [Range<usize>; 2],
}

impl Packed {
    /// Contrasts in as few batches as their memory allows, in order.
    pub fn all<'a>(contrasts: impl IntoIterator<Item = &'a Contrast>) -> Vec<Self> {
        let mut packed: Vec<Self> = Vec::new();
        for contrast in contrasts {
            match packed.last_mut() {
                Some(last) if last.batch.forest.len() + contrast.len() <= ROWS => last.push(contrast),
                _ => {
                    let mut new = Self { batch: Batch::new(), placed: Vec::new() };
                    new.push(contrast);
                    packed.push(new);
                }
            }
        }
        packed
    }

    fn push(&mut self, contrast: &Contrast) {
        let start = self.batch.forest.len() as u32;
        let root = self.batch.forest.push(None, &contrast.prompt);
        let mut answer = |tokens: &[u32]| {
            let id: SegmentId = self.batch.forest.push(Some(root), tokens);
            self.batch.score_segment(id)
        };
        let targets = [answer(&contrast.behaviour), answer(&contrast.alternative)];
        self.placed.push(Placed { rows: start..self.batch.forest.len() as u32, targets });
    }

    /// Log-odds of each behaviour under its alternative, nats.
    pub fn log_odds(&self, logp: &[f32]) -> Vec<f64> {
        let sum = |range: &Range<usize>| logp[range.clone()].iter().copied().map(f64::from).sum::<f64>();
        self.placed.iter().map(|p| sum(&p.targets[0]) - sum(&p.targets[1])).collect()
    }

    /// The derivative of the sum of all log-odds.
    pub fn gradient(&self) -> OutputGradients {
        let mut logp = vec![0.0; self.batch.targets.len()];
        for placed in &self.placed {
            logp[placed.targets[0].clone()].fill(1.0);
            logp[placed.targets[1].clone()].fill(-1.0);
        }
        OutputGradients { logp, ..OutputGradients::default() }
    }
}

/// What is measured on.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// Behaviours and their alternatives.
    pub contrasts: Vec<Contrast>,
    /// Prompts that are answered, if the metric is a reward.
    pub prompts: Vec<EncodedPrompt>,
}

impl Set {
    /// Every other example, from the first (0) or the second (1) on: halves that share nothing.
    #[must_use]
    pub fn half(&self, which: usize) -> Self {
        fn every<T: Clone>(items: &[T], which: usize) -> Vec<T> {
            items.iter().skip(which).step_by(2).cloned().collect()
        }
        Self { contrasts: every(&self.contrasts, which), prompts: every(&self.prompts, which) }
    }
}

/// What is asked.
pub enum Metric {
    /// log P(behaviour) − log P(alternative), nats.
    LogOdds,
    /// The mean reward of answers that the model draws.
    Reward(Box<Rewarded>),
}

/// Rewards, and how answers to them are drawn.
pub struct Rewarded {
    /// What gives the points.
    pub rewards: Vec<Reward>,
    /// The data set that the encoded prompts point into.
    pub prompts: Vec<Prompt>,
    /// How answers are drawn: each evaluation with the same random numbers.
    pub drawing: Drawing,
    /// What draws them.
    pub sampler: Sampler,
}

impl Metric {
    /// What its numbers count.
    pub fn unit(&self) -> Unit {
        match self {
            Self::LogOdds => Unit::LogOdds,
            Self::Reward(_) => Unit::RewardPoints,
        }
    }

    /// How many examples of a set it is measured on.
    pub fn examples(&self, set: &Set) -> usize {
        match self {
            Self::LogOdds => set.contrasts.len(),
            Self::Reward(_) => set.prompts.len(),
        }
    }

    /// The metric of a model on each example of a set.
    pub fn measure(
        &mut self,
        set: &Set,
        model: &Models,
        weights: Weights<'_>,
        interventions: &[Intervention],
    ) -> Result<Vec<f64>> {
        match self {
            Self::LogOdds => log_odds(&set.contrasts, weights, interventions),
            Self::Reward(rewarded) => rewarded.measure(&set.prompts, model, weights, interventions),
        }
    }
}

/// Log-odds of each behaviour, nats.
pub fn log_odds(
    contrasts: &[Contrast],
    (decoder, params): Weights<'_>,
    interventions: &[Intervention],
) -> Result<Vec<f64>> {
    let (mut values, mut acts) = (Vec::with_capacity(contrasts.len()), Activations::new(true));
    for packed in Packed::all(contrasts) {
        let outputs = decoder.forward_with(params, &packed.batch, 1.0, interventions, &mut acts)?;
        values.extend(packed.log_odds(&outputs.logp));
    }
    Ok(values)
}
