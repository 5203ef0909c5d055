//! Lessons as vectors: the gradient of what each pushes for, and the difference that it makes to activations.

use std::ops::Range;

use pavlov_engine::{
    Activations, Basis, Batch, Control, ExampleGradients, Observed, OutputGradients, ParameterKind,
    Parameters, SampleRequest, Sampler, SamplingParams,
};
use pavlov_lm::LanguageModel;

use super::lesson::{CHUNK, Lesson};
use crate::{Error, Result};

/// Turns lessons into vectors, by one forward and one backward pass of a checkpoint over what each pushes for.
///
/// First in a vector is the **gradient** of Σ weight·log π over the tokens of a lesson, layer by layer and looked at in few
/// directions; of a model with an adapter that of the adapter's matrices, else that of every linear layer of the blocks.
///
/// Then, where it is asked for, the **difference of activations** (arXiv:2602.11079): Σ share·ā over a lesson's answers, where ā
/// is the mean residual stream over the tokens of an answer. What is set against nothing is set against an answer that the
/// model itself draws.
pub struct Features<'a> {
    model: &'a LanguageModel,
    examples: ExampleGradients,
    differences: Option<Differences>,
    batch: Batch,
    activations: Activations,
    nothing: Parameters,
}

/// Where activations are read, and how own answers are drawn.
struct Differences {
    layer: usize,
    longest: usize,
    seed: u64,
    sampler: Sampler,
}

/// Of a lesson the rows of an answer, and its share in the difference of activations.
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
        Self { model, examples, differences: None, batch, activations, nothing: model.decoder.no_gradients() }
    }

    /// With the differences of activations at a layer, 0 (the embedding) to the number of blocks; `seed` names the draws of
    /// own answers, which have at most `longest` tokens.
    pub fn with_differences(mut self, layer: usize, longest: usize, seed: u64) -> Result<Self> {
        let layers = self.model.decoder.config().num_layers;
        if layer > layers {
            return Err(Error::Question(format!("there is no layer {layer}; give one from 0 to {layers}")));
        }
        self.differences = Some(Differences { layer, longest, seed, sampler: Sampler::new(CHUNK) });
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
        start..start + self.differences.as_ref().map_or(0, |_| self.model.decoder.config().hidden_size)
    }

    /// The places of the layers.
    pub fn parts(&self) -> Vec<Range<usize>> {
        self.examples.parts().map(|(_, part, _)| part).collect()
    }

    /// The vector of each lesson.
    pub fn of(&mut self, lessons: &[Lesson]) -> Result<Vec<Vec<f32>>> {
        if lessons.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.differences.as_mut().map(|differences| differences.own(self.model, lessons));
        let own = own.transpose()?.unwrap_or_default();
        let (weights, shared) = fill(&mut self.batch, lessons, &own);
        let (decoder, params) = (&self.model.decoder, &self.model.params);
        decoder.forward(params, &self.batch, 1.0, &mut self.activations)?;
        let differences = match &self.differences {
            Some(Differences { layer, .. }) => differences(self.model, &self.activations, *layer, &shared)?,
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

/// A batch with a tree for each lesson: its prompt, its answers, and the own answer that it may be set against. Returns the
/// weights of its targets, and where the answers are.
pub(super) fn fill(
    batch: &mut Batch,
    lessons: &[Lesson],
    own: &[Option<Vec<u32>>],
) -> (OutputGradients, Vec<Vec<Shared>>) {
    batch.clear();
    let mut weights = OutputGradients::default();
    let mut shared = Vec::with_capacity(lessons.len());
    for (i, lesson) in lessons.iter().enumerate() {
        let prompt = batch.forest.push(None, &lesson.prompt);
        let mut of_lesson = Vec::new();
        let mut push = |tokens: &[u32], share: f32, scored: bool| {
            let segment = batch.forest.push(Some(prompt), tokens);
            if scored {
                batch.score_segment(segment);
            }
            let first = batch.forest.row(segment, 0) as u32;
            of_lesson.push((first..first + tokens.len() as u32, share));
        };
        for answer in &lesson.answers {
            let scored = answer.weights.iter().any(|weight| *weight != 0.0);
            // What is only there to be compared with takes a pass too.
            if scored || !own.is_empty() {
                push(&answer.tokens, answer.share, scored);
                weights.logp.extend(answer.weights.iter().filter(|_| scored));
            }
        }
        if let Some(Some(tokens)) = own.get(i) {
            push(tokens, -lesson.answers.iter().map(|answer| answer.share).sum::<f32>(), false);
        }
        shared.push(of_lesson);
    }
    (weights, shared)
}

/// Σ share·ā of each lesson, of the last forward pass.
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

impl Differences {
    /// An own answer to the prompt of each lesson that is set against nothing.
    fn own(&mut self, model: &LanguageModel, lessons: &[Lesson]) -> Result<Vec<Option<Vec<u32>>>> {
        let wanting = |lesson: &Lesson| {
            !lesson.is_balanced() && lesson.prompt.len() < model.decoder.config().max_positions
        };
        let request = |lesson: &Lesson| SampleRequest {
            prompt: lesson.prompt.clone(),
            n: 1,
            stream: lesson.place as u64,
        };
        let requests: Vec<SampleRequest> = lessons.iter().filter(|l| wanting(l)).map(request).collect();
        let sampling = SamplingParams {
            max_new_tokens: self.longest,
            stop_tokens: model.files.tokenizer.stops().to_vec(),
            ..SamplingParams::default()
        };
        // Training names its numbers by the seed itself.
        let key = (self.seed ^ (0x7ACE_u64 << 48), 0);
        let go_on = &mut |_: usize, _: usize, _: u32| Control::Continue;
        let drawn = self.sampler.run(&model.decoder, &model.params, &requests, &sampling, key, go_on)?;
        let mut drawn = drawn.into_iter().map(|one| one.tokens);
        Ok(lessons.iter().map(|lesson| if wanting(lesson) { drawn.next() } else { None }).collect())
    }
}
