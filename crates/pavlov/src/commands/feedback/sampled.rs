//! Tasks of what models answer: each prompt of a file goes to each model, and people compare, rate or mend the answers.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use pavlov_engine::Control;
use pavlov_feedback::io::import::{self, Imported, Options};
use pavlov_lm::generate::{Piece, generate};
use pavlov_schema::feedback::{NewResponse, NewTask, TaskKind};
use pavlov_schema::text::Text;
use pavlov_schema::{files, ranking};
use serde_json::json;

use crate::args::{ComputeArgs, ModelArgs, SamplingArgs};
use crate::failure::bad_input;

/// Whose answers people are asked about.
#[derive(Debug, Args)]
#[command(
    mut_arg("dtype", |dtype| dtype.requires("model")),
    mut_arg("threads", |threads| threads.requires("model"))
)]
pub(crate) struct SampledArgs {
    /// Ask about this model's answers to the prompts of --data; may be given many times: every pair is compared, or all of them
    /// are put in order
    #[arg(long, value_name = "DIR", conflicts_with_all = ["gold", "completion_column"])]
    pub(crate) model: Vec<PathBuf>,
    /// Answers of each model to each prompt [default: 2 of one model, 1 of several; of rankings 4 of one, 2 of several]
    #[arg(short, long = "num", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16), requires = "model")]
    n: Option<u32>,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Samples every model on every prompt; one task for each pair of answers, for each answer, or for all of a prompt.
pub(crate) fn tasks(args: &SampledArgs, data: &Path, options: Options) -> Result<Imported> {
    let kind = options.kind;
    // What a person would be asked to answer is what the models are.
    let asked = import::file(data, &Options { kind: TaskKind::Demonstration, ..options })?;
    let prompts: Vec<Text> = asked.tasks.into_iter().map(|task| task.prompt).collect();
    let alone = args.model.len() == 1;
    let n = args.n.map_or_else(
        || match kind {
            TaskKind::Ranking if alone => 4,
            TaskKind::Ranking => 2,
            TaskKind::Pairwise if alone => 2,
            _ => 1,
        },
        |n| n as usize,
    );
    if kind == TaskKind::Demonstration {
        return Err(bad_input("--model: people write the answers of a demonstration; leave it out"));
    }
    let each = args.model.len() * n;
    if matches!(kind, TaskKind::Pairwise | TaskKind::Ranking) && each < 2 {
        return Err(bad_input("--num: one answer cannot be compared; give 2, or another --model"));
    }
    if kind == TaskKind::Ranking && each > ranking::MOST {
        let most = ranking::MOST;
        return Err(bad_input(format!(
            "--num: {each} answers are too many to put in order; give {most} at most"
        )));
    }
    let mut answers: Vec<Vec<NewResponse>> = vec![Vec::new(); prompts.len()];
    for (place, folder) in args.model.iter().enumerate() {
        // Equal seeds for two models would tie their random numbers together.
        let seed = args.sampling.seed.wrapping_add(place as u64);
        sample(args, folder, seed, n, &prompts, data, &mut answers)?;
    }
    let mut tasks = Vec::new();
    for (prompt, answers) in prompts.iter().zip(&answers) {
        let new = |responses| {
            let task = NewTask::new(prompt.clone(), responses);
            NewTask { key: Some(import::content_key(&task)), ..task }
        };
        if kind == TaskKind::Ranking {
            // One without a character leaves an order of the others, if there are two.
            let mut said: Vec<&NewResponse> = answers.iter().filter(|one| !one.text.is_empty()).collect();
            if said.len() < 2 {
                said = answers.iter().collect();
            }
            let texts: Vec<Text> = said.iter().map(|answer| answer.text.clone()).collect();
            let distinct = import::distinct(&texts).into_iter().map(|place| said[place].clone());
            tasks.push(new(distinct.collect()));
        } else if kind == TaskKind::Pairwise {
            for (i, a) in answers.iter().enumerate() {
                tasks.extend(answers[i + 1..].iter().map(|b| new(vec![a.clone(), b.clone()])));
            }
        } else {
            tasks.extend(answers.iter().map(|one| new(vec![one.clone()])));
        }
    }
    Ok(Imported::of(tasks))
}

fn sample(
    args: &SampledArgs,
    folder: &Path,
    seed: u64,
    n: usize,
    prompts: &[Text],
    data: &Path,
    answers: &mut [Vec<NewResponse>],
) -> Result<()> {
    let model = super::super::load_speaker(&ModelArgs {
        model: folder.to_owned(),
        adapter: None,
        compute: args.compute,
    })?;
    let policy = policy(folder);
    let mut tokens = Vec::with_capacity(prompts.len());
    for (i, prompt) in prompts.iter().enumerate() {
        let place = format!("{}: row {}", data.display(), i + 1);
        let encoded = model.encoder().encode_prompt(prompt, None);
        let encoded = encoded.map_err(|error| bad_input(format!("{place}: {error}")))?;
        super::super::check_room(&model, &encoded, &place)?;
        tokens.push(encoded);
    }
    let s = &args.sampling;
    let mut options = super::super::generate_options(s);
    (options.n, options.max_batch, options.seed) = (n, 32, seed);
    let sampling = json!({"temperature": options.sampling.temperature, "top_k": s.top_k, "top_p": s.top_p, "min_p": s.min_p,
        "repetition_penalty": s.repetition_penalty, "max_tokens": s.max_tokens});
    let mut silent = |_: Piece<'_>| Control::Continue;
    for answer in generate(&model, &tokens, &options, &mut silent)? {
        answers[answer.request].push(NewResponse {
            text: Text::Plain(answer.text),
            policy: Some(policy.clone()),
            seed: Some(seed),
            sampling: Some(sampling.clone()),
            token_logprobs: Some(answer.logps),
        });
    }
    Ok(())
}

/// The folder's name and the digest of its weights.
fn policy(folder: &Path) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = full.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    match files::digest(&folder.join("model.safetensors")) {
        Ok(digest) => format!("{name}@{digest}"),
        Err(_) => name,
    }
}
