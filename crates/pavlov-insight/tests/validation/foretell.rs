//! Do scores foretell what retraining does? And is what the projected methods leave out worth it? EK-FAC is the check.

use std::collections::BTreeMap;
use std::sync::Arc;

use pavlov_engine::{Cpu, DecoderConfig, Dtype};
use pavlov_insight::trace::cases::log_probabilities;
use pavlov_insight::trace::ekfac::EkFac;
use pavlov_insight::trace::features::Features;
use pavlov_insight::trace::lesson::Lesson;
use pavlov_insight::trace::linear::{SecondMoment, dot};
use pavlov_insight::trace::measure::{linear_datamodeling_score, spearman};
use pavlov_insight::trace::score::{DAMPING, Method};
use pavlov_insight::{Estimate, Unit};
use pavlov_lm::{LanguageModel, ModelFiles};
use pavlov_schema::rng::{Rng, Stream};
use pavlov_worlds::{Kind, Planting};

use crate::planted::{cases, clean, copy, cpu, encode, lessons, row, teach, traced};
use crate::trace::{Read, by_words, stage};

const SEED: u64 = 9;

/// A model whose gradients are short enough for dense matrices, and some lessons.
fn small() -> (LanguageModel, Vec<Lesson>, Vec<Lesson>) {
    let decoder =
        DecoderConfig { intermediate_size: 8, max_positions: 128, ..DecoderConfig::llama(128, 8, 1, 2) };
    let (tokenizer, names) = (pavlov_worlds::tokenizer_json(), pavlov_worlds::special_names());
    let files = ModelFiles::new_llama(&decoder, &tokenizer, &names, None).unwrap();
    let model = LanguageModel::random(files, &Arc::new(Cpu::new(1)), Dtype::F32, 3).unwrap();
    let shown = lessons(5, 300, &Planting { share: 0.1, kind: Some(Kind::Movement), decoys: 1 });
    let lessons =
        shown.iter().enumerate().map(|(i, l)| traced(&model, i, &l.prompt, &[(&l.completion, 1.0)]));
    let lessons = lessons.collect();
    let cases = cases(&model, 6, 8, Some(Kind::Movement));
    (model, lessons, cases)
}

/// Against gradients and their second moments of full size.
#[test]
fn ekfac_is_near_the_dense_inverse() {
    let (model, lessons, cases) = small();
    let mut whole = Features::projected(&model, 1000, 0).unwrap();
    let (of_lessons, of_cases) = (whole.of(&lessons).unwrap(), whole.of(&cases).unwrap());
    let mut moment = SecondMoment::new(whole.parts().into_iter());
    for vector in &of_lessons {
        moment.add(vector);
    }
    let mut ekfac = EkFac::new(&model, &lessons).unwrap();
    // Turning gradients changes no length.
    for part in whole.parts() {
        let dense = of_lessons.iter().map(|g| dot(&g[part.clone()], &g[part.clone()])).sum::<f64>();
        let turned = ekfac.moment()[part].iter().map(|x| f64::from(*x)).sum::<f64>() * lessons.len() as f64;
        assert!((dense - turned).abs() < 1e-3 * dense, "{dense} and {turned}");
    }
    let found = ekfac.influence(&lessons, &cases).unwrap();
    let inverse = moment.damped(DAMPING);
    let (mut near, mut plain) = (0.0, 0.0);
    for (k, case) in of_cases.iter().enumerate() {
        let solved = inverse.apply(case);
        let exact = |g: &Vec<f32>| dot(&solved, g) / lessons.len() as f64;
        let pairs: Vec<[f64; 3]> =
            of_lessons.iter().zip(&found).map(|(g, found)| [exact(g), found[k], dot(case, g)]).collect();
        near += spearman(&pairs.iter().map(|p| (p[0], p[1])).collect::<Vec<_>>()) / cases.len() as f64;
        plain += spearman(&pairs.iter().map(|p| (p[0], p[2])).collect::<Vec<_>>()) / cases.len() as f64;
    }
    println!("rank correlation with the dense inverse: EK-FAC {near:.3}, inner product {plain:.3}");
    assert!(near > 0.7 && near > plain + 0.1);
}

/// Retraining on random halves against the sum of the scores of what is in them.
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn scores_foretell_retraining() {
    const LESSONS: usize = 400;
    const SUBSETS: u64 = 100;
    const SEEDS: usize = 4;
    const CASES: usize = 32;
    let cpu = cpu(1);
    let before = clean(0, &cpu);
    let (shown, lessons) =
        stage(&before, 0, LESSONS, &Planting { share: 0.05, kind: Some(Kind::Movement), decoys: 1 });
    let rows = encode(&before, shown.iter().map(|l| row(&l.prompt, &l.completion)));
    let cases = cases(&before, 4000, CASES, Some(Kind::Movement));
    let subset = |s: u64| {
        let mut places: Vec<usize> = (0..LESSONS).collect();
        Rng::new(SEED, Stream::Split, 0, s).shuffle(&mut places);
        places.truncate(LESSONS / 2);
        places.sort_unstable();
        places
    };
    // Of each seed, case and subset the log-odds of the behaviour after retraining.
    let mut after = vec![vec![Vec::new(); CASES]; SEEDS];
    for s in 0..SUBSETS {
        let places = subset(s);
        for (seed, after) in after.iter_mut().enumerate() {
            let mut model = copy(&before, &cpu);
            teach(&mut model, places.iter().map(|i| rows[*i].clone()).collect(), seed as u64);
            for (after, logps) in after.iter_mut().zip(log_probabilities(&model, &cases).unwrap()) {
                after.push(logps[0] - logps[1]);
            }
        }
    }
    let mean_of = |seeds: &[Vec<Vec<f64>>]| -> Vec<Vec<f64>> {
        let mean = |q: usize, s: usize| seeds.iter().map(|of| of[q][s]).sum::<f64>() / seeds.len() as f64;
        (0..CASES).map(|q| (0..SUBSETS as usize).map(|s| mean(q, s)).collect()).collect()
    };
    let (halves, mean) = ([mean_of(&after[..SEEDS / 2]), mean_of(&after[SEEDS / 2..])], mean_of(&after));
    // Spearman-Brown: how well the mean of all seeds would agree with the mean of as many others; its root is the ceiling.
    let mut rng = Rng::new(SEED, Stream::Bootstrap, 0, 0);
    let agreement = linear_datamodeling_score(&halves[0], &halves[1], &mut rng);
    let ceiling =
        [agreement.value, agreement.low, agreement.high].map(|r| (2.0 * r / (1.0 + r)).max(0.0).sqrt());
    println!("ceiling {:.3} [{:.3}, {:.3}]", ceiling[0], ceiling[1], ceiling[2]);

    // Of each method, case and lesson the score.
    let mut scored: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    let mut read = Read::new(&before, &lessons, &cases);
    for k in 0..CASES {
        let mut of_case = by_words(&lessons, &cases[k..=k]);
        of_case.extend(read.scores(k..k + 1));
        for (method, values) in of_case.by_method {
            scored.entry(format!("{method:?}")).or_default().push(values);
        }
    }
    let ekfac = EkFac::new(&before, &lessons).unwrap().influence(&lessons, &cases).unwrap();
    let of_case = |k: usize| ekfac.iter().map(|of_lesson| of_lesson[k]).collect();
    scored.insert("EkFac".into(), (0..CASES).map(of_case).collect());

    let words = [Method::Bm25, Method::Span, Method::Activation].map(|method| format!("{method:?}"));
    let mut best = f64::NEG_INFINITY;
    for (method, values) in &scored {
        let sums =
            |values: &Vec<f64>| (0..SUBSETS).map(|s| subset(s).iter().map(|i| values[*i]).sum()).collect();
        let predicted: Vec<Vec<f64>> = values.iter().map(sums).collect();
        let score: Estimate = linear_datamodeling_score(&predicted, &mean, &mut rng);
        assert_eq!(score.unit, Unit::Correlation);
        println!("{method}: LDS {:.3} [{:.3}, {:.3}]", score.value, score.low, score.high);
        if !words.contains(method) {
            best = best.max(score.value);
        }
    }
    assert!(best >= 0.3);
}
