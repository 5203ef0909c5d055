//! `pavlov merge`: an adapter is added to its base, for programs that know of no adapters.

use std::sync::Arc;

use anyhow::Result;
use pavlov_engine::{Cpu, Dtype};
use pavlov_lm::{Checkpoint, SaveDtype};
use pavlov_train::loops::reward_model::{REWARD_FILE, RewardFile};

use crate::args::{MergeArgs, SaveDtypeArg};
use crate::failure::bad_input;
use crate::screen;

pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    let out = args.out.display();
    if args.out.exists() {
        return Err(bad_input(format!("--out: {out} exists already; give a new folder")));
    }
    // The sum is taken in f32, and rounded once when it is saved.
    let backend = Arc::new(Cpu::new(0));
    let model = super::load_on(&args.model, args.adapter.as_deref(), &backend, Dtype::F32)?;
    let Some(adapter) = &model.adapter else {
        let problem = "is no adapter and --adapter names none; give one of them";
        return Err(bad_input(format!("--model: {} {problem}", args.model.display())));
    };
    let dtype = match args.dtype {
        Some(SaveDtypeArg::F32) => SaveDtype::F32,
        Some(SaveDtypeArg::Bf16) => SaveDtype::Bf16,
        Some(SaveDtypeArg::F16) => SaveDtype::F16,
        None if args.adapter.is_some() => Checkpoint::open(&args.model)?.dtype(),
        None => Checkpoint::open(adapter.base.as_ref())?.dtype(),
    };
    let reward = args.adapter.as_ref().unwrap_or(&args.model);
    let reward = reward.join(REWARD_FILE).exists().then(|| RewardFile::read(reward)).transpose()?;
    model.merged()?.save(&args.out, dtype)?;
    if let Some(reward) = reward {
        reward.write(&args.out)?;
    }
    screen::line(&format!("merged: {out}, weights in {}", dtype.name()));
    Ok(())
}
