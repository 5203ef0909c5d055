//! Models are loaded, changed and saved as a whole.

use std::sync::Arc;

use crate::common::{golden, parameters};
use pavlov_engine::{Cpu, Dtype};
use pavlov_lm::{HfConfig, LanguageModel, LoadOptions, SaveDtype};

#[test]
fn a_saved_model_is_the_loaded_one() {
    for case in ["gpt2", "smollm2", "reward-llama"] {
        let model =
            LanguageModel::load(&golden(case), &LoadOptions { dtype: Dtype::F32, threads: 1 }).unwrap();
        let out = tempfile::tempdir().unwrap();
        model.save(out.path(), SaveDtype::F32).unwrap();
        let config = HfConfig::read(&golden(case)).unwrap();
        let again = HfConfig::read(out.path()).unwrap();
        let numbers = parameters(&golden(case), &config.decoder, config.family).unwrap();
        assert_eq!(parameters(out.path(), &again.decoder, again.family).unwrap(), numbers, "{case}");
        let loaded = LanguageModel::load(out.path(), &LoadOptions { dtype: Dtype::F32, threads: 1 }).unwrap();
        assert_eq!(loaded.params.digest(), model.params.digest(), "{case}");
        assert_eq!(loaded.params.compute_digest(), loaded.params.digest(), "{case}");
    }
}

#[test]
fn a_reward_model_keeps_the_body_of_its_language_model() {
    let backend = Arc::new(Cpu::new(1));
    for case in ["llama", "gpt2"] {
        let model = LanguageModel::load_on(&golden(case), &backend, Dtype::F32).unwrap();
        let embedding = model.params.get("model.embed_tokens.weight").unwrap();
        let reward = model.with_scalar_head(1, 3).unwrap();
        assert_eq!(reward.params.get("model.embed_tokens.weight").unwrap(), embedding, "{case}");
        let head = reward.params.get("score.weight").unwrap();
        assert_eq!(head.len(), reward.decoder.config().hidden_size);
        assert!(head.iter().any(|x| *x != 0.0) && reward.params.get("lm_head.weight").is_err());
        let out = tempfile::tempdir().unwrap();
        reward.save(out.path(), SaveDtype::F32).unwrap();
        let again = LanguageModel::load_on(out.path(), &backend, Dtype::F32).unwrap();
        assert_eq!(again.params.get("score.weight").unwrap(), head, "{case}");
        assert_eq!(again.decoder.config().scalar_outputs, 1);
    }
}
