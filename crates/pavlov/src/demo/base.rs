//! The base model that is part of the program; `assets/base/README.md` has the recipe that made it.

use std::path::Path;

use anyhow::{Context, Result};

const FILES: [(&str, &[u8]); 6] = [
    ("chat_template.jinja", include_bytes!("../../assets/base/chat_template.jinja")),
    ("config.json", include_bytes!("../../assets/base/config.json")),
    ("generation_config.json", include_bytes!("../../assets/base/generation_config.json")),
    ("model.safetensors", include_bytes!("../../assets/base/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../assets/base/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../assets/base/tokenizer_config.json")),
];

/// Writes the base model's Hugging Face folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    for (name, bytes) in FILES {
        let file = folder.join(name);
        std::fs::write(&file, bytes).with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    Ok(())
}
