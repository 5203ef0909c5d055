//! Pavlov teaches language models by demonstration and by reward, and shows what each lesson taught.

mod args;
mod commands;
mod failure;
mod interrupt;
mod screen;
mod stdout;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use pavlov_train::loops::pretrain::{self, PretrainConfig};
use pavlov_train::loops::sft::{self, SftConfig};

use args::{Cli, Verb, with_keys};
use commands::{chat, logprobs, sample, teach};

fn main() -> ExitCode {
    failure::install_panic_hook();
    let command = Cli::command()
        .mut_subcommand("pretrain", with_keys::<PretrainConfig>)
        .mut_subcommand("sft", with_keys::<SftConfig>);
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
        Verb::Pretrain(args) => teach::run(args, pretrain::run),
        Verb::Sft(args) => teach::run(args, sft::run),
        Verb::Sample(args) => sample::run(args),
        Verb::Chat(args) => chat::run(args),
        Verb::Logprobs(args) => logprobs::run(args),
    }
}
