//! The loop of reward models on a tiny model.

use crate::tiny;
use std::path::Path;

use crate::tiny::{curve, host_run, metrics, weights};
use pavlov_engine::Dtype;
use pavlov_lm::{LanguageModel, LoadOptions};
use pavlov_schema::comparison::Choice;
use pavlov_schema::judgment::{Judgment, Response, Verdict};
use pavlov_schema::row::Row;
use pavlov_schema::text::Text;
use pavlov_train::loops::reward_model::{
    self, Head, Kind, RatingLoss, RewardConfig, RewardModel, Ties, prepare, with_head,
};
use pavlov_train::run::{Ending, Event, TrainingConfig};

const NAMES: [&str; 3] = ["Ana", "Ben", "Leo"];

/// Numbers say nothing of the answers: five of them go through every pair of ranks.
fn prompt(i: usize) -> Text {
    Text::Plain(format!("Who has {} apples?\n", i % 5))
}

/// Ana is better than Ben, who is better than Leo.
fn answer(rank: usize) -> Text {
    Text::Plain(format!("{} has apples.", NAMES[rank]))
}

fn comparison(i: usize, a: usize, b: usize, choice: Choice) -> Row {
    let verdict = Verdict::Comparison { choice, strength: None, shown: None };
    let responses = [a, b].map(|rank| Response::new(answer(rank)));
    Row::Judgment(Box::new(Judgment::new(verdict, prompt(i), responses.into())))
}

/// All ordered pairs in turn; equal answers tie.
fn comparisons(n: usize) -> Vec<Row> {
    let row = |i: usize| {
        let (a, b) = (i % 3, i / 3 % 3);
        let choice = match a.cmp(&b) {
            std::cmp::Ordering::Less => Choice::A,
            std::cmp::Ordering::Greater => Choice::B,
            std::cmp::Ordering::Equal => Choice::Tie,
        };
        comparison(i, a, b, choice)
    };
    (0..n).map(row).collect()
}

/// All three answers in each order in turn, Ana the best; in every seventh all are called equal.
fn rankings(n: usize) -> Vec<Row> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let row = |i: usize| {
        let order = orders[i % 6];
        let ranks = order.map(|rank| if i % 7 == 6 { 1 } else { rank as u8 + 1 });
        Row::Ranking { prompt: prompt(i), completions: order.map(answer).to_vec(), ranks: ranks.to_vec() }
    };
    (0..n).map(row).collect()
}

/// Points from 1 (Leo) to 3 (Ana).
fn ratings(n: usize) -> Vec<Row> {
    let row = |i: usize| Row::Rating {
        prompt: prompt(i),
        completion: answer(i % 3),
        score: 3.0 - (i % 3) as f64,
        scale: Some((1.0, 3.0)),
    };
    (0..n).map(row).collect()
}

fn config(output_dir: &Path, kind: Kind, ties: Ties) -> RewardConfig {
    let training = TrainingConfig {
        output_dir: output_dir.to_owned(),
        learning_rate: 1e-2,
        max_steps: 60,
        per_device_train_batch_size: 6,
        logging_steps: 10,
        save_steps: 0,
        ..TrainingConfig::default()
    };
    RewardConfig { training, kind, ties, scalar_learning_rate: 0.1, ..RewardConfig::default() }
}

fn train(
    config: &RewardConfig,
    rows: &[Row],
    held_out: &[Row],
    stop_after: Option<u64>,
) -> (pavlov_train::Result<Ending>, Vec<Event>) {
    let mut model = with_head(tiny::model(), 7).unwrap();
    host_run(stop_after, |host| {
        let lessons = prepare(&model, rows, held_out, config, host)?;
        reward_model::train(&mut model, &lessons, config, host)
    })
}

fn load(folder: &Path) -> RewardModel {
    RewardModel::load(folder, &LoadOptions { dtype: Dtype::F32, threads: 1 }).unwrap()
}

fn finished(
    ending: pavlov_train::Result<Ending>,
) -> (std::path::PathBuf, pavlov_schema::Map<String, pavlov_schema::Value>) {
    match ending {
        Ok(Ending::Finished { model: Some(model), metrics, .. }) => (model, metrics),
        other => panic!("{other:?}"),
    }
}

fn text(text: &Text) -> &str {
    let Text::Plain(text) = text else { panic!("plain") };
    text
}

#[test]
fn comparisons_teach_the_order_and_leave_out_what_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), Kind::Comparisons, Ties::None);
    let mut rows = comparisons(45);
    rows.push(comparison(0, 0, 1, Choice::BothBad));
    let (ending, events) = train(&config, &rows, &comparisons(18), None);
    let (model, last) = finished(ending);
    // A third are ties, and one row says that both are bad.
    let told = |event: &Event| matches!(event, Event::Note(line) if line.contains("16 of 46 rows are left out: no answer"));
    assert!(events.iter().any(told), "{events:?}");
    assert_eq!(last["eval_accuracy"].as_f64(), Some(1.0));
    assert!(
        last["eval_brier"].as_f64().unwrap() < 0.05 && last["eval_ece"].as_f64().unwrap() < 0.2,
        "{last:?}"
    );
    for name in ["loss", "accuracy", "min_reward", "mean_reward", "max_reward", "margin", "grad_norm"] {
        assert_eq!(curve(folder.path(), name).len(), 6, "{name}");
    }

    let mut model = load(&model);
    let prompt = prompt(4);
    let answers = [answer(0), answer(1), answer(2)];
    let asked: Vec<_> = answers.iter().map(|answer| (&prompt, text(answer))).collect();
    let scores = model.scores(&asked).unwrap();
    assert!(scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
    // Sharing the prompt changes no bit.
    let raw = model.raw_scores(&asked).unwrap();
    for (asked, raw) in asked.iter().zip(raw) {
        assert_eq!(model.raw_scores(&[*asked]).unwrap(), [raw]);
    }
    let (a, b) = (text(&answers[0]), text(&answers[2]));
    let p = model.preferences(&[(&prompt, a, b), (&prompt, b, a), (&prompt, a, a)]).unwrap();
    assert!(p[0] > 0.9 && (p[0] + p[1] - 1.0).abs() < 1e-12 && (p[2] - 0.5).abs() < 1e-12, "{p:?}");
}

#[test]
fn rankings_teach_the_order_whole_or_in_pairs() {
    // With a law of ties, and jointly, each two answers of a ranking are a lesson; else it is one itself.
    for (kind, ties, lessons) in [
        (Kind::Comparisons, Ties::None, 36),
        (Kind::Comparisons, Ties::Davidson, 126),
        (Kind::Joint, Ties::None, 126),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), kind, ties);
        let mut model = with_head(tiny::model(), 7).unwrap();
        let mut found = 0;
        let (ending, events) = host_run(None, |host| {
            let prepared = prepare(&model, &rankings(42), &rankings(12), &config, host)?;
            found = prepared.rows.len();
            reward_model::train(&mut model, &prepared, &config, host)
        });
        assert_eq!(found, lessons);
        let told = |event: &Event| matches!(event, Event::Note(line) if line.contains("6 of 42 rows are left out: no answer"));
        assert_eq!(events.iter().any(told), lessons == 36, "{events:?}");

        let (_, last) = finished(ending);
        assert!(last["eval_accuracy"].as_f64().unwrap() > 0.95, "{kind:?} {ties:?}: {last:?}");
        // Of 12 rankings one calls all equal; each of the others decides three pairs.
        assert_eq!(last["eval_decided"].as_f64(), Some(33.0));
    }
}

#[test]
fn ties_are_learned_where_a_law_is_given() {
    for ties in [Ties::Davidson, Ties::RaoKupper] {
        let folder = tempfile::tempdir().unwrap();
        let (ending, _) =
            train(&config(folder.path(), Kind::Comparisons, ties), &comparisons(45), &comparisons(18), None);
        let (model, last) = finished(ending);
        assert_eq!(last["eval_accuracy"].as_f64(), Some(1.0), "{ties:?}");
        // Guessing among three outcomes would cost log 3 = 1.1 nats.
        assert!(last["eval_loss"].as_f64().unwrap() < 0.5, "{ties:?} {last:?}");
        let mut model = load(&model);
        let Head::Comparisons { ties: Some(_), eta } = *model.head() else { panic!("{:?}", model.head()) };
        assert!(eta != 0.0);
        let p = model.preferences(&[(&prompt(1), text(&answer(0)), text(&answer(1)))]).unwrap()[0];
        assert!(p > 0.7, "{ties:?} {p}");
    }
}

#[test]
fn ratings_are_learned_by_both_losses() {
    for loss in [RatingLoss::Ordinal, RatingLoss::Regression] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), Kind::Ratings, Ties::None);
        config.rating_loss = loss;
        let (model, last) = finished(train(&config, &ratings(30), &ratings(9), None).0);
        assert_eq!(last["eval_accuracy"].as_f64(), Some(1.0), "{loss:?} {last:?}");
        assert!(last["eval_mae"].as_f64().unwrap() < 0.3, "{loss:?} {last:?}");
        assert_eq!(last.contains_key("eval_ece"), loss == RatingLoss::Ordinal);
        let mut model = load(&model);
        let prompt = prompt(2);
        let raw = model.raw_scores(&[(&prompt, text(&answer(0))), (&prompt, text(&answer(2)))]).unwrap();
        let [best, worst] = [raw[0], raw[1]].map(|score| model.head().rating(score).unwrap());
        assert!((best - 3.0).abs() < 0.3 && (worst - 1.0).abs() < 0.3, "{best} {worst}");
        assert!(model.preferences(&[(&prompt, text(&answer(0)), text(&answer(2)))]).unwrap()[0] > 0.8);
    }
}

#[test]
fn a_joint_model_says_the_same_in_both_orders() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), Kind::Joint, Ties::None);
    config.training.max_steps = 100;
    let (model, last) = finished(train(&config, &comparisons(45), &comparisons(18), None).0);
    assert_eq!(last["eval_accuracy"].as_f64(), Some(1.0), "{last:?}");
    assert!(!last.contains_key("eval_mean_reward"));
    let mut model = load(&model);
    let prompt = prompt(3);
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        let (a, b) = (answer(a), answer(b));
        let (a, b) = (text(&a), text(&b));
        let p = model.preferences(&[(&prompt, a, b)]).unwrap()[0];
        let q = model.preferences(&[(&prompt, b, a)]).unwrap()[0];
        assert!(p > 0.6 && (p + q - 1.0).abs() <= f64::EPSILON, "{p} {q}");
    }
    let refused = model.scores(&[(&prompt, "Ana has apples.")]).unwrap_err().to_string();
    assert!(refused.contains("judge of pairs"), "{refused}");
}

#[test]
fn a_run_that_stopped_and_resumed_has_the_bytes_of_one_that_did_not() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
    let run = |path: &Path, resume, stop_after| {
        let mut config = config(path, Kind::Comparisons, Ties::Davidson);
        config.training.max_steps = 9;
        config.training.logging_steps = 4;
        config.training.resume_from_checkpoint = resume;
        train(&config, &comparisons(27), &comparisons(9), stop_after).0.unwrap()
    };
    run(&whole, false, None);
    assert!(matches!(run(&parted, false, Some(3)), Ending::Stopped { step: 3, .. }));
    run(&parted, true, None);
    assert_eq!(weights(&whole.join("model")), weights(&parted.join("model")));
    let head = |run: &Path| std::fs::read_to_string(run.join("model/reward_config.json")).unwrap();
    assert_eq!(head(&whole), head(&parted));
    assert_eq!(metrics(&whole), metrics(&parted));
}

#[test]
fn parts_of_an_update_are_the_whole() {
    for (kind, ties) in
        [(Kind::Comparisons, Ties::None), (Kind::Comparisons, Ties::RaoKupper), (Kind::Joint, Ties::None)]
    {
        let run = |rows: usize, parts: usize| {
            let folder = tempfile::tempdir().unwrap();
            let mut config = config(folder.path(), kind, ties);
            config.training.max_steps = 2;
            config.training.logging_steps = 1;
            config.training.per_device_train_batch_size = rows;
            config.training.gradient_accumulation_steps = parts;
            train(&config, &comparisons(27), &[], None).0.unwrap();
            [curve(folder.path(), "loss"), curve(folder.path(), "grad_norm")].concat()
        };
        for (whole, parted) in run(6, 1).into_iter().zip(run(2, 3)) {
            assert!((whole - parted).abs() < 1e-5 * whole, "{kind:?} {whole} {parted}");
        }
    }
}

#[test]
fn answers_beyond_the_context_are_refused_by_the_model_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Comparisons, Kind::Joint] {
        let config = config(&folder.path().join(format!("{kind:?}")), kind, Ties::None);
        let mut model = load(&finished(train(&config, &comparisons(4), &[], None).0).0);
        let long = "Ana has 3 apples. ".repeat(30);
        let error = model.preferences(&[(&prompt(0), "Ana.", &long)]).unwrap_err().to_string();
        assert!(error.starts_with("reward model: has a context of 128 tokens"), "{error}");
    }
}

#[test]
fn wrong_rows_and_models_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        |config: &RewardConfig, rows: &[Row]| train(config, rows, &[], None).0.unwrap_err().to_string();
    let bradley_terry = config(folder.path(), Kind::Comparisons, Ties::None);
    let message = error(&bradley_terry, &ratings(2));
    assert!(message.contains("row 1: is no comparison"), "{message}");
    let message = error(&config(folder.path(), Kind::Ratings, Ties::None), &comparisons(2));
    assert!(message.contains("row 1: is no rating"), "{message}");
    let preference = Row::Preference {
        prompt: Some(prompt(0)),
        chosen: answer(0),
        rejected: answer(1),
        margin: Some(1.0),
        tie: false,
    };
    let message =
        error(&config(folder.path(), Kind::Comparisons, Ties::Davidson), std::slice::from_ref(&preference));
    assert!(message.contains("row 1: has a margin"), "{message}");
    let half = Row::Rating { prompt: prompt(0), completion: answer(0), score: 1.5, scale: Some((1.0, 3.0)) };
    let message = error(&config(folder.path(), Kind::Ratings, Ties::None), &[half]);
    assert!(message.contains("row 1: rates 1.5") && message.contains("regression"), "{message}");
    let mut short = bradley_terry;
    short.max_length = 3;
    assert!(error(&short, &[preference]).contains("no row to learn from"));
    let model: LanguageModel = tiny::model();
    let path = folder.path().join("language");
    model.save(&path, pavlov_lm::SaveDtype::F32).unwrap();
    let refused = RewardModel::load(&path, &LoadOptions { dtype: Dtype::F32, threads: 1 });
    assert!(refused.is_err_and(|e| e.to_string().contains("scalar outputs")));
}
