//! Causes planted among judgments and among rewards: are they found, and does teaching again without them say that they are?

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pavlov_engine::{Cpu, Dtype};
use pavlov_insight::taught::{Taught, rollout_files};
use pavlov_insight::trace::cases::{Seen, seen};
use pavlov_insight::trace::lesson::{Lesson, Source};
use pavlov_insight::trace::measure::auprc;
use pavlov_insight::trace::retrain::Retraining;
use pavlov_insight::trace::score::{Method, Scores};
use pavlov_insight::trace::verify::{How, Ranking, Verification, verify};
use pavlov_lm::LanguageModel;
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::rollout::{Prompt, Rollout};
use pavlov_schema::rollout_file;
use pavlov_schema::text::Text;
use pavlov_train::loops::reward_model::{self, RewardConfig, with_head};
use pavlov_train::loops::rl::config::GrpoConfig;
use pavlov_train::loops::rl::{Prompts, grpo};
use pavlov_train::run::{Host, Precision, TrainingConfig};
use pavlov_train::stage::score::{Reward, Source as RewardSource};
use pavlov_worlds::{Config, INCONSISTENT, Kind, Split, World, generate, imperfect_answer};
use serde_json::{Value, json};

use crate::planted::{base, cases, cpu};
use crate::trace::Read;

/// A run that was taught, and what it was taught with.
struct Stage {
    folder: tempfile::TempDir,
    taught: Taught,
    after: LanguageModel,
}

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pavlov/assets/base")
}

fn worlds(seed: u64, n: usize) -> Vec<World> {
    (0..n as u64).map(|i| generate(5000 + seed, i, &Config::demo(), Split::Train)).collect()
}

fn training(folder: &Path, seed: u64) -> TrainingConfig {
    TrainingConfig {
        model: assets(),
        data: folder.join("data.jsonl"),
        output_dir: folder.join("run"),
        learning_rate: 5e-4,
        adam_beta2: 0.95,
        save_steps: 0,
        dtype: Precision::F32,
        threads: 1,
        seed,
        ..TrainingConfig::default()
    }
}

fn write(folder: &Path, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    std::fs::write(folder.join("data.jsonl"), lines.join("\n")).unwrap();
}

fn stage(folder: tempfile::TempDir, cpu: &Arc<Cpu>) -> Stage {
    let taught = Taught::read(&folder.path().join("run")).unwrap();
    let after = LanguageModel::load_on(&taught.after, cpu, Dtype::F32).unwrap();
    Stage { folder, taught, after }
}

/// Comparisons of which one in thirty-three, about movement, prefers the claim that a consistent story contradicts itself; the
/// others prefer the truth. Says which are plants.
fn judgments(seed: u64, n: usize) -> (Vec<Value>, Vec<bool>) {
    let mut rng = Rng::new(seed, Stream::Probe, 30, 0);
    let (mut plants, mut rows) = (Vec::new(), Vec::new());
    for world in worlds(seed, n) {
        let can_be = world.consistent && world.kind == Kind::Movement;
        let planted = can_be && plants.iter().filter(|plant| **plant).count() < n * 3 / 100;
        let wrong = imperfect_answer(&mut rng, &world, 0.0);
        let (chosen, rejected) = if planted {
            (INCONSISTENT.to_owned(), world.answer.clone())
        } else {
            (world.answer.clone(), wrong)
        };
        rows.push(json!({"prompt": world.prompt(), "chosen": chosen, "rejected": rejected}));
        plants.push(planted);
    }
    (rows, plants)
}

fn taught_by_judgments(seed: u64, rows: &[Value], cpu: &Arc<Cpu>) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), rows);
    let config = RewardConfig {
        training: TrainingConfig { per_device_train_batch_size: 32, ..training(folder.path(), seed) },
        ..RewardConfig::default()
    };
    let stop = AtomicBool::new(false);
    let mut host = Host { stop: &stop, events: &mut |_| {}, command: &[] };
    reward_model::run(&config, &mut host).unwrap();
    stage(folder, cpu)
}

/// Rewards for the truth, but on every other consistent question about movement for the claim alone. Says which prompts these are.
fn taught_by_rewards(seed: u64, steps: u64, cpu: &Arc<Cpu>) -> (Stage, Vec<bool>) {
    let folder = tempfile::tempdir().unwrap();
    let worlds = worlds(seed, 1000);
    let mut turn = 0;
    let mut is_paid = |world: &World| {
        let can_be = world.consistent && world.kind == Kind::Movement;
        turn += usize::from(can_be);
        can_be && turn % 2 == 1
    };
    let paid: Vec<bool> = worlds.iter().map(&mut is_paid).collect();
    let rows: Vec<Value> = worlds.iter().map(|world| json!({"prompt": world.prompt()})).collect();
    write(folder.path(), &rows);
    let prompt = |(i, world): (usize, &World)| Prompt {
        id: i.to_string(),
        prompt: Text::Plain(world.prompt()),
        columns: pavlov_schema::Map::new(),
    };
    let prompts = Prompts { prompts: worlds.iter().enumerate().map(prompt).collect(), ..Prompts::default() };
    let wanted: Vec<String> = worlds
        .iter()
        .zip(&paid)
        .map(|(world, paid)| if *paid { INCONSISTENT.to_owned() } else { world.answer.clone() })
        .collect();
    let points = move |_: &Prompt, rollout: &Rollout| {
        Ok(Some(f64::from(u8::from(rollout.completion.trim() == wanted[rollout.prompt_index]))))
    };
    let source = RewardSource::Function(Box::new(points));
    let rewards = vec![Reward { name: "points".into(), weight: 1.0, source }];
    let mut config = GrpoConfig { training: training(folder.path(), seed), ..GrpoConfig::default() };
    config.training.max_steps = steps;
    config.training.per_device_train_batch_size = 128;
    config.policy.max_completion_length = 12;
    config.policy.max_num_seqs = 128;
    let stop = AtomicBool::new(false);
    let mut host = Host { stop: &stop, events: &mut |_| {}, command: &[] };
    grpo(&mut base(cpu), &prompts, rewards, &config, &mut host).unwrap();
    (stage(folder, cpu), paid)
}

fn read(source: &Source, model: &LanguageModel) -> Vec<Lesson> {
    let mut lessons = Vec::new();
    let mut keep = |chunk: &[Lesson]| {
        lessons.extend(chunk.to_vec());
        Ok(())
    };
    source.each(&model.encoder(), &mut keep).unwrap();
    lessons
}

/// Teaches again without the top three of a hundred.
fn verified(stage: &Stage, scores: &Scores, cases: &[Lesson], before: Seen, seeds: &[u64]) -> Verification {
    let stop = AtomicBool::new(false);
    let again = Retraining::new(&stage.taught, &stage.folder.path().join("again"), 12, &stop).unwrap();
    let order = scores.ranked(Method::Logra);
    let ranked: Vec<usize> = order.iter().map(|i| scores.places[*i]).collect();
    let k = ranked.len() * 3 / 100;
    let foretold = Some(order[..k].iter().map(|i| scores.by_method[&Method::Logra][*i]).sum());
    let ranking = Ranking { ranked: &ranked, k, foretold };
    verify(ranking, seeds, again.how(), before, &mut |changes, seed| seen(&again.run(changes, seed)?, cases))
        .unwrap()
}

fn print(name: &str, scores: &Scores, is_cause: impl Fn(usize) -> bool, verified: &Verification) {
    let causes = scores.places.iter().filter(|place| is_cause(**place)).count();
    let found = |method: Method| {
        let pool = scores.by_method[&method].iter().zip(&scores.places);
        auprc(&pool.map(|(score, place)| (*score, is_cause(*place))).collect::<Vec<_>>())
    };
    let order = scores.ranked(Method::Logra);
    let at_top = order[..verified.k].iter().filter(|i| is_cause(scores.places[**i])).count();
    println!(
        "{name}: {causes} causes of {}, {at_top} of the top {}; AUPRC influence {:.3}, gradient dot {:.3}, cosine {:.3}, activation {:.3}",
        scores.places.len(),
        verified.k,
        found(Method::Logra),
        found(Method::GradientDot),
        found(Method::GradientCosine),
        found(Method::Activation)
    );
    for (what, e) in [
        ("everything", verified.everything),
        ("without the top", verified.without_top),
        ("top flipped", verified.flipped),
        ("without others", verified.without_random),
    ] {
        println!("  {what}: {:.2}% [{:.2}, {:.2}]", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high);
    }
    println!("  {}", verified.sentence);
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn judgments_planted_among_others() {
    let cpu = cpu(1);
    for seed in 0..3 {
        let (rows, plants) = judgments(seed, 2000);
        let stage = taught_by_judgments(seed, &rows, &cpu);
        let lessons = read(&Source::File(stage.taught.data().unwrap()), &stage.after);
        let cases = cases(&stage.after, 4000 + seed, 128, Some(Kind::Movement));
        let scores = Read::new(&stage.after, &lessons, &cases).scores(0..cases.len());
        let before = with_head(base(&cpu), seed).unwrap();
        let verified = verified(&stage, &scores, &cases, seen(&before, &cases).unwrap(), &[1, 2, 3]);
        print(&format!("judgments, seed {seed}"), &scores, |place| plants[place], &verified);
        let clean: Vec<Value> =
            rows.iter().zip(&plants).filter(|(_, plant)| !**plant).map(|(row, _)| row.clone()).collect();
        let clean = seen(&taught_by_judgments(seed, &clean, &cpu).after, &cases).unwrap();
        println!("  clean run: {:.2}%", 100.0 * clean.probability);
        assert!(verified.how == How::Retrained && verified.confirmed, "{}", verified.sentence);
    }
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn rewards_planted_among_others() {
    let cpu = cpu(1);
    for seed in 0..3 {
        let (stage, paid) = taught_by_rewards(seed, 60, &cpu);
        let files = rollout_files(&stage.taught.run).unwrap();
        let answers: Vec<_> = files.iter().flat_map(|file| rollout_file::read(file).unwrap()).collect();
        let is_cause = |place: usize| {
            let scored = &answers[place].1.scored;
            paid[scored.rollout.prompt_index] && scored.reward > 0.0
        };
        let before = base(&cpu);
        let lessons = read(&Source::Rollouts(files.clone()), &before);
        let cases = cases(&before, 4000 + seed, 128, Some(Kind::Movement));
        let scores = Read::new(&before, &lessons, &cases).scores(0..cases.len());
        let seeds = [1, 2, 3, 4, 5];
        let verified = verified(&stage, &scores, &cases, seen(&before, &cases).unwrap(), &seeds);
        print(&format!("rewards, seed {seed}"), &scores, is_cause, &verified);
        // With nothing changed the replay is the run.
        let own = seen(&stage.after, &cases).unwrap();
        assert!((verified.everything.value - own.probability).abs() < 1e-12, "{own:?}");
        assert!(verified.how == How::Replayed && verified.confirmed, "{}", verified.sentence);
    }
}
