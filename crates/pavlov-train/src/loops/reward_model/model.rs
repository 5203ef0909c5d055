//! A trained reward model: answers in, reward points or preferences out.

use std::path::Path;
use std::sync::Arc;

use pavlov_engine::backend::Backend;
use pavlov_engine::profile::{Operation, Work};
use pavlov_engine::{Activations, Batch, Cpu, Decoder, Dtype, Parameters};
use pavlov_lm::{LanguageModel, LoadOptions, ModelFiles};
use pavlov_schema::files::write_atomic;
use pavlov_schema::text::Text;
use serde::{Deserialize, Serialize};
use std::io::Write;

use super::head::Head;
use super::lessons::{Group, Lesson, encode};
use crate::stage::pack::{pack_answers, pack_joint};
use crate::{Error, Result};

/// The file beside the weights that says what a score means.
pub const REWARD_FILE: &str = "reward_config.json";
/// Tokens in a forward pass of scoring, unless one group of answers has more.
pub(super) const TOKENS: usize = 4096;

/// `reward_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardFile {
    /// What a score means.
    #[serde(flatten)]
    pub head: Head,
    /// Mean raw score of the answers that the model was measured on.
    pub score_mean: f64,
    /// Standard deviation of the same, above 0.
    pub score_std: f64,
}

impl RewardFile {
    /// Scores as they are.
    pub fn raw(head: Head) -> Self {
        Self { head, score_mean: 0.0, score_std: 1.0 }
    }

    /// Writes it into a model's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_atomic(&folder.join(REWARD_FILE), |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })?;
        Ok(())
    }

    /// Reads it from a model's folder. A model without it was trained elsewhere: its scores are those of Bradley and
    /// Terry.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = folder.join(REWARD_FILE);
        if !file.exists() {
            return Ok(Self::raw(Head::Comparisons { ties: None, eta: 0.0 }));
        }
        let wrong = |problem: String| Error::Checkpoint { file: file.clone(), problem };
        let text = std::fs::read_to_string(&file).map_err(|e| wrong(format!("cannot read: {e}")))?;
        let read: Self =
            serde_json::from_str(&text).map_err(|e| wrong(format!("{e}; train the model again")))?;
        if read.score_std > 0.0
            && read.score_mean.is_finite()
            && read.head.free().iter().all(|x| x.is_finite())
        {
            Ok(read)
        } else {
            Err(wrong("has numbers that are not finite, or a deviation of 0; train the model again".into()))
        }
    }
}

/// A reward model, ready to score.
pub struct RewardModel {
    pub(super) model: LanguageModel,
    pub(super) file: RewardFile,
    pub(super) work: Scorer,
}

impl RewardModel {
    /// Loads a folder that `pavlov reward` saved, or that of a one-label sequence classifier of transformers.
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self> {
        Self::load_on(folder, &Arc::new(Cpu::new(options.threads)), options.dtype)
    }

    /// Loads beside models that are already there, on the same threads.
    pub fn load_on(folder: &Path, backend: &Arc<Cpu>, dtype: Dtype) -> Result<Self> {
        let file = RewardFile::read(folder)?;
        Self::new(LanguageModel::load_frozen(folder, backend, dtype)?, file)
            .map_err(|problem| Error::Checkpoint { file: folder.to_owned(), problem: problem.to_string() })
    }

    /// A model in memory, which must have one scalar output.
    pub fn new(model: LanguageModel, file: RewardFile) -> Result<Self> {
        let outputs = model.decoder.config().scalar_outputs;
        if outputs != 1 {
            let problem = format!("the model has {outputs} scalar outputs and not one; give a reward model");
            return Err(Error::setting("model", problem));
        }
        // Nothing is kept for a backward pass.
        Ok(Self { model, file, work: Scorer::new(true) })
    }

    /// Sets the moment whose date the chat template writes, in seconds since 1970.
    pub fn set_now(&mut self, unix_seconds: i64) {
        self.model.files.set_now(unix_seconds);
    }

    /// The reward model's tokenizer: what its tokens say.
    pub fn tokenizer(&self) -> &pavlov_lm::Tokenizer {
        &self.model.files.tokenizer
    }

    /// What scores depend on, in words that differ where scores do.
    pub(crate) fn identity(&self) -> String {
        let params = &self.model.params;
        format!("{:016x} {:?} {:?}", params.compute_digest(), params.dtype(), self.file)
    }

    /// What a score means.
    pub fn head(&self) -> &Head {
        &self.file.head
    }

    /// The reward of each answer to its prompt, in standard deviations from the mean of the answers that the model was
    /// measured on. Answers that follow each other and have the same prompt share its computation.
    ///
    /// A joint model has no score of one answer: an error.
    pub fn scores(&mut self, answers: &[(&Text, &str)]) -> Result<Vec<f64>> {
        let RewardFile { score_mean, score_std, .. } = self.file;
        let raw = self.raw_scores(answers)?;
        Ok(raw.into_iter().map(|score| (score as f64 - score_mean) / score_std).collect())
    }

    /// As [`RewardModel::scores`], but as transformers gives them.
    pub fn raw_scores(&mut self, answers: &[(&Text, &str)]) -> Result<Vec<f32>> {
        if self.file.head.is_joint() {
            let problem =
                "the joint reward model reads two answers and scores none alone; use it as a judge of pairs";
            return Err(Error::setting("model", problem));
        }
        let groups = self.encode_groups(answers)?;
        let groups: Vec<(&[u32], &[Vec<u32>])> =
            groups.iter().map(|(prompt, answers)| (prompt.as_slice(), answers.as_slice())).collect();
        self.score_groups(&groups, false)
    }

    /// Answers as tokens; those that follow each other and have the same prompt together. The engine waits meanwhile, so that its
    /// threads' share of the processor is taken.
    pub(super) fn encode_groups(&self, answers: &[(&Text, &str)]) -> Result<Vec<Group>> {
        let groups: Vec<(usize, &[(&Text, &str)])> =
            answers.chunk_by(|a, b| a.0 == b.0).enumerate().collect();
        let one = |&(i, group): &(usize, &[(&Text, &str)])| {
            let texts: Vec<Text> = group.iter().map(|(_, answer)| Text::from(*answer)).collect();
            encode(&self.model.files, group[0].0, &texts, false, &format!("prompt {}", i + 1))
        };
        let share = groups.len().div_ceil(self.model.decoder.backend().threads()).max(1);
        std::thread::scope(|scope| {
            let part = |part| scope.spawn(move || <[_]>::iter(part).map(one).collect::<Result<Vec<Group>>>());
            let parts: Vec<_> = groups.chunks(share).map(part).collect();
            let mut encoded = Vec::with_capacity(groups.len());
            for part in parts {
                encoded.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(encoded)
        })
    }

    /// P(the first answer is better) for each prompt and two answers, a tie counting half ([`Head::preference`]).
    /// Exchanging the two gives one minus it.
    pub fn preferences(&mut self, pairs: &[(&Text, &str, &str)]) -> Result<Vec<f64>> {
        let joint = self.file.head.is_joint();
        let mut groups = Vec::new();
        for (i, (prompt, a, b)) in pairs.iter().enumerate() {
            let texts = [Text::from(*a), Text::from(*b)];
            groups.push(encode(&self.model.files, prompt, &texts, joint, &format!("pair {}", i + 1))?);
        }
        let groups: Vec<(&[u32], &[Vec<u32>])> =
            groups.iter().map(|(prompt, answers)| (prompt.as_slice(), answers.as_slice())).collect();
        let scores = self.score_groups(&groups, joint)?;
        Ok(scores.chunks_exact(2).map(|pair| self.file.head.preference(pair[0], pair[1])).collect())
    }

    /// −log P(verdict) of lessons, in nats; none of a regression ([`Head::surprisals`]).
    pub fn surprisals(&mut self, lessons: &[Lesson]) -> Result<Vec<f64>> {
        let groups: Vec<(&[u32], &[Vec<u32>])> =
            lessons.iter().map(|lesson| (lesson.prompt.as_slice(), lesson.answers.as_slice())).collect();
        let scores = self.score_groups(&groups, self.file.head.is_joint())?;
        Ok(self.file.head.surprisals(&lessons.iter().collect::<Vec<_>>(), &scores))
    }

    /// What its tokens are.
    pub fn files(&self) -> &ModelFiles {
        &self.model.files
    }

    fn score_groups(&mut self, groups: &[(&[u32], &[Vec<u32>])], joint: bool) -> Result<Vec<f32>> {
        let LanguageModel { decoder, params, .. } = &self.model;
        let context = decoder.config().max_positions;
        for (i, (prompt, answers)) in groups.iter().enumerate() {
            let lengths = answers.iter().map(Vec::len);
            let length = prompt.len() + if joint { lengths.sum() } else { lengths.max().unwrap_or(0) };
            if length > context {
                let problem = format!(
                    "has a context of {context} tokens, fewer than the {length} of prompt {} of the batch with its \
                     answers; shorten max_completion_length, or take a reward model with a longer one",
                    i + 1
                );
                return Err(Error::setting("reward model", problem));
            }
        }
        let mut scores = Vec::new();
        let mut rest = groups;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|(prompt, answers)| {
                tokens += prompt.len() + answers.iter().map(Vec::len).sum::<usize>();
                tokens <= TOKENS
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            scores.extend(self.work.forward(decoder, params, now.iter().copied(), joint)?);
            rest = later;
        }
        Ok(scores)
    }
}

/// Buffers of forward passes, kept between calls.
pub(crate) struct Scorer {
    pub(crate) batch: Batch,
    pub(crate) activations: Activations,
}

impl Scorer {
    pub(crate) fn new(recompute: bool) -> Self {
        Self { batch: Batch::new(), activations: Activations::new(recompute) }
    }

    /// Scores of prompts with their answers, those of one prompt together; of a joint model, those of its two orders.
    pub(crate) fn forward<'a>(
        &mut self,
        decoder: &Decoder,
        params: &Parameters,
        groups: impl Iterator<Item = (&'a [u32], &'a [Vec<u32>])>,
        joint: bool,
    ) -> Result<Vec<f32>> {
        self.batch.clear();
        let timer = decoder.backend().profile().time(Operation::Pack, Work::default);
        for (prompt, answers) in groups {
            match answers {
                [a, b] if joint => pack_joint(&mut self.batch, prompt, a, b),
                _ => pack_answers(&mut self.batch, prompt, answers.iter().map(Vec::as_slice)),
            }
        }
        drop(timer);
        Ok(decoder.forward(params, &self.batch, 1.0, &mut self.activations)?.scalars)
    }

    /// As [`Scorer::forward`], of lessons.
    pub(crate) fn forward_lessons(
        &mut self,
        model: &LanguageModel,
        lessons: &[&Lesson],
        joint: bool,
    ) -> Result<Vec<f32>> {
        let groups = lessons.iter().map(|lesson| (lesson.prompt.as_slice(), lesson.answers.as_slice()));
        self.forward(&model.decoder, &model.params, groups, joint)
    }
}
