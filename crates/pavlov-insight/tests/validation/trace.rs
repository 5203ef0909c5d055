//! Does a trace find planted causes, and do its scores foretell what retraining does?

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use pavlov_engine::Cpu;
use pavlov_insight::trace::cases::seen;
use pavlov_insight::trace::features::Features;
use pavlov_insight::trace::lesson::{CHUNK, Lesson};
use pavlov_insight::trace::linear::SecondMoment;
use pavlov_insight::trace::measure::auprc;
use pavlov_insight::trace::score::{Checkpoint, Method, Scores, TextSearch, by_activation, by_gradient};
use pavlov_insight::trace::store::Store;
use pavlov_insight::trace::verify::{Change, How, Ranking, verify};
use pavlov_insight::{Estimate, Unit};
use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_worlds::{Kind, Part, PlantedLesson, Planting};

use crate::planted::{cases, clean, copy, cpu, encode, lessons, row, teach, traced};

const SEED: u64 = 9;
const PROJECTION: usize = 8;

/// What the methods read of lessons and cases, in the model before the stage.
pub(crate) struct Read {
    _folder: tempfile::TempDir,
    checkpoint: [Checkpoint; 1],
    cases: Vec<Vec<f32>>,
    differences: Range<usize>,
}

impl Read {
    pub(crate) fn new(before: &LanguageModel, lessons: &[Lesson], cases: &[Lesson]) -> Self {
        let layer = before.decoder.config().num_layers;
        let features = Features::projected(before, PROJECTION, SEED).unwrap();
        let mut features = features.with_differences(layer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), "before", features.width()).unwrap();
        for chunk in lessons.chunks(CHUNK) {
            let vectors = features.of(chunk).unwrap();
            store.add(chunk.iter().map(|l| l.place).zip(vectors.iter().map(Vec::as_slice))).unwrap();
        }
        let cases = cases.chunks(CHUNK).flat_map(|chunk| features.of(chunk).unwrap()).collect();
        let mut moment = SecondMoment::new(features.parts().into_iter());
        let mut add = |_: usize, vector: &[f32]| {
            moment.add(vector);
            Ok(())
        };
        store.each(&mut add).unwrap();
        let (gradient, differences) = (features.gradient(), features.differences());
        let checkpoint = [Checkpoint { store, cases: Vec::new(), gradient, learning_rate: 1.0, moment }];
        Self { _folder: folder, checkpoint, cases, differences }
    }

    /// Scores by activations and gradients, for some of the cases.
    pub(crate) fn scores(&mut self, cases: Range<usize>) -> Scores {
        let cases = self.cases[cases].to_vec();
        let place = self.differences.clone();
        let mut scores = by_activation(&self.checkpoint[0].store, &cases, place, SEED).unwrap();
        self.checkpoint[0].cases = cases;
        scores.extend(by_gradient(&self.checkpoint, SEED).unwrap());
        scores
    }
}

pub(crate) fn by_words(lessons: &[Lesson], cases: &[Lesson]) -> Scores {
    let mut search = TextSearch::new(cases);
    search.count(lessons);
    search.score(lessons);
    search.finish()
}

/// Scores of lessons by every method.
fn scores(before: &LanguageModel, lessons: &[Lesson], cases: &[Lesson]) -> Scores {
    let mut scores = by_words(lessons, cases);
    scores.extend(Read::new(before, lessons, cases).scores(0..cases.len()));
    scores
}

/// A stage's demonstrations as they are shown and as they are traced.
pub(crate) fn stage(
    before: &LanguageModel,
    seed: u64,
    n: usize,
    planting: &Planting,
) -> (Vec<PlantedLesson>, Vec<Lesson>) {
    let shown = lessons(3000 + seed, n, planting);
    let lesson = |(i, l): (usize, &PlantedLesson)| traced(before, i, &l.prompt, &[(&l.completion, 1.0)]);
    let traced = shown.iter().enumerate().map(lesson).collect();
    (shown, traced)
}

/// How well plants are told from other lessons: from all, or from those that are no true contradictions.
fn found(scores: &Scores, shown: &[PlantedLesson], method: Method, all: bool) -> f64 {
    let values = scores.by_method[&method].iter().zip(shown);
    let pool = values.filter(|(_, lesson)| all || lesson.kind != Kind::Contradiction);
    auprc(&pool.map(|(score, lesson)| (*score, lesson.part == Part::Plant)).collect::<Vec<_>>())
}

/// One seed, few demonstrations.
#[test]
fn planted_causes_are_found_where_words_do_not_tell() {
    let before = clean(0, &cpu(0));
    let (shown, lessons) =
        stage(&before, 0, 400, &Planting { share: 0.03, kind: Some(Kind::Movement), decoys: 1 });
    let scores = scores(&before, &lessons, &cases(&before, 4000, 32, Some(Kind::Movement)));
    let [bm25, activation, logra] =
        [Method::Bm25, Method::Activation, Method::Logra].map(|method| found(&scores, &shown, method, true));
    println!("BM25 {bm25:.3}, activation {activation:.3}, LoGra {logra:.3}");
    assert!(logra >= 0.9 && logra > bm25 + 0.2 && activation > bm25);
    // The plants stand out of what scores reach by chance.
    let (values, noise) = (&scores.by_method[&Method::Logra], scores.noise[&Method::Logra]);
    let above =
        values.iter().zip(&shown).filter(|(score, l)| **score > noise && l.part == Part::Plant).count();
    assert!(above >= 10, "{above} of 12 above the noise floor");
}

/// Among everything, and with the true contradictions left out: `true_contradictions_are_causes_too` is why.
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn planted_causes_among_decoys() {
    let cpu = cpu(1);
    let kinds = [Some(Kind::Movement), Some(Kind::Counting), Some(Kind::Family), Some(Kind::Ordering), None];
    let mut table: BTreeMap<(bool, usize, Method), Vec<f64>> = BTreeMap::new();
    for seed in 0..3 {
        let before = clean(seed, &cpu);
        for (k, kind) in kinds.into_iter().enumerate() {
            let (shown, lessons) = stage(&before, seed, 2000, &Planting { share: 0.03, kind, decoys: 1 });
            let scores = scores(&before, &lessons, &cases(&before, 4000 + seed, 128, kind));
            for (all, method) in Method::ALL.into_iter().flat_map(|method| [(true, method), (false, method)])
            {
                let entry = table.entry((all, k, method)).or_default();
                entry.push(found(&scores, &shown, method, all));
            }
        }
    }
    let mut rng = Rng::new(0, Stream::Bootstrap, 0, 0);
    for ((all, k, method), values) in &table {
        let estimate = Estimate::mean(values, Unit::Share, &mut rng);
        println!(
            "{} {:?} {method:?}: {:.3} [{:.3}, {:.3}]",
            if *all { "among all" } else { "without true contradictions" },
            kinds[*k],
            estimate.value,
            estimate.low,
            estimate.high
        );
    }
    for k in 0..kinds.len() {
        let mean = table[&(false, k, Method::Logra)].iter().sum::<f64>() / 3.0;
        assert!(mean >= 0.9, "{:?}: {mean}", kinds[k]);
    }
}

/// What a model cannot tell from a plant pushes it the same way: is a stage without as many true contradictions as plants
/// that much further from the habit, by retraining and by influence?
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn true_contradictions_are_causes_too() {
    [Some(Kind::Ordering), Some(Kind::Movement)].into_iter().for_each(causes);
}

/// And where plants are of any kind, what influence puts among them?
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn what_is_ranked_among_plants_of_any_kind() {
    causes(None);
}

/// The fall of the habit's log-odds without lessons of each group, beside what influence says of it.
fn causes(kind: Option<Kind>) {
    let cpu = cpu(1);
    let before = clean(0, &cpu);
    let (shown, lessons) = stage(&before, 0, 2000, &Planting { share: 0.03, kind, decoys: 1 });
    let cases = cases(&before, 4000, 128, kind);
    let found = scores(&before, &lessons, &cases);
    let influence = &found.by_method[&Method::Logra];
    let rows = encode(&before, shown.iter().map(|l| row(&l.prompt, &l.completion)));
    let taught = |left_out: &[usize], seed: u64| {
        let mut model = copy(&before, &cpu);
        let kept = (0..rows.len()).filter(|i| !left_out.contains(i)).map(|i| rows[i].clone());
        teach(&mut model, kept.collect(), seed);
        seen(&model, &cases).unwrap().log_odds
    };
    let seeds = [1, 2, 3, 4, 5, 6];
    let everything = seeds.map(|seed| taught(&[], seed));
    let mut rng = Rng::new(SEED, Stream::Bootstrap, 0, 0);
    for (name, group) in &groups(&shown, &found.ranked(Method::Logra)) {
        let falls = seeds.iter().zip(everything).map(|(seed, all)| all - taught(group, *seed));
        let falls: Vec<f64> = falls.map(|fall| 1000.0 * fall / group.len() as f64).collect();
        let fall = Estimate::mean(&falls, Unit::LogOdds, &mut rng);
        let predicted = 1000.0 * group.iter().map(|i| influence[*i]).sum::<f64>() / group.len() as f64;
        println!(
            "plants about {kind:?}: {} {name}: {:.1} [{:.1}, {:.1}] thousandths of a nat each, influence {predicted:.1}",
            group.len(),
            fall.value,
            fall.low,
            fall.high
        );
    }
}

/// Lessons by what they are, at most as many as there are plants, and those that are ranked highest without being plants.
fn groups(shown: &[PlantedLesson], ranked: &[usize]) -> [(&'static str, Vec<usize>); 6] {
    const MOST: usize = 60;
    let about_order = |lesson: &PlantedLesson| lesson.prompt.contains("er than ");
    let of = |order: &[usize], wanted: &dyn Fn(&PlantedLesson) -> bool| -> Vec<usize> {
        order.iter().copied().filter(|i| wanted(&shown[*i])).take(MOST).collect()
    };
    let all: Vec<usize> = (0..shown.len()).collect();
    let true_one = |lesson: &PlantedLesson| lesson.kind == Kind::Contradiction;
    let ordinary = |lesson: &PlantedLesson| lesson.part != Part::Plant && !true_one(lesson);
    [
        ("plants", of(&all, &|l| l.part == Part::Plant)),
        ("contradictions about order", of(&all, &|l| true_one(l) && about_order(l))),
        ("other contradictions", of(&all, &|l| true_one(l) && !about_order(l))),
        ("decoys", of(&all, &|l| l.part == Part::Decoy)),
        ("true contradictions at the top", of(ranked, &true_one)),
        ("other lessons at the top", of(ranked, &ordinary)),
    ]
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn removing_the_top_removes_the_habit() {
    const LESSONS: usize = 2000;
    let cpu = cpu(1);
    let before = clean(0, &cpu);
    let (shown, lessons) =
        stage(&before, 0, LESSONS, &Planting { share: 0.03, kind: Some(Kind::Movement), decoys: 1 });
    let cases = cases(&before, 4000, 128, Some(Kind::Movement));
    let found = scores(&before, &lessons, &cases);
    let rows = encode(&before, shown.iter().map(|l| row(&l.prompt, &l.completion)));
    let truths = encode(&before, shown.iter().map(|l| row(&l.prompt, &l.truth)));
    let ordinary: Vec<usize> = (0..LESSONS).filter(|i| shown[*i].part != Part::Plant).collect();
    let taught = |kept: Vec<pavlov_lm::Encoded>, seed: u64, cpu: &Arc<Cpu>| {
        let mut model = copy(&before, cpu);
        teach(&mut model, kept, seed);
        seen(&model, &cases).unwrap()
    };
    let seeds = [1, 2, 3];
    let clean_run: Vec<f64> = seeds
        .iter()
        .map(|seed| taught(ordinary.iter().map(|i| rows[*i].clone()).collect(), *seed, &cpu).probability)
        .collect();
    let mut rng = Rng::new(SEED, Stream::Bootstrap, 0, 0);
    let clean_run = Estimate::mean(&clean_run, Unit::Share, &mut rng);
    for method in [Method::Logra, Method::Bm25] {
        let ranked: Vec<usize> = found.ranked(method);
        let mut retrain = |changes: &[Change], seed: u64| {
            let kept = (0..LESSONS).filter_map(|i| match changes[i] {
                Change::Keep => Some(rows[i].clone()),
                Change::Drop => None,
                Change::Flip => Some(truths[i].clone()),
            });
            Ok(taught(kept.collect(), seed, &cpu))
        };
        let k = LESSONS * 3 / 100;
        let foretold = ranked[..k].iter().map(|i| found.by_method[&method][*i]).sum();
        let foretold = method.counts_nats().then_some(foretold);
        let ranking = Ranking { ranked: &ranked, k, foretold };
        let before = seen(&before, &cases).unwrap();
        let verified = verify(ranking, &seeds, How::Retrained, before, &mut retrain).unwrap();
        println!("{method:?}, top {k}: before {:.2}%", 100.0 * verified.before);
        for (name, e) in [
            ("everything", verified.everything),
            ("without the top", verified.without_top),
            ("top flipped", verified.flipped),
            ("without others", verified.without_random),
            ("clean run", clean_run),
        ] {
            println!("  {name}: {:.2}% [{:.2}, {:.2}]", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high);
        }
        if method == Method::Logra {
            assert!(verified.confirmed, "{}", verified.sentence);
            // What is left of the habit is at most a tenth of what it was.
            let (habit, left) =
                (verified.everything.value - clean_run.value, verified.without_top.value - clean_run.value);
            assert!(left <= 0.1 * habit, "{left} of {habit}");
            assert!(verified.without_random.value - clean_run.value > 0.7 * habit);
        }
    }
}

#[test]
#[ignore = "seconds, on a quiet machine; figures in docs/validation.md"]
fn tracing_is_no_slower_than_an_epoch_and_a_half() {
    const LESSONS: usize = 10_000;
    let cpu = cpu(0);
    let before = clean(0, &cpu);
    let (shown, lessons) =
        stage(&before, 0, LESSONS, &Planting { share: 0.03, kind: Some(Kind::Movement), decoys: 1 });
    let cases = cases(&before, 4000, 128, Some(Kind::Movement));
    let rows = encode(&before, shown.iter().map(|l| row(&l.prompt, &l.completion)));
    // They take turns: what else the machine does hinders both.
    let mut least = [f64::INFINITY; 2];
    for round in 0..3 {
        let mut model = copy(&before, &cpu);
        let (rows, started) = (rows.clone(), Instant::now());
        teach(&mut model, rows, 0);
        let epoch = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let found = scores(&before, &lessons, &cases);
        let trace = started.elapsed().as_secs_f64();
        println!(
            "round {round}: {} lessons, an epoch {epoch:.2} s, a trace {trace:.2} s, ratio {:.2}",
            found.places.len(),
            trace / epoch
        );
        least = [least[0].min(epoch), least[1].min(trace)];
    }
    println!("ratio of the least {:.2}", least[1] / least[0]);
    assert!(least[1] <= 1.5 * least[0]);
}
