//! What every loop does around its lessons: settings, the run directory, checkpoints, progress.

pub mod checkpoint;
mod host;
mod lessons;
mod metrics;
mod model;
mod session;
mod training;
mod update;

pub use checkpoint::TrainerState;
pub use host::{Ending, Event, Host};
pub(crate) use lessons::{mean_square, tell};
pub use metrics::{Means, Metrics};
pub use model::{PeftSettings, TargetModules, load_model, load_options};
pub use session::Session;
pub(crate) use training::given;
pub use training::{Precision, TrainingConfig};
pub use update::{name_rows, update};
