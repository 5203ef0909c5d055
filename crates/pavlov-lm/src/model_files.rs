//! A Hugging Face folder without its weights: configuration, tokenizer, chat template, and the files saved with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pavlov_engine::DecoderConfig;
use pavlov_schema::clock::unix_seconds;
use pavlov_schema::text::Message;
use serde_json::{Map, Value, json};

use crate::encode::Encoder;
use crate::files;
use crate::hf_config::HfConfig;
use crate::save::SaveDtype;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Files that are saved as they were read.
const KEPT: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Everything of a model but its weights.
#[derive(Debug)]
pub struct ModelFiles {
    /// config.json.
    pub config: HfConfig,
    /// The tokenizer; it stops also at the token with which the chat template ends a turn.
    pub tokenizer: Tokenizer,
    /// The chat template, if the model has one.
    pub template: Option<ChatTemplate>,
    kept: BTreeMap<String, Vec<u8>>,
    now: i64,
}

impl ModelFiles {
    /// Reads a folder.
    pub fn load(folder: &Path) -> Result<Self> {
        check_folder(folder)?;
        let config = HfConfig::read(folder)?;
        let tokenizer = Tokenizer::load(folder)?;
        let mut kept = BTreeMap::new();
        for name in KEPT {
            let file = folder.join(name);
            if file.exists() {
                kept.insert(name.to_owned(), files::read(&file)?);
            }
        }
        let template = read_template(folder, &tokenizer)?;
        Ok(Self::assemble(config, tokenizer, template, kept))
    }

    /// The files of a new model of the Llama family.
    ///
    /// `specials` are the texts of `bos_token`, `eos_token`, `pad_token`, … in `tokenizer_json`.
    pub fn new_llama(
        decoder: &DecoderConfig,
        tokenizer_json: &str,
        specials: &BTreeMap<String, String>,
        chat_template: Option<&str>,
    ) -> Result<Self> {
        let tokenizer = Tokenizer::from_json(tokenizer_json, specials)?;
        if tokenizer.vocabulary() > decoder.vocab_size {
            return Err(Error::Model(format!(
                "the tokenizer has {} tokens but the model {}; raise vocab_size",
                tokenizer.vocabulary(),
                decoder.vocab_size
            )));
        }
        let config = HfConfig::new_llama(decoder, tokenizer.bos(), tokenizer.eos(), tokenizer.pad())?;
        let template = chat_template
            .map(|source| ChatTemplate::new(source, tokenizer.specials().clone()))
            .transpose()?;
        let mut about = Map::from_iter([
            ("tokenizer_class".to_owned(), Value::from("PreTrainedTokenizerFast")),
            ("model_max_length".to_owned(), decoder.max_positions.into()),
            ("clean_up_tokenization_spaces".to_owned(), false.into()),
        ]);
        about.extend(specials.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))));
        let mut kept = BTreeMap::from([
            ("tokenizer.json".to_owned(), tokenizer_json.as_bytes().to_vec()),
            (TOKENIZER_CONFIG.to_owned(), to_bytes(&about)?),
        ]);
        if let Some(source) = chat_template {
            kept.insert(CHAT_TEMPLATE.to_owned(), source.as_bytes().to_vec());
        }
        let mut files = Self::assemble(config, tokenizer, template, kept);
        if let Value::Object(generation) = json!({"eos_token_id": files.tokenizer.stops()}) {
            files.kept.insert("generation_config.json".into(), to_bytes(&generation)?);
        }
        Ok(files)
    }

    fn assemble(
        config: HfConfig,
        mut tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        kept: BTreeMap<String, Vec<u8>>,
    ) -> Self {
        if let Some(id) = template.as_ref().and_then(|template| turn_end(template, &tokenizer)) {
            tokenizer.add_stop(id);
        }
        let mut files = Self { config, tokenizer, template, kept, now: 0 };
        files.set_now(unix_seconds() as i64);
        files
    }

    /// The moment whose date the chat template writes (Llama 3's does), in seconds since 1970: that of loading, until
    /// [`ModelFiles::set_now`].
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Sets the moment whose date the chat template writes, so that a run that is resumed on another day goes on with
    /// the prompts it began with.
    pub fn set_now(&mut self, unix_seconds: i64) {
        self.now = unix_seconds;
        if let Some(template) = &mut self.template {
            template.set_now(unix_seconds);
        }
    }

    /// Writes every file but the weights; `dtype` is what config.json says of them.
    pub fn save(&self, folder: &Path, dtype: SaveDtype) -> Result<()> {
        self.save_texts(folder)?;
        files::write_json(&folder.join("config.json"), &self.config.to_json(dtype.name()))
    }

    /// Writes the tokenizer and what goes with it, as an adapter's folder has them.
    pub(crate) fn save_texts(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        self.kept.iter().try_for_each(|(name, bytes)| files::write(&folder.join(name), bytes))
    }

    /// What rows are encoded with.
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder {
            tokenizer: &self.tokenizer,
            template: self.template.as_ref(),
            vocab_size: self.config.decoder.vocab_size,
            max_positions: self.config.decoder.max_positions,
        }
    }

    /// The files of a reward model over the same decoder: `outputs` scalar outputs in place of the language head.
    ///
    /// transformers reads the score at the last token that is not padding, so the padding token becomes one that no
    /// text ends with, if the tokenizer has such a token.
    pub fn with_scalar_head(mut self, outputs: usize) -> Result<Self> {
        let pad = self.padding();
        self.config = self.config.with_scalar_head(outputs, pad);
        let Some(text) = pad.and_then(|id| self.tokenizer.token(id)) else { return Ok(self) };
        let file = Path::new(TOKENIZER_CONFIG);
        let mut about: Map<String, Value> = match self.kept.get(TOKENIZER_CONFIG) {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|e| Error::file(file, e.to_string()))?,
            None => Map::new(),
        };
        about.insert("pad_token".into(), text.into());
        self.kept.insert(TOKENIZER_CONFIG.into(), to_bytes(&about)?);
        Ok(self)
    }

    /// A padding token that is no end token, else the one there is.
    fn padding(&self) -> Option<u32> {
        let named = self.tokenizer.pad().or(self.config.pad());
        let ends = |id: &u32| self.tokenizer.stops().contains(id);
        let vocab = self.config.decoder.vocab_size as u32;
        named
            .filter(|id| !ends(id))
            .or_else(|| {
                self.tokenizer
                    .special_ids()
                    .find(|id| !ends(id) && Some(*id) != self.tokenizer.bos() && *id < vocab)
            })
            .or(named)
            .or(self.tokenizer.eos())
    }

    /// The place in `tokens` whose scalar output transformers takes as the score: the last that is not padding.
    pub fn scored_position(&self, tokens: &[u32]) -> usize {
        let pad = self.config.pad();
        tokens.iter().rposition(|id| Some(*id) != pad).unwrap_or(0)
    }
}

fn to_bytes(object: &Map<String, Value>) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(object).map_err(|e| Error::Model(e.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Refuses what is no folder, and tells how to get a model that was named by its place on the hub.
fn check_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let name = folder.to_string_lossy();
    let like_a_hub_id = !name.starts_with(['.', '/', '~']) && name.split('/').count() == 2;
    let mend = if like_a_hub_id && !folder.exists() {
        format!(
            "if it is a model of the Hugging Face hub, fetch it first: hf download {name} --local-dir DIR"
        )
    } else {
        "give the folder of a Hugging Face model".to_owned()
    };
    Err(Error::file(folder, format!("there is no such folder; {mend}")))
}

/// chat_template.jinja, else `chat_template` of tokenizer_config.json: a text, or named ones of which "default" is used.
fn read_template(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
    let file = folder.join(CHAT_TEMPLATE);
    let (file, source) = if file.exists() {
        let bytes = files::read(&file)?;
        let text =
            String::from_utf8(bytes).map_err(|_| Error::file(&file, "it is not UTF-8; save it as UTF-8"))?;
        (file, text)
    } else {
        let file = folder.join(TOKENIZER_CONFIG);
        let config = files::read_json_if_exists(&file)?;
        let source = match config.get("chat_template") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Array(list)) => {
                let found = list.iter().find(|entry| entry["name"] == "default");
                found.and_then(|entry| entry["template"].as_str()).map(str::to_owned)
            }
            Some(_) => None,
        };
        let missing =
            "key chat_template: it must be a text, or a list with a template named \"default\"; correct it";
        (file.clone(), source.ok_or_else(|| Error::file(&file, missing))?)
    };
    ChatTemplate::new(&source, tokenizer.specials().clone())
        .map(Some)
        .map_err(|e| Error::file(&file, format!("{e}; correct or remove it")))
}

/// The control token that a template writes after an assistant's words: what a chat has to stop at.
fn turn_end(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<u32> {
    const WORDS: &str = "pavlov probe";
    let messages = [Message::new("user", "?"), Message::new("assistant", WORDS)];
    let text = template.render(&messages, None, false).ok()?.text;
    let rest = &text[text.rfind(WORDS)? + WORDS.len()..];
    tokenizer.encode(rest, false).ok()?.into_iter().find(|id| tokenizer.is_special(*id))
}
