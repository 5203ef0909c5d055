//! The policy gradient of credited rollouts: pack, forward, derivatives, backward.

use pavlov_engine::backend::Backend;
use pavlov_engine::profile::{Operation, Work};
use pavlov_engine::{Activations, Batch, Decoder, OutputGradients, Outputs, Parameters};
use pavlov_schema::rollout::{Credited, Rollout};

use super::objective::{Numbers, Objective, Sums};
use crate::Result;
use crate::loss::Counts;
use crate::stage::pack::pack_rollouts;

/// A credited rollout and what the reference says about it.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// The rollout and the weight of each of its tokens.
    pub credited: &'a Credited,
    /// log π_ref of each token, in nats; empty without a reference.
    pub ref_logp: &'a [f32],
}

impl Lesson<'_> {
    /// Tokens of the prompt and of the answer.
    pub fn tokens(&self) -> usize {
        self.credited.scored.rollout.prompt_tokens.len() + self.credited.scored.rollout.tokens.len()
    }
}

/// Buffers of forward and backward passes, kept between steps.
pub struct Workspace {
    batch: Batch,
    activations: Activations,
}

impl Workspace {
    /// Empty buffers. With `recompute`, activations inside a block are computed again by the backward pass.
    pub fn new(recompute: bool) -> Self {
        Self { batch: Batch::new(), activations: Activations::new(recompute) }
    }

    fn forward<'a>(
        &mut self,
        decoder: &Decoder,
        params: &Parameters,
        rollouts: impl Iterator<Item = &'a Rollout>,
        temperature: f32,
    ) -> Result<Outputs> {
        self.batch.clear();
        let timer = decoder.backend().profile().time(Operation::Pack, Work::default);
        pack_rollouts(&mut self.batch, rollouts);
        drop(timer);
        Ok(decoder.forward(params, &self.batch, temperature, &mut self.activations)?)
    }

    /// log π of each token of each rollout, in nats, `micro` rollouts at a time.
    pub fn logps(
        &mut self,
        decoder: &Decoder,
        params: &Parameters,
        rollouts: &[Credited],
        temperature: f32,
        micro: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(rollouts.len());
        for part in rollouts.chunks(micro.max(1)) {
            let part = || part.iter().map(|credited| &credited.scored.rollout);
            let mut logp = self.forward(decoder, params, part(), temperature)?.logp.into_iter();
            all.extend(part().map(|rollout| logp.by_ref().take(rollout.tokens.len()).collect::<Vec<f32>>()));
        }
        Ok(all)
    }

    /// Adds the gradient of the objective on one micro-batch to `gradients`. `counts` are those of the whole update,
    /// so that the gradients of its parts add up to that of the whole.
    #[allow(
        clippy::too_many_arguments,
        reason = "the model, the lessons and the objective are separate things"
    )]
    pub fn accumulate(
        &mut self,
        decoder: &Decoder,
        params: &Parameters,
        lessons: &[Lesson],
        objective: &Objective,
        counts: &Counts,
        temperature: f32,
        gradients: &mut Parameters,
    ) -> Result<Sums> {
        // 1. Pack the answers to a prompt behind one copy of it, and run the policy over them.
        let rollouts = lessons.iter().map(|lesson| &lesson.credited.scored.rollout);
        let outputs = self.forward(decoder, params, rollouts, temperature)?;
        // 2. What the objective says about each token.
        let numbers = numbers(lessons, outputs);
        let derivatives = objective.derivatives(&numbers, counts);
        // 3. From there to the parameters.
        let output_gradients =
            OutputGradients { logp: derivatives.d_logp, entropy: derivatives.d_entropy, scalars: Vec::new() };
        decoder.backward(
            params,
            &self.batch,
            temperature,
            &output_gradients,
            &mut self.activations,
            gradients,
        )?;
        Ok(derivatives.sums)
    }
}

/// The sizes of an update over these lessons.
pub fn counts(lessons: &[Lesson], max_completion_length: usize) -> Counts {
    Counts {
        sequences: lessons.len(),
        tokens: lessons.iter().map(|lesson| lesson.credited.scored.rollout.tokens.len()).sum(),
        max_completion_length,
    }
}

fn numbers(lessons: &[Lesson], outputs: Outputs) -> Numbers {
    let mut numbers = Numbers { logp: outputs.logp, entropy: outputs.entropy, ..Numbers::default() };
    for Lesson { credited, ref_logp } in lessons {
        let rollout = &credited.scored.rollout;
        numbers.lengths.push(rollout.tokens.len());
        numbers.old_logp.extend(&rollout.behaviour_logp);
        numbers.credit.extend(&credited.weights);
        numbers.ref_logp.extend(*ref_logp);
    }
    numbers
}
