//! What a reward model says along an answer, not only at its end.

use std::ops::Range;

use pavlov_schema::text::Text;

use super::lessons::Group;
use super::model::{RewardModel, TOKENS};
use crate::{Error, Result};

/// A reward model's view of one answer, in its own tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Prefixes {
    /// Token ids of the answer up to the one at which its score is read.
    pub tokens: Vec<u32>,
    /// The score after the prompt, then after each token; as [`RewardModel::scores`] has them, whose score is the last.
    pub scores: Vec<f64>,
    /// How much the last block attended to each token of the answer from the one at which the score is read, a mean over
    /// heads, renormalised to sum to 1 (arXiv:2402.00782). It has no sign.
    pub attention: Vec<f32>,
}

impl RewardModel {
    /// The head read at every token of each answer, and the attention of its last one: one forward pass. The head was
    /// trained at the ends of whole answers only; what it says before is off its distribution.
    ///
    /// Errors: a joint model, which scores no answer alone.
    pub fn prefixes(&mut self, answers: &[(&Text, &str)]) -> Result<Vec<Prefixes>> {
        if self.head().is_joint() {
            let problem =
                "the joint reward model reads two answers and scores none alone; take a pointwise one";
            return Err(Error::setting("model", problem));
        }
        let groups = self.encode_groups(answers)?;
        let size = |(prompt, answers): &Group| prompt.len() + answers.iter().map(Vec::len).sum::<usize>();
        let mut all = Vec::with_capacity(answers.len());
        let mut rest = groups.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|group| {
                tokens += size(group);
                tokens <= TOKENS
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            self.read_prefixes(now, &mut all)?;
            rest = later;
        }
        Ok(all)
    }

    fn read_prefixes(&mut self, groups: &[Group], all: &mut Vec<Prefixes>) -> Result<()> {
        let (mean, deviation) = (self.file.score_mean, self.file.score_std);
        let batch = &mut self.work.batch;
        batch.clear();
        // The reads of each answer: the prompt's last row, then its own rows.
        let mut reads: Vec<Range<usize>> = Vec::new();
        let mut ends = Vec::new();
        for (prompt, answers) in groups {
            let root = batch.forest.push(None, prompt);
            let before = batch.forest.row(root, prompt.len() - 1) as u32;
            for answer in answers {
                let segment = batch.forest.push(Some(root), answer);
                let first = batch.reads.len();
                batch.reads.push(before);
                batch.reads.extend((0..answer.len()).map(|i| batch.forest.row(segment, i) as u32));
                reads.push(first..batch.reads.len());
                ends.push(batch.forest.row(segment, answer.len() - 1) as u32);
            }
        }
        let (decoder, params) = (&self.model.decoder, &self.model.params);
        let scalars = decoder.forward(params, batch, 1.0, &mut self.work.activations)?.scalars;
        let attention = decoder.last_attention(batch, &self.work.activations, &ends)?;
        let answers = groups.iter().flat_map(|(_, answers)| answers);
        for ((answer, range), weights) in answers.zip(reads).zip(attention) {
            let own = &weights[weights.len() - answer.len()..];
            let sum: f32 = own.iter().sum();
            all.push(Prefixes {
                tokens: answer.clone(),
                scores: scalars[range].iter().map(|&s| (f64::from(s) - mean) / deviation).collect(),
                attention: own.iter().map(|w| if sum > 0.0 { w / sum } else { 0.0 }).collect(),
            });
        }
        Ok(())
    }
}
