//! Lessons as vectors: the gradient of what each pushes for, and the difference that it makes to activations.

use std::ops::Range;

use pavlov_engine::{
    Activations, Basis, Batch, ExampleGradients, Observed, OutputGradients, ParameterKind, Parameters,
};
use pavlov_lm::LanguageModel;

use super::cases::judges;
use super::lesson::Lesson;
use crate::{Error, Result};

/// Turns lessons into vectors, by one forward and one backward pass of a checkpoint over what each pushes for.
///
/// First in a vector is the **gradient** of Σ weight·log π over the tokens of a lesson, or where the model judges, of Σ share·score
/// over its answers; layer by layer and looked at in few directions; of a model with an adapter that of the adapter's matrices, else
/// that of every linear layer of the blocks.
///
/// Then, where it is asked for, the **difference of activations** (arXiv:2602.11079): Σ share·(ā − p̄) over a lesson's answers,
/// where ā is the mean residual stream over the tokens of an answer and p̄ that over the prompt. Where answers are set against
/// each other the prompt cancels out; else it keeps the subject out.
pub struct Features<'a> {
    model: &'a LanguageModel,
    examples: ExampleGradients,
    /// Layer of the differences of activations.
    layer: Option<usize>,
    batch: Batch,
    activations: Activations,
    nothing: Parameters,
}

/// Of a lesson the rows of its prompt or an answer, and its share in the difference of activations.
type Shared = (Range<u32>, f32);

/// The parameters whose gradients count.
pub fn traced_parameters(model: &LanguageModel) -> Vec<String> {
    let specs = model.decoder.parameters().iter();
    specs
        .filter(|spec| spec.kind == ParameterKind::Matrix && spec.name.starts_with("model.layers."))
        .filter(|spec| spec.name.contains(".lora_") == model.adapter.is_some())
        .map(|spec| spec.name.clone())
        .collect()
}

impl<'a> Features<'a> {
    /// Each layer's gradient becomes `most`·`most` numbers in random directions (LoGra; Choe et al., arXiv:2405.13954);
    /// `seed` names them.
    pub fn projected(model: &'a LanguageModel, most: usize, seed: u64) -> Result<Self> {
        let names = traced_parameters(model);
        Ok(Self::of_examples(model, ExampleGradients::new(&model.decoder, &names, [most, most], seed)?))
    }

    /// Gradients in given directions.
    pub fn in_bases(model: &'a LanguageModel, bases: &[Basis]) -> Result<Self> {
        Ok(Self::of_examples(model, ExampleGradients::in_bases(&model.decoder, bases)?))
    }

    fn of_examples(model: &'a LanguageModel, examples: ExampleGradients) -> Self {
        let (batch, activations) = (Batch::new(), Activations::new(false));
        Self { model, examples, layer: None, batch, activations, nothing: model.decoder.no_gradients() }
    }

    /// With the differences of activations at a layer, 0 (the embedding) to the number of blocks.
    pub fn with_differences(mut self, layer: usize) -> Result<Self> {
        let layers = self.model.decoder.config().num_layers;
        if layer > layers {
            return Err(Error::Question(format!("there is no layer {layer}; give one from 0 to {layers}")));
        }
        self.layer = Some(layer);
        Ok(self)
    }

    /// Length of a vector.
    pub fn width(&self) -> usize {
        self.differences().end
    }

    /// The gradient's place in a vector.
    pub fn gradient(&self) -> Range<usize> {
        0..self.examples.width()
    }

    /// The place of the difference of activations; empty if it was not asked for.
    pub fn differences(&self) -> Range<usize> {
        let start = self.examples.width();
        start..start + self.layer.map_or(0, |_| self.model.decoder.config().hidden_size)
    }

    /// The places of the layers.
    pub fn parts(&self) -> Vec<Range<usize>> {
        self.examples.parts().map(|(_, part, _)| part).collect()
    }

    /// Bytes that a pass over so many tokens takes beside the weights, nearly.
    pub fn bytes(&self, tokens: usize) -> u64 {
        let config = self.model.decoder.config();
        let [hidden, wide] = [config.hidden_size, config.intermediate_size];
        let [query, key] = [config.num_heads, config.num_kv_heads].map(|heads| heads * config.head_dim);
        // What a block keeps for the backward pass, and what all blocks use in turn.
        let kept = 2 * (hidden + query + key + wide);
        let shared = 3 * hidden + 2 * query + 4 * key + 2 * wide;
        (size_of::<f32>() * tokens * (config.num_layers * kept + shared)) as u64
    }

    /// The vector of each lesson.
    pub fn of(&mut self, lessons: &[Lesson]) -> Result<Vec<Vec<f32>>> {
        if lessons.is_empty() {
            return Ok(Vec::new());
        }
        let (weights, shared) = fill(self.model, &mut self.batch, lessons, self.layer.is_some());
        let (decoder, params) = (&self.model.decoder, &self.model.params);
        decoder.forward(params, &self.batch, 1.0, &mut self.activations)?;
        let differences = match self.layer {
            Some(layer) => differences(self.model, &self.activations, layer, &shared)?,
            None => Vec::new(),
        };
        let observed = Observed { examples: Some(&mut self.examples), ..Observed::default() };
        let (batch, acts, nothing) = (&self.batch, &mut self.activations, &mut self.nothing);
        decoder.backward_with(params, batch, 1.0, &weights, &[], acts, nothing, observed)?;
        let mut vectors: Vec<Vec<f32>> = self.examples.examples().map(<[f32]>::to_vec).collect();
        vectors.iter_mut().zip(&differences).for_each(|(vector, difference)| vector.extend(difference));
        Ok(vectors)
    }
}

/// A batch with a tree for each lesson: its prompt and its answers, those that are only `compared` with if wanted. Returns the
/// weights of its targets (of the scores, where the model judges), and where prompts and answers are.
pub(super) fn fill(
    model: &LanguageModel,
    batch: &mut Batch,
    lessons: &[Lesson],
    compared: bool,
) -> (OutputGradients, Vec<Vec<Shared>>) {
    batch.clear();
    let judges = judges(model);
    let mut weights = OutputGradients::default();
    let mut shared = Vec::with_capacity(lessons.len());
    for lesson in lessons {
        let rows = |first: usize, n: usize| first as u32..(first + n) as u32;
        let prompt = batch.forest.push(None, &lesson.prompt);
        let mut of_lesson = Vec::with_capacity(1 + lesson.answers.len());
        if !lesson.is_balanced() {
            let share = -lesson.answers.iter().map(|answer| answer.share).sum::<f32>();
            of_lesson.push((rows(batch.forest.row(prompt, 0), lesson.prompt.len()), share));
        }
        for answer in &lesson.answers {
            let pushed = answer.weights.iter().any(|weight| *weight != 0.0);
            if !pushed && !compared {
                continue;
            }
            let segment = batch.forest.push(Some(prompt), &answer.tokens);
            of_lesson.push((rows(batch.forest.row(segment, 0), answer.tokens.len()), answer.share));
            if pushed && judges {
                let read = batch.forest.row(segment, model.files.scored_position(&answer.tokens));
                batch.reads.push(read as u32);
                weights.scalars.push(answer.share);
            } else if pushed {
                batch.score_segment(segment);
                weights.logp.extend(&answer.weights);
            }
        }
        shared.push(of_lesson);
    }
    (weights, shared)
}

/// Σ share·(ā − p̄) of each lesson, of the last forward pass.
fn differences(
    model: &LanguageModel,
    activations: &Activations,
    layer: usize,
    shared: &[Vec<Shared>],
) -> Result<Vec<Vec<f32>>> {
    let width = model.decoder.config().hidden_size;
    let rows: Vec<u32> = shared.iter().flatten().flat_map(|(rows, _)| rows.clone()).collect();
    let streams = model.decoder.stream(activations, layer, &rows)?;
    let mut streams = streams.chunks_exact(width);
    let mut vectors = Vec::with_capacity(shared.len());
    for of_lesson in shared {
        let mut vector = vec![0.0; width];
        for (rows, share) in of_lesson {
            let scale = share / rows.len() as f32;
            for row in streams.by_ref().take(rows.len()) {
                vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += scale * x);
            }
        }
        vectors.push(vector);
    }
    Ok(vectors)
}
