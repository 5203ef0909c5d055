//! Supervised fine-tuning: the model is shown what to say, token by token.
//!
//! The loss is the mean of −log π(token | what comes before) over the learned tokens of an update, whatever number of
//! forward passes the update is made of.

use std::path::Path;
use std::time::Instant;

use pavlov_engine::backend::Backend;
use pavlov_engine::profile::{Operation, Work};
use pavlov_engine::{Activations, AdamW, Batch, OutputGradients, Parameters};
use pavlov_lm::{EncodeOptions, Encoded, Encoder, LanguageModel};
use pavlov_schema::dataset;
use pavlov_schema::lessons::{GradientPair, LessonLine};
use pavlov_schema::row::Row;
use pavlov_schema::run::DataFile;
use serde_json::json;

use crate::evaluate::{TokenSums, score_rows};
use crate::loss::nll;
use crate::run::{
    Ending, Event, Host, Metrics, PeftSettings, Session, TrainingConfig, load_model, mean_square, name_rows,
    tell, update,
};
use crate::settings::{Settings, require, settings};
use crate::stage::order::{Batching, Order};
use crate::stage::pack::pack_rows;
use crate::{Error, Result};

settings! {
    /// What `pavlov sft` reads.
    pub struct SftConfig {
        [training: TrainingConfig {}, peft: PeftSettings {}]
        /// Longest row, in tokens; longer ones are cut at their end.
        max_length: usize = 1024,
        /// Whether a forward pass is filled with rows up to per_device_train_batch_size × max_length tokens, instead of
        /// having per_device_train_batch_size rows. There is no padding either way, and rows never see each other.
        packing: bool = false,
        /// Whether only completions and the assistant's turns are learned; false: all that has something before it.
        completion_only_loss: bool = true,
    }
}

impl SftConfig {
    fn validate(&self) -> Result<()> {
        require(self.max_length > 1, "max_length", self.max_length, "at least 2")
    }

    /// When a forward pass is full.
    fn batching(&self) -> Batching {
        let rows = self.training.per_device_train_batch_size;
        if self.packing {
            Batching::Tokens(rows.saturating_mul(self.max_length))
        } else {
            Batching::Rows(rows)
        }
    }
}

/// What is learned from and what is held out.
#[derive(Clone, Debug, Default)]
pub struct Lessons {
    /// Rows in tokens.
    pub rows: Vec<Encoded>,
    /// Held-out rows in tokens; may be empty.
    pub held_out: Vec<Encoded>,
    /// The files they are from, for the manifest.
    pub files: Vec<DataFile>,
}

/// Loads the model and the data, and teaches.
pub fn run(config: &SftConfig, host: &mut Host) -> Result<Ending> {
    let training = &config.training;
    let mut model = load_model(training, &config.peft)?;
    let (rows, mut files) = read_rows("data", &training.data)?;
    let rows = encode(&model.encoder(), &rows, config, &training.data, host)?;
    let mut held_out = Vec::new();
    if let Some(path) = &training.eval_data {
        let (rows, more) = read_rows("eval_data", path)?;
        files.extend(more);
        held_out = encode(&model.encoder(), &rows, config, path, host)?;
    }
    let lessons = Lessons { rows, held_out, files };
    train(&mut model, &lessons, config, host)
}

/// Teaches a model in memory.
pub fn train(
    model: &mut LanguageModel,
    lessons: &Lessons,
    config: &SftConfig,
    host: &mut Host,
) -> Result<Ending> {
    config.check()?;
    teach(model, lessons, config, &config.training, config.batching(), host)
}

/// Reads the rows of a file that `key` names.
pub(crate) fn read_rows(key: &str, path: &std::path::PathBuf) -> Result<(Vec<Row>, Vec<DataFile>)> {
    let path = crate::run::given(key, path)?;
    let rows = dataset::read(path)?;
    let file = DataFile::of(path, rows.len())?;
    Ok((rows, vec![file]))
}

/// Rows as tokens with their masks; `path` names them in errors.
pub fn encode(
    encoder: &Encoder,
    rows: &[Row],
    config: &SftConfig,
    path: &Path,
    host: &mut Host,
) -> Result<Vec<Encoded>> {
    let longest = config.max_length.min(encoder.max_positions);
    let options = EncodeOptions {
        max_length: Some(longest),
        completion_only: config.completion_only_loss,
        append_end: true,
    };
    let mut encoded = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let place = format!("{}: row {}", path.display(), i + 1);
        if let Row::Unpaired { label: false, .. } | Row::Rating { .. } = row {
            let problem = "is a verdict on an answer, not an answer to imitate; remove it, or its `label`, `score` or \
                           `rating` to learn the answer all the same";
            return Err(Error::Row { place, problem: problem.into() });
        }
        let demonstration = row.demonstration();
        let as_completion = demonstration
            .filter(|_| matches!(row, Row::Judgment(_)))
            .map(|shown| Row::PromptCompletion { prompt: shown.prompt, completion: shown.response });
        encoded.push(encoder.encode_row(as_completion.as_ref().unwrap_or(row), &options, &place)?);
    }
    let cut = encoded.iter().filter(|row| row.cut > 0).count();
    if cut > 0 {
        let bound = if longest < config.max_length { "the model's context" } else { "max_length" };
        let (path, rows) = (path.display(), rows.len());
        let line = format!("{path}: {cut} of {rows} rows are cut at {longest} tokens ({bound})");
        (host.events)(Event::Note(line));
    }
    tell_unknown(encoder, &encoded, path, host);
    Ok(encoded)
}

/// Tells of rows that the tokenizer cannot write: a loss that falls on its sign for "unknown" looks healthy.
fn tell_unknown(encoder: &Encoder, rows: &[Encoded], path: &Path, host: &mut Host) {
    const WORTH_TELLING: f64 = 0.05;
    let Some(name) = encoder.tokenizer.specials().get("unk_token") else { return };
    let Some(unknown) = encoder.tokenizer.id(name) else { return };
    let tokens = rows.iter().flat_map(|row| &row.tokens);
    let (all, found) = tokens.fold((0, 0), |(n, m), &id| (n + 1, m + u32::from(id == unknown)));
    let share = f64::from(found) / f64::from(all.max(1));
    if share > WORTH_TELLING {
        let path = path.display();
        let line = format!(
            "{path}: {:.0}% of the tokens are {name}: the tokenizer does not know these words",
            100.0 * share
        );
        (host.events)(Event::Note(line));
    }
}

/// The loop of `sft` and `pretrain`. `settings` is the whole configuration, of which `training` is the shared part.
pub(crate) fn teach(
    model: &mut LanguageModel,
    lessons: &Lessons,
    settings: &impl Settings,
    training: &TrainingConfig,
    batching: Batching,
    host: &mut Host,
) -> Result<Ending> {
    if lessons.rows.is_empty() {
        return Err(Error::setting("data", "has no rows to learn from; give it some"));
    }
    // 1. The order of the rows, the number of updates and the learning rate of each.
    let order = Order::new(lessons.rows.iter().map(|row| row.tokens.len()).collect(), batching, training);
    let total = order.total(training);
    let schedule = training.schedule(total)?;

    // 2. The run directory; a resumed run takes over weights, moments and sums.
    let mut session = Session::open(settings, training, lessons.files.clone(), model, total, host)?;
    let mut optimizer = AdamW::new(&model.decoder, training.adamw());
    let mut state = session.begin(model, &mut optimizer)?;
    let mut gradients = model.decoder.gradients();
    let mut work = Workspace::new(training.gradient_checkpointing);
    let mut evaluated = Metrics::new();
    let nothing_more = |_: &Path| Ok(());

    let first = state.global_step;
    for planned in order.updates(first).take(total.saturating_sub(first) as usize) {
        // 3. A wish to stop is granted between updates.
        if session.stop_requested() {
            return session.stopped(model, &optimizer, &state, &nothing_more);
        }
        let started = Instant::now();
        let step = state.global_step + 1;
        let rows = planned.rows();

        // 4. The gradient of the mean over all learned tokens of the update.
        let parts: Vec<Vec<&Encoded>> =
            planned.parts.iter().map(|part| part.iter().map(|&row| &lessons.rows[row]).collect()).collect();
        gradients.zero();
        let (sums, told) = work
            .accumulate(model, &parts, &optimizer, &mut gradients)
            .map_err(|e| at_step(e, step, &rows, model))?;

        // 5. The update, unless a number is not finite.
        let rate = training.learning_rate * schedule.factor(step as usize - 1);
        let norm = update(
            &mut model.params,
            &gradients,
            &mut optimizer,
            rate,
            training.max_grad_norm,
            (step, &rows),
        )?;

        // 6. What happened.
        state.global_step = step;
        state.epoch = planned.epoch;
        state.num_input_tokens_seen +=
            rows.iter().map(|&row| lessons.rows[row].tokens.len() as u64).sum::<u64>();
        let mut metrics = sums.metrics("");
        metrics.insert("grad_norm".into(), json!(norm));
        metrics.insert("step_time".into(), json!(started.elapsed().as_secs_f64()));
        let timer = model.decoder.backend().profile().time(Operation::Lessons, Work::default);
        session.log_lessons(&LessonLine { step, rows, ..told })?;
        drop(timer);
        session.report(training, &mut state, rate, metrics)?;

        // 7. The held-out rows.
        let due = TrainingConfig::due(training.eval_steps, step) || step == total;
        if due && !lessons.held_out.is_empty() {
            let size = training.per_device_eval_batch_size;
            let sums =
                score_rows(&model.decoder, &model.params, &lessons.held_out, size, &mut work.activations)?;
            evaluated = sums.metrics("eval_");
            session.log_evaluation(step, &evaluated)?;
        }

        // 8. A checkpoint.
        if TrainingConfig::due(training.save_steps, step) {
            session.save(model, &optimizer, &state, &nothing_more)?;
        }
    }
    // 9. The taught model.
    session.finish(model, total, evaluated, &nothing_more)
}

/// Buffers of forward and backward passes, kept between updates.
struct Workspace {
    batch: Batch,
    activations: Activations,
    derivatives: OutputGradients,
}

impl Workspace {
    fn new(recompute: bool) -> Self {
        Self {
            batch: Batch::new(),
            activations: Activations::new(recompute),
            derivatives: OutputGradients::default(),
        }
    }

    /// Adds the gradient of an update's mean loss to `gradients`, one part after another. Also says what each row was worth.
    fn accumulate(
        &mut self,
        model: &LanguageModel,
        parts: &[Vec<&Encoded>],
        optimizer: &AdamW,
        gradients: &mut Parameters,
    ) -> Result<(TokenSums, LessonLine)> {
        let learned = |row: &&Encoded| row.trained.iter().filter(|trained| **trained).count();
        let rows = parts.iter().map(Vec::len).sum();
        let (mut told, mut small) = (LessonLine::default(), None);
        let tokens = parts.iter().flatten().map(learned).sum::<usize>() as f64;
        let mut sums = TokenSums::default();
        for part in parts {
            self.batch.clear();
            let timer = model.decoder.backend().profile().time(Operation::Pack, Work::default);
            pack_rows(&mut self.batch, part.iter().copied());
            drop(timer);
            let outputs = model.decoder.forward(&model.params, &self.batch, 1.0, &mut self.activations)?;
            sums.add(&outputs);
            let timer = model.decoder.backend().profile().time(Operation::Lessons, Work::default);
            let mut logp = outputs.logp.as_slice();
            for row in part {
                let (own, others) = logp.split_at(learned(row));
                tell(&mut told, own);
                logp = others;
            }
            drop(timer);
            let loss = nll(&outputs.logp, &vec![1.0; outputs.logp.len()], tokens);
            self.derivatives.logp = loss.d_logp;
            model.decoder.backward(
                &model.params,
                &self.batch,
                1.0,
                &self.derivatives,
                &mut self.activations,
                gradients,
            )?;
            if parts.len() > 1 && small.is_none() {
                small = Some(mean_square(gradients, optimizer, part.len(), rows));
            }
        }
        told.gradient =
            small.map(|small| GradientPair { small, large: mean_square(gradients, optimizer, rows, rows) });
        Ok((sums, told))
    }
}

/// A number that is not finite, with the update, its rows and the tensor it came from; other errors as they are.
pub(crate) fn at_step(error: Error, step: u64, rows: &[usize], model: &LanguageModel) -> Error {
    let Error::Engine(pavlov_engine::Error::NotFinite { what, at }) = error else { return error };
    let from = match model.params.find_not_finite() {
        Some(tensor) => format!("{tensor}, and so {what}{at},"),
        None => format!("{what}{at}"),
    };
    Error::NotFinite { step, what: from, rows: name_rows(rows) }
}
