//! Small English worlds with known truth, and simulated raters.
//!
//! A [`World`] is a story of a few sentences, one question and its one right answer: where a thing is after it was put
//! and carried about, who is the tallest, how many apples are left, who is whose grandmother, or that the story
//! contradicts itself. Nothing has to be downloaded, every answer can be verified, and [`Rater`]s with a chosen noise,
//! bias and scale judge answers as people would.
//!
//! ```
//! use pavlov_worlds::{Config, Split, generate, verify};
//!
//! let world = generate(7, 0, &Config::demo(), Split::HeldOut);
//! assert_eq!(verify(&world, &world.answer), 1.0);
//! println!("{}{}", world.prompt(), world.answer);
//! ```

mod config;
mod contradiction;
mod counting;
mod error;
mod fact;
mod family;
mod movement;
mod ordering;
mod pick;
mod planted;
mod query;
mod rater;
mod text;
mod tokenizer;
mod words;
mod world;

pub use config::{Config, Settings, Weights};
pub use error::{Error, Result};
pub use fact::{Fact, Pole, Relation, Scale};
pub use planted::{Part, PlantedLesson, Planting, planted_lessons};
pub use query::{INCONSISTENT, Query, Value};
pub use rater::{Candidate, Choice, Rater, RaterSettings};
pub use text::{careless_answer, imperfect_answer, statement_text};
pub use tokenizer::{CHAT_TEMPLATE, END, PAD, SPECIALS, UNKNOWN, special_names, tokenizer_json, vocabulary};
pub use world::{Kind, Split, World, generate, verify};
