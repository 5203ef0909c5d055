//! From a log of answers to the figures of the page.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use pavlov_feedback::quality::plots::plots;
use pavlov_feedback::quality::{Cache, Quality};
use pavlov_feedback::reply::{Pick, Reply, ScreenSaid};
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_feedback::store::{NewProject, ProjectId, Served, Submission};
use pavlov_feedback::{Clock, Store};
use pavlov_schema::feedback::{Learned, NewResponse, NewTask};
use pavlov_schema::rng::{Rng, Stream};
use pavlov_schema::text::Text;

/// 90 pairs, five people each: four see which answer is better nine times in ten, the last presses left.
/// The order of the answers is the system's to draw: bounds below are four standard errors away or more.
fn place() -> (tempfile::TempDir, Store, ProjectId) {
    let folder = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicI64::new(1_800_000_000_000));
    let store = Store::open(&folder.path().join("feedback.db"), Clock::set_by(time)).unwrap();
    let settings = Settings {
        overlap: 5,
        shared_share: 0.0,
        max_overlap: 5,
        gold_share: 0.0,
        repeat_share: 0.0,
        ..Settings::default()
    };
    let owner = store.write_now(|w| w.create_account("owner", None, true)).unwrap().id;
    let new = NewProject { name: "worlds".into(), settings, guidelines: String::new() };
    let project = store.write_now(move |w| w.create_project(&new, owner)).unwrap().id;
    let tasks: Vec<NewTask> = (0..90)
        .map(|i| {
            let answer = |policy: &str| NewResponse {
                policy: Some(policy.into()),
                ..NewResponse::new(
                    format!("What the policy {} says to {i}", if policy == "good" { "one" } else { "two" })
                        .as_str(),
                )
            };
            // Were the better answer always the first, there would be one true class, and nothing for Dawid-Skene to tell apart.
            let mut answers = vec![answer("good"), answer("poor")];
            answers.rotate_left(i % 2);
            NewTask::new(format!("question {i}").as_str().into(), answers)
        })
        .collect();
    store.write_now(move |w| w.add_tasks(project, &tasks)).unwrap();
    for person in 0..5_u64 {
        let name = format!("rater{person}");
        let rater = store
            .write_now(move |w| {
                let account = w.create_account(&name, None, false)?.id;
                w.set_member(project, account, Role::Rater)?;
                Ok(account)
            })
            .unwrap();
        for turn in 0.. {
            let Served::Task(lease) = store.write_now(move |w| w.claim(project, rater)).unwrap() else {
                break;
            };
            let Text::Plain(left) = &lease.responses[0].text else { panic!("plain text was sent") };
            let good_left = left.contains("one");
            let right = Rng::new(0, Stream::Judge, person, turn).uniform_f64() < 0.9;
            let pick = if person == 4 || good_left == right { Pick::Left } else { Pick::Right };
            let said = ScreenSaid::Pairwise { pick, strength: None, edit: None };
            let reply = Reply { said, rationale: None, flags: Vec::new(), marks: Vec::new() };
            let active_ms = if person == 4 { 300 } else { 6_000 };
            let submission =
                Submission { lease: lease.code.clone(), key: format!("{turn}"), reply, active_ms };
            store.write_now(move |w| w.submit(rater, submission)).unwrap();
        }
    }
    (folder, store, project)
}

#[test]
fn a_careless_rater_and_the_better_policy_are_found() {
    let (_folder, store, project) = place();
    let cache = Cache::default();
    let quality = cache.get(&store, project).unwrap();
    assert_eq!((quality.answers, quality.excluded, quality.days.len()), (450, 0, 1));
    assert_eq!(quality.policies[0].policy, "good");
    assert!(quality.policies[0].strength.low > 0.0, "{:?}", quality.policies);
    let agreement = &quality.agreement[0];
    assert_eq!((agreement.question.as_str(), agreement.items), ("choice", 90));
    // Four of ten pairs of people agree by chance alone; the others 82 times in 100.
    assert!((0.6..0.78).contains(&agreement.raw.unwrap().value), "{agreement:?}");
    for rater in &quality.raters {
        let careless = rater.rater == quality.raters[4].rater;
        assert_eq!(rater.straight_lining, careless, "{rater:?}");
        assert_eq!(rater.too_fast > 0.5, careless, "{rater:?}");
        assert_eq!(rater.left_p.unwrap() < 1e-6, careless, "{rater:?}");
        assert_eq!(rater.dawid_skene.unwrap() > 0.75, !careless, "{rater:?}");
    }
    // Of two verdicts and five people, most always agree.
    assert!(quality.disagreements.is_empty());
    // The same log gives the same object, not a second computation.
    assert!(Arc::ptr_eq(&quality, &cache.get(&store, project).unwrap()));
}

#[test]
fn an_exclusion_is_counted_and_leaves_the_figures() {
    let (_folder, store, project) = place();
    let cache = Cache::default();
    let before = cache.get(&store, project).unwrap();
    store
        .write_now(move |w| {
            let members = w.members(project)?;
            let owner = w.account_named("owner")?.unwrap().id;
            let careless = members.iter().find(|member| member.name == "rater4").unwrap().account;
            w.exclude(project, careless, None, "presses left", owner)
        })
        .unwrap();
    let after = cache.get(&store, project).unwrap();
    assert_eq!((after.answers, after.excluded), (360, 90));
    let raw = |quality: &Quality| quality.agreement[0].raw.unwrap().value;
    assert!(raw(&after) > raw(&before) + 0.05);
    assert!(after.position.unwrap().p > before.position.unwrap().p);
}

#[test]
fn plots_are_in_the_colours_of_the_page_and_have_titles() {
    let (_folder, store, project) = place();
    let quality = Cache::default().get(&store, project).unwrap();
    let lesson = |run: &str, judgments, accuracy: f64| Learned {
        run: run.into(),
        cursor: judgments + 20,
        judgments,
        held_out: 50,
        accuracy,
        low: accuracy - 0.1,
        high: accuracy + 0.1,
    };
    let lessons = vec![lesson("a", 100, 0.55), lesson("a", 200, 0.7), lesson("b", 200, 0.8)];
    let plots = plots(&Quality { lessons, ..(*quality).clone() });
    let names: Vec<&str> = plots.iter().map(|plot| plot.name).collect();
    assert_eq!(names, ["throughput", "agreement", "strengths", "position", "lessons"]);
    for plot in plots {
        assert!(
            plot.svg.starts_with("<svg class=\"plot\" role=\"img\"") && plot.svg.ends_with("</svg>\n"),
            "{}",
            plot.svg
        );
        assert!(plot.svg.contains(&format!("<title>{}</title>", plot.title)), "{}", plot.svg);
        assert!(plot.svg.contains("plot-mark") && !plot.svg.contains("#0"), "{}", plot.svg);
        assert!(plot.svg.len() < 40_000);
        if let Some(folder) = option_env!("PLOTS") {
            std::fs::write(format!("{folder}/{}.svg", plot.name), &plot.svg).unwrap();
        }
    }
    assert!(pavlov_feedback::quality::plots::plots(&Quality::default()).is_empty());
}
