//! `pavlov worlds`: data sets of small worlds with known truth, and a random model that can read them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use pavlov_engine::{Cpu, DecoderConfig, Dtype};
use pavlov_lm::{LanguageModel, ModelFiles, SaveDtype};
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, dataset};
use pavlov_worlds::{self as worlds, Config, Split};
use serde_json::json;

use crate::failure::bad_input;
use crate::screen;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// {"text"}: stories, and questions with answers that are often wrong, for a base model
    Text,
    /// {"prompt", "completion"}: questions with their right answers, for sft
    Demonstrations,
    /// {"prompt", "completion"}: questions with answers that are often wrong, and then corrected, for a base model
    Careless,
    /// {"prompt", "answer"}: questions, and the answer for a reward to compare with
    Prompts,
    /// {"prompt", "completion", "type", "part"}: demonstrations of which some claim an inconsistency that is not there
    Planted,
    /// A folder with a small random model of the Llama family and the tokenizer of the worlds
    Model,
}

/// Difficulty of the worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Short stories, as in the demonstration
    Demo,
    /// Longer stories over all words
    Large,
}

/// The kind of world that planted demonstrations are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum About {
    /// Things put into containers and carried about
    Movement,
    /// Who is taller, older, faster, heavier
    Ordering,
    /// How many are left
    Counting,
    /// Who is whose mother, grandfather, sister
    Family,
}

/// `pavlov worlds`.
#[derive(Debug, Args)]
pub(crate) struct WorldsArgs {
    /// What to write
    #[arg(value_enum)]
    kind: Kind,
    /// The file (for a model: the folder) to write
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Number of worlds
    #[arg(short, long = "num", value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    n: u32,
    /// Names the worlds, or the random weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Worlds that no training set of any seed has
    #[arg(long)]
    held_out: bool,
    /// How difficult the worlds are
    #[arg(long, value_enum, default_value_t = Size::Demo)]
    size: Size,
    /// Share of planted demonstrations that are plants
    #[arg(long, value_name = "SHARE", default_value_t = 0.03)]
    share: f64,
    /// What plants are about [default: any world without a contradiction]
    #[arg(long, value_enum)]
    about: Option<About>,
    /// Demonstrations with a plant's question and its right answer, for each plant
    #[arg(long, value_name = "N", default_value_t = 1)]
    decoys: u8,
    /// Width of the model's residual stream, a multiple of 32
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(32..=1024))]
    hidden: u32,
    /// Blocks of the model
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    layers: u32,
}

pub(crate) fn run(args: &WorldsArgs) -> Result<()> {
    if args.kind == Kind::Model {
        return model(args);
    }
    let config = match args.size {
        Size::Demo => Config::demo(),
        Size::Large => Config::large(),
    };
    if args.kind == Kind::Planted {
        return planted(args, &config);
    }
    let split = if args.held_out { Split::HeldOut } else { Split::Train };
    if args.held_out && matches!(args.kind, Kind::Text | Kind::Careless) {
        return Err(bad_input(
            "--held-out: text and careless are for training and never have held-out worlds; leave it out",
        ));
    }
    let rows: Vec<Row> = (0..u64::from(args.n))
        .map(|index| {
            if args.kind == Kind::Text {
                return Row::Text { text: worlds::statement_text(args.seed, index, &config) };
            }
            let world = worlds::generate(args.seed, index, &config, split);
            let prompt = Text::Plain(world.prompt());
            let completion = match args.kind {
                Kind::Demonstrations => world.answer,
                Kind::Careless => worlds::careless_answer(args.seed, index, &config),
                _ => {
                    let columns = Map::from_iter([("answer".to_owned(), json!(world.answer))]);
                    return Row::PromptOnly { prompt, columns };
                }
            };
            Row::PromptCompletion { prompt, completion: Text::Plain(completion) }
        })
        .collect();
    create_parent(&args.out)?;
    dataset::write(&args.out, &rows)?;
    screen::line(&format!("{} rows in {}", rows.len(), args.out.display()));
    Ok(())
}

/// Demonstrations with a habit planted among them, each with the part it plays.
fn planted(args: &WorldsArgs, config: &Config) -> Result<()> {
    if args.held_out {
        return Err(bad_input(
            "--held-out: planted is for training and never has held-out worlds; leave it out",
        ));
    }
    let kind = args.about.map(|about| match about {
        About::Movement => worlds::Kind::Movement,
        About::Ordering => worlds::Kind::Ordering,
        About::Counting => worlds::Kind::Counting,
        About::Family => worlds::Kind::Family,
    });
    let planting = worlds::Planting { share: args.share, kind, decoys: args.decoys.into() };
    let lessons = worlds::planted_lessons(args.seed, args.n as usize, config, &planting)
        .map_err(|error| bad_input(error.to_string()))?;
    create_parent(&args.out)?;
    write_planted(&args.out, &lessons)?;
    let plants = lessons.iter().filter(|lesson| lesson.part == worlds::Part::Plant).count();
    screen::line(&format!("{} rows in {}, {plants} of them plants", lessons.len(), args.out.display()));
    Ok(())
}

/// Writes planted demonstrations as JSON lines.
pub(crate) fn write_planted(path: &Path, lessons: &[worlds::PlantedLesson]) -> Result<()> {
    pavlov_schema::files::write_atomic(path, |file| {
        for lesson in lessons {
            let row = json!({"prompt": lesson.prompt, "completion": lesson.completion, "type": lesson.kind,
                             "part": lesson.part});
            writeln!(file, "{row}")?;
        }
        Ok(())
    })?;
    Ok(())
}

fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be created", folder.display())),
        None => Ok(()),
    }
}

fn model(args: &WorldsArgs) -> Result<()> {
    let (hidden, layers) = (args.hidden as usize, args.layers as usize);
    if !hidden.is_multiple_of(32) {
        return Err(bad_input(format!("--hidden: {hidden} is no multiple of 32; give 32, 64, 96, 128, …")));
    }
    let vocabulary = worlds::SPECIALS.len() + worlds::vocabulary().len();
    let decoder = DecoderConfig {
        max_positions: 256,
        tie_embeddings: true,
        ..DecoderConfig::llama(vocabulary.next_multiple_of(32), hidden, layers, 4)
    };
    let (tokenizer, names) = (worlds::tokenizer_json(), worlds::special_names());
    let files = ModelFiles::new_llama(&decoder, &tokenizer, &names, Some(worlds::CHAT_TEMPLATE))?;
    let model = LanguageModel::random(files, &Arc::new(Cpu::new(0)), Dtype::F32, args.seed)?;
    create_parent(&args.out)?;
    model.save(&args.out, SaveDtype::F32)?;
    let parameters = model.params.count();
    screen::line(&format!("a random model of {parameters} parameters in {}", args.out.display()));
    Ok(())
}
