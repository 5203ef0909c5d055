//! Tokens → [`Batch`]: the one place that decides which token is scored, and at which row a score is read.
//!
//! A batch is a forest without padding. Rows never see each other; what several answers begin with is computed once.

use pavlov_engine::{Batch, SegmentId};
use pavlov_lm::Encoded;
use pavlov_schema::rollout::Rollout;

/// Adds rows, one after another; their learned tokens are the targets, in order.
///
/// # Panics
/// If a row has no tokens.
pub fn pack_rows<'a>(batch: &mut Batch, rows: impl Iterator<Item = &'a Encoded>) {
    for row in rows {
        let segment = batch.forest.push(None, &row.tokens);
        // The encoder never marks the first token: nothing comes before it.
        for (i, _) in row.trained.iter().enumerate().skip(1).filter(|(_, trained)| **trained) {
            let target =
                pavlov_engine::Target { row: batch.forest.row(segment, i - 1) as u32, token: row.tokens[i] };
            batch.targets.push(target);
        }
    }
}

/// Adds rollouts; every token of every answer, the end token included, is a target, in order. Answers that follow
/// each other and have the same prompt share its segment.
///
/// # Panics
/// If a prompt or an answer has no tokens.
pub fn pack_rollouts<'a>(batch: &mut Batch, rollouts: impl Iterator<Item = &'a Rollout>) {
    let mut last: Option<(&[u32], SegmentId)> = None;
    for rollout in rollouts {
        let prompt = match last {
            Some((tokens, segment)) if tokens == rollout.prompt_tokens => segment,
            _ => batch.forest.push(None, &rollout.prompt_tokens),
        };
        last = Some((&rollout.prompt_tokens, prompt));
        let answer = batch.forest.push(Some(prompt), &rollout.tokens);
        batch.score_segment(answer);
    }
}

/// Adds a prompt and its answers, which share the prompt's segment; the scalar head is read at each answer's last
/// token, in order.
///
/// # Panics
/// If the prompt or an answer has no tokens.
pub fn pack_answers<'a>(batch: &mut Batch, prompt: &[u32], answers: impl Iterator<Item = &'a [u32]>) {
    let prompt = batch.forest.push(None, prompt);
    for answer in answers {
        let segment = batch.forest.push(Some(prompt), answer);
        read_last(batch, segment);
    }
}

/// Adds a prompt and its answers, which share the prompt's segment; every token of every answer is a target, in order.
///
/// # Panics
/// If the prompt or an answer has no tokens.
pub fn pack_scored_answers<'a>(batch: &mut Batch, prompt: &[u32], answers: impl Iterator<Item = &'a [u32]>) {
    let prompt = batch.forest.push(None, prompt);
    for answer in answers {
        let segment = batch.forest.push(Some(prompt), answer);
        batch.score_segment(segment);
    }
}

/// Adds a prompt and two answers for a judge that reads both: the arrangements prompt · a · b and prompt · b · a, each
/// answer with its end token and nothing between. The scalar head is read at the end of both, in this order.
///
/// # Panics
/// If the prompt or an answer has no tokens.
pub fn pack_joint(batch: &mut Batch, prompt: &[u32], a: &[u32], b: &[u32]) {
    let prompt = batch.forest.push(None, prompt);
    for (first, second) in [(a, b), (b, a)] {
        let first = batch.forest.push(Some(prompt), first);
        let second = batch.forest.push(Some(first), second);
        read_last(batch, second);
    }
}

fn read_last(batch: &mut Batch, segment: SegmentId) {
    let last = batch.forest.segment(segment).len - 1;
    batch.reads.push(batch.forest.row(segment, last) as u32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pavlov_engine::Target;
    use pavlov_schema::rollout::Finish;

    fn target(row: u32, token: u32) -> Target {
        Target { row, token }
    }

    #[test]
    fn a_learned_token_is_scored_at_the_row_before_it() {
        let rows = [
            Encoded { tokens: vec![5, 6, 7], trained: vec![false, false, true], ..Encoded::default() },
            Encoded { tokens: vec![8, 9, 1], trained: vec![false, true, true], ..Encoded::default() },
        ];
        let mut batch = Batch::new();
        pack_rows(&mut batch, rows.iter());
        assert_eq!(batch.forest.tokens(), [5, 6, 7, 8, 9, 1]);
        assert_eq!(batch.forest.positions(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(batch.targets, [target(1, 7), target(3, 9), target(4, 1)]);
        assert!(batch.reads.is_empty());
    }

    #[test]
    fn answers_to_one_prompt_share_it() {
        let rollout = |prompt: &[u32], tokens: &[u32]| Rollout {
            prompt_id: String::new(),
            prompt_index: 0,
            choice: 0,
            prompt_text: String::new(),
            prompt_tokens: prompt.to_vec(),
            completion: String::new(),
            tokens: tokens.to_vec(),
            behaviour_logp: vec![],
            finish: Finish::Eos,
            seed: 0,
            policy_version: 0,
        };
        let rollouts = [rollout(&[3, 4], &[5, 1]), rollout(&[3, 4], &[1]), rollout(&[3], &[6])];
        let mut batch = Batch::new();
        pack_rollouts(&mut batch, rollouts.iter());
        assert_eq!(batch.forest.tokens(), [3, 4, 5, 1, 1, 3, 6]);
        assert_eq!(batch.forest.positions(), [0, 1, 2, 3, 2, 0, 1]);
        assert_eq!(batch.targets, [target(1, 5), target(2, 1), target(1, 1), target(5, 6)]);
    }

    #[test]
    fn every_token_of_an_answer_is_a_target() {
        let mut batch = Batch::new();
        pack_scored_answers(&mut batch, &[3, 4], [&[5, 1][..], &[6]].into_iter());
        assert_eq!(batch.forest.tokens(), [3, 4, 5, 1, 6]);
        assert_eq!(batch.forest.positions(), [0, 1, 2, 3, 2]);
        assert_eq!(batch.targets, [target(1, 5), target(2, 1), target(1, 6)]);
        assert!(batch.reads.is_empty());
    }

    #[test]
    fn scores_are_read_at_the_last_token_of_each_answer() {
        let mut batch = Batch::new();
        pack_answers(&mut batch, &[3, 4], [&[5, 1][..], &[1]].into_iter());
        assert_eq!((batch.forest.len(), &batch.reads), (5, &vec![3, 4]));
        let mut batch = Batch::new();
        pack_joint(&mut batch, &[3], &[5, 1], &[6]);
        assert_eq!(batch.forest.tokens(), [3, 5, 1, 6, 6, 5, 1]);
        assert_eq!(batch.forest.positions(), [0, 1, 2, 3, 1, 2, 3]);
        assert_eq!(batch.reads, [3, 6]);
    }
}
