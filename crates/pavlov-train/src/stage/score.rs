//! [`Rollout`] → [`Scored`]: what each answer earned, from rules, programs, reward models or a function.

use pavlov_schema::rollout::{Prompt, Rollout, Scored};

use crate::loops::reward_model::RewardModel;
use crate::reward::{Completion, Part, People, ProgramReward, RuleReward, Waiting, mix};
use crate::{Error, Result};

/// Points of a function of this program: simulated people, and tests.
pub type RewardFunction = Box<dyn FnMut(&Prompt, &Rollout) -> Result<Option<f64>>>;

/// A verdict of a function of this program: P(the first answer is better). The number of the update and of the
/// pair in its batch name the random numbers of a simulated rater.
pub type JudgeFunction = Box<dyn FnMut(&Prompt, [&Rollout; 2], u64, usize) -> Result<f64>>;

/// What gives points.
pub enum Source {
    /// A built-in rule.
    Rule(RuleReward),
    /// A program that is asked in JSON lines.
    Program(ProgramReward),
    /// A reward model with one score an answer.
    Model(Box<RewardModel>),
    /// People, who are asked first ([`ask`]).
    People(Box<People>),
    /// A function of this program.
    Function(RewardFunction),
}

/// One of the rewards of a run.
pub struct Reward {
    /// Its name in metrics and rollout files.
    pub name: String,
    /// What its points are multiplied with in the sum.
    pub weight: f64,
    /// What gives the points.
    pub source: Source,
}

/// Who says which of two answers is better.
pub enum Judge {
    /// The answer whose weighted points are more; equal points are a tie.
    Rewards(Vec<Reward>),
    /// A reward model of ours: a joint one reads both answers, a scalar one gives σ(difference) (Bradley-Terry).
    Model(Box<RewardModel>),
    /// A program that is asked about pairs in JSON lines.
    Program(ProgramReward),
    /// People, who are asked first ([`ask`]).
    People(Box<People>),
    /// A function of this program.
    Function(JudgeFunction),
}

/// What a judge said about a batch of pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The answers, two of a pair together. Where the judge gives points, they are the reward; a judge who only
    /// compares gives each answer its own probability to be the better one.
    pub scored: Vec<Scored>,
    /// P(the first is better), one per pair.
    pub first_better: Vec<f64>,
}

impl Reward {
    /// What gives the points, in words that differ where the points do, as far as that can be seen: a program is known by its
    /// arguments, a function of this program by its name alone.
    pub fn identity(&self) -> String {
        let source = match &self.source {
            Source::Rule(rule) => format!("{rule:?}"),
            Source::Program(program) => program.name().to_owned(),
            Source::Model(model) => model.identity(),
            Source::People(_) | Source::Function(_) => String::new(),
        };
        format!("{} × {}: {source}", self.weight, self.name)
    }

    fn score(&mut self, prompts: &[Prompt], rollouts: &[Rollout]) -> Result<Part> {
        let completions = || rollouts.iter().map(|rollout| completion(prompts, rollout)).collect::<Vec<_>>();
        let rewards = match &mut self.source {
            Source::Rule(rule) => rule.score(&completions())?,
            Source::Program(program) => program.score(&completions())?,
            Source::Model(model) => {
                let answers: Vec<_> = rollouts
                    .iter()
                    .map(|rollout| (&prompts[rollout.prompt_index].prompt, rollout.completion.as_str()))
                    .collect();
                model.scores(&answers)?.into_iter().map(Some).collect()
            }
            Source::People(people) => people.points(rollouts)?.into_iter().map(Some).collect(),
            Source::Function(function) => rollouts
                .iter()
                .map(|rollout| function(&prompts[rollout.prompt_index], rollout))
                .collect::<Result<_>>()?,
        };
        Ok(Part { name: self.name.clone(), weight: self.weight, rewards })
    }
}

fn completion<'a>(prompts: &'a [Prompt], rollout: &'a Rollout) -> Completion<'a> {
    let prompt = &prompts[rollout.prompt_index];
    Completion {
        prompt: &prompt.prompt,
        text: &rollout.completion,
        tokens: rollout.tokens.len(),
        columns: &prompt.columns,
    }
}

/// Sends the answers to the people among the rewards and waits for them. How many were left without an answer; `None`: `waiting`
/// said no. Where no person is asked it returns at once.
pub fn ask(
    rewards: &mut [Reward],
    prompts: &[Prompt],
    rollouts: &[Rollout],
    waiting: &mut dyn FnMut(Waiting) -> bool,
) -> Result<Option<usize>> {
    let mut left = 0;
    for reward in rewards {
        if let Source::People(people) = &mut reward.source {
            let Some(more) = people.ask_each(prompts, rollouts, waiting)? else { return Ok(None) };
            left += more;
        }
    }
    Ok(Some(left))
}

/// The weighted sum of every reward, for each rollout. `prompts` is the whole data set, which
/// [`Rollout::prompt_index`] points into.
pub fn score(rewards: &mut [Reward], prompts: &[Prompt], rollouts: Vec<Rollout>) -> Result<Vec<Scored>> {
    let parts: Vec<Part> =
        rewards.iter_mut().map(|reward| reward.score(prompts, &rollouts)).collect::<Result<_>>()?;
    let mixed = mix(&parts, rollouts.len())?;
    let scored = rollouts.into_iter().zip(mixed);
    Ok(scored.map(|(rollout, m)| Scored { rollout, reward: m.reward, parts: m.parts }).collect())
}

/// Asks the judge about each two consecutive rollouts. `step` is the number of the update, from 1.
pub fn judge(judge: &mut Judge, prompts: &[Prompt], rollouts: Vec<Rollout>, step: u64) -> Result<Judged> {
    assert!(rollouts.len().is_multiple_of(2), "a judge compares two answers");
    let pairs = || rollouts.chunks_exact(2);
    let prompt_of = |pair: &[Rollout]| &prompts[pair[0].prompt_index];
    let first_better: Vec<f64> = match judge {
        Judge::Rewards(rewards) => {
            let scored = score(rewards, prompts, rollouts)?;
            let first_better =
                scored.chunks_exact(2).map(|pair| more(pair[0].reward, pair[1].reward)).collect();
            return Ok(Judged { scored, first_better });
        }
        Judge::Model(model) => {
            let asked: Vec<_> = pairs()
                .map(|pair| {
                    (&prompt_of(pair).prompt, pair[0].completion.as_str(), pair[1].completion.as_str())
                })
                .collect();
            model.preferences(&asked)?
        }
        Judge::Program(program) => {
            let asked: Vec<_> =
                pairs().map(|pair| [completion(prompts, &pair[0]), completion(prompts, &pair[1])]).collect();
            program.prefer(&asked)?
        }
        Judge::People(people) => people.preferences(&rollouts)?,
        Judge::Function(function) => pairs()
            .enumerate()
            .map(|(i, pair)| function(prompt_of(pair), [&pair[0], &pair[1]], step, i))
            .collect::<Result<_>>()?,
    };
    if let Some((pair, p)) = first_better.iter().enumerate().find(|(_, p)| !(0.0..=1.0).contains(*p)) {
        let problem = format!("gave pair {pair} the probability {p}; it must lie in [0, 1]");
        return Err(Error::Setting { key: "judge".into(), problem });
    }
    let own = first_better.iter().flat_map(|&p| [p, 1.0 - p]);
    let scored = |(rollout, p)| Scored { rollout, reward: p, parts: vec![("judge".to_owned(), p)] };
    let scored = rollouts.into_iter().zip(own).map(scored).collect();
    Ok(Judged { scored, first_better })
}

/// P(first is better) when more points are better for sure.
fn more(first: f64, second: f64) -> f64 {
    if first > second {
        1.0
    } else if first < second {
        0.0
    } else {
        0.5
    }
}
