//! From a log of answers to the figures of the page.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use pavlov_feedback::quality::plots::plots;
use pavlov_feedback::quality::{Cache, Quality};
use pavlov_feedback::reply::{Pick, Reply, ScreenSaid, ScreenScore};
use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::{Question, Scale, Settings};
use pavlov_feedback::stats::Interval;
use pavlov_feedback::stats::style::Style;
use pavlov_feedback::store::{AccountId, Lease, NewProject, ProjectId, Served, Submission};
use pavlov_feedback::{Clock, Store};
use pavlov_schema::feedback::{Learned, NewResponse, NewTask, TaskKind};
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
    assert_eq!(names, ["throughput", "agreement", "strengths", "position", "crowd", "lessons"]);
    for plot in plots {
        assert!(
            plot.svg.starts_with("<svg class=\"plot\" role=\"img\"") && plot.svg.ends_with("</svg>\n"),
            "{}",
            plot.svg
        );
        assert!(plot.svg.contains(&format!("<title>{}</title>", plot.title)), "{}", plot.svg);
        assert!(plot.svg.contains("plot-mark") && !plot.svg.contains("#0"), "{}", plot.svg);
        assert!(plot.svg.len() < 40_000);
        // How far people agree is what no reward model of theirs can pass.
        assert_eq!(plot.svg.contains("people with people"), plot.name == "lessons");
        if let Some(folder) = option_env!("PLOTS") {
            std::fs::write(format!("{folder}/{}.svg", plot.name), &plot.svg).unwrap();
        }
    }
    assert!(pavlov_feedback::quality::plots::plots(&Quality::default()).is_empty());
}

/// What a rater is shown, and what is made of it, until there is nothing left.
fn rates(store: &Store, project: ProjectId, rater: AccountId, said: impl Fn(&Lease) -> ScreenSaid) -> usize {
    for turn in 0.. {
        let Served::Task(lease) = store.write_now(move |w| w.claim(project, rater)).unwrap() else {
            return turn;
        };
        let reply = Reply { said: said(&lease), rationale: None, flags: Vec::new(), marks: Vec::new() };
        let submission = Submission { lease: lease.code.clone(), key: lease.code, reply, active_ms: 6_000 };
        store.write_now(move |w| w.submit(rater, submission)).unwrap();
    }
    0
}

fn plain_text(lease: &Lease, place: usize) -> &str {
    let Text::Plain(text) = &lease.responses[place].text else { panic!("plain text was sent") };
    text
}

/// An empty project with people in it.
fn project(settings: Settings, people: &[&str]) -> (tempfile::TempDir, Store, ProjectId, Vec<AccountId>) {
    let folder = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicI64::new(1_800_000_000_000));
    let store = Store::open(&folder.path().join("feedback.db"), Clock::set_by(time)).unwrap();
    let settings = Settings { shared_share: 0.0, gold_share: 0.0, repeat_share: 0.0, ..settings };
    let people: Vec<String> = people.iter().map(ToString::to_string).collect();
    let made = store.write_now(move |w| {
        let owner = w.create_account("owner", None, true)?.id;
        let new = NewProject { name: "worlds".into(), settings, guidelines: String::new() };
        let project = w.create_project(&new, owner)?.id;
        let join = |w: &mut pavlov_feedback::store::Write<'_>, name: &String| {
            let account = w.create_account(name, None, false)?.id;
            w.set_member(project, account, Role::Rater)?;
            Ok(account)
        };
        let raters = people.iter().map(|name| join(w, name)).collect::<pavlov_feedback::Result<Vec<_>>>()?;
        Ok((project, raters))
    });
    let (project, raters) = made.unwrap();
    (folder, store, project, raters)
}

fn of(policy: &str, text: &str) -> NewResponse {
    NewResponse { policy: Some(policy.into()), ..NewResponse::new(text) }
}

#[test]
fn who_likes_lists_is_allowed_for_from_the_text_to_the_figures() {
    let settings = Settings { overlap: 3, max_overlap: 3, ..Settings::default() };
    let (_folder, store, project, raters) = project(settings, &["a", "b", "c"]);
    // Both policies say as much; "listy" says it in a list six times in ten, "plain" once.
    let task = |i: usize| {
        let text = |listed: bool, who: &str| {
            let [one, two] =
                [format!("the {who} key of {i} lies in a tin"), "that tin is in the shed".into()];
            // Length is another matter.
            let more = " at the end of the day".repeat((i + who.len() / 4) * 7 % 5);
            if listed { format!("- {one}\n- {two}{more}") } else { format!("{one}, {two}{more}") }
        };
        let (plain, listy) = (text(i % 10 == 6, "red"), text(i % 10 < 6, "aged"));
        NewTask::new(format!("question {i}").as_str().into(), vec![of("plain", &plain), of("listy", &listy)])
    };
    let tasks: Vec<NewTask> = (0..80).map(task).collect();
    store.write_now(move |w| w.add_tasks(project, &tasks)).unwrap();
    for (person, rater) in raters.into_iter().enumerate() {
        let said = |lease: &Lease| {
            let [left, right] = [0, 1].map(|place| plain_text(lease, place));
            // Seven times in eight the list; where there is none, the one as often as the other.
            let lists = [left, right].map(|text| text.starts_with('-'));
            let listy_left = left.contains("aged");
            let Text::Plain(question) = &lease.prompt else { panic!("plain text was sent") };
            let number: usize = question.trim_start_matches("question ").parse().unwrap();
            let likes_list = !(number / 10 * 3 + person).is_multiple_of(8);
            let likes_listy = match (lists[usize::from(!listy_left)], lists[usize::from(listy_left)]) {
                (true, false) => likes_list,
                (false, true) => !likes_list,
                _ => (number / 10 + number + person).is_multiple_of(2),
            };
            let pick = if likes_listy == listy_left { Pick::Left } else { Pick::Right };
            ScreenSaid::Pairwise { pick, strength: None, edit: None }
        };
        assert_eq!(rates(&store, project, rater, said), 80);
    }
    let quality = Cache::default().get(&store, project).unwrap();
    let listy = &quality.policies[0];
    assert!(listy.policy == "listy" && listy.strength.low > 0.0, "{listy:?}");
    let controlled = listy.at_equal_style.unwrap();
    assert!(controlled.value.abs() < 0.3 * listy.strength.value && controlled.low < 0.0, "{listy:?}");
    let terms: Vec<Style> = quality.style.iter().map(|one| one.style).collect();
    assert_eq!(terms, [Style::Length, Style::Lists], "nothing is said of headings that nobody wrote");
    let lists = quality.style[1].effect;
    assert!(lists.log_odds.low > 0.5 && lists.p < 1e-6, "{lists:?}");
    assert!(quality.raters.iter().all(|rater| rater.crowd_bt.is_some()));
}

#[test]
fn a_strict_rater_is_allowed_for_where_policies_are_rated() {
    let question = Question {
        name: "good".into(),
        text: "How good is it?".into(),
        scale: Scale::Likert5,
        anchors: ["bad".into(), "good".into()],
    };
    let settings = Settings {
        kind: TaskKind::Pointwise,
        questions: vec![question],
        overlap: 1,
        max_overlap: 2,
        ..Settings::default()
    };
    let (_folder, store, project, raters) = project(settings, &["strict", "generous"]);
    let (strict, generous) = (raters[0], raters[1]);
    // A good answer is worth 3 points, a poor one 2; the strict rater gives one less, the generous one more.
    let rate = |rater: AccountId| {
        let said = |lease: &Lease| {
            let worth = if plain_text(lease, 0).contains("good") { 3.0 } else { 2.0 };
            let value = if rater == strict { worth - 1.0 } else { worth + 1.0 };
            ScreenSaid::Pointwise { scores: vec![ScreenScore { question: "good".into(), value }] }
        };
        rates(&store, project, rater, said)
    };
    let add = |n: usize, policies: &[&str], overlap| {
        let task = |i: usize| {
            let policy = policies[i % policies.len()];
            let text = format!("a {policy} answer {i} of {}", policies.len());
            NewTask { overlap: Some(overlap), ..NewTask::new(text.as_str().into(), vec![of(policy, &text)]) }
        };
        let tasks: Vec<NewTask> = (0..n).map(task).collect();
        store.write_now(move |w| w.add_tasks(project, &tasks)).unwrap();
    };
    // The strict one rates the good policy, mostly, the generous one the poor.
    add(40, &["good"], 1);
    assert_eq!(rate(strict), 40);
    add(40, &["poor"], 1);
    assert_eq!(rate(generous), 40);
    add(30, &["good", "poor"], 2);
    assert_eq!((rate(strict), rate(generous)), (30, 30));
    let quality = Cache::default().get(&store, project).unwrap();
    let severity: Vec<f64> = quality.raters.iter().map(|rater| rater.severity.unwrap()).collect();
    // ±1, drawn towards 0 by the pseudo-rating: 30/31.
    assert!((severity[0] + 30.0 / 31.0).abs() < 1e-9 && (severity[0] + severity[1]).abs() < 1e-9);
    let [good, poor] = [&quality.ratings[0], &quality.ratings[1]];
    assert_eq!((good.policy.as_str(), poor.policy.as_str()), ("good", "poor"));
    assert_eq!((good.question.as_str(), good.ratings, poor.ratings), ("good", 70, 70));
    let value = |mean: Option<Interval>| mean.unwrap().value;
    // Of 70 good answers 55 were rated by the strict one: 3 − 40/70, and 2 + 40/70.
    assert!((value(good.mean) - (3.0 - 4.0 / 7.0)).abs() < 1e-9);
    assert!((value(poor.mean) - (2.0 + 4.0 / 7.0)).abs() < 1e-9, "the poor policy seems better");
    assert!((value(good.corrected) - 3.0).abs() < 0.02 && (value(poor.corrected) - 2.0).abs() < 0.02);
}

#[test]
fn repeats_tell_how_consistent_a_rater_is() {
    let settings = Settings { overlap: 1, max_overlap: 1, ..Settings::default() };
    let (_folder, store, project, raters) = project(settings, &["steady", "left"]);
    let settings = store.read_now(move |r| Ok(r.project(project)?.settings.clone())).unwrap();
    let settings = Settings { repeat_share: 0.5, repeat_after: 3, ..settings };
    store.write_now(move |w| w.set_settings(project, &settings)).unwrap();
    for (person, rater) in raters.into_iter().enumerate() {
        let tasks: Vec<NewTask> = (0..40)
            .map(|i| {
                let prompt = format!("question {i} to {person}");
                NewTask::new(prompt.as_str().into(), vec![of("one", "the first"), of("two", "the second")])
            })
            .collect();
        store.write_now(move |w| w.add_tasks(project, &tasks)).unwrap();
        let said = |lease: &Lease| {
            let first_left = plain_text(lease, 0) == "the first";
            let pick = if person == 1 || first_left { Pick::Left } else { Pick::Right };
            ScreenSaid::Pairwise { pick, strength: None, edit: None }
        };
        rates(&store, project, rater, said);
    }
    let quality = Cache::default().get(&store, project).unwrap();
    // The repeat is swapped: who presses left again says the opposite.
    let consistency: Vec<f64> = quality.raters.iter().map(|rater| rater.consistency.unwrap().value).collect();
    assert_eq!(consistency, [1.0, 0.0]);
    assert!(quality.raters.iter().all(|rater| rater.answers > 40), "{:?}", quality.raters);
}
