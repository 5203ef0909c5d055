//! Reward models: the decoder of a language model with one scalar output, taught by comparisons or ratings.
//!
//! Three kinds. A model of *comparisons* scores each answer alone, P(a better) = σ(s_a − s_b) (Bradley and Terry 1952),
//! with ties by Davidson or Rao and Kupper, and of several answers in order what Plackett and Luce make of the same scores. A model of *ratings* scores each answer alone too; thresholds turn scores
//! into ratings (McCullagh 1980), or a line does. A *joint* model reads prompt · a · b and prompt · b · a, each answer
//! with its end token, and P(a better) = σ((s_ab − s_ba)/2), which no order changes.

mod collected;
mod config;
mod head;
mod lessons;
mod measure;
mod model;
mod prefixes;
mod retrain;

use std::path::{Path, PathBuf};
use std::time::Instant;

use pavlov_engine::backend::Backend;
use pavlov_engine::profile::{Operation, Work};
use pavlov_engine::{AdamW, OutputGradients, Parameters};
use pavlov_lm::LanguageModel;
use pavlov_schema::lessons::{GradientPair, LessonLine};
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::row::Row;
use pavlov_schema::run::DataFile;
use serde_json::{Value, json};

pub use collected::taught_rows;
pub use config::{Kind, RatingLoss, RewardConfig, Ties};
pub use head::{Head, HeadLoss, ScalarAdam};
pub use lessons::{Lesson, Verdict, check_held_out, new_head, read_lessons};
pub use model::{REWARD_FILE, RewardFile, RewardModel};
pub use prefixes::Prefixes;

use self::collected::Collected;
use self::measure::measure;
use self::model::Scorer;
use super::sft::{at_step, read_rows};
use crate::run::{
    Ending, Host, Metrics, Session, TrainerState, TrainingConfig, load_model, mean_square, name_rows, tell,
    update,
};
use crate::settings::Settings;
use crate::stage::order::{Batching, Order};
use crate::{Error, Result};

/// What a reward model learns from and is measured on.
#[derive(Clone, Debug, PartialEq)]
pub struct Lessons {
    /// Lessons.
    pub rows: Vec<Lesson>,
    /// Held-out lessons; may be empty.
    pub held_out: Vec<Lesson>,
    /// What a score means, before learning.
    pub head: Head,
    /// The files they are from, for the manifest.
    pub files: Vec<DataFile>,
    /// A file of judgments of people that shall go into the run directory.
    pub staged: Option<PathBuf>,
}

/// Loads the model and the data, and teaches; again and again where `retrain_every` says so.
pub fn run(config: &RewardConfig, host: &mut Host) -> Result<Ending> {
    if config.retrain_every > 0 {
        return retrain::run(config, host);
    }
    let training = &config.training;
    if let Some(found) = collected::collect(config, host)? {
        return teach(found, config, host);
    }
    let mut model = with_head(load_model(training, &config.peft)?, training.seed)?;
    let (rows, mut files) = read_rows("data", &training.data)?;
    let held_out = match &training.eval_data {
        Some(path) => {
            let (rows, more) = read_rows("eval_data", path)?;
            files.extend(more);
            rows
        }
        None => Vec::new(),
    };
    let lessons = Lessons { files, ..prepare(&model, &rows, &held_out, config, host)? };
    train(&mut model, &lessons, config, host)
}

/// Loads the model and teaches it what people said.
fn teach(found: Collected, config: &RewardConfig, host: &mut Host) -> Result<Ending> {
    let mut model = with_head(load_model(&config.training, &config.peft)?, config.training.seed)?;
    let lessons = prepare(&model, &found.rows, &found.held_out, config, host)?;
    let lessons = Lessons { files: found.files, staged: found.staged, ..lessons };
    train(&mut model, &lessons, config, host)
}

/// A model with one scalar output: itself, or with a new head in place of its language head, drawn with mean 0 and
/// deviation 1/√(width + 1).
pub fn with_head(model: LanguageModel, seed: u64) -> Result<LanguageModel> {
    match model.decoder.config().scalar_outputs {
        1 => return Ok(model),
        0 => {}
        outputs => {
            let problem =
                format!("has {outputs} scalar outputs; give a language model, or a reward model with one");
            return Err(Error::setting("model", problem));
        }
    }
    let mut model = model.with_scalar_head(1, seed)?;
    let width = model.decoder.config().hidden_size;
    let deviation = 1.0 / (width as f32 + 1.0).sqrt();
    let mut rng = Rng::new(seed, Stream::Init, 1, 0);
    let head: Vec<f32> = (0..width).map(|_| deviation * rng.normal()).collect();
    model.params.set("score.weight", &head)?;
    Ok(model)
}

/// Rows as lessons, and the head they ask for.
pub fn prepare(
    model: &LanguageModel,
    rows: &[Row],
    held_out: &[Row],
    config: &RewardConfig,
    host: &mut Host,
) -> Result<Lessons> {
    let training = &config.training;
    let lessons = read_lessons(&model.files, rows, config, &training.data, host)?;
    let head = new_head(config, rows, &lessons)?;
    let mut held = Vec::new();
    if !held_out.is_empty() {
        let path = training.eval_data.as_deref().unwrap_or(Path::new("eval_data"));
        held = read_lessons(&model.files, held_out, config, path, host)?;
        check_held_out(&head, path, held_out, &held)?;
    }
    Ok(Lessons { rows: lessons, held_out: held, head, files: Vec::new(), staged: None })
}

/// Teaches a model in memory, which must have one scalar output ([`with_head`]).
pub fn train(
    model: &mut LanguageModel,
    lessons: &Lessons,
    config: &RewardConfig,
    host: &mut Host,
) -> Result<Ending> {
    config.check()?;
    let training = &config.training;
    // 1. The order of the rows, the number of updates and the learning rate of each.
    let joint = lessons.head.is_joint();
    let lengths = lessons.rows.iter().map(|lesson| lesson.tokens(joint)).collect();
    let order = Order::new(lengths, Batching::Rows(training.per_device_train_batch_size), training);
    let total = order.total(training);
    let schedule = training.schedule(total)?;

    // 2. The run directory; a resumed run takes over weights, moments, sums and the learned numbers of the head.
    let mut session = Session::open(config, training, lessons.files.clone(), model, total, host)?;
    if let Some(staged) = &lessons.staged {
        collected::keep(staged, session.path())?;
    }
    let mut optimizer = AdamW::new(&model.decoder, training.adamw());
    let mut state = session.begin(model, &mut optimizer)?;
    let (mut head, mut head_optimizer) = restore(&state, &lessons.head)?;
    let mut gradients = model.decoder.gradients();
    let mut work = Scorer::new(training.gradient_checkpointing);
    let mut evaluated = Metrics::new();

    let first = state.global_step;
    for planned in order.updates(first).take(total.saturating_sub(first) as usize) {
        // 3. A wish to stop is granted between updates.
        if session.stop_requested() {
            return session
                .stopped(model, &optimizer, &state, &|folder| RewardFile::raw(head.clone()).write(folder));
        }
        let started = Instant::now();
        let step = state.global_step + 1;
        let rows = planned.rows();
        let data_rows: Vec<usize> = rows.iter().map(|&row| lessons.rows[row].row).collect();

        // 4. The gradient of the mean over all lessons of the update.
        let parts: Vec<Vec<&Lesson>> =
            planned.parts.iter().map(|part| part.iter().map(|&row| &lessons.rows[row]).collect()).collect();
        gradients.zero();
        let learned = accumulate(model, &head, &parts, config, &mut work, &optimizer, &mut gradients)
            .map_err(|e| at_step(e, step, &data_rows, model))?;
        if !(learned.value.is_finite() && learned.d_free.iter().all(|d| d.is_finite())) {
            let rows = name_rows(&data_rows);
            return Err(Error::NotFinite { step, what: "the loss".into(), rows });
        }

        // 5. The update, unless a number is not finite.
        let factor = schedule.factor(step as usize - 1);
        let rate = training.learning_rate * factor;
        let norm = update(
            &mut model.params,
            &gradients,
            &mut optimizer,
            rate,
            training.max_grad_norm,
            (step, &data_rows),
        )?;
        let scalar_rate = config.scalar_learning_rate * factor;
        let mut metrics = Metrics::from_iter([("loss".to_owned(), json!(learned.value))]);
        metrics.extend(measure(&head, &parts.concat(), &learned.scores, "", false));
        head_optimizer.step(head.free_mut(), &learned.d_free, scalar_rate, &training.adamw());

        // 6. What happened.
        state.global_step = step;
        state.epoch = planned.epoch;
        state.num_input_tokens_seen +=
            rows.iter().map(|&row| lessons.rows[row].tokens(joint) as u64).sum::<u64>();
        state.extra.insert("head".into(), json!(head));
        state.extra.insert("head_optimizer".into(), json!(head_optimizer));
        metrics.insert("grad_norm".into(), json!(norm));
        metrics.insert("step_time".into(), json!(started.elapsed().as_secs_f64()));
        let timer = model.decoder.backend().profile().time(Operation::Lessons, Work::default);
        session.log_lessons(&LessonLine { step, rows: data_rows, ..learned.told })?;
        drop(timer);
        session.report(training, &mut state, rate, metrics)?;

        // 7. The held-out lessons.
        let due = TrainingConfig::due(training.eval_steps, step) || step == total;
        if due && !lessons.held_out.is_empty() {
            evaluated = evaluate(model, &head, &lessons.held_out, config, &mut work)?;
            session.log_evaluation(step, &evaluated)?;
        }

        // 8. A checkpoint.
        if TrainingConfig::due(training.save_steps, step) {
            session.save(model, &optimizer, &state, &|folder| RewardFile::raw(head.clone()).write(folder))?;
        }
    }
    // A run that was broken off after its last update has told this and may have forgotten it.
    if evaluated.is_empty() && !lessons.held_out.is_empty() {
        evaluated = evaluate(model, &head, &lessons.held_out, config, &mut work)?;
    }
    // 9. The taught model, with the mean and deviation of its scores.
    if !training.save_final_model {
        return session.finish(model, total, evaluated, &|_| Ok(()));
    }
    let measured = if lessons.held_out.is_empty() { &lessons.rows } else { &lessons.held_out };
    let file = normalized(model, head, measured, config, &mut work)?;
    session.finish(model, total, evaluated, &|folder| file.write(folder))
}

/// The learned numbers of the head as a checkpoint has them, else as they are before learning.
fn restore(state: &TrainerState, fresh: &Head) -> Result<(Head, ScalarAdam)> {
    if state.global_step == 0 {
        return Ok((fresh.clone(), ScalarAdam::default()));
    }
    let read = |name: &str| state.extra.get(name).cloned().unwrap_or(Value::Null);
    let wrong = |e: serde_json::Error| {
        Error::setting("resume_from_checkpoint", format!("the checkpoint is not of a reward model ({e})"))
    };
    let head = serde_json::from_value(read("head")).map_err(wrong)?;
    Ok((head, serde_json::from_value(read("head_optimizer")).map_err(wrong)?))
}

/// The loss of an update and what its scores were.
struct Learned {
    value: f64,
    d_free: Vec<f64>,
    scores: Vec<f32>,
    told: LessonLine,
}

/// Adds the gradient of an update's mean loss to `gradients`, one part after another. Also says what each lesson was worth.
#[allow(
    clippy::too_many_arguments,
    reason = "the model, the head, the lessons and the optimizer are separate things"
)]
fn accumulate(
    model: &LanguageModel,
    head: &Head,
    parts: &[Vec<&Lesson>],
    config: &RewardConfig,
    work: &mut Scorer,
    optimizer: &AdamW,
    gradients: &mut Parameters,
) -> Result<Learned> {
    let total = parts.iter().map(Vec::len).sum();
    let mut learned = Learned {
        value: 0.0,
        d_free: vec![0.0; head.free().len()],
        scores: Vec::new(),
        told: LessonLine::default(),
    };
    let mut small = None;
    for part in parts {
        let scores = work.forward_lessons(model, part, head.is_joint())?;
        let loss = head.loss(part, &scores, total, config.center_rewards_coefficient);
        let derivatives = OutputGradients { scalars: loss.d_scores, ..OutputGradients::default() };
        model.decoder.backward(
            &model.params,
            &work.batch,
            1.0,
            &derivatives,
            &mut work.activations,
            gradients,
        )?;
        let timer = model.decoder.backend().profile().time(Operation::Lessons, Work::default);
        for nats in head.surprisals(part, &scores) {
            tell(&mut learned.told, &[-nats as f32]);
        }
        drop(timer);
        if parts.len() > 1 && small.is_none() {
            small = Some(mean_square(gradients, optimizer, part.len(), total));
        }
        learned.value += loss.value;
        learned.d_free.iter_mut().zip(&loss.d_free).for_each(|(sum, d)| *sum += d);
        learned.scores.extend(scores);
    }
    learned.told.gradient =
        small.map(|small| GradientPair { small, large: mean_square(gradients, optimizer, total, total) });
    Ok(learned)
}

/// Scores of lessons, a batch after another.
fn score(
    model: &LanguageModel,
    lessons: &[&Lesson],
    joint: bool,
    config: &RewardConfig,
    work: &mut Scorer,
) -> Result<Vec<f32>> {
    let mut scores = Vec::new();
    for part in lessons.chunks(config.training.per_device_eval_batch_size.max(1)) {
        scores.extend(work.forward_lessons(model, part, joint)?);
    }
    Ok(scores)
}

fn evaluate(
    model: &LanguageModel,
    head: &Head,
    held_out: &[Lesson],
    config: &RewardConfig,
    work: &mut Scorer,
) -> Result<Metrics> {
    let lessons: Vec<&Lesson> = held_out.iter().collect();
    let scores = score(model, &lessons, head.is_joint(), config, work)?;
    let loss = head.loss(&lessons, &scores, lessons.len(), 0.0);
    let mut metrics = Metrics::from_iter([("eval_loss".to_owned(), json!(loss.value))]);
    metrics.extend(measure(head, &lessons, &scores, "eval_", true));
    Ok(metrics)
}

/// What `reward_config.json` says: with mean and deviation of the scores of `lessons`. A joint model's scores are of
/// two answers and stay as they are.
fn normalized(
    model: &LanguageModel,
    head: Head,
    lessons: &[Lesson],
    config: &RewardConfig,
    work: &mut Scorer,
) -> Result<RewardFile> {
    if head.is_joint() {
        return Ok(RewardFile::raw(head));
    }
    let scores = score(model, &lessons.iter().collect::<Vec<_>>(), false, config, work)?;
    let n = scores.len() as f64;
    let mean = scores.iter().map(|&score| score as f64).sum::<f64>() / n;
    let variance = scores.iter().map(|&score| (score as f64 - mean).powi(2)).sum::<f64>() / n;
    // A model that scores everything alike has no scale of its own.
    let score_std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    Ok(RewardFile { head, score_mean: mean, score_std })
}
