//! How much of what training changed is let through, layer by layer: gates on an adapter, and on the difference of two
//! sets of weights.

use crate::backend::Backend;
use crate::config::ParameterSpec;
use crate::decoder::Decoder;
use crate::lora::Lora;
use crate::parameters::Parameters;
use crate::{Error, Result};

impl ParameterSpec {
    /// The block that it belongs to; none of the embedding, the final norm and the heads.
    pub fn layer(&self) -> Option<usize> {
        block_of(&self.name)
    }
}

fn block_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

fn check_gate(gate: f32, of: &str) -> Result<()> {
    if (0.0..=1.0).contains(&gate) {
        return Ok(());
    }
    Err(Error::Observation(format!("the gate of {of} is {gate}; it must be between 0 and 1")))
}

impl<B: Backend> Decoder<B> {
    /// The decoder that computes from the same parameters with the low-rank updates of block ℓ multiplied by `gates[ℓ]`,
    /// from 0 (as without them, bit for bit) to 1. Parameters that an adapter trains whole have no gate.
    ///
    /// An error if there is nothing to gate: no adapter, no update in a block whose gate is not 1, or not a gate a block.
    pub fn with_gates(&self, gates: &[f32]) -> Result<Self> {
        let layers = self.config().num_layers;
        let Some(adapter) = self.adapter().filter(|adapter| !adapter.targets.is_empty()) else {
            return Err(Error::Observation("gates did not fire: the decoder has no adapter".into()));
        };
        if gates.len() != layers {
            return Err(Error::Observation(format!("{} gates for {layers} blocks", gates.len())));
        }
        let mut gated: Lora = adapter.clone();
        for (layer, gate) in gates.iter().enumerate() {
            check_gate(*gate, &format!("block {layer}"))?;
            let here = |module: &String| block_of(module) == Some(layer);
            let mut fired = false;
            for target in gated.targets.iter_mut().filter(|target| target.modules.iter().any(here)) {
                if !target.modules.iter().all(here) {
                    let modules = target.modules.join(", ");
                    return Err(Error::Observation(format!("{modules} share an update across blocks")));
                }
                target.scale *= gate;
                fired = true;
            }
            if *gate < 1.0 && !fired {
                return Err(Error::Observation(format!(
                    "the gate of block {layer} did not fire: the adapter has no update there"
                )));
            }
        }
        self.regated(gated)
    }
}

impl<B: Backend> Parameters<B> {
    /// Writes reference + gate·(trained − reference) to the parameters that `gate` picks and leaves the others: the
    /// reference itself at 0 and the trained one at 1, bit for bit. All three are of one decoder.
    ///
    /// An error if a gate is outside \[0, 1\] or none is picked.
    ///
    /// # Panics
    /// If the decoders differ.
    pub fn blend(
        &mut self,
        reference: &Self,
        trained: &Self,
        gate: impl Fn(&ParameterSpec) -> Option<f32>,
    ) -> Result<()> {
        let mut picked = 0;
        for index in 0..self.len() {
            let spec = self.spec(index);
            let Some(gate) = gate(spec) else { continue };
            check_gate(gate, &spec.name)?;
            picked += 1;
            self.blend_one(index, reference, trained, gate);
        }
        if picked == 0 {
            return Err(Error::Observation("gates did not fire: no parameter was picked".into()));
        }
        Ok(())
    }
}
