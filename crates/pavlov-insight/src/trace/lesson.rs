//! What can be traced to: demonstrations, judgments and rollouts, as what they push for.

use std::path::{Path, PathBuf};

use pavlov_lm::Encoder;
use pavlov_schema::comparison::Choice;
use pavlov_schema::ranking::Ranked;
use pavlov_schema::rollout::Credited;
use pavlov_schema::rollout_file;
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, Value, dataset};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Lessons that are worked on together.
pub const CHUNK: usize = 64;
/// Other answers of its group that a rollout is set against.
const PEERS: usize = 2;

/// What a lesson is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An answer to imitate.
    Demonstration,
    /// A comparison or a rating.
    Judgment,
    /// An answer of the policy with its credit.
    Rollout,
}

/// An answer and how a lesson pushes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Its share in the difference of activations: 1 of what is pushed for, −1 of what it is set against.
    pub share: f32,
    /// Of each token the weight of its log-probability in what the lesson pushes for.
    pub weights: Vec<f32>,
}

/// One lesson.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Its place in the data, from 0; of rollouts, over all steps.
    pub place: usize,
    /// What it is.
    pub kind: Kind,
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// What it pushes for and against.
    pub answers: Vec<Answer>,
    /// Prompt and answer as people read them.
    pub text: [String; 2],
    /// Where it is from, who judged, what kind of prompt it has; as far as the data says.
    pub labels: Labels,
}

/// By what lessons are grouped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Column `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Column `annotator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rater: Option<String>,
    /// Column `type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_type: Option<String>,
}

/// Where lessons are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A data set.
    File(PathBuf),
    /// The rollout files of a run, by step.
    Rollouts(Vec<PathBuf>),
}

impl Lesson {
    /// Whether its answers are set against each other; else each is set against the model's own answer.
    pub fn is_balanced(&self) -> bool {
        self.answers.iter().map(|answer| answer.share).sum::<f32>().abs() < 1e-3
    }
}

impl Source {
    /// Goes through all lessons, some at a time; returns how many there are. Rows that push for nothing (ties, prompts
    /// alone) keep their place and are left out.
    pub fn each(
        &self,
        encoder: &Encoder<'_>,
        on_chunk: &mut dyn FnMut(&[Lesson]) -> Result<()>,
    ) -> Result<usize> {
        match self {
            Self::File(path) => each_row(path, encoder, on_chunk),
            Self::Rollouts(files) => each_rollout(files, on_chunk),
        }
    }
}

fn each_row(
    path: &Path,
    encoder: &Encoder<'_>,
    on_chunk: &mut dyn FnMut(&[Lesson]) -> Result<()>,
) -> Result<usize> {
    let (mut chunk, mut place) = (Vec::with_capacity(CHUNK), 0);
    // The reader knows no errors of ours: ours is kept, and ends the reading.
    let mut failed = None;
    let read = dataset::each(path, &mut |_, object| {
        let lesson = of_row(object, place, encoder)?;
        place += 1;
        chunk.extend(lesson);
        if chunk.len() == CHUNK {
            let done = on_chunk(&chunk);
            chunk.clear();
            return done.map_err(|error| {
                failed = Some(error);
                String::new()
            });
        }
        Ok(())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    read?;
    if !chunk.is_empty() {
        on_chunk(&chunk)?;
    }
    Ok(place)
}

/// The lesson of a row, if it is one. The error says what is wrong and the mend, without naming the place.
fn of_row(
    object: Map<String, Value>,
    place: usize,
    encoder: &Encoder<'_>,
) -> std::result::Result<Option<Lesson>, String> {
    let label = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let labels = Labels { source: label("source"), rater: label("annotator"), prompt_type: label("type") };
    let row = Row::from_object(object)?;
    let encode = |prompt: &Text, answers: &[(Text, f32)]| {
        let texts: Vec<Text> = answers.iter().map(|(text, _)| text.clone()).collect();
        let encoded = encoder.encode_answers(prompt, &texts, "").map_err(|e| e.to_string())?;
        let pushed = encoded.answers.into_iter().zip(answers);
        let answers: Vec<Answer> = pushed
            .map(|(tokens, (_, share))| Answer { weights: vec![*share; tokens.len()], tokens, share: *share })
            .collect();
        Ok::<_, String>((encoded.prompt, answers))
    };
    let lesson = |kind: Kind, prompt: &Text, pushed: &[(Text, f32)]| {
        let (tokens, answers) = encode(prompt, pushed)?;
        let text = [plain(prompt), pushed.first().map(|(text, _)| plain(text)).unwrap_or_default()];
        Ok(Some(Lesson { place, kind, prompt: tokens, answers, text, labels: labels.clone() }))
    };
    if let Some(comparison) = row.comparison() {
        // An edit is a demonstration too: its comparison says both.
        let (better, worse) = match comparison.choice {
            Choice::A => (comparison.a, comparison.b),
            Choice::B => (comparison.b, comparison.a),
            Choice::Tie | Choice::BothBad => return Ok(None),
        };
        return lesson(Kind::Judgment, &comparison.prompt, &[(better, 1.0), (worse, -1.0)]);
    }
    if let Some(ranked) = row.ranked() {
        let pushed = pushes(&ranked);
        let equal = pushed.iter().all(|(_, share)| *share == 0.0);
        return if equal { Ok(None) } else { lesson(Kind::Judgment, &ranked.prompt, &pushed) };
    }
    if let Some(shown) = row.demonstration() {
        return lesson(Kind::Demonstration, &shown.prompt, &[(shown.response, 1.0)]);
    }
    if let Some(rated) = row.rated() {
        let Some((low, high)) = rated.scale else {
            return Err("a score without a scale pushes for nothing known; give `rating` and `scale`".into());
        };
        let share = ((2.0 * rated.rating - low - high) / (high - low)) as f32;
        return lesson(Kind::Judgment, &rated.prompt, &[(rated.response, share)]);
    }
    match row {
        Row::Messages { mut messages, .. } if messages.last().is_some_and(|m| m.role == "assistant") => {
            // The last turn is the lesson: the turns before it are learned too, but as answers to other prompts.
            let last = messages.pop().map_or_else(|| Text::from(""), |message| Text::Chat(vec![message]));
            lesson(Kind::Demonstration, &Text::Chat(messages), &[(last, 1.0)])
        }
        // A judgment that says nothing of one answer over another: a skip, or that none of them will do.
        Row::PromptOnly { .. } | Row::Judgment(_) => Ok(None),
        _ => Err("has no prompt and answer to trace to; give rows with `prompt`".into()),
    }
}

/// The answers of a ranking, the best first, each with the share of the others that it beats less that by which it is beaten: as a
/// pair's answers have 1 and −1.
fn pushes(ranked: &Ranked) -> Vec<(Text, f32)> {
    let Ranked { responses, ranks, .. } = ranked;
    let others = (ranks.len() - 1) as f32;
    let share = |rank: u8| {
        let count =
            |side: std::cmp::Ordering| ranks.iter().filter(|other| other.cmp(&&rank) == side).count() as f32;
        (count(std::cmp::Ordering::Greater) - count(std::cmp::Ordering::Less)) / others
    };
    let mut pushed: Vec<(Text, f32)> =
        responses.iter().zip(ranks).map(|(text, &rank)| (text.clone(), share(rank))).collect();
    pushed.sort_by(|a, b| b.1.total_cmp(&a.1));
    pushed
}

/// A text as people read it.
fn plain(text: &Text) -> String {
    match text {
        Text::Plain(text) => text.clone(),
        Text::Chat(messages) => {
            messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect::<Vec<_>>().join("\n")
        }
    }
}

fn each_rollout(files: &[PathBuf], on_chunk: &mut dyn FnMut(&[Lesson]) -> Result<()>) -> Result<usize> {
    let mut place = 0;
    for file in files {
        let rollouts: Vec<Credited> =
            rollout_file::read(file)?.into_iter().map(|(_, credited)| credited).collect();
        let lessons: Vec<Lesson> =
            (0..rollouts.len()).filter_map(|i| of_rollout(&rollouts, i, place + i)).collect();
        place += rollouts.len();
        for chunk in lessons.chunks(CHUNK) {
            on_chunk(chunk)?;
        }
    }
    Ok(place)
}

/// A rollout set against others of its group, as far as it earned credit.
fn of_rollout(rollouts: &[Credited], i: usize, place: usize) -> Option<Lesson> {
    let own = &rollouts[i];
    let (rollout, advantage) = (&own.scored.rollout, own.advantage as f32);
    if own.weights.iter().all(|weight| *weight == 0.0) {
        return None;
    }
    let mut answers =
        vec![Answer { tokens: rollout.tokens.clone(), share: advantage, weights: own.weights.clone() }];
    let of_group = |(j, other): &(usize, &Credited)| {
        *j != i && other.scored.rollout.prompt_index == rollout.prompt_index
    };
    let peers: Vec<&Credited> =
        rollouts.iter().enumerate().filter(of_group).map(|(_, other)| other).take(PEERS).collect();
    for peer in &peers {
        let tokens = peer.scored.rollout.tokens.clone();
        let (share, weights) = (-advantage / peers.len() as f32, vec![0.0; tokens.len()]);
        answers.push(Answer { tokens, share, weights });
    }
    Some(Lesson {
        place,
        kind: Kind::Rollout,
        prompt: rollout.prompt_tokens.clone(),
        answers,
        text: [rollout.prompt_text.clone(), rollout.completion.clone()],
        labels: Labels::default(),
    })
}

#[cfg(test)]
mod tests {
    use pavlov_lm::Tokenizer;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> std::result::Result<Option<Lesson>, String> {
        let tokenizer =
            Tokenizer::from_json(&pavlov_worlds::tokenizer_json(), &pavlov_worlds::special_names()).unwrap();
        let encoder = Encoder { tokenizer: &tokenizer, template: None, vocab_size: 128, max_positions: 64 };
        let Value::Object(object) = value else { panic!("no object") };
        of_row(object, 7, &encoder)
    }

    #[test]
    fn every_kind_says_what_it_pushes_for() {
        let shown =
            json!({"prompt": "Who is taller?\n", "completion": "Ana is taller.", "source": "s", "type": "t"});
        let shown = read(shown).unwrap().unwrap();
        assert_eq!((shown.kind, shown.place, shown.answers[0].share), (Kind::Demonstration, 7, 1.0));
        assert!(!shown.is_balanced() && shown.answers[0].weights == vec![1.0; 5], "with the end token");
        assert_eq!(shown.labels.prompt_type.as_deref(), Some("t"));

        let pair = json!({"kind": "comparison", "choice": "b", "prompt": "Who is taller?\n", "annotator": "r",
                          "responses": [{"text": "Ana is taller."}, {"text": "Ben is taller."}]});
        let pair = read(pair).unwrap().unwrap();
        assert!(pair.is_balanced() && pair.text[1] == "Ben is taller.");
        assert_eq!((pair.answers[1].share, pair.labels.rater.as_deref()), (-1.0, Some("r")));

        let ranked = json!({"prompt": "Who?\n", "completions": ["Ana.", "Ben.", "Leo."], "ranks": [2, 1, 2]});
        let ranked = read(ranked).unwrap().unwrap();
        assert!(ranked.is_balanced() && ranked.text[1] == "Ben.");
        assert_eq!(ranked.answers.iter().map(|answer| answer.share).collect::<Vec<_>>(), [1.0, -0.5, -0.5]);
        let equal = json!({"prompt": "Who?\n", "completions": ["Ana.", "Ben."], "ranks": [1, 1]});
        let all_bad = json!({"kind": "ranking", "all_bad": true, "prompt": "Who?\n",
                             "responses": [{"text": "Ana."}, {"text": "Ben."}]});
        assert_eq!((read(equal), read(all_bad)), (Ok(None), Ok(None)));

        let rated = json!({"prompt": "Who?\n", "completion": "Ana.", "rating": 2, "scale": [1, 5]});
        assert_eq!(read(rated).unwrap().unwrap().answers[0].share, -0.5);
        let tie = json!({"prompt": "Who?\n", "chosen": "Ana.", "rejected": "Ben.", "tie": true});
        assert_eq!((read(tie), read(json!({"prompt": "Who?\n"}))), (Ok(None), Ok(None)));
        assert!(read(json!({"text": "Ana."})).unwrap_err().contains("no prompt and answer"));
    }
}
