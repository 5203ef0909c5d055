//! Learning from one's own answers: draw answers, see which earned more, push towards those.
//!
//! One loop; its presets differ in the feedback and in the estimator that turns it into credit.
//!
//! | preset | feedback | advantage of an answer | loss |
//! |---|---|---|---|
//! | `grpo` (arXiv:2402.03300) | points | (r − mean(group)) / std(group) | clipped ratio, mean over tokens |
//! | … `scale_rewards = none`, `loss_type = dr_grpo` (arXiv:2503.20783) | points | r − mean(group) | … without length bias |
//! | … `epsilon_high = 0.28`, `loss_type = dapo` (arXiv:2503.14476) | points | as grpo | … with room to rise |
//! | … `estimator = leave_one_out` (RLOO, arXiv:2402.14740) | points | r − mean(others) | as grpo |
//! | `pairwise` | which of two is better | ±(2p − 1), p = P(first is better) | as grpo |

pub mod config;
pub mod credit;
mod evaluation;
mod given;
pub mod gradient;
mod metrics;
pub mod objective;
mod plan;
mod reference;
pub mod sources;

use std::path::Path;
use std::time::Instant;

use pavlov_engine::backend::Backend;
use pavlov_engine::profile::{Operation, Work};
use pavlov_engine::{AdamW, Parameters, Sampler};
use pavlov_lm::LanguageModel;
use pavlov_schema::dataset;
use pavlov_schema::lessons::{GradientPair, LessonLine};
use pavlov_schema::rollout::{Credited, Prompt};
use pavlov_schema::rollout_file;
use pavlov_schema::run::DataFile;
use serde_json::json;

use crate::loops::sft::at_step;
use crate::loss::KlEstimator;
use crate::preflight;
use crate::reward::Waiting;
use crate::run::{
    Ending, Event, Host, Metrics, Session, TrainerState, TrainingConfig, given, load_model, mean_square,
    update,
};
use crate::settings::Settings;
use crate::stage::rollout::{Drawing, EncodedPrompt, draw, encode_prompts};
use crate::stage::score::{Judge, Reward};
use crate::{Error, Result};
use config::{Batches, GrpoConfig, PairwiseConfig, PolicySettings, batches};
use credit::{Feedback, shape_with_kl};
use evaluation::HeldOut;
use given::Given;
pub use given::replay;
use gradient::{Lesson, Workspace, counts};
use objective::Sums;
use plan::{Place, Plan};
use reference::Reference;
use sources::Asking;

/// Prompts and the files they are from.
#[derive(Clone, Debug, Default)]
pub struct Prompts {
    /// What is answered.
    pub prompts: Vec<Prompt>,
    /// Held-out prompts, answered greedily and never learned from; may be empty.
    pub held_out: Vec<Prompt>,
    /// The files they are from, for the manifest.
    pub files: Vec<DataFile>,
}

impl Prompts {
    /// Reads `data` and `eval_data`; every other column is handed to rewards.
    pub fn read(training: &TrainingConfig) -> Result<Self> {
        let mut files = Vec::new();
        let mut read = |path: &Path| {
            let prompts = dataset::read_prompts(path)?;
            files.push(DataFile::of(path, prompts.len())?);
            Ok::<_, Error>(prompts)
        };
        let prompts = read(given("data", &training.data)?)?;
        let held_out = training.eval_data.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Self { prompts, held_out, files })
    }
}

/// `pavlov grpo`: loads the model, the prompts and the rewards, and teaches.
pub fn run_grpo(config: &GrpoConfig, host: &mut Host) -> Result<Ending> {
    let mut model = load_model(&config.training, &config.peft)?;
    let prompts = Prompts::read(&config.training)?;
    let people = Asking::new(&config.training, &config.policy, &config.feedback);
    let rewards = sources::open_rewards(&config.policy.rewards, &model, Some(&people))?;
    grpo(&mut model, &prompts, rewards, config, host)
}

/// `pavlov pairwise`: loads the model, the prompts and the judge, and teaches.
pub fn run_pairwise(config: &PairwiseConfig, host: &mut Host) -> Result<Ending> {
    let mut model = load_model(&config.training, &config.peft)?;
    let prompts = Prompts::read(&config.training)?;
    let people = Asking::new(&config.training, &config.policy, &config.feedback);
    let judge = match &config.judge {
        Some(entry) => sources::open_judge(entry, &model, &people)?,
        None => Judge::Rewards(sources::open_rewards(&config.policy.rewards, &model, Some(&people))?),
    };
    pairwise(&mut model, &prompts, judge, config, host)
}

/// Teaches a model in memory from points.
pub fn grpo(
    model: &mut LanguageModel,
    prompts: &Prompts,
    rewards: Vec<Reward>,
    config: &GrpoConfig,
    host: &mut Host,
) -> Result<Ending> {
    config.check()?;
    let batches = batches(&config.training, &config.policy, config.num_generations)?;
    let feedback = Feedback::Points { rewards, estimator: config.estimator, scale: config.scale_rewards };
    let mut learner = Learner::new(model, prompts, feedback, &config.training, &config.policy, batches)?;
    if let Some(path) = &config.credit {
        let known = (prompts.prompts.len(), model.decoder.config().vocab_size);
        learner.given = Some(Given::read(path, config.token_credit, known, config.training.seed)?);
    }
    learner.learn(model, config, prompts, host)
}

/// Teaches a model in memory from verdicts on two answers to each prompt.
pub fn pairwise(
    model: &mut LanguageModel,
    prompts: &Prompts,
    judge: Judge,
    config: &PairwiseConfig,
    host: &mut Host,
) -> Result<Ending> {
    config.check()?;
    let batches = batches(&config.training, &config.policy, 2)?;
    let feedback = Feedback::Pairs(judge);
    let mut learner = Learner::new(model, prompts, feedback, &config.training, &config.policy, batches)?;
    learner.learn(model, config, prompts, host)
}

/// Answers that are learned from, and what the reference says about each of their tokens (nothing without one).
struct Generation {
    number: u64,
    credited: Vec<Credited>,
    ref_logps: Vec<Vec<f32>>,
}

/// What the loop works with, beside the policy.
struct Learner<'a> {
    training: &'a TrainingConfig,
    policy: &'a PolicySettings,
    batches: Batches,
    plan: Plan,
    prompts: &'a [Prompt],
    encoded: Vec<EncodedPrompt>,
    drawing: Drawing,
    feedback: Feedback,
    /// Answers with measured credit, in place of new ones.
    given: Option<Given>,
    held_out: Option<HeldOut<'a>>,
    reference: Option<Reference>,
    sampler: Sampler,
    workspace: Workspace,
    gradients: Parameters,
}

impl<'a> Learner<'a> {
    fn new(
        model: &LanguageModel,
        prompts: &'a Prompts,
        feedback: Feedback,
        training: &'a TrainingConfig,
        policy: &'a PolicySettings,
        batches: Batches,
    ) -> Result<Self> {
        let stop_tokens = model.files.tokenizer.stops().to_vec();
        if stop_tokens.is_empty() {
            let problem = "has no end token, so that no answer could end; name one as eos_token in tokenizer_config.json";
            return Err(Error::setting("model", problem));
        }
        let reference = match (&policy.ref_model, policy.beta > 0.0) {
            (_, false) => None,
            (None, true) => Some(Reference::beginning_of(model)?),
            (Some(folder), true) => Some(Reference::load(folder, model)?),
        };
        preflight::finite_weights(&model.params)?;
        let drawing = Drawing {
            num_generations: batches.group,
            temperature: policy.temperature as f32,
            max_completion_length: policy.max_completion_length,
            stop_tokens,
            seed: training.seed,
        };
        Ok(Self {
            training,
            policy,
            batches,
            plan: Plan::new(prompts.prompts.len(), batches, training)?,
            prompts: &prompts.prompts,
            encoded: encode_prompts(
                &model.encoder(),
                &prompts.prompts,
                policy.max_completion_length,
                &training.data,
            )?,
            held_out: HeldOut::new(
                model,
                &prompts.held_out,
                training.eval_data.as_deref().unwrap_or(Path::new("eval_data")),
                &drawing,
                &feedback,
            )?,
            drawing,
            feedback,
            given: None,
            reference,
            sampler: Sampler::new(policy.max_num_seqs),
            workspace: Workspace::new(training.gradient_checkpointing),
            gradients: model.decoder.gradients(),
        })
    }

    /// The loop. `settings` is the whole configuration.
    fn learn(
        &mut self,
        model: &mut LanguageModel,
        settings: &impl Settings,
        prompts: &Prompts,
        host: &mut Host,
    ) -> Result<Ending> {
        // 1. The run directory; a resumed run takes over weights, moments and sums.
        let training = self.training;
        let total = self.plan.total(training);
        let schedule = training.schedule(total)?;
        let mut session = Session::open(settings, training, prompts.files.clone(), model, total, host)?;
        let mut optimizer = AdamW::new(&model.decoder, training.adamw());
        let mut state = session.begin(model, &mut optimizer)?;
        self.same_plan(&mut state)?;
        let nothing_more = |_: &Path| Ok(());
        let mut generation: Option<Generation> = None;
        let mut evaluated = Metrics::new();

        while state.global_step < total {
            let started = Instant::now();
            let step = state.global_step + 1;
            let place = self.plan.place(step);

            // 2. Answers to learn from: drawn and scored, or, where a run is resumed between two updates on the same
            //    answers, read again. A wish to stop is granted here and while drawing.
            if session.stop_requested() {
                return session.stopped(model, &optimizer, &state, &nothing_more);
            }
            let answers = match generation.take().filter(|answers| answers.number == place.generation) {
                Some(answers) => answers,
                None => match self.generation(model, &mut session, place)? {
                    Some(answers) => answers,
                    None => return session.stopped(model, &optimizer, &state, &nothing_more),
                },
            };

            // 3. The gradient of the objective over the update's part of the answers.
            let part = &answers.part(place, &self.batches);
            let rows: Vec<usize> =
                part.iter().map(|lesson| lesson.credited.scored.rollout.prompt_index).collect();
            let (sums, pair) =
                self.gradient(model, part, &optimizer).map_err(|e| at_step(e, step, &rows, model))?;
            if step == 1 && self.given.is_none() {
                preflight::ratio_one(&sums, model.params.dtype())?;
            }

            // 4. The update, and proof that the sampler has it.
            let rate = training.learning_rate * schedule.factor(step as usize - 1);
            let clip = training.max_grad_norm;
            let norm = update(&mut model.params, &self.gradients, &mut optimizer, rate, clip, (step, &rows))?;
            preflight::same_weights(&model.params)?;

            // 5. What happened.
            state.global_step = step;
            state.epoch = self.plan.epoch(step);
            state.num_input_tokens_seen += part.iter().map(Lesson::tokens).sum::<usize>() as u64;
            let mut metrics = self.metrics(&answers, place, &sums);
            metrics.insert("grad_norm".into(), json!(norm));
            metrics.insert("step_time".into(), json!(started.elapsed().as_secs_f64()));
            let timer = model.decoder.backend().profile().time(Operation::Lessons, Work::default);
            session.log_lessons(&LessonLine { step, gradient: pair, ..LessonLine::default() })?;
            drop(timer);
            session.report(training, &mut state, rate, metrics)?;
            if place.on_policy && self.shows(step) {
                show(&mut session, step, &answers.credited[..self.batches.group]);
            }
            generation = Some(answers);

            // 6. The held-out prompts.
            if let Some(held_out) = &self.held_out
                && (TrainingConfig::due(training.eval_steps, step) || step == total)
            {
                evaluated = held_out.evaluate(model, &mut self.sampler, &mut self.feedback, step)?;
                session.log_evaluation(step, &evaluated)?;
            }

            // 7. A checkpoint.
            if TrainingConfig::due(training.save_steps, step) {
                session.save(model, &optimizer, &state, &nothing_more)?;
            }
        }
        // 8. The taught model.
        session.finish(model, total, evaluated, &nothing_more)
    }

    /// A run between two updates on the same answers can only go on with the same division into updates.
    fn same_plan(&self, state: &mut TrainerState) -> Result<()> {
        let Batches { group, prompts, update, updates, .. } = self.batches;
        let own = json!({"group": group, "prompts": prompts, "update": update, "updates": updates});
        match state.extra.insert("batches".into(), own.clone()) {
            Some(saved) if saved != own => Err(Error::setting(
                "resume_from_checkpoint",
                format!(
                    "the run was divided as {saved} and is as {own} now; resume with the old num_iterations, \
                     steps_per_generation, batch size and accumulation"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Draws, scores, credits and saves a batch of answers, or reads it where it was drawn before; `None` if the run is to
    /// stop. What is drawn is checked before it is learned from.
    fn generation(
        &mut self,
        model: &LanguageModel,
        session: &mut Session,
        place: Place,
    ) -> Result<Option<Generation>> {
        let path = session.rollouts_path(place.first_step);
        let temperature = self.drawing.temperature;
        let (decoder, micro) = (&model.decoder, self.batches.micro);
        if !place.on_policy {
            let credited: Vec<Credited> =
                rollout_file::read(&path)?.into_iter().map(|(_, answer)| answer).collect();
            if credited.len() != self.batches.prompts * self.batches.group {
                let problem = format!(
                    "holds {} answers and the run needs {}; resume from another checkpoint",
                    credited.len(),
                    self.batches.prompts * self.batches.group
                );
                return Err(Error::Checkpoint { file: path, problem });
            }
            let ref_logps = self.ref_logps(model, &credited)?;
            return Ok(Some(Generation { number: place.generation, credited, ref_logps }));
        }
        if let Some(given) = &self.given {
            let credited = given.batch(place.generation, &self.batches);
            preflight::trained_tokens(&credited, &self.drawing.stop_tokens)?;
            let ref_logps = self.ref_logps(model, &credited)?;
            rollout_file::write(&path, place.first_step, &credited)?;
            return Ok(Some(Generation { number: place.generation, credited, ref_logps }));
        }
        // 1. Draw.
        let chosen: Vec<EncodedPrompt> =
            self.plan.prompts(place.generation).into_iter().map(|row| self.encoded[row].clone()).collect();
        let tokenizer = &model.files.tokenizer;
        let drawn = draw(
            &mut self.sampler,
            decoder,
            &model.params,
            &chosen,
            &self.drawing,
            (place.generation, place.first_step - 1),
            &|tokens| Ok(tokenizer.decode(tokens, true)?),
            &|| session.stop_requested(),
        )?;
        let Some(rollouts) = drawn else { return Ok(None) };
        // 2. Ask people, where they are the reward; they may take their time, so a wish to stop is granted here too.
        let (step, mut shown) = (place.first_step, None);
        let mut waiting = |stands: Waiting| {
            if stands.awaited > 0 && shown != Some(stands) {
                shown = Some(stands);
                session.tell(Event::Waiting { step, stands });
            }
            !session.stop_requested()
        };
        let Some(left) = self.feedback.ask(self.prompts, &rollouts, &mut waiting)? else { return Ok(None) };
        if left > 0 {
            session.note(format!("step {step}: nobody judged {left} of them; nothing is learned from these"));
        }
        // 3. Score and credit.
        let group = self.batches.group;
        let profile = decoder.backend().profile();
        let timer = profile.time(Operation::Reward, Work::default);
        let mut credited = self.feedback.credit(self.prompts, rollouts, group, place.first_step)?;
        drop(timer);
        let ref_logps = self.ref_logps(model, &credited)?;
        // 4. Check.
        preflight::trained_tokens(&credited, &self.drawing.stop_tokens)?;
        if place.first_step == 1 {
            preflight::stable_template(&model.encoder(), self.prompts, &self.encoded)?;
            preflight::same_weights(&model.params)?;
            let logps = self.workspace.logps(decoder, &model.params, &credited, temperature, micro)?;
            preflight::parity(&credited, &logps, model.params.dtype())?;
            if self.reference.as_ref().is_some_and(Reference::is_initial) {
                preflight::at_reference(&credited, &logps, &ref_logps)?;
            }
        }
        // 5. The KL in the reward, once the rewards are centred.
        if self.policy.kl_estimator == KlEstimator::K1InReward && !ref_logps.is_empty() {
            shape_with_kl(&mut credited, &ref_logps, self.policy.beta);
        }
        // 6. Save.
        let _timer = profile.time(Operation::Files, Work::default);
        rollout_file::write(&path, place.first_step, &credited)?;
        Ok(Some(Generation { number: place.generation, credited, ref_logps }))
    }

    fn ref_logps(&mut self, model: &LanguageModel, credited: &[Credited]) -> Result<Vec<Vec<f32>>> {
        let (temperature, micro) = (self.drawing.temperature, self.batches.micro);
        match &self.reference {
            Some(reference) => reference.logps(model, &mut self.workspace, credited, temperature, micro),
            None => Ok(Vec::new()),
        }
    }

    /// The gradient over one update's answers, one micro-batch after another; also how long it is over the first alone.
    fn gradient(
        &mut self,
        model: &LanguageModel,
        lessons: &[Lesson],
        optimizer: &AdamW,
    ) -> Result<(Sums, Option<GradientPair>)> {
        let objective = self.policy.objective();
        let counts = counts(lessons, self.policy.max_completion_length);
        let (mut sums, mut small, total) = (Sums::default(), None, lessons.len());
        self.gradients.zero();
        for micro in lessons.chunks(self.batches.micro) {
            sums.add(&self.workspace.accumulate(
                &model.decoder,
                &model.params,
                micro,
                &objective,
                &counts,
                self.drawing.temperature,
                &mut self.gradients,
            )?);
            if small.is_none() && micro.len() < total {
                small = Some(mean_square(&self.gradients, optimizer, micro.len(), total));
            }
        }
        let pair =
            |small| GradientPair { small, large: mean_square(&self.gradients, optimizer, total, total) };
        Ok((sums, small.map(pair)))
    }

    /// The numbers of one update. The sampler's are those of the policy that drew, so only the first update on a batch of
    /// answers has them.
    fn metrics(&self, answers: &Generation, place: Place, sums: &Sums) -> Metrics {
        let mut metrics = metrics::of_update(sums, self.reference.is_some());
        metrics.extend(metrics::of_rollouts(&answers.credited, self.batches.group));
        if place.on_policy {
            metrics.extend(metrics::of_sampling(sums));
        }
        metrics
    }

    fn shows(&self, step: u64) -> bool {
        let every = self.policy.log_completions_steps as u64;
        // Batches of answers begin at 1, 1 + updates, …, which may never be a multiple.
        let first = step.saturating_sub(self.batches.updates as u64);
        every > 0 && (step == 1 || first / every < step / every)
    }
}

impl Generation {
    /// The answers of one update.
    fn part(&self, place: Place, batches: &Batches) -> Vec<Lesson<'_>> {
        let from = place.part * batches.update;
        let range = from..from + batches.update;
        let ref_logp = |i: usize| self.ref_logps.get(i).map_or(&[][..], Vec::as_slice);
        range.map(|i| Lesson { credited: &self.credited[i], ref_logp: ref_logp(i) }).collect()
    }
}

/// Shows the best and the worst answer to one prompt.
fn show(session: &mut Session, step: u64, group: &[Credited]) {
    let order = |a: &&Credited, b: &&Credited| a.scored.reward.total_cmp(&b.scored.reward);
    let (best, worst) = (group.iter().max_by(order), group.iter().min_by(order));
    let different = worst.filter(|worst| best.is_some_and(|best| best.scored.reward > worst.scored.reward));
    for answer in best.into_iter().chain(different) {
        session.tell(Event::Sample {
            step,
            prompt: answer.scored.rollout.prompt_text.clone(),
            completion: answer.scored.rollout.completion.clone(),
            reward: Some(answer.scored.reward),
        });
    }
}
