//! `pavlov credit`: which part of an answer earned its reward?

mod args;
mod show;
mod subject;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use pavlov_insight::credit::{
    AnswerCredit, CreditReport, Effort, Mark, NAME, Pooled, Subject, Writer, Writing, credit_answer, forwards,
};
use pavlov_insight::kept;
use pavlov_insight::parts::{Key, Parts};
use pavlov_schema::rollout_file;
use pavlov_train::stage::score::Reward;

pub(crate) use args::CreditArgs;
use args::Tier;
use subject::read_marks;
pub(crate) use subject::{Question, written};

use super::broken_off;
use crate::failure::bad_input;
use crate::screen::{self, Progress, duration};
use crate::{interrupt, memory, stdout};

pub(crate) fn run(args: &CreditArgs) -> Result<()> {
    let started = Instant::now();
    let marks = args.marks.as_deref().map(read_marks).transpose()?.unwrap_or_default();
    let mut question = Question::of(args)?;
    let effort = args.effort();
    check_room(&question, args)?;
    interrupt::listen("stopping: press Ctrl-C again to stop at once")?;
    if !args.tiers.contains(&Tier::A) {
        (question.reference, question.reward_model) = (None, None);
    }
    // What is kept with a run is of its own answers.
    let of_run = args.run.as_deref().filter(|_| args.elsewhere.is_none());
    let folder = args.out.as_deref().or(of_run);
    if effort.ablate || effort.values {
        tell_cost(&mut question, &effort, args.batch as usize).map_err(|e| broken_off(e, folder))?;
    }
    let progress = Progress::start(0, question.answers.len() as u64);
    let on_answer = &mut |done, verdict: &str| {
        progress.step(done, verdict);
        progress.logged(done, verdict);
    };
    let (report, parts) = measure(&mut question, &effort, &marks, args.batch as usize, folder, on_answer)?;
    drop(progress);
    let report = CreditReport { seconds: started.elapsed().as_secs_f64(), ..report };

    if let Some(folder) = folder {
        keep_credited(folder, &report.answers, &question)?;
        let file = kept::save(folder, NAME, &report)?;
        parts.finish()?;
        screen::line(&format!("the report is in {}", file.display()));
    }
    if args.measure.json {
        return stdout::json(&report);
    }
    for credit in &report.answers {
        stdout::text(&show::answer(credit))?;
    }
    stdout::text(&format!("{} {}\n", report.pooled.sentence(), duration(started.elapsed())))
}

/// The credit of every answer, and its parts, which are kept in `folder` until they are finished. `on_answer` hears how many
/// answers are done, and the verdict on the last.
pub(crate) fn measure(
    question: &mut Question,
    effort: &Effort,
    marks: &BTreeMap<String, Vec<Mark>>,
    batch: usize,
    folder: Option<&Path>,
    on_answer: &mut dyn FnMut(u64, &str),
) -> Result<(CreditReport, Parts)> {
    // 1. Tier A, of all answers together.
    let rollouts: Vec<_> = question.answers.iter().map(|(_, scored)| &scored.rollout).collect();
    let prompts: Vec<_> = question.answers.iter().map(|(prompt, _)| &prompt.prompt).collect();
    let (views, logps) = forwards(
        &question.policy,
        question.reference.as_ref(),
        question.reward_model.as_mut(),
        &rollouts,
        &prompts,
        (question.temperature, question.beta),
    )?;

    // 2. Tiers B and C, answer by answer.
    let policy = (question.policy.params.compute_digest(), question.policy.params.dtype());
    let written = (question.temperature, question.max_completion_length);
    let rewards: Vec<String> = question.rewards.iter().map(Reward::identity).collect();
    let key = Key::of(&(policy, written, rewards, effort, marks, &question.answers, &views, &logps));
    let mut parts = super::parts(folder, NAME, &key)?;
    let mut credits: Vec<AnswerCredit> = Vec::new();
    let stop = || interrupt::flag().load(Ordering::Relaxed);
    for (i, ((prompt, scored), (view, logp))) in
        question.answers.iter().zip(views.into_iter().zip(&logps)).enumerate()
    {
        let writing = Writing {
            temperature: question.temperature,
            max_completion_length: question.max_completion_length,
            batch,
            seed: effort.seed.wrapping_add(i as u64),
        };
        let tokens = scored.rollout.prompt_tokens.clone();
        let mut writer =
            Writer::new(&question.policy, &mut question.rewards, prompt.clone(), tokens, writing, &stop);
        let own = marks.get(&scored.rollout.completion).map_or(&[][..], Vec::as_slice);
        let subject = Subject { scored, forwards: view, logp, marks: own };
        let credit = parts.next(|| credit_answer(&mut writer, &subject, effort));
        let credit = credit.map_err(|e| broken_off(e, folder))?;
        on_answer(i as u64 + 1, credit.verdict.map_or("measured", |verdict| verdict.name()));
        credits.push(credit);
    }

    // 3. What was found.
    let report = CreditReport {
        model: question.policy_name.display().to_string(),
        reference: question.reference_name.clone(),
        rewards: question.rewards.iter().map(|reward| reward.name.clone()).collect(),
        effort: effort.clone(),
        pooled: Pooled::of(&credits),
        answers: credits,
        seconds: 0.0,
    };
    Ok((report, parts))
}

/// Times a few continuations of the first prompt, and says what all answers will take.
fn tell_cost(question: &mut Question, effort: &Effort, batch: usize) -> pavlov_insight::Result<()> {
    let Some((prompt, scored)) = question.answers.first() else { return Ok(()) };
    let (temperature, max_completion_length) = (question.temperature, question.max_completion_length);
    let writing = Writing { temperature, max_completion_length, batch, seed: effort.seed };
    let stop = || interrupt::flag().load(Ordering::Relaxed);
    let rollout = &scored.rollout;
    let tokens = rollout.prompt_tokens.clone();
    let mut writer =
        Writer::new(&question.policy, &mut question.rewards, prompt.clone(), tokens, writing, &stop);
    let rate = effort.seconds_a_token(&mut writer, &rollout.tokens)?;
    let costs = question.answers.iter().map(|(_, scored)| effort.cost(scored.rollout.tokens.len()));
    let (written, tokens) = costs.fold((0, 0), |(a, t), cost| (a + cost.answers, t + cost.tokens));
    let time = duration(Duration::from_secs_f64((rate * tokens as f64).min(1e9)));
    screen::line(&format!(
        "at most {written} answers, of about {tokens} tokens, will be written and scored: up to {time}"
    ));
    Ok(())
}

/// Refuses what would not fit: answers longer than the context, or keys and values larger than the free memory.
fn check_room(question: &Question, args: &CreditArgs) -> Result<()> {
    let config = question.policy.decoder.config();
    for (i, (_, scored)) in question.answers.iter().enumerate() {
        let rollout = &scored.rollout;
        let length = rollout.prompt_tokens.len() + question.max_completion_length.max(rollout.tokens.len());
        if length > config.max_positions {
            return Err(bad_input(format!(
                "answer {}: prompt and longest answer have {length} tokens, more than the model's context of {}; lower \
                 --max-tokens",
                i + 1,
                config.max_positions
            )));
        }
        if rollout.tokens.len() > question.max_completion_length {
            return Err(bad_input(format!(
                "answer {}: has {} tokens, more than the longest answer of {}; raise --max-tokens",
                i + 1,
                rollout.tokens.len(),
                question.max_completion_length
            )));
        }
        let row = 2 * config.num_layers * config.num_kv_heads * config.head_dim * size_of::<f32>();
        let needed = (length * args.batch as usize * row) as u64;
        let what = format!("--batch: keys and values of {} answers of {length} tokens", args.batch);
        memory::check(&what, needed, "lower it")?;
    }
    Ok(())
}

/// Writes the credit of each token as rollouts that a later run can train on.
fn keep_credited(folder: &Path, credits: &[AnswerCredit], question: &Question) -> Result<()> {
    let answers = credits.iter().zip(&question.answers);
    let credited: Vec<_> =
        answers.filter_map(|(credit, (_, scored))| credit.credited(&scored.rollout)).collect();
    // An answer from elsewhere has no log-probabilities of the policy that wrote it, and cannot be trained on.
    if credited.is_empty() || credited.iter().any(|own| own.scored.rollout.behaviour_logp.is_empty()) {
        return Ok(());
    }
    let path = folder.join("insight").join("credit.parquet");
    std::fs::create_dir_all(folder.join("insight"))
        .map_err(|e| bad_input(format!("{}: cannot be made: {e}", folder.display())))?;
    rollout_file::write(&path, 0, &credited)?;
    screen::line(&format!("the credit of each token is in {}", path.display()));
    Ok(())
}
