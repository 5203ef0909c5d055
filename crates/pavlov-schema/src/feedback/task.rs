//! A question to people about answers of policies.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Answer, Said};
use super::kind::TaskKind;
use crate::text::Text;

/// A question to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// The sender's name of the task: the same key sent again makes no second task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What people are to do, where it is not what the project asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TaskKind>,
    /// What was asked of the policies.
    pub prompt: Text,
    /// Two answers to compare, 2 to 9 to put in order, one to rate or mend, none where people write the answer.
    #[serde(default)]
    pub responses: Vec<NewResponse>,
    /// Updates of the newest policy among the answers: newer ones are asked about first.
    #[serde(default)]
    pub policy_version: u64,
    /// Of a comparison, the chance that the first answer is preferred, as a reward model foretells it; steers the selection, never
    /// shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// The right answer of a gold task; such tasks measure raters and teach nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<Answer>,
    /// A gold task of the calibration round, with `explanation` shown after it.
    #[serde(default)]
    pub calibration: bool,
    /// Why the gold answer is right, for the calibration round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// The annotator who wrote one of the answers: nobody judges what they wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// People who shall answer it, where the project's plan is not to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<u32>,
}

/// An answer of a policy, as it was sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewResponse {
    /// The answer.
    pub text: Text,
    /// The policy that wrote it, `run/step` or the hash of a checkpoint. Never shown to raters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The seed it was sampled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How it was sampled: temperature and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Value>,
    /// Per token, the log-probability under the distribution it was drawn from, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_logprobs: Option<Vec<f32>>,
}

impl NewTask {
    /// A task of which nothing else is known.
    pub fn new(prompt: Text, responses: Vec<NewResponse>) -> Self {
        Self {
            key: None,
            kind: None,
            prompt,
            responses,
            policy_version: 0,
            predicted: None,
            gold: None,
            calibration: false,
            explanation: None,
            author: None,
            overlap: None,
        }
    }

    /// Checks what the types do not say; `kind` is the project's. The error says what is wrong and the mend, without naming
    /// the place.
    pub fn validate(&self, kind: TaskKind) -> Result<(), String> {
        let kind = self.kind.unwrap_or(kind);
        if self.prompt.is_empty() {
            return Err("`prompt` is empty; give it text".into());
        }
        let (name, wanted, found) = (kind.name(), kind.responses(), self.responses.len());
        if !wanted.contains(&found) {
            let wanted = kind.responses_in_words();
            return Err(format!("a {name} task needs `responses` of length {wanted}, found {found}"));
        }
        for (i, response) in self.responses.iter().enumerate() {
            if response.text.is_empty() {
                return Err(format!("the `text` of response {} is empty; give it an answer", i + 1));
            }
            if response.token_logprobs.iter().flatten().any(|logprob| !logprob.is_finite()) {
                return Err(format!("response {} has a log-probability that is no number", i + 1));
            }
        }
        if self.predicted.is_some_and(|predicted| !(0.0..=1.0).contains(&predicted)) {
            return Err("`predicted` is no probability; give a number from 0 to 1".into());
        }
        if self.overlap == Some(0) {
            return Err("`overlap` is 0; leave it out, or give the number of people who shall answer".into());
        }
        match &self.gold {
            Some(gold) if gold.said.kind() != kind => {
                let other = gold.said.kind().name();
                Err(format!("a {name} task has a `gold` answer of a {other} one; correct it"))
            }
            Some(Answer { said: Said::Ranking { ranks, .. }, .. })
                if ranks.len() > 1 && ranks.iter().all(|&rank| rank == 1) =>
            {
                Err("`gold` calls all answers equal, which asks for nothing; say which is better".into())
            }
            Some(gold) => gold.validate(&self.texts()).map_err(|what| format!("`gold`: {what}")),
            None if self.calibration => Err("a calibration task needs its `gold` answer; give it".into()),
            None => Ok(()),
        }
    }

    fn texts(&self) -> Vec<&Text> {
        self.responses.iter().map(|response| &response.text).collect()
    }
}

impl NewResponse {
    /// An answer of which only the text is known.
    pub fn new(text: impl Into<Text>) -> Self {
        Self { text: text.into(), policy: None, seed: None, sampling: None, token_logprobs: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tasks_round_trip_and_say_what_is_wrong() {
        let value = json!({"key":"7","prompt":"p","responses":[
            {"text":"x","policy":"run/10","seed":3,"sampling":{"temperature":0.5},"token_logprobs":[-0.5,-1.0]},
            {"text":"y"}],"policy_version":10,"predicted":0.5,
            "gold":{"said":{"pairwise":{"choice":"a"}}},"calibration":true,"explanation":"e","overlap":3});
        let task: NewTask = serde_json::from_value(value.clone()).unwrap();
        task.validate(TaskKind::Pairwise).unwrap();
        assert_eq!(serde_json::to_value(&task).unwrap(), value);
        assert!(task.validate(TaskKind::Edit).unwrap_err().contains("length 1, found 2"));
        for (key, wrong, wanted) in [
            ("responses", json!([]), "length 2, found 0"),
            ("responses", json!([{"text":"x"},{"text":""}]), "response 2 is empty"),
            ("gold", json!({"said":{"edit":{"text":"z"}}}), "of a edit one"),
            ("gold", json!({"said":{"pairwise":{"choice":"a","strength":5}}}), "`gold`: `strength` is 5"),
            ("gold", json!(null), "needs its `gold`"),
            ("overlap", json!(0), "`overlap` is 0"),
            ("predicted", json!(1.5), "`predicted`"),
            ("prompt", json!([]), "`prompt` is empty"),
        ] {
            let mut value = value.clone();
            value[key] = wrong;
            let task: NewTask = serde_json::from_value(value).unwrap();
            let what = task.validate(TaskKind::Pairwise).unwrap_err();
            assert!(what.contains(wanted), "{what}");
        }
    }

    #[test]
    fn rankings_round_trip() {
        for said in [json!({"ranking":{"ranks":[1,2,2]}}), json!({"ranking":{"all_bad":true}})] {
            let task = json!({"kind":"ranking","prompt":"p","policy_version":0,"calibration":false,
                "responses":[{"text":"x"},{"text":"y"},{"text":"z"}],"gold":{"said":said}});
            let read: NewTask = serde_json::from_value(task.clone()).unwrap();
            read.validate(TaskKind::Pairwise).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), task);
            let mut two = read.clone();
            two.responses.pop();
            assert_eq!(
                two.validate(TaskKind::Pairwise).is_ok(),
                task["gold"]["said"]["ranking"]["ranks"].is_null()
            );
            let equal = Said::Ranking { ranks: vec![1, 1, 1], all_bad: false };
            let gold = Some(Answer { said: equal, rationale: None, flags: vec![], marks: vec![] });
            let equal = NewTask { gold, ..read.clone() };
            assert!(equal.validate(TaskKind::Pairwise).unwrap_err().contains("asks for nothing"));
            two.responses.pop();
            assert!(two.validate(TaskKind::Pairwise).unwrap_err().contains("length 2 to 9, found 1"));
        }
    }
}
