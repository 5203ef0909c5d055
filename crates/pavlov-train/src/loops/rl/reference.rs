//! The policy that the KL holds on to: frozen weights.

use std::path::Path;

use pavlov_engine::Decoder;
use pavlov_engine::Parameters;
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Credited;

use super::gradient::Workspace;
use crate::{Error, Result};

/// A frozen policy over the same tokens.
pub(super) enum Reference {
    /// A copy of the weights that a run began with, in the policy's own decoder.
    Initial(Parameters),
    /// The policy's own weights without its adapter, which stay what they are: no second copy.
    Base {
        decoder: Box<Decoder>,
        /// Whether the adapter changed nothing when the run began.
        initial: bool,
    },
    /// Another model.
    Other(Box<LanguageModel>),
}

impl Reference {
    /// The weights that a run begins with: a copy, or the base of its adapter.
    pub(super) fn beginning_of(policy: &LanguageModel) -> Result<Self> {
        if policy.adapter.is_some() {
            let initial = policy.decoder.is_silent(&policy.params)?;
            return Ok(Self::Base { decoder: Box::new(policy.decoder.without_adapter()), initial });
        }
        let mut params = Parameters::zeros(&policy.decoder, policy.params.dtype());
        params.copy_from(&policy.params);
        Ok(Self::Initial(params))
    }

    /// A model from a folder. Errors: its token ids are not the policy's.
    pub(super) fn load(folder: &Path, policy: &LanguageModel) -> Result<Self> {
        let model = LanguageModel::load_frozen(folder, policy.decoder.backend(), policy.params.dtype())?;
        let (own, theirs) = (policy.decoder.config(), model.decoder.config());
        let setting = |problem: String| Err(Error::setting("ref_model", problem));
        if !theirs.language_head {
            return setting("has no language head; name a language model".into());
        }
        if theirs.vocab_size != own.vocab_size {
            return setting(format!(
                "has {} token ids and the policy {}; name a model with the policy's tokenizer",
                theirs.vocab_size, own.vocab_size
            ));
        }
        if theirs.max_positions < own.max_positions {
            return setting(format!(
                "has a context of {} and the policy of {}; name a model with one as long",
                theirs.max_positions, own.max_positions
            ));
        }
        Ok(Self::Other(Box::new(model)))
    }

    /// Whether the policy starts at its reference.
    pub(super) fn is_initial(&self) -> bool {
        matches!(self, Self::Initial(_) | Self::Base { initial: true, .. })
    }

    /// log π_ref of each token of each rollout, in nats.
    pub(super) fn logps(
        &self,
        policy: &LanguageModel,
        workspace: &mut Workspace,
        rollouts: &[Credited],
        temperature: f32,
        micro: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let (decoder, params) = match self {
            Self::Initial(params) => (&policy.decoder, params),
            Self::Base { decoder, .. } => (&**decoder, &policy.params),
            Self::Other(model) => (&model.decoder, &model.params),
        };
        workspace.logps(decoder, params, rollouts, temperature, micro)
    }
}
