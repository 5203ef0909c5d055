//! Pavlov teaches language models by demonstration and by reward, and shows what each lesson taught.

mod args;
mod bench;
mod commands;
mod demo;
mod failure;
mod interrupt;
mod memory;
mod screen;
mod stdout;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use pavlov_train::loops::pretrain::{self, PretrainConfig};
use pavlov_train::loops::reward_model::{self, RewardConfig};
use pavlov_train::loops::rl::config::{GrpoConfig, PairwiseConfig};
use pavlov_train::loops::rl::{run_grpo, run_pairwise};
use pavlov_train::loops::sft::{self, SftConfig};

use args::{Cli, Verb, with_keys};
use commands::{
    chat, credit, feedback, layers, ledger, logprobs, merge, report, sample, scan, teach, trace, watch,
    worlds,
};

fn main() -> ExitCode {
    failure::install_panic_hook();
    let command = Cli::command()
        .mut_subcommand("pretrain", with_keys::<PretrainConfig>)
        .mut_subcommand("sft", with_keys::<SftConfig>)
        .mut_subcommand("reward", with_keys::<RewardConfig>)
        .mut_subcommand("grpo", with_keys::<GrpoConfig>)
        .mut_subcommand("pairwise", with_keys::<PairwiseConfig>);
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    // The hook has said what a panic is: a bug. The exit code is that of a run that failed.
    match std::panic::catch_unwind(|| run(&cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure::report(&error),
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.verb {
        Verb::Demo(args) => demo::run(args),
        Verb::Pretrain(args) => teach::run(args, pretrain::run),
        Verb::Sft(args) => teach::run(args, sft::run),
        Verb::Reward(args) => teach::run(args, reward_model::run),
        Verb::Grpo(args) => teach::run(args, run_grpo),
        Verb::Pairwise(args) => teach::run(args, run_pairwise),
        Verb::Sample(args) => sample::run(args),
        Verb::Chat(args) => chat::run(args),
        Verb::Logprobs(args) => logprobs::run(args),
        Verb::Credit(args) => credit::run(args),
        Verb::Ledger(args) => ledger::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Watch(args) => watch::run(args),
        Verb::Merge(args) => merge::run(args),
        Verb::Scan(args) => scan::run(args),
        Verb::Trace(args) => trace::run(args),
        Verb::Feedback(args) => feedback::run(args),
        Verb::Worlds(args) => worlds::run(args),
        Verb::Layers(args) => layers::run(args),
        Verb::Bench(args) => bench::run(args),
    }
}
