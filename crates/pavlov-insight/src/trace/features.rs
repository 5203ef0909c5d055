//! Lessons as vectors: the projected gradient of what each pushes for, and the difference that it makes to activations.

use std::ops::Range;

use pavlov_engine::{
    Activations, Batch, Control, ExampleGradients, Observed, OutputGradients, ParameterKind, Parameters,
    SampleRequest, Sampler, SamplingParams,
};
use pavlov_lm::LanguageModel;

use super::lesson::Lesson;
use crate::{Error, Result};

/// What turns lessons into vectors.
pub trait Features {
    /// Length of a vector.
    fn width(&self) -> usize;

    /// The vector of each lesson.
    fn of(&mut self, lessons: &[Lesson]) -> Result<Vec<Vec<f32>>>;
}

/// The gradient, at a checkpoint, of Σ weight·log π over the tokens of a lesson, projected layer by layer (LoGra; Choe et al.,
/// arXiv:2405.13954). Of a model with an adapter it is the gradient of the adapter's matrices, else of every linear layer of
/// the blocks.
pub struct Gradients<'a> {
    model: &'a LanguageModel,
    examples: ExampleGradients,
    nothing: Parameters,
    batch: Batch,
    activations: Activations,
}

impl<'a> Gradients<'a> {
    /// Each layer's gradient becomes `most`·`most` numbers; `seed` names the projections.
    pub fn new(model: &'a LanguageModel, most: usize, seed: u64) -> Result<Self> {
        let linear = |name: &str| name.starts_with("model.layers.");
        let adapted = |name: &str| name.contains(".lora_");
        let names: Vec<String> = model
            .decoder
            .parameters()
            .iter()
            .filter(|spec| spec.kind == ParameterKind::Matrix && linear(&spec.name))
            .filter(|spec| adapted(&spec.name) == model.adapter.is_some())
            .map(|spec| spec.name.clone())
            .collect();
        let examples = ExampleGradients::new(&model.decoder, &names, [most, most], seed)?;
        let nothing = model.decoder.no_gradients();
        Ok(Self { model, examples, nothing, batch: Batch::new(), activations: Activations::new(false) })
    }

    /// The layers' places in a vector.
    pub fn parts(&self) -> Vec<Range<usize>> {
        self.examples.parts().map(|(_, part, _)| part).collect()
    }
}

impl Features for Gradients<'_> {
    fn width(&self) -> usize {
        self.examples.width()
    }

    fn of(&mut self, lessons: &[Lesson]) -> Result<Vec<Vec<f32>>> {
        if lessons.is_empty() {
            return Ok(Vec::new());
        }
        self.batch.clear();
        let mut weights = OutputGradients::default();
        for lesson in lessons {
            let prompt = self.batch.forest.push(None, &lesson.prompt);
            for answer in lesson.answers.iter().filter(|a| a.weights.iter().any(|w| *w != 0.0)) {
                let segment = self.batch.forest.push(Some(prompt), &answer.tokens);
                self.batch.score_segment(segment);
                weights.logp.extend(&answer.weights);
            }
        }
        let (decoder, params) = (&self.model.decoder, &self.model.params);
        decoder.forward(params, &self.batch, 1.0, &mut self.activations)?;
        let observed = Observed { examples: Some(&mut self.examples), streams: None };
        decoder.backward_with(
            params,
            &self.batch,
            1.0,
            &weights,
            &[],
            &mut self.activations,
            &mut self.nothing,
            observed,
        )?;
        Ok(self.examples.examples().map(<[f32]>::to_vec).collect())
    }
}

/// Σ share·ā over a lesson's answers, where ā is the mean residual stream over the tokens of an answer in the model before the
/// stage (activation differences; arXiv:2602.11079). What is set against nothing is set against an answer that the model
/// itself draws.
pub struct ActivationDifferences<'a> {
    model: &'a LanguageModel,
    layer: usize,
    seed: u64,
    longest: usize,
    sampler: Sampler,
    batch: Batch,
    activations: Activations,
}

impl<'a> ActivationDifferences<'a> {
    /// At a layer, 0 (the embedding) to the number of blocks; `seed` names the draws of own answers, which have at most
    /// `longest` tokens.
    pub fn new(model: &'a LanguageModel, layer: usize, longest: usize, seed: u64) -> Result<Self> {
        let layers = model.decoder.config().num_layers;
        if layer > layers {
            return Err(Error::Question(format!("there is no layer {layer}; give one from 0 to {layers}")));
        }
        let sampler = Sampler::new(super::lesson::CHUNK);
        let (batch, activations) = (Batch::new(), Activations::new(true));
        Ok(Self { model, layer, seed, longest, sampler, batch, activations })
    }

    /// An own answer to the prompt of each lesson that is set against nothing.
    fn own(&mut self, lessons: &[Lesson]) -> Result<Vec<Option<Vec<u32>>>> {
        let room = |lesson: &&Lesson| lesson.prompt.len() < self.model.decoder.config().max_positions;
        let wanting: Vec<&Lesson> = lessons.iter().filter(|l| !l.is_balanced()).filter(room).collect();
        let request = |lesson: &&Lesson| SampleRequest {
            prompt: lesson.prompt.clone(),
            n: 1,
            stream: lesson.place as u64,
        };
        let requests: Vec<SampleRequest> = wanting.iter().map(request).collect();
        let sampling = SamplingParams {
            max_new_tokens: self.longest,
            stop_tokens: self.model.files.tokenizer.stops().to_vec(),
            ..SamplingParams::default()
        };
        let (decoder, params) = (&self.model.decoder, &self.model.params);
        // Training names its numbers by the seed itself.
        let key = (self.seed ^ (0x7ACE_u64 << 48), 0);
        let drawn =
            self.sampler.run(decoder, params, &requests, &sampling, key, &mut |_, _, _| Control::Continue)?;
        let mut drawn = drawn.into_iter().map(|one| one.tokens);
        Ok(lessons.iter().map(|l| if l.is_balanced() || !room(&l) { None } else { drawn.next() }).collect())
    }
}

impl Features for ActivationDifferences<'_> {
    fn width(&self) -> usize {
        self.model.decoder.config().hidden_size
    }

    fn of(&mut self, lessons: &[Lesson]) -> Result<Vec<Vec<f32>>> {
        if lessons.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.own(lessons)?;
        self.batch.clear();
        // Of each lesson its answers' rows and shares.
        let mut rows: Vec<Vec<(Range<u32>, f32)>> = Vec::with_capacity(lessons.len());
        for (lesson, own) in lessons.iter().zip(&own) {
            let prompt = self.batch.forest.push(None, &lesson.prompt);
            let total: f32 = lesson.answers.iter().map(|answer| answer.share).sum();
            let answers = lesson.answers.iter().map(|answer| (&answer.tokens, answer.share));
            let mut of_lesson = Vec::new();
            for (tokens, share) in answers.chain(own.iter().map(|tokens| (tokens, -total))) {
                let segment = self.batch.forest.push(Some(prompt), tokens);
                let first = self.batch.forest.row(segment, 0) as u32;
                of_lesson.push((first..first + tokens.len() as u32, share));
            }
            rows.push(of_lesson);
        }
        let (decoder, params) = (&self.model.decoder, &self.model.params);
        decoder.forward(params, &self.batch, 1.0, &mut self.activations)?;
        let width = self.width();
        let mut vectors = Vec::with_capacity(lessons.len());
        for of_lesson in rows {
            let mut vector = vec![0.0; width];
            for (rows, share) in of_lesson {
                let scale = share / rows.len() as f32;
                let rows: Vec<u32> = rows.collect();
                let stream = decoder.stream(&self.activations, self.layer, &rows)?;
                for row in stream.chunks_exact(width) {
                    vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += scale * x);
                }
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }
}
