//! One file a verb.

pub(crate) mod chat;
pub(crate) mod credit;
pub(crate) mod feedback;
pub(crate) mod layers;
pub(crate) mod ledger;
pub(crate) mod logprobs;
pub(crate) mod merge;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod scan;
pub(crate) mod teach;
pub(crate) mod trace;
pub(crate) mod watch;
pub(crate) mod worlds;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use pavlov_engine::{Cpu, Dtype, SamplingParams};
use pavlov_lm::generate::GenerateOptions;
use pavlov_lm::{AdapterSource, LanguageModel};

use pavlov_insight::parts::{Key, Parts};
use pavlov_train::loops::rl::sources::RewardEntry;
use pavlov_train::settings::read_assignment;

use crate::args::{ModelArgs, SamplingArgs};
use crate::failure::{Interrupted, bad_input};
use crate::screen;

/// Loads a model as it is, with its adapter if one is named.
fn load_on(model: &Path, adapter: Option<&Path>, backend: &Arc<Cpu>, dtype: Dtype) -> Result<LanguageModel> {
    Ok(match adapter {
        Some(adapter) => LanguageModel::load_adapted(model, &AdapterSource::Folder(adapter), backend, dtype)?,
        None => LanguageModel::load_on(model, backend, dtype)?,
    })
}

/// Checks that a model can speak, and says what it computes with.
fn speaker(model: LanguageModel, folder: &Path) -> Result<LanguageModel> {
    screen::machine(model.decoder.backend(), model.params.dtype());
    if !model.decoder.config().language_head {
        let mend = "give a language model";
        return Err(bad_input(format!("{}: is a reward model, it writes no text; {mend}", folder.display())));
    }
    Ok(model)
}

/// Loads a model that answers.
fn load_speaker(args: &ModelArgs) -> Result<LanguageModel> {
    let (backend, dtype) = (args.compute.cpu(), args.compute.dtype());
    let model = match args.adapter.as_deref() {
        Some(adapter) => load_on(&args.model, Some(adapter), &backend, dtype)?,
        None => LanguageModel::load_frozen(&args.model, &backend, dtype)?,
    };
    speaker(model, &args.model)
}

/// The finished parts of a long measurement, where there is a folder to keep them in; says if there are some from before.
fn parts(folder: Option<&Path>, name: &str, key: &Key) -> pavlov_insight::Result<Parts> {
    let Some(folder) = folder else { return Ok(Parts::nowhere()) };
    let parts = Parts::open(folder, name, key)?;
    if parts.left() > 0 {
        screen::line("going on from where it was interrupted");
    }
    Ok(parts)
}

/// The error of a measurement that did not come to its end.
fn broken_off(error: pavlov_insight::Error, folder: Option<&Path>) -> anyhow::Error {
    let how = match folder {
        Some(_) => "what was measured is kept; the same command goes on from there",
        None => "nothing was kept, as no run is asked about; the same command begins anew",
    };
    match error {
        pavlov_insight::Error::Stopped => Interrupted(how.to_owned()).into(),
        error => error.into(),
    }
}

/// What the flags ask of the sampler.
fn generate_options(args: &SamplingArgs) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingParams {
            temperature: if args.greedy { 0.0 } else { args.temperature },
            top_k: args.top_k,
            top_p: args.top_p,
            min_p: args.min_p,
            repetition_penalty: args.repetition_penalty,
            max_new_tokens: args.max_tokens as usize,
            stop_tokens: Vec::new(),
        },
        stop: args.stop.clone(),
        n: 1,
        seed: args.seed,
        first: 0,
        max_batch: 1,
    }
}

/// A reward as the key `rewards` has one, from a flag.
fn reward_entry(flag: &str, text: &str) -> Result<RewardEntry> {
    let (_, value) = read_assignment(&format!("reward={text}"))?;
    serde_json::from_value(value).map_err(|e| bad_input(format!("{flag} {text}: {e}")))
}

/// Refuses a prompt that leaves no room for an answer; `place` names it.
fn check_room(model: &LanguageModel, prompt: &[u32], place: &str) -> Result<()> {
    let context = model.decoder.config().max_positions;
    if prompt.len() < context {
        return Ok(());
    }
    let length = prompt.len();
    Err(bad_input(format!(
        "{place}: has {length} tokens, which leaves no room in the model's context of {context}; shorten it"
    )))
}
