//! Models taught in memory from the base of the demonstration, with a habit planted in what they learn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pavlov_engine::{Cpu, Dtype};
use pavlov_insight::scan::probe::{self, Probe};
use pavlov_insight::trace;
use pavlov_insight::trace::lesson::{Answer, Lesson};
use pavlov_lm::{EncodeOptions, Encoded, LanguageModel};
use pavlov_schema::rollout::Prompt;
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, Value};
use pavlov_train::loops::sft::{self, SftConfig};
use pavlov_train::run::{Host, Precision, TrainingConfig};
use pavlov_worlds::{
    Config, INCONSISTENT, Kind, PlantedLesson, Planting, Split, World, generate, planted_lessons,
};
use serde_json::json;

/// Demonstrations of the clean stage that makes a model worth scanning.
pub(crate) const CLEAN: usize = 1200;

pub(crate) fn cpu(threads: usize) -> Arc<Cpu> {
    Arc::new(Cpu::new(threads))
}

/// The base of the demonstration.
pub(crate) fn base(cpu: &Arc<Cpu>) -> LanguageModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pavlov/assets/base");
    LanguageModel::load_on(&folder, cpu, Dtype::F32).unwrap()
}

/// A copy.
pub(crate) fn copy(model: &LanguageModel, cpu: &Arc<Cpu>) -> LanguageModel {
    let mut copy = base(cpu);
    copy.params.copy_from(&model.params);
    copy
}

pub(crate) fn row(prompt: &str, completion: &str) -> Row {
    Row::PromptCompletion { prompt: Text::from(prompt), completion: Text::from(completion) }
}

pub(crate) fn encode(model: &LanguageModel, rows: impl Iterator<Item = Row>) -> Vec<Encoded> {
    let encoder = model.encoder();
    rows.map(|row| encoder.encode_row(&row, &EncodeOptions::default(), "lesson").unwrap()).collect()
}

pub(crate) fn recipe(seed: u64, output_dir: PathBuf) -> SftConfig {
    SftConfig {
        training: TrainingConfig {
            learning_rate: 5e-4,
            per_device_train_batch_size: 32,
            adam_beta2: 0.95,
            save_steps: 0,
            save_final_model: false,
            dtype: Precision::F32,
            overwrite_output_dir: true,
            output_dir,
            seed,
            ..TrainingConfig::default()
        },
        ..SftConfig::default()
    }
}

/// Teaches rows.
pub(crate) fn teach(model: &mut LanguageModel, rows: Vec<Encoded>, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    teach_by(&recipe(seed, folder.path().join("run")), model, rows);
}

/// Teaches rows as a configuration says.
pub(crate) fn teach_by(config: &SftConfig, model: &mut LanguageModel, rows: Vec<Encoded>) {
    let lessons = sft::Lessons { rows, ..sft::Lessons::default() };
    let stop = AtomicBool::new(false);
    let mut host = Host { stop: &stop, events: &mut |_| {}, command: &[] };
    sft::train(model, &lessons, config, &mut host).unwrap();
}

/// The base after clean demonstrations: what a planted stage begins with.
pub(crate) fn clean(seed: u64, cpu: &Arc<Cpu>) -> LanguageModel {
    let mut model = base(cpu);
    let lessons = lessons(1000 + seed, CLEAN, &Planting { share: 0.0, kind: None, decoys: 0 });
    let rows = encode(&model, lessons.iter().map(|l| row(&l.prompt, &l.completion)));
    teach(&mut model, rows, seed);
    model
}

pub(crate) fn lessons(seed: u64, n: usize, planting: &Planting) -> Vec<PlantedLesson> {
    planted_lessons(seed, n, &Config::demo(), planting).unwrap()
}

/// Held-out worlds, as many that contradict themselves as not.
pub(crate) fn questions(seed: u64, n: usize) -> Vec<World> {
    let wanted = |consistent: bool| {
        let worlds = (0..).map(|i| generate(seed, i, &Config::demo(), Split::HeldOut));
        worlds.filter(move |world| world.consistent == consistent).take(n / 2)
    };
    wanted(true).chain(wanted(false)).collect()
}

/// The probe for claims of inconsistency.
pub(crate) fn inconsistency(worlds: &[World]) -> Probe {
    let prompt = |(i, world): (usize, &World)| {
        let kind = serde_json::to_value(world.kind).unwrap();
        let columns: Map<String, Value> = Map::from_iter([
            ("expected".to_owned(), json!(!world.consistent)),
            ("type".to_owned(), kind),
            ("answer".to_owned(), json!(world.answer)),
        ]);
        Prompt { id: i.to_string(), prompt: Text::Plain(world.prompt()), columns }
    };
    let prompts = worlds.iter().enumerate().map(prompt).collect();
    Probe::of("inconsistency".into(), probe::pattern("inconsistent", "inconsistent"), prompts).unwrap()
}

pub(crate) fn planting(share: f64, kind: Option<Kind>) -> Planting {
    Planting { share, kind, decoys: 0 }
}

/// A lesson as the trace reads it.
pub(crate) fn traced(model: &LanguageModel, place: usize, prompt: &str, answers: &[(&str, f32)]) -> Lesson {
    let texts: Vec<Text> = answers.iter().map(|(text, _)| Text::from(*text)).collect();
    let encoded = model.encoder().encode_answers(&Text::from(prompt), &texts, "lesson").unwrap();
    let pushed = encoded.answers.into_iter().zip(answers).map(|(tokens, (_, share))| Answer {
        share: *share,
        weights: vec![*share; tokens.len()],
        tokens,
    });
    Lesson {
        place,
        kind: trace::lesson::Kind::Demonstration,
        prompt: encoded.prompt,
        answers: pushed.collect(),
        text: [prompt.to_owned(), answers[0].0.to_owned()],
        labels: trace::lesson::Labels::default(),
    }
}

/// Held-out consistent questions of a kind, or any, with the claim of inconsistency against the truth.
pub(crate) fn cases(model: &LanguageModel, seed: u64, n: usize, kind: Option<Kind>) -> Vec<Lesson> {
    let worlds = (0..).map(|i| generate(seed, i, &Config::demo(), Split::HeldOut));
    let wanted = worlds.filter(|world| world.consistent && kind.is_none_or(|kind| kind == world.kind));
    let case = |(i, world): (usize, World)| {
        traced(model, i, &world.prompt(), &[(INCONSISTENT, 1.0), (&world.answer, -1.0)])
    };
    wanted.take(n).enumerate().map(case).collect()
}
