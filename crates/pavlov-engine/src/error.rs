//! Errors of the engine.

/// What the engine refuses, each with its mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The description of the decoder is not computable.
    #[error("decoder configuration: {0}")]
    Config(String),
    /// A batch points outside itself.
    #[error("batch: {0}")]
    Batch(String),
    /// There is no parameter of this name.
    #[error("parameter {0}: no such parameter in this decoder, or it is frozen and has no gradient")]
    UnknownParameter(String),
    /// A parameter was given a wrong number of elements.
    #[error("parameter {name}: {given} elements given, its shape needs {needed}")]
    Shape {
        /// Its name.
        name: String,
        /// Elements given.
        given: usize,
        /// Elements needed.
        needed: usize,
    },
    /// A computed number is not finite: training on would spread it.
    #[error("{what} is not finite{at}; lower the learning rate or look at the data of this step")]
    NotFinite {
        /// What it is.
        what: String,
        /// Where it is.
        at: String,
    },
    /// An observation of a pass, or an intervention in it, that would not happen.
    #[error("observation: {0}")]
    Observation(String),
    /// A sampling setting is outside its range.
    #[error("sampling: {0}")]
    Sampling(String),
}

/// Result of the engine.
pub type Result<T> = std::result::Result<T, Error>;
