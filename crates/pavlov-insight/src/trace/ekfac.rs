//! Influence in the eigenvalue-corrected Kronecker factors of the lessons' second moment (EK-FAC; George et al.,
//! arXiv:1806.03884; for influence Grosse et al., arXiv:2308.03296).
//!
//! No gradient is projected and none is kept, so that it costs three passes over the lessons for one question, and memory for a
//! gradient of full size a lesson of a chunk and a case: a check of the projected methods on small models.
//!
//! The second moment is that of the lessons' own gradients, as in the projected methods: what differs is the structure alone.

use pavlov_engine::{Activations, Basis, Batch, KroneckerFactors, Observed};
use pavlov_lm::LanguageModel;

use super::eigen::eigenvectors;
use super::features::{Features, fill, traced_parameters};
use super::lesson::Lesson;
use super::linear::dot;
use super::score::DAMPING;
use crate::Result;

/// Lessons that are worked on together.
const CHUNK: usize = 16;

/// The second moment of the lessons' gradients: diagonal in the eigenvectors of the Kronecker factors.
pub struct EkFac<'a> {
    gradients: Features<'a>,
    /// The mean square of each coordinate of the lessons' gradients.
    moment: Vec<f32>,
    lessons: usize,
}

impl<'a> EkFac<'a> {
    /// Two passes over the lessons.
    pub fn new(model: &'a LanguageModel, lessons: &[Lesson]) -> Result<Self> {
        let mut gradients = Features::in_bases(model, &bases(model, lessons)?)?;
        let mut sums = vec![0.0_f64; gradients.width()];
        for chunk in lessons.chunks(CHUNK) {
            for vector in gradients.of(chunk)? {
                sums.iter_mut().zip(&vector).for_each(|(sum, x)| *sum += f64::from(x * x));
            }
        }
        let moment = sums.iter().map(|sum| (sum / lessons.len() as f64) as f32).collect();
        Ok(Self { gradients, moment, lessons: lessons.len() })
    }

    /// The mean square of each coordinate of the lessons' gradients, layer by layer as \[out, in\].
    pub fn moment(&self) -> &[f32] {
        &self.moment
    }

    /// Of each lesson its influence on each case: the inner product in the inverse of the second moment plus
    /// [`DAMPING`] times a layer's mean, over the number of lessons. One pass over them.
    pub fn influence(&mut self, lessons: &[Lesson], cases: &[Lesson]) -> Result<Vec<Vec<f64>>> {
        let inverse = self.inverse();
        let mut queries = Vec::with_capacity(cases.len());
        for chunk in cases.chunks(CHUNK) {
            queries.extend(self.gradients.of(chunk)?);
        }
        for query in &mut queries {
            query.iter_mut().zip(&inverse).for_each(|(x, inverse)| *x *= inverse);
        }
        let mut found = Vec::with_capacity(lessons.len());
        for chunk in lessons.chunks(CHUNK) {
            for vector in self.gradients.of(chunk)? {
                let influence = |query: &Vec<f32>| dot(query, &vector) / self.lessons as f64;
                found.push(queries.iter().map(influence).collect());
            }
        }
        Ok(found)
    }

    fn inverse(&self) -> Vec<f32> {
        let mut inverse = vec![0.0; self.moment.len()];
        for part in self.gradients.parts() {
            let moment = &self.moment[part.clone()];
            let mean = moment.iter().map(|x| f64::from(*x)).sum::<f64>() / moment.len() as f64;
            // A layer that never had a gradient adds nothing: its vectors are zeros.
            let added = if mean > 0.0 { DAMPING * mean } else { 1.0 };
            let of =
                |(inverse, moment): (&mut f32, &f32)| *inverse = (1.0 / (f64::from(*moment) + added)) as f32;
            inverse[part].iter_mut().zip(moment).for_each(of);
        }
        inverse
    }
}

/// The eigenvectors of each layer's factors.
fn bases(model: &LanguageModel, lessons: &[Lesson]) -> Result<Vec<Basis>> {
    let mut factors = KroneckerFactors::new(&model.decoder, &traced_parameters(model))?;
    let (mut batch, mut activations) = (Batch::new(), Activations::new(false));
    let mut nothing = model.decoder.no_gradients();
    for chunk in lessons.chunks(CHUNK) {
        let (weights, _) = fill(model, &mut batch, chunk, false);
        let (decoder, params) = (&model.decoder, &model.params);
        decoder.forward(params, &batch, 1.0, &mut activations)?;
        let observed = Observed { factors: Some(&mut factors), ..Observed::default() };
        decoder.backward_with(
            params,
            &batch,
            1.0,
            &weights,
            &[],
            &mut activations,
            &mut nothing,
            observed,
        )?;
    }
    let bases = factors.sums(model.decoder.backend()).map(|(name, [input, output])| {
        let width = |sum: &[f32]| sum.len().isqrt();
        Basis {
            name: name.to_owned(),
            input: eigenvectors(&input, width(&input)),
            output: eigenvectors(&output, width(&output)),
        }
    });
    Ok(bases.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pavlov_engine::{Cpu, DecoderConfig, Dtype};
    use pavlov_lm::ModelFiles;

    use super::*;
    use crate::trace::lesson::{Answer, Kind, Labels};

    fn small() -> (LanguageModel, Vec<Lesson>) {
        let decoder = DecoderConfig { intermediate_size: 6, ..DecoderConfig::llama(128, 4, 1, 2) };
        let (tokenizer, names) = (pavlov_worlds::tokenizer_json(), pavlov_worlds::special_names());
        let files = ModelFiles::new_llama(&decoder, &tokenizer, &names, None).unwrap();
        let model = LanguageModel::random(files, &Arc::new(Cpu::new(1)), Dtype::F32, 3).unwrap();
        let lesson = |place: usize| {
            let token = |i: usize| 3 + ((7 * place + 5 * i) % 101) as u32;
            let tokens: Vec<u32> = (5..7 + place % 3).map(token).collect();
            let answer = Answer { weights: vec![1.0; tokens.len()], tokens, share: 1.0 };
            Lesson {
                place,
                kind: Kind::Demonstration,
                prompt: (0..5).map(token).collect(),
                answers: vec![answer],
                text: Default::default(),
                labels: Labels::default(),
            }
        };
        (model, (0..40).map(lesson).collect())
    }

    /// By the definition, from gradients of full size that are turned here.
    #[test]
    fn influence_by_its_definition() {
        let (model, lessons) = small();
        let bases = bases(&model, &lessons).unwrap();
        let mut whole = Features::projected(&model, 1000, 0).unwrap();
        let parts = whole.parts();
        let turn = |gradient: &Vec<f32>| -> Vec<f64> {
            let mut turned = Vec::with_capacity(gradient.len());
            for (part, Basis { input, output, .. }) in parts.iter().zip(&bases) {
                let (g, n, m) = (&gradient[part.clone()], input.len().isqrt(), output.len().isqrt());
                let at = |o: usize, i: usize| (0..m * n).map(move |k| (o, i, k / n, k % n));
                let entry = |(o, i, row, col): (usize, usize, usize, usize)| {
                    f64::from(output[o * m + row])
                        * f64::from(g[row * n + col])
                        * f64::from(input[i * n + col])
                };
                turned.extend((0..m * n).map(|k| at(k / n, k % n).map(entry).sum::<f64>()));
            }
            turned
        };
        let turned: Vec<Vec<f64>> = whole.of(&lessons).unwrap().iter().map(turn).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let square = |k: usize| mean(&turned.iter().map(|g| g[k] * g[k]).collect::<Vec<_>>());
        let moment: Vec<f64> = (0..whole.width()).map(square).collect();
        let mut inverse = moment.clone();
        for part in &parts {
            let added = DAMPING * mean(&moment[part.clone()]);
            inverse[part.clone()].iter_mut().for_each(|m| *m = 1.0 / (*m + added));
        }
        let found = EkFac::new(&model, &lessons).unwrap().influence(&lessons, &lessons[..4]).unwrap();
        for (of_lesson, g) in found.iter().zip(&turned) {
            for (found, q) in of_lesson.iter().zip(&turned) {
                let product = q.iter().zip(g).zip(&inverse).map(|((q, g), inverse)| q * g * inverse);
                let wanted = product.sum::<f64>() / lessons.len() as f64;
                assert!((found - wanted).abs() < 1e-3 * wanted.abs().max(0.1), "{found} and {wanted}");
            }
        }
    }
}
