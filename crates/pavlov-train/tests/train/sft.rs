//! The loop of supervised fine-tuning on a tiny model.

use crate::tiny;
use std::path::Path;

use crate::tiny::{curve, demonstrations, host_run, metrics, weights};
use pavlov_engine::Activations;
use pavlov_lm::LanguageModel;
use pavlov_schema::row::Row;
use pavlov_train::evaluate::score_rows;
use pavlov_train::loops::pretrain::{self, PretrainConfig};
use pavlov_train::loops::sft::{self, Lessons, SftConfig};
use pavlov_train::run::{Ending, Event, TrainingConfig, load_options};
use pavlov_train::schedule::Scheduler;

fn config(output_dir: &Path) -> SftConfig {
    let training = TrainingConfig {
        output_dir: output_dir.to_owned(),
        learning_rate: 3e-3,
        max_steps: 12,
        per_device_train_batch_size: 4,
        logging_steps: 5,
        save_steps: 0,
        ..TrainingConfig::default()
    };
    SftConfig { training, max_length: 64, ..SftConfig::default() }
}

fn lessons(model: &LanguageModel, rows: &[Row], held_out: &[Row], config: &SftConfig) -> Lessons {
    let mut encoded = Lessons::default();
    let (_, _) = host_run(None, |host| {
        encoded.rows = sft::encode(&model.encoder(), rows, config, Path::new("rows"), host)?;
        encoded.held_out = sft::encode(&model.encoder(), held_out, config, Path::new("held out"), host)?;
        Ok(Ending::Finished { model: None, step: 0, metrics: pavlov_schema::Map::new() })
    });
    encoded
}

/// Trains a fresh model; stops after an update if asked.
fn train(config: &SftConfig, stop_after: Option<u64>) -> (pavlov_train::Result<Ending>, Vec<Event>) {
    let mut model = tiny::model();
    let lessons = lessons(&model, &demonstrations(21), &demonstrations(6), config);
    host_run(stop_after, |host| sft::train(&mut model, &lessons, config, host))
}

#[test]
fn the_loss_falls_and_the_run_directory_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut config = config(&run);
    config.training.max_steps = 150;
    config.training.learning_rate = 1e-2;
    config.training.eval_steps = 50;
    config.training.save_steps = 60;
    let (ending, events) = train(&config, None);
    let Ok(Ending::Finished { model: Some(model), step: 150, metrics: last }) = ending else {
        panic!("{ending:?}")
    };
    let loss = curve(&run, "loss");
    assert_eq!(loss.len(), 30, "every five updates");
    // log 230 words = 5.4 nats to begin with.
    assert!(loss[0] > 4.0 && loss[29] < 0.55, "{loss:?}");
    // Of six learned tokens, the name and the number are hard.
    assert!(curve(&run, "mean_token_accuracy")[29] > 0.7);
    assert_eq!(curve(&run, "eval_loss").len(), 3);
    assert!(last["eval_loss"].as_f64().unwrap() < 0.55);
    for name in ["entropy", "grad_norm", "learning_rate", "num_tokens", "epoch"] {
        assert_eq!(curve(&run, name).len(), 30, "{name}");
    }
    let saved: Vec<_> = events.iter().filter(|event| matches!(event, Event::Saved { .. })).collect();
    assert_eq!(saved.len(), 3, "{saved:?}");
    for file in
        ["config.toml", "manifest.json", "checkpoints/step-000120/optimizer.safetensors", "model/config.json"]
    {
        assert!(run.join(file).is_file(), "{file}");
    }
    LanguageModel::load(&model, &load_options(&config.training)).unwrap();
}

#[test]
fn a_run_that_stopped_and_resumed_has_the_bytes_of_one_that_did_not() {
    for packing in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
        let settings = |path: &Path, resume| {
            let mut config = config(path);
            config.packing = packing;
            config.training.gradient_accumulation_steps = 2;
            config.training.eval_steps = 4;
            config.training.resume_from_checkpoint = resume;
            config
        };
        train(&settings(&whole, false), None).0.unwrap();
        // Neither a line of metrics nor an evaluation is due at 3 or 7.
        let (ending, _) = train(&settings(&parted, false), Some(3));
        let Ok(Ending::Stopped { checkpoint, step: 3 }) = ending else { panic!("{ending:?}") };
        assert!(checkpoint.ends_with("checkpoints/step-000003"));
        let ending = train(&settings(&parted, true), Some(7)).0;
        assert!(matches!(ending, Ok(Ending::Stopped { step: 7, .. })), "{ending:?}");
        // What a crash after the checkpoint left is forgotten.
        let line = "{\"step\":8,\"loss\":1}\n{\"step\":9,\"lo";
        std::fs::write(
            parted.join("metrics.jsonl"),
            std::fs::read_to_string(parted.join("metrics.jsonl")).unwrap() + line,
        )
        .unwrap();
        train(&settings(&parted, true), None).0.unwrap();
        assert_eq!(weights(&whole.join("model")), weights(&parted.join("model")));
        assert_eq!(metrics(&whole), metrics(&parted));
        assert_eq!(metrics(&whole).len(), 3 + 3);
    }
}

#[test]
fn a_model_that_nobody_wants_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.training.max_steps = 2;
    config.training.save_final_model = false;
    let ending = train(&config, None).0;
    assert!(matches!(ending, Ok(Ending::Finished { model: None, step: 2, .. })), "{ending:?}");
    assert!(folder.path().join("metrics.jsonl").exists() && !folder.path().join("model").exists());
}

#[test]
fn a_resumed_run_must_have_the_same_order_and_tells_what_else_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    train(&config, Some(2)).0.unwrap();
    let refused = train(&config, None).0.unwrap_err().to_string();
    assert!(refused.contains("holds another run"), "{refused}");
    config.training.resume_from_checkpoint = true;
    config.training.seed = 1;
    let refused = train(&config, None).0.unwrap_err().to_string();
    assert!(refused.starts_with("seed: was 42 and is 1 now"), "{refused}");
    config.training.seed = 42;
    config.training.learning_rate = 1e-3;
    let (ending, events) = train(&config, None);
    ending.unwrap();
    let told =
        |event: &Event| matches!(event, Event::Note(line) if line.starts_with("learning_rate was 0.003"));
    assert!(events.iter().any(told), "{events:?}");
    // The same settings choose another number format on another processor.
    let manifest = folder.path().join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap().replace("\"f32\"", "\"bf16\"");
    std::fs::write(&manifest, text).unwrap();
    let (_, events) = train(&config, None);
    let told =
        |event: &Event| matches!(event, Event::Note(line) if line.starts_with("products were in bf16"));
    assert!(events.iter().any(told), "{events:?}");
    // A run that was overwritten leaves no model that could pass for the new one's.
    config.training.resume_from_checkpoint = false;
    config.training.overwrite_output_dir = true;
    assert!(folder.path().join("model").exists());
    train(&config, Some(1)).0.unwrap();
    assert!(!folder.path().join("model").exists());
}

/// Every weight after the updates of a run whose updates are the gradient itself: with an epsilon that dwarfs every
/// gradient, and a learning rate as large, AdamW's first step is w − g.
fn after_gradients(rows: usize, parts: usize, packing: bool) -> (Vec<f32>, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.training.per_device_train_batch_size = rows;
    config.training.gradient_accumulation_steps = parts;
    config.training.max_steps = 2;
    config.training.logging_steps = 1;
    config.training.lr_scheduler_type = Scheduler::Constant;
    config.training.max_grad_norm = 0.0;
    config.training.adam_epsilon = 1e6;
    config.training.learning_rate = 1e6;
    config.packing = packing;
    if packing {
        // A budget that holds every row of the epoch.
        config.max_length = 1000;
    }
    train(&config, None).0.unwrap();
    let model = LanguageModel::load(&folder.path().join("model"), &load_options(&config.training)).unwrap();
    let weights = model.params.specs().flat_map(|spec| model.params.get(&spec.name).unwrap()).collect();
    (weights, curve(folder.path(), "loss"))
}

#[test]
fn parts_of_an_update_are_the_whole() {
    let close = |a: &(Vec<f32>, Vec<f64>), b: &(Vec<f32>, Vec<f64>)| {
        assert_eq!((a.0.len(), a.1.len()), (b.0.len(), 2));
        let furthest = a.0.iter().zip(&b.0).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 1e-6, "{furthest}");
        assert!(a.1.iter().zip(&b.1).all(|(a, b)| (a - b).abs() < 1e-6 * a), "{:?} {:?}", a.1, b.1);
    };
    let whole = after_gradients(6, 1, false);
    for (rows, parts) in [(3, 2), (2, 3), (1, 6)] {
        close(&whole, &after_gradients(rows, parts, false));
    }
    close(&after_gradients(21, 1, false), &after_gradients(21, 1, true));
    let start = tiny::model();
    let moved = start.params.specs().flat_map(|spec| start.params.get(&spec.name).unwrap());
    let furthest = moved.zip(&whole.0).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest > 1e-2, "the gradients are far above the tolerance: {furthest}");
}

#[test]
fn packed_is_one_by_one() {
    let model = tiny::model();
    let folder = tempfile::tempdir().unwrap();
    let rows = lessons(&model, &demonstrations(9), &[], &config(folder.path())).rows;
    let mut backwards = rows.clone();
    backwards.reverse();
    let score = |rows: &[pavlov_lm::Encoded], size| {
        score_rows(&model.decoder, &model.params, rows, size, &mut Activations::new(false)).unwrap()
    };
    let (packed, single) = (score(&rows, 9), score(&rows, 1));
    assert_eq!(
        packed.tokens,
        rows.iter().map(|row| row.trained.iter().filter(|t| **t).count()).sum::<usize>()
    );
    for other in [single, score(&rows, 4), score(&backwards, 4)] {
        assert!((packed.nll - other.nll).abs() < 1e-6 * packed.nll, "{packed:?} {other:?}");
        assert!((packed.entropy - other.entropy).abs() < 1e-6 * packed.entropy);
        assert_eq!((packed.tokens, packed.correct), (other.tokens, other.correct));
    }
}

#[test]
fn a_number_that_is_not_finite_stops_the_run_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.training.shuffle_dataset = false;
    let mut model = tiny::model();
    let lessons = lessons(&model, &demonstrations(8), &[], &config);
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut planted = model.params.get(name).unwrap();
    planted[5] = f32::NAN;
    model.params.set(name, &planted).unwrap();
    let before = model.params.get("lm_head.weight").unwrap();
    let (ending, _) = host_run(None, |host| sft::train(&mut model, &lessons, &config, host));
    let error = ending.unwrap_err().to_string();
    assert!(
        error.starts_with("step 1: ") && error.contains(name) && error.contains("rows 1, 2, 3, 4 "),
        "{error}"
    );
    assert_eq!(model.params.get("lm_head.weight").unwrap(), before);
}

#[test]
fn rows_that_teach_nothing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.max_length = 5;
    let model = tiny::model();
    let (ending, _) = host_run(None, |host| {
        sft::encode(&model.encoder(), &demonstrations(2), &config, Path::new("a.jsonl"), host)?;
        Ok(Ending::Stopped { checkpoint: "".into(), step: 0 })
    });
    let error = ending.unwrap_err().to_string();
    assert!(error.starts_with("a.jsonl: row 1: ") && error.contains("max_length"), "{error}");
}

#[test]
fn verdicts_are_no_demonstrations() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let model = tiny::model();
    let unpaired = |label| Row::Unpaired { prompt: "Who?\n".into(), completion: "Ana.".into(), label };
    let rated = Row::Rating { prompt: "Who?\n".into(), completion: "Ana.".into(), score: 5.0, scale: None };
    let encode = |row| {
        let mut told = Ok(0);
        let (_, _) = host_run(None, |host| {
            told = sft::encode(&model.encoder(), &[row], &config, Path::new("a.jsonl"), host)
                .map(|rows| rows.len());
            Ok(Ending::Stopped { checkpoint: "".into(), step: 0 })
        });
        told.map_err(|error| error.to_string())
    };
    assert_eq!(encode(unpaired(true)), Ok(1));
    for row in [unpaired(false), rated] {
        let error = encode(row).unwrap_err();
        assert!(error.starts_with("a.jsonl: row 1: is a verdict"), "{error}");
    }
}

#[test]
fn words_that_the_tokenizer_does_not_know_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (model, config) = (tiny::model(), config(folder.path()));
    for (answer, told) in [("Ana has 3 apples.", false), ("Natalia sold 48 clips.", true)] {
        let (_, events) = host_run(None, |host| {
            let row = tiny::demonstration("Who has 3 apples?\n", answer);
            sft::encode(&model.encoder(), &[row], &config, Path::new("a.jsonl"), host)?;
            Ok(Ending::Stopped { checkpoint: "".into(), step: 0 })
        });
        let unknown =
            |event: &Event| matches!(event, Event::Note(line) if line.contains("% of the tokens are <unk>"));
        assert_eq!(events.iter().any(unknown), told, "{events:?}");
    }
}

#[test]
fn what_cuts_a_row_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny::model();
    for (max_length, told) in [(12, "12 tokens (max_length)"), (1000, "128 tokens (the model's context)")] {
        let config = SftConfig { max_length, ..config(folder.path()) };
        let long = tiny::demonstration("Who has 3 apples?\n", &"Ana has 3 apples. ".repeat(40));
        let (_, events) = host_run(None, |host| {
            sft::encode(&model.encoder(), &[long], &config, Path::new("a.jsonl"), host)?;
            Ok(Ending::Stopped { checkpoint: "".into(), step: 0 })
        });
        let cut = Event::Note(format!("a.jsonl: 1 of 1 rows are cut at {told}"));
        assert!(events.contains(&cut), "{events:?}");
    }
}

#[test]
fn pre_training_learns_every_token_of_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<Row> = (0..12)
        .map(|i| Row::Text { text: format!("Ana has {} apples. Ben has {} apples.", i % 4, i % 4) })
        .collect();
    let mut model = tiny::model();
    let rows = pretrain::cut(&model.encoder(), &texts, 16, Path::new("texts")).unwrap();
    // Eleven tokens a text with its end.
    let lengths: Vec<usize> = rows.iter().map(|row| row.tokens.len()).collect();
    assert_eq!(
        (lengths.iter().sum::<usize>(), lengths[0], rows[0].trained[1..].contains(&false)),
        (132, 16, false)
    );
    let training = TrainingConfig {
        output_dir: folder.path().to_owned(),
        learning_rate: 1e-2,
        num_train_epochs: 40.0,
        lr_scheduler_type: Scheduler::Cosine,
        warmup_ratio: 0.1,
        per_device_train_batch_size: 3,
        logging_steps: 10,
        ..TrainingConfig::default()
    };
    let config = PretrainConfig { training, max_length: 16, ..PretrainConfig::default() };
    let lessons = Lessons { rows, ..Lessons::default() };
    let (ending, _) = host_run(None, |host| pretrain::train(&mut model, &lessons, &config, host));
    assert!(matches!(ending, Ok(Ending::Finished { step: 120, .. })), "{ending:?}");
    let loss = curve(folder.path(), "loss");
    assert!(loss[0] > 4.0 && loss[11] < 1.0, "{loss:?}");
}
