//! tokenizer.json: text to token ids and back, with the special tokens that the files beside it name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::one_line;
use crate::files;
use crate::{Error, Result};

/// Names under which tokenizer_config.json and special_tokens_map.json keep special tokens, as transformers does.
const SPECIAL_NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A tokenizer and what is known of its special tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// `bos_token` → its text, and so on: the variables of chat templates.
    specials: BTreeMap<String, String>,
    special_ids: BTreeSet<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    stops: Vec<u32>,
    /// What the tokenizer puts before a text.
    before: Vec<u32>,
    vocabulary: usize,
}

/// Tokens of a text with the bytes of the text that each covers (empty for tokens that were added to it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token its byte range in the text.
    pub offsets: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Reads tokenizer.json of a folder, and the special tokens from tokenizer_config.json, special_tokens_map.json,
    /// generation_config.json and config.json where they exist.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        if !file.exists() {
            let slow =
                ["tokenizer.model", "vocab.json", "vocab.txt"].iter().any(|name| folder.join(name).exists());
            let mend = if slow {
                "save it once with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            } else {
                "copy it from the model's repository"
            };
            return Err(Error::file(&file, format!("there is no tokenizer; {mend}")));
        }
        let bytes = files::read(&file)?;
        let object = |name: &str| files::read_json_if_exists(&folder.join(name));
        let (config, map) = (object("tokenizer_config.json")?, object("special_tokens_map.json")?);
        let (generation, model) = (object("generation_config.json")?, object("config.json")?);
        Self::from_parts(&bytes, &config, &map, &[&generation, &model])
            .map_err(|e| Error::file(&file, format!("{}; fetch the file again", one_line(e))))
    }

    /// A tokenizer from the text of a tokenizer.json and the texts of its special tokens (`bos_token`, `eos_token`, …).
    pub fn from_json(json: &str, specials: &BTreeMap<String, String>) -> Result<Self> {
        let specials =
            specials.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect();
        Self::from_parts(json.as_bytes(), &specials, &Map::new(), &[])
    }

    fn from_parts(
        json: &[u8],
        config: &Map<String, Value>,
        map: &Map<String, Value>,
        with_ids: &[&Map<String, Value>],
    ) -> Result<Self> {
        let refused = |e: &dyn std::fmt::Display| Error::Tokenizer(one_line(e));
        let mut json: Value = serde_json::from_slice(json).map_err(|e| refused(&e))?;
        if let Some(post_processor) = json.get_mut("post_processor") {
            keep_true_offsets(post_processor);
        }
        let json = serde_json::to_vec(&json).map_err(|e| refused(&e))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| refused(&e))?;
        // Some files carry the truncation or padding of the run that made them: they would cut rows silently.
        inner.with_truncation(None).map_err(|e| refused(&e))?;
        inner.with_padding(None);

        let mut specials = BTreeMap::new();
        for name in SPECIAL_NAMES {
            let text = |object: &Map<String, Value>| {
                let value = object.get(name)?;
                value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
            };
            if let Some(text) = text(config).or_else(|| text(map)) {
                specials.insert(name.to_owned(), text);
            }
        }
        let named = |name: &str| inner.token_to_id(specials.get(name)?);
        let listed = |key: &str| with_ids.iter().flat_map(|object| ids(object.get(key))).collect::<Vec<_>>();
        let (bos, eos, pad) = (named("bos_token"), named("eos_token"), named("pad_token"));
        let mut stops: Vec<u32> = eos.into_iter().chain(listed("eos_token_id")).collect();
        stops.sort_unstable();
        stops.dedup();
        let special_ids = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .collect();
        let vocabulary = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let before = before(&inner, eos)?;
        Ok(Self {
            before,
            bos: bos.or_else(|| listed("bos_token_id").first().copied()),
            eos: eos.or_else(|| listed("eos_token_id").first().copied()),
            pad: pad.or_else(|| listed("pad_token_id").first().copied()),
            inner,
            specials,
            special_ids,
            stops,
            vocabulary,
        })
    }

    /// Token ids of a text. With `begin` the tokens that the tokenizer puts before a text (BOS) come first, unless the
    /// text begins with them itself; end tokens are never added.
    pub fn encode(&self, text: &str, begin: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| Error::Tokenizer(one_line(e)))?;
        let ids = encoding.get_ids();
        if begin && !ids.starts_with(&self.before) {
            return Ok([&self.before, ids].concat());
        }
        Ok(ids.to_vec())
    }

    /// Token ids of a text with the place of each in it; nothing is added.
    pub fn encode_with_offsets(&self, text: &str) -> Result<Tokens> {
        let encoding = self.inner.encode(text, false).map_err(|e| Error::Tokenizer(one_line(e)))?;
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect(),
        })
    }

    /// The text of tokens. Bytes that are no UTF-8 become U+FFFD; ids outside the vocabulary are left out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(|e| Error::Tokenizer(one_line(e)))
    }

    /// A decoder of tokens that come one by one.
    pub fn stream(&self, skip_special: bool) -> StreamDecoder<'_> {
        StreamDecoder { tokenizer: self, skip_special, ids: Vec::new(), read: 0 }
    }

    /// Variables for chat templates: `bos_token`, `eos_token`, … and their texts.
    pub fn specials(&self) -> &BTreeMap<String, String> {
        &self.specials
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The padding token.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Tokens at which sampling stops: every end token that a file of the folder names, ascending.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Makes sampling stop at a token too.
    pub fn add_stop(&mut self, id: u32) {
        if let Err(place) = self.stops.binary_search(&id) {
            self.stops.insert(place, id);
        }
    }

    /// Whether a token is a control token, not text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id) || self.stops.contains(&id)
    }

    /// The control tokens, ascending.
    pub fn special_ids(&self) -> impl Iterator<Item = u32> {
        self.special_ids.iter().copied()
    }

    /// The id of a token's exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The exact text of a token in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One more than the highest token id.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tokenizer.json of this tokenizer.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|e| Error::Tokenizer(one_line(e)))
    }
}

/// The tokens a tokenizer puts before a text: what it adds to a probe, less what it adds after it.
fn before(inner: &tokenizers::Tokenizer, eos: Option<u32>) -> Result<Vec<u32>> {
    let ids = |special| -> Result<Vec<u32>> {
        let encoding = inner.encode_fast("a", special).map_err(|e| Error::Tokenizer(one_line(e)))?;
        Ok(encoding.get_ids().to_vec())
    };
    let (plain, mut added) = (ids(false)?, ids(true)?);
    match added.windows(plain.len().max(1)).position(|part| part == plain) {
        Some(start) => added.truncate(start),
        // The probe is no token of this tokenizer: all that is left was added, the end token after it.
        None if added.len() > 1 && added.last().copied() == eos => added.truncate(added.len() - 1),
        None => {}
    }
    Ok(added)
}

/// `eos_token_id` and its like: a number or a list of numbers.
fn ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Byte-level post-processors may trim white space from offsets; learned spans need the true ones.
fn keep_true_offsets(post_processor: &mut Value) {
    if let Some(trim) = post_processor.get_mut("trim_offsets") {
        *trim = Value::Bool(false);
    }
    if let Some(list) = post_processor.get_mut("processors").and_then(Value::as_array_mut) {
        list.iter_mut().for_each(keep_true_offsets);
    }
}

/// Turns tokens into text as they come, and holds back bytes until they are whole characters.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// The tokens of the last text given out (some decoders look at what comes before), then those still held.
    ids: Vec<u32>,
    read: usize,
}

impl StreamDecoder<'_> {
    /// A character has at most four bytes; a tokenizer that writes no text for longer than this writes broken bytes.
    const LONGEST_HELD: usize = 8;

    /// Takes one token; returns the text that is certain now, which may be empty.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        self.take(false)
    }

    /// The text still held back, with U+FFFD for bytes that never became a character.
    pub fn finish(mut self) -> Result<String> {
        self.take(true)
    }

    fn take(&mut self, all: bool) -> Result<String> {
        let before = self.tokenizer.decode(&self.ids[..self.read], self.skip_special)?;
        let after = self.tokenizer.decode(&self.ids, self.skip_special)?;
        let held = self.ids.len() - self.read;
        if !all && after.ends_with('\u{FFFD}') && held < Self::LONGEST_HELD {
            return Ok(String::new());
        }
        // Without the common beginning the decoder rewrote what was given out: only what is longer is new.
        let new =
            after.strip_prefix(before.as_str()).or_else(|| after.get(before.len()..)).unwrap_or_default();
        let new = new.to_owned();
        if !new.is_empty() {
            self.ids.drain(..self.read);
            self.read = self.ids.len();
        }
        Ok(new)
    }
}
