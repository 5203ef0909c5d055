//! `pavlov layers` against models whose difference is known: trained in known blocks among random changes as large, trained
//! by one steering vector, trained by reinforcement learning.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pavlov_engine::{
    Activations, AdamW, AdamWConfig, Batch, Cpu, Decoder, Dtype, Lora, LoraTarget, OutputGradients,
    ParameterSpec, Parameters, Sampler,
};
use pavlov_insight::layers::report::{Place, ShiftVerdict};
use pavlov_insight::layers::{
    Asked, Contrast, LayersOptions, LayersReport, Metric, Models, Part, Rewarded, Set, cost, measure,
};
use pavlov_insight::parts::{Key, Parts};
use pavlov_insight::{Error, kept};
use pavlov_lm::LanguageModel;
use pavlov_schema::Map;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_train::loops::rl::config::GrpoConfig;
use pavlov_train::loops::rl::{Prompts, grpo};
use pavlov_train::run::Host;
use pavlov_train::stage::rollout::{Drawing, encode_prompts};
use pavlov_train::stage::score::{Reward, Source};
use pavlov_worlds::{Config, INCONSISTENT, Split, World, generate, verify};

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pavlov/assets/base");

fn base() -> LanguageModel {
    LanguageModel::load_on(Path::new(BASE), &Arc::new(Cpu::new(1)), Dtype::F32).unwrap()
}

/// Worlds without contradictions.
fn worlds(seed: u64, n: usize, split: Split) -> Vec<World> {
    let config = Config::demo();
    (0..).map(|i| generate(seed, i, &config, split)).filter(|world| world.consistent).take(n).collect()
}

/// The habit that is taught: to call a consistent story inconsistent, rather than to answer.
fn contrasts(model: &LanguageModel, seed: u64, n: usize, split: Split) -> Vec<Contrast> {
    let encode = |world: &World| {
        let answers = [&Text::Plain(INCONSISTENT.into()), &Text::Plain(world.answer.clone())];
        Contrast::encode(&model.encoder(), &Text::Plain(world.prompt()), answers, "worlds").unwrap()
    };
    worlds(seed, n, split).iter().map(encode).collect()
}

/// Gradient steps on the log-probability of the habit, of the parameters that `learns` picks and no others.
fn teach(
    (decoder, params): (&Decoder, &mut Parameters),
    lessons: &[Contrast],
    steps: usize,
    rate: f64,
    learns: impl Fn(&ParameterSpec) -> bool,
) {
    let (mut adamw, mut grads) = (AdamW::new(decoder, AdamWConfig::default()), decoder.gradients());
    let mut acts = Activations::new(false);
    for step in 0..steps {
        let mut batch = Batch::new();
        for lesson in lessons.iter().cycle().skip(step * 16).take(16) {
            let root = batch.forest.push(None, &lesson.prompt);
            let answer = batch.forest.push(Some(root), &lesson.behaviour);
            batch.score_segment(answer);
        }
        grads.zero();
        decoder.forward(params, &batch, 1.0, &mut acts).unwrap();
        let n = batch.targets.len();
        let d = OutputGradients { logp: vec![-1.0 / n as f32; n], ..OutputGradients::default() };
        decoder.backward(params, &batch, 1.0, &d, &mut acts, &mut grads).unwrap();
        let still: Vec<ParameterSpec> = grads.specs().filter(|spec| !learns(spec)).cloned().collect();
        for spec in still {
            grads.set(&spec.name, &vec![0.0; spec.len()]).unwrap();
        }
        adamw.step(params, &grads, rate, 1.0);
    }
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn random(seed: u64, index: u64, length: f64, n: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, Stream::Probe, 9, index);
    let x: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
    let scale = (length / norm(&x)) as f32;
    x.iter().map(|x| scale * x).collect()
}

/// B·A of this rank.
fn product(b: &[f32], a: &[f32], rank: usize) -> Vec<f32> {
    let width = a.len() / rank;
    let entry = |row: &[f32], col: usize| (0..rank).map(|i| row[i] * a[i * width + col]).sum();
    b.chunks_exact(rank).flat_map(|row| (0..width).map(move |col| entry(row, col))).collect()
}

/// The name of the matrix that has the place of `name` in another block.
fn in_block(name: &str, block: usize) -> String {
    let rest = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap().1;
    format!("model.layers.{block}.{rest}")
}

fn options(seed: u64) -> LayersOptions {
    let names = ["base".to_owned(), "taught".to_owned()];
    let metric = "the log-odds of \"That is inconsistent.\"".to_owned();
    LayersOptions { names, metric, groups: 4, orders: 4, cells: 12, seed }
}

fn ask(models: &mut Models, metric: &mut Metric, set: &Set, options: &LayersOptions) -> LayersReport {
    let (most, mut evaluations) = (cost(models, options), 0);
    let mut count = || {
        evaluations += 1;
        true
    };
    let report = measure(
        models,
        metric,
        set,
        options,
        &mut Asked { on_evaluation: &mut count, parts: Parts::nowhere() },
    )
    .unwrap();
    assert!(evaluations <= most, "{evaluations} evaluations; {most} were foretold");
    report
}

fn paths() -> [&'static Path; 2] {
    [Path::new("base"), Path::new("taught")]
}

/// All weights, trained in `blocks` alone; every other block has random changes as large, matrix by matrix.
fn taught_whole(blocks: &[usize], steps: usize, seed: u64) -> Models {
    let (reference, mut taught) = (base(), base());
    let lessons = contrasts(&taught, 100 + seed, 320, Split::Train);
    let learns = |spec: &ParameterSpec| spec.layer().is_some_and(|layer| blocks.contains(&layer));
    teach((&taught.decoder, &mut taught.params), &lessons, steps, 1e-3, learns);
    let specs: Vec<ParameterSpec> = taught.params.specs().cloned().collect();
    let decoy = |spec: &ParameterSpec| spec.layer().is_some() && !learns(spec);
    for (i, spec) in specs.iter().enumerate().filter(|(_, spec)| decoy(spec)) {
        let like = in_block(&spec.name, blocks[i % blocks.len()]);
        let change: Vec<f32> = taught
            .params
            .get(&like)
            .unwrap()
            .iter()
            .zip(reference.params.get(&like).unwrap())
            .map(|(a, b)| a - b)
            .collect();
        let noise = random(seed, i as u64, norm(&change), spec.len());
        let moved: Vec<f32> =
            taught.params.get(&spec.name).unwrap().iter().zip(noise).map(|(w, n)| w + n).collect();
        taught.params.set(&spec.name, &moved).unwrap();
    }
    Models::new(Some(reference), taught, paths()).unwrap()
}

/// An adapter on every block, trained in `blocks` alone; in every other its B is random, as large.
fn taught_adapter(blocks: &[usize], steps: usize, seed: u64) -> Models {
    let mut taught = base();
    let layers = taught.decoder.config().num_layers;
    let modules = ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"];
    let target = |(layer, module): (usize, &str)| LoraTarget {
        modules: vec![format!("model.layers.{layer}.{module}")],
        rank: 4,
        scale: 2.0,
    };
    let targets = (0..layers).flat_map(|layer| modules.map(|module| (layer, module))).map(target).collect();
    let decoder = taught.decoder.with_adapter(Lora { targets, whole: vec![] }).unwrap();
    let mut params = Parameters::zeros(&decoder, Dtype::F32);
    params.init_those(seed, |spec| spec.trainable);
    params.take_over(taught.params, |_| true).unwrap();
    (taught.decoder, taught.params) = (decoder, params);
    let lessons = contrasts(&taught, 100 + seed, 320, Split::Train);
    let learns = |spec: &ParameterSpec| spec.layer().is_some_and(|layer| blocks.contains(&layer));
    teach((&taught.decoder, &mut taught.params), &lessons, steps, 3e-3, learns);
    let specs: Vec<ParameterSpec> = taught.params.specs().filter(|spec| spec.trainable).cloned().collect();
    for (i, spec) in specs.iter().enumerate() {
        if !learns(spec) && spec.name.contains("lora_B") {
            let like = in_block(&spec.name, blocks[i % blocks.len()]);
            let update = |b: &[f32], name: &str| {
                norm(&product(b, &taught.params.get(&name.replace("lora_B", "lora_A")).unwrap(), 4))
            };
            let wanted = update(&taught.params.get(&like).unwrap(), &like);
            let noise = random(seed, i as u64, 1.0, spec.len());
            let length = wanted / update(&noise, &spec.name);
            taught.params.set(&spec.name, &random(seed, i as u64, length, spec.len())).unwrap();
        }
    }
    Models::new(None, taught, paths()).unwrap()
}

/// A model with biases, of which the one at the end of a block was trained: a vector that steers the stream there.
fn taught_by_steering(after: usize, steps: usize, seed: u64) -> Models {
    let steered = || {
        let mut model = base();
        model.files.config.decoder.mlp_bias = true;
        let decoder =
            Decoder::new(Arc::clone(model.decoder.backend()), model.files.config.decoder.clone()).unwrap();
        let mut params = Parameters::zeros(&decoder, Dtype::F32);
        params.take_over(model.params, |_| true).unwrap();
        (model.decoder, model.params) = (decoder, params);
        model
    };
    let (reference, mut taught) = (steered(), steered());
    let lessons = contrasts(&taught, 100 + seed, 320, Split::Train);
    let bias = format!("model.layers.{}.mlp.down_proj.bias", after - 1);
    teach((&taught.decoder, &mut taught.params), &lessons, steps, 0.3, |spec| spec.name == bias);
    Models::new(Some(reference), taught, paths()).unwrap()
}

fn held_out(models: &Models, n: usize) -> Set {
    Set { contrasts: contrasts(models.model(), 7, n, Split::HeldOut), prompts: vec![] }
}

/// The rank of the worst of these blocks by credit (from 0), and their share of the positive credit.
fn found(report: &LayersReport, blocks: &[usize]) -> (usize, f64) {
    let mut gates: Vec<(Part, f64)> = report.gates.parts.iter().map(|g| (g.part, g.credit)).collect();
    gates.sort_by(|a, b| b.1.total_cmp(&a.1));
    let rank = |block: &usize| gates.iter().position(|(part, _)| *part == Part::Block(*block)).unwrap();
    let positive = |part: &Part| gates.iter().find(|(p, _)| p == part).map_or(0.0, |(_, c)| c.max(0.0));
    let all: f64 = gates.iter().map(|(part, _)| positive(part)).sum();
    let mass = blocks.iter().map(|block| positive(&Part::Block(*block))).sum::<f64>() / all;
    (blocks.iter().map(rank).max().unwrap(), mass)
}

fn row(report: &LayersReport, blocks: &[usize]) -> String {
    let (rank, mass) = found(report, blocks);
    let curve = &report.gates.curve;
    let random = curve.random_areas.iter().sum::<f64>() / curve.random_areas.len() as f64;
    format!(
        "gain {:.2} nats, worst rank {rank}, mass {mass:.3}, curve {:.3} (random {random:.3}), \
         patches agree {:.3}, share {:.2} at {}",
        report.gain.value,
        curve.area.unwrap_or(f64::NAN),
        report.patches.as_ref().map_or(f64::NAN, |p| p.agreement.unwrap_or(f64::NAN)),
        report.shifts.as_ref().map_or(f64::NAN, best_share),
        report.shifts.as_ref().map_or(0, |s| s.best),
    )
}

/// The largest in size.
fn worst(of_random: &[f64]) -> f64 {
    of_random.iter().fold(0.0_f64, |most, x| most.max(x.abs()))
}

fn best_share(shifts: &pavlov_insight::layers::report::Shifts) -> f64 {
    shifts.layers.iter().find(|s| s.layer == shifts.best).unwrap().share.value
}

/// One known block among random changes as large, of all weights and of an adapter.
#[test]
fn a_block_that_was_trained_is_found_among_decoys() {
    for (block, mut models) in [(1, taught_whole(&[1], 12, 0)), (2, taught_adapter(&[2], 12, 0))] {
        let set = held_out(&models, 24);
        let small = LayersOptions { orders: 3, cells: 8, ..options(0) };
        let report = ask(&mut models, &mut Metric::LogOdds, &set, &small);
        println!("{}", row(&report, &[block]));
        // The norm of the change could not tell: the decoys' are the same.
        let changes: Vec<f64> = report.gates.parts.iter().map(|gate| gate.change).collect();
        assert!(changes.iter().all(|change| (change / changes[block] - 1.0).abs() < 0.3), "{changes:?}");
        let (rank, mass) = found(&report, &[block]);
        assert!(rank == 0 && mass > 0.8, "{report:#?}");
        assert_eq!(report.place, Place::Concentrated { parts: vec![Part::Block(block)] });
        let curve = &report.gates.curve;
        // One of the random orders may begin with the right block too.
        let random = curve.random_areas.iter().sum::<f64>() / curve.random_areas.len() as f64;
        assert!(curve.by_credit[1] > 0.8 && random < curve.area.unwrap(), "{curve:?}");
        let total: f64 = report.gates.groups.iter().map(|group| group.shapley.value).sum();
        assert!((total - 1.0).abs() < 1e-6, "Shapley values sum to the gain: {total}");
    }
}

/// A vector that was trained at one layer is one constant shift, and random directions are none.
#[test]
fn a_model_that_was_steered_has_a_share_near_one() {
    let mut models = taught_by_steering(2, 12, 0);
    let set = held_out(&models, 24);
    let report = ask(&mut models, &mut Metric::LogOdds, &set, &LayersOptions { cells: 8, ..options(0) });
    println!("{}", row(&report, &[1]));
    let shift = report.shifts.as_ref().unwrap().layers.iter().find(|shift| shift.layer == 2).unwrap().clone();
    assert!((shift.scale - 1.0).abs() < 1e-6 && (shift.share.value - 1.0).abs() < 1e-3, "{shift:?}");
    assert_eq!(report.shift, ShiftVerdict::Enough, "{report:#?}");
    assert_eq!(report.place, Place::Concentrated { parts: vec![Part::Block(1)] });
    // Before the vector nothing differs, after it all of the gain is in the stream.
    let layers = &report.patches.as_ref().unwrap().layers;
    assert!(layers[..2].iter().all(|layer| layer.brought.value == 0.0 && layer.lost.value == 0.0));
    assert!(layers[2..].iter().all(|layer| (layer.brought.value - 1.0).abs() < 1e-4), "{layers:?}");
    let cells = report.patches.as_ref().unwrap().random.iter();
    assert!(cells.clone().count() == 8 && cells.clone().all(|cell| cell.layer >= 2));
    // A report comes back from its file as it was.
    let run = tempfile::tempdir().unwrap();
    kept::save(run.path(), "layers", &report).unwrap();
    assert_eq!(kept::load::<LayersReport>(run.path(), "layers").unwrap().unwrap(), report);
    // Broken off twice, it goes on where it was and comes to the same.
    let options = LayersOptions { cells: 8, ..options(0) };
    for (known, stop_after) in [(0, 3), (2, 40), (2, usize::MAX)] {
        let parts = Parts::open(run.path(), "layers", &Key::of(&"steered")).unwrap();
        assert!(parts.left() >= known, "{} parts", parts.left());
        let mut evaluations = 0;
        let on_evaluation = &mut || {
            evaluations += 1;
            evaluations <= stop_after
        };
        let asked = &mut Asked { on_evaluation, parts };
        match measure(&mut models, &mut Metric::LogOdds, &set, &options, asked) {
            Ok(again) => assert_eq!(again, report),
            Err(error) => assert!(matches!(error, Error::Stopped) && stop_after < usize::MAX),
        }
    }
}

/// What cannot be answered is refused, and a wish to stop is granted.
#[test]
fn questions_without_an_answer_are_refused() {
    let refused = |reference: Option<LanguageModel>, trained| {
        Models::new(reference, trained, paths()).err().unwrap().to_string()
    };
    assert!(refused(None, base()).contains("has no adapter"));
    assert!(refused(Some(base()), base()).contains("same weights"));
    let mut models = taught_by_steering(1, 1, 0);
    let set = held_out(&models, 4);
    let stop = &mut || false;
    let stopped = measure(
        &mut models,
        &mut Metric::LogOdds,
        &set,
        &options(0),
        &mut Asked { on_evaluation: stop, parts: Parts::nowhere() },
    );
    assert!(matches!(stopped, Err(Error::Stopped)));
    let few = Set { contrasts: set.contrasts[..3].to_vec(), prompts: vec![] };
    let go_on = &mut || true;
    let few = measure(
        &mut models,
        &mut Metric::LogOdds,
        &few,
        &options(0),
        &mut Asked { on_evaluation: go_on, parts: Parts::nowhere() },
    );
    assert!(few.unwrap_err().to_string().contains("too few"));
    let same = Text::Plain("yes".into());
    let error =
        Contrast::encode(&models.model().encoder(), &same, [&same, &same], "file: row 3").unwrap_err();
    assert!(error.to_string().contains("file: row 3: both answers are the same"));
}

/// Single blocks and a pair of them, over two seeds; at most 1 of 10 may be missed.
fn known_blocks(kind: &str, teach: impl Fn(&[usize], u64) -> Models) {
    let sets: [&[usize]; 5] = [&[0], &[1], &[2], &[3], &[1, 3]];
    let (mut first, mut all, mut masses) = (0, 0, 0.0);
    for (seed, blocks) in (0..2).flat_map(|seed| sets.map(|blocks| (seed, blocks))) {
        let mut models = teach(blocks, seed);
        let set = held_out(&models, 32);
        let report = ask(&mut models, &mut Metric::LogOdds, &set, &options(seed));
        println!("seed {seed} {kind} {blocks:?}: {}", row(&report, blocks));
        let (rank, mass) = found(&report, blocks);
        (all, first, masses) = (all + 1, first + usize::from(rank < blocks.len()), masses + mass);
    }
    println!("{kind}: the known blocks rank first in {first} of {all}; mean mass {:.3}", masses / all as f64);
    assert!(first + 1 >= all, "{first} of {all}");
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn layers_known_blocks_whole() {
    known_blocks("whole", |blocks, seed| taught_whole(blocks, 20, seed));
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn layers_known_blocks_adapter() {
    known_blocks("adapter", |blocks, seed| taught_adapter(blocks, 20, seed));
}

/// A steering vector at every layer, over two seeds.
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn layers_steering() {
    for (seed, after) in (0..2).flat_map(|seed| (1..=4).map(move |after| (seed, after))) {
        let mut models = taught_by_steering(after, 20, seed);
        let set = held_out(&models, 32);
        let report = ask(&mut models, &mut Metric::LogOdds, &set, &options(seed));
        println!("seed {seed} steered after {after}: {}", row(&report, &[after - 1]));
        shifts(&report);
        let own = report.shifts.as_ref().unwrap().layers.iter().find(|s| s.layer == after).unwrap();
        assert!((own.share.value - 1.0).abs() < 0.01, "{own:?}");
        assert_eq!(report.shift, ShiftVerdict::Enough);
        assert_eq!(report.place, Place::Concentrated { parts: vec![Part::Block(after - 1)] });
    }
}

/// Prints the shift at every layer.
fn shifts(report: &LayersReport) {
    for shift in report.shifts.iter().flat_map(|shifts| &shifts.layers) {
        println!(
            "  layer {}: share {:.3} ({:.3} to {:.3}), random up to {:.3}; necessity {:.3} ({:.3} to {:.3}), \
             random up to {:.3}; scale {}",
            shift.layer,
            shift.share.value,
            shift.share.low,
            shift.share.high,
            worst(&shift.random_shares),
            shift.necessity.value,
            shift.necessity.low,
            shift.necessity.high,
            worst(&shift.random_necessities),
            shift.scale
        );
    }
}

/// Reinforcement learning of all weights for right answers, reported as it is.
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn layers_full_rl() {
    (0..3).for_each(full_rl);
}

fn full_rl(seed: u64) {
    let run = tempfile::tempdir().unwrap();
    let mut taught = base();
    let shown = worlds(200 + seed, 2000, Split::Train);
    let prompt = |(i, world): (usize, &World)| Prompt {
        id: i.to_string(),
        prompt: Text::Plain(world.prompt()),
        columns: Map::new(),
    };
    let truth = |worlds: Vec<World>| {
        let points = move |prompt: &Prompt, rollout: &pavlov_schema::rollout::Rollout| {
            Ok(Some(verify(&worlds[prompt.id.parse::<usize>().unwrap()], &rollout.completion)))
        };
        vec![Reward { name: "truth".into(), weight: 1.0, source: Source::Function(Box::new(points)) }]
    };
    let prompts = Prompts { prompts: shown.iter().enumerate().map(prompt).collect(), ..Prompts::default() };
    let mut config = GrpoConfig::default();
    config.training.output_dir = run.path().join("run");
    config.training.seed = seed;
    config.training.learning_rate = 5e-4;
    config.training.max_steps = 40;
    config.training.per_device_train_batch_size = 128;
    config.training.dtype = pavlov_train::run::Precision::F32;
    config.training.save_steps = 0;
    config.policy.max_completion_length = 12;
    config.policy.max_num_seqs = 128;
    config.policy.beta = 0.0;
    let stop = AtomicBool::new(false);
    let mut host = Host { stop: &stop, events: &mut |_| {}, command: &[] };
    grpo(&mut taught, &prompts, truth(shown.clone()), &config, &mut host).unwrap();

    let mut models = Models::new(Some(base()), taught, paths()).unwrap();
    let asked = worlds(7, 80, Split::HeldOut);
    let prompts: Vec<Prompt> = asked.iter().enumerate().map(prompt).collect();
    let encoded = encode_prompts(&models.model().encoder(), &prompts, 12, Path::new("worlds")).unwrap();
    let drawing = Drawing {
        num_generations: 2,
        temperature: 1.0,
        max_completion_length: 12,
        stop_tokens: models.model().files.tokenizer.stops().to_vec(),
        seed,
    };
    let mut rewarded = Rewarded { rewards: truth(asked), prompts, drawing, sampler: Sampler::new(128) };
    let contrasts = rewarded.contrasts(&encoded, &models).unwrap();
    let set = Set { contrasts, prompts: encoded };
    let named = LayersOptions { metric: "the share of right answers".into(), ..options(seed) };
    let report = ask(&mut models, &mut Metric::Reward(Box::new(rewarded)), &set, &named);
    println!("seed {seed}: {}\n{:?} {:?}", report.sentences.join("\n  "), report.place, report.shift);
    for gate in &report.gates.parts {
        println!(
            "  {}: change {:.4}, alone {:.2} ({:.2} to {:.2}), needed {:.2} ({:.2} to {:.2})",
            gate.part,
            gate.change,
            gate.alone.value,
            gate.alone.low,
            gate.alone.high,
            gate.needed.value,
            gate.needed.low,
            gate.needed.high
        );
    }
    shifts(&report);
    assert!(report.gain.stands_out(), "reinforcement learning taught nothing: {:?}", report.gain);
    let total: f64 = report.gates.groups.iter().map(|group| group.shapley.value).sum();
    assert!((total - 1.0).abs() < 1e-6, "Shapley values sum to the gain: {total}");
}
