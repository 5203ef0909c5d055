//! People as the reward, one path after another: ratings, several people, too many tasks, second thoughts, nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pavlov_feedback::roles::Role;
use pavlov_feedback::settings::Settings;
use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::TaskKind;
use pavlov_schema::rollout::{Credited, Finish, Prompt, Rollout};
use pavlov_schema::text::Text;
use pavlov_schema::{Map, dataset};
use pavlov_train::reward::feedback_client::FeedbackSettings;
use pavlov_train::reward::{OnTimeout, People, PeopleSettings, Waiting};
use pavlov_worlds::{Config, Split, World, generate};
use serde_json::{Value, json};

use crate::client::Client;
use crate::learn::shown;
use crate::place::{Place, Ran};
use crate::raters::{Person, Raters, picked, texts};
use crate::server::{self, PROJECT};

fn place(settings: Settings) -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path(), settings);
    (folder, place)
}

fn worlds() -> Vec<World> {
    (0..8).map(|i| generate(81, i, &Config::demo(), Split::Train)).collect()
}

fn judge(mut more: Value) -> Value {
    let mut judge = json!({"people": PROJECT, "timeout": 60});
    judge.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    judge
}

/// As people see it.
fn text(answer: &Credited) -> String {
    shown(&answer.scored.rollout.completion)
}

fn plain(text: &Text) -> &str {
    let Text::Plain(text) = text else { panic!("{text:?}") };
    text
}

/// 1 to 5, by the letters alone.
fn stars(text: &str) -> f64 {
    (1 + text.bytes().map(u32::from).sum::<u32>() % 5).into()
}

fn rating() -> Person {
    Arc::new(|_, task| {
        let value = stars(task["responses"][0]["text"].as_str().unwrap());
        json!({"pointwise": {"scores": [{"question": "quality", "value": value}]}})
    })
}

/// Of two texts, who of the people finds the first better: one likes the earlier letter, the other what is longer.
fn taste(person: usize, first: &str, second: &str) -> f64 {
    let order = if person == 0 { second.cmp(first) } else { first.len().cmp(&second.len()) };
    match order {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    }
}

fn tasting() -> Person {
    Arc::new(|person, task| {
        let [left, right] = texts(task);
        picked(taste(person, left, right))
    })
}

#[test]
fn ratings_are_what_grpo_learns_from() {
    let (_folder, place) = place(server::settings());
    let raters = Raters::start(&place.server, 2, &rating());
    let rewards =
        json!({"rewards": [judge(json!({}))], "num_generations": 4, "per_device_train_batch_size": 16});
    let ran = place.reward(&worlds(), rewards).unwrap();
    assert_eq!(raters.end(), 16);
    for group in ran.answers.chunks(4) {
        let points: Vec<f64> = group.iter().map(|answer| (stars(&text(answer)) - 1.0) / 4.0).collect();
        let mean = points.iter().sum::<f64>() / 4.0;
        for (answer, points) in group.iter().zip(points) {
            assert!((answer.scored.reward - points).abs() < 1e-12, "{}", text(answer));
            assert!(answer.advantage * (points - mean) >= 0.0, "{} of mean {mean}", answer.advantage);
        }
    }
    assert!(ran.answers.iter().any(|answer| answer.advantage != 0.0));
}

#[test]
fn of_several_people_the_mean_counts_however_few_tasks_may_wait() {
    // Eight pairs, and the project takes three at a time. Nobody else is there to ask where two disagree.
    let (_folder, place) = place(Settings { max_open_tasks: 3, max_overlap: 2, ..server::settings() });
    let raters = Raters::start(&place.server, 2, &tasting());
    let more = json!({"judge": judge(json!({"overlap": 2})), "per_device_train_batch_size": 16});
    let ran = place.reward(&worlds(), more).unwrap();
    assert_eq!(raters.end(), 16, "each answered each");
    let mut split = 0;
    for pair in ran.answers.chunks(2) {
        let [first, second] = [text(&pair[0]), text(&pair[1])];
        let each = [0, 1].map(|person| taste(person, &first, &second));
        let mean = f64::midpoint(each[0], each[1]);
        assert!((pair[0].scored.reward - mean).abs() < 1e-12, "{first} / {second}: {each:?}");
        split += usize::from((each[0] - each[1]).abs() > 0.9);
    }
    assert!(split > 0, "they never disagreed");
    let task = json!({"prompt": "x", "responses": [{"text": "a"}, {"text": "b"}]});
    let tasks: Vec<&Value> = std::iter::repeat_n(&task, 4).collect();
    assert!(place.trainer.try_post("tasks", &json!({ "tasks": tasks })).is_none(), "four are too many");
}

/// Claims, and answers with the left or the right one.
struct Hand {
    client: Client,
}

impl Hand {
    fn new(place: &Place, name: &str, role: Role) -> Self {
        Self { client: Client::new(&place.server.url(), &place.server.token(name, role)) }
    }

    /// The next task; waits for one.
    fn claim(&self) -> Value {
        loop {
            let task = self.client.post("claim", &json!({}))["task"].take();
            if task.is_object() {
                return task;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn submit(&self, task: &Value, left: f64) {
        let lease = task["lease"].as_str().unwrap();
        let body = json!({"reply": {"said": picked(left)}, "key": lease, "active_ms": 3000});
        self.client.post(&format!("leases/{lease}/submit"), &body);
    }

    fn correct(&self, task: &Value, left: f64) {
        let path = format!("answers/{}/correct", task["task"].as_str().unwrap());
        self.client.post(&path, &json!({"reply": {"said": picked(left)}, "key": "correct", "active_ms": 1}));
    }

    fn decide(&self, task: &Value, first: f64) {
        let path = format!("tasks/{}/adjudicate", task["task"].as_str().unwrap());
        self.client.post(&path, &json!({"reply": {"said": picked(first)}, "key": "decide", "active_ms": 1}));
    }

    fn retract(&self, task: &Value) {
        let path = format!("answers/{}/retract", task["task"].as_str().unwrap());
        self.client.post(&path, &json!({"reason": "a slip", "key": "retract"}));
    }
}

/// What the first of each pair earned, in halves, by the text of both.
fn earned(ran: &Ran) -> BTreeMap<[String; 2], i64> {
    let pairs = ran.answers.chunks(2).flat_map(|pair| {
        let first = (2.0 * pair[0].scored.reward) as i64;
        let texts = [text(&pair[0]), text(&pair[1])];
        let turned = [texts[1].clone(), texts[0].clone()];
        [(texts, first), (turned, 2 - first)]
    });
    pairs.collect()
}

fn pair(task: &Value) -> [String; 2] {
    texts(task).map(str::to_owned)
}

/// Long enough for a run to have read what was said.
const HEARD: Duration = Duration::from_millis(600);

#[test]
fn second_thoughts_count_while_the_run_waits() {
    let (_folder, place) = place(server::settings());
    let [ana, ben] = ["ana", "ben"].map(|name| Hand::new(&place, name, Role::Rater));
    let rita = Hand::new(&place, "rita", Role::Reviewer);
    let more = json!({"judge": judge(json!({})), "per_device_train_batch_size": 8});
    let (pairs, ran) = std::thread::scope(|scope| {
        let run = scope.spawn(|| place.reward(&worlds(), more).unwrap());
        let [first, second, third] = [(); 3].map(|()| {
            let task = ana.claim();
            ana.submit(&task, 1.0);
            task
        });
        let fourth = ana.claim();
        std::thread::sleep(HEARD);
        ana.correct(&first, 0.0);
        ana.retract(&second);
        rita.decide(&third, 0.5);
        // Others may answer what was taken back; the run waits for it again.
        let again = ben.claim();
        assert_eq!(again["task"], second["task"]);
        ana.submit(&fourth, 1.0);
        std::thread::sleep(HEARD);
        ben.submit(&again, 0.0);
        ([first, again, third, fourth].map(|task| pair(&task)), run.join().unwrap())
    });
    let earned = earned(&ran);
    assert_eq!(pairs.map(|pair| earned[&pair]), [0, 0, 1, 2]);
}

#[test]
fn what_nobody_judges_in_time_is_left_and_taken_back() {
    let (_folder, place) = place(server::settings());
    let run = |patience: Value| {
        place.reward(&worlds(), json!({"judge": judge(patience), "per_device_train_batch_size": 6}))
    };
    let error = run(json!({"timeout": 0.3})).err().unwrap();
    assert!(error.contains("3 of 3 answers are missing and none came for 0.3 s"), "{error}");
    assert_eq!(place.trainer.get("progress")["open"], 3, "they stay with the raters");

    // The same questions: one is answered, one too late, one never.
    let ana = Hand::new(&place, "ana", Role::Rater);
    let (in_time, late, ran) = std::thread::scope(|scope| {
        let run = scope.spawn(|| run(json!({"timeout": 1.5, "on_timeout": "skip"})).unwrap());
        let in_time = ana.claim();
        ana.submit(&in_time, 1.0);
        let late = ana.claim();
        (in_time, late, run.join().unwrap())
    });
    assert!(ran.notes.iter().any(|note| note.contains("nobody judged 2 of them")), "{:?}", ran.notes);
    assert_eq!(earned(&ran)[&pair(&in_time)], 2);
    let taught = |ran: &Ran| ran.answers.iter().filter(|answer| answer.advantage != 0.0).count();
    assert_eq!(taught(&ran), 2);
    let progress = place.trainer.get("progress");
    assert_eq!([&progress["withdrawn"], &progress["open"]], [2, 0], "{progress}");

    // What comes late is in the log, and counts for whoever asks again; what was taken back is waited for no more.
    ana.submit(&late, 1.0);
    let again = run(json!({"timeout": 60})).unwrap();
    assert!(again.notes.iter().any(|note| note.contains("nobody judged 1 of them")), "{:?}", again.notes);
    assert_eq!([&in_time, &late].map(|task| earned(&again)[&pair(task)]), [2, 2]);
    assert_eq!(taught(&again), 4);

    // Nobody at all: an update that teaches nothing.
    let nobody = json!({"judge": judge(json!({"timeout": 0.3, "on_timeout": "skip"})), "per_device_train_batch_size": 6, "seed": 5});
    let ran = place.reward(&worlds(), nobody).unwrap();
    assert_eq!(taught(&ran), 0);
}

#[test]
fn a_run_says_when_its_answers_are_held_back() {
    let (_folder, place) =
        place(Settings { hold_leaks: true, kind: TaskKind::Pointwise, ..server::settings() });
    let prompt = Prompt { id: "0".into(), prompt: "Who are you?".into(), columns: Map::new() };
    let rollout = |completion: &str| Rollout {
        prompt_id: "0".into(),
        prompt_index: 0,
        choice: 0,
        prompt_text: "Who are you?".into(),
        prompt_tokens: vec![1],
        completion: completion.into(),
        tokens: vec![2],
        behaviour_logp: vec![0.0],
        finish: Finish::Stop,
        seed: 0,
        policy_version: 0,
    };
    let rollouts = [rollout("I am ChatGPT."), rollout("A friend.")];
    let settings = FeedbackSettings {
        feedback_url: place.server.url(),
        feedback_token_file: Some(place.folder.join("token")),
    };
    let asked = |timeout| PeopleSettings {
        project: PROJECT.into(),
        overlap: 1,
        timeout,
        on_timeout: OnTimeout::Stop,
    };
    let ask = |timeout, waiting: &mut dyn FnMut(Waiting) -> bool| {
        let mut people = People::new(&settings, &asked(timeout), "run", 1.0).unwrap();
        people.ask_each(std::slice::from_ref(&prompt), &rollouts, waiting)
    };
    let mut told = Vec::new();
    let stopped = ask(60.0, &mut |stands| {
        told.push(stands);
        stands.held == 0
    });
    assert_eq!((stopped.unwrap(), told.last()), (None, Some(&Waiting { awaited: 2, held: 1, of: 2 })));
    let error = ask(0.3, &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("2 of 2 answers are missing (1 are held back: show or withdraw"), "{error}");
}

#[test]
fn what_cannot_be_asked_says_why() {
    let (_folder, place) = place(server::settings());
    let refused = |mut more: Value| {
        let mut all = json!({"judge": judge(json!({"timeout": 0.3})), "per_device_train_batch_size": 4});
        all.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
        place.reward(&worlds(), all).err().unwrap()
    };
    let other = place.folder.join("other-token");
    std::fs::write(&other, "pavlov-nonsense").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (more, wanted) in [
        (json!({"feedback_token_file": other}), "token"),
        (json!({"judge": judge(json!({"people": "nobody"}))}), "no such project"),
        (json!({"feedback_url": format!("http://{closed}")}), "gave no answer for 0.3 s"),
    ] {
        let error = refused(more);
        assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
    }
    // One task is more than it takes.
    let full = json!({"judge": judge(json!({"timeout": 0.3})), "per_device_train_batch_size": 4});
    let (_folder, narrow) = self::place(Settings { max_open_tasks: 1, ..server::settings() });
    let error = narrow.reward(&worlds(), full).err().unwrap();
    assert!(error.contains("took no task for 0.3 s") && error.contains("max_open_tasks"), "{error}");
    place.server.close_project();
    let error = refused(json!({}));
    assert!(error.contains("worlds is closed; open it first"), "{error}");
}

#[test]
fn reward_models_learn_what_a_project_with_questions_of_both_kinds_has_of_theirs() {
    let (_folder, place) = place(server::settings());
    let (rating, tasting) = (rating(), tasting());
    let person: Person =
        Arc::new(move |i, task| if task["kind"] == "pointwise" { rating(i, task) } else { tasting(i, task) });
    let raters = Raters::start(&place.server, 1, &person);
    let worlds: Vec<World> = (0..40).map(|i| generate(81, i, &Config::demo(), Split::Train)).collect();
    let two = |i: usize| [&worlds[i].answer, &worlds[(i + 7) % 40].answer];
    let different: Vec<usize> = (0..40).filter(|&i| two(i)[0] != two(i)[1]).collect();
    let task = |i: &usize| {
        let [a, b] = two(*i);
        let prompt = worlds[*i].prompt();
        [
            json!({"kind": "pointwise", "prompt": prompt, "responses": [{"text": a}]}),
            json!({"kind": "pairwise", "prompt": prompt, "responses": [{"text": a}, {"text": b}]}),
        ]
    };
    place.send(&different.iter().flat_map(task).collect::<Vec<_>>());
    place.wait_for_raters();
    assert_eq!(raters.end(), 2 * different.len() as u64);

    for kind in ["ratings", "comparisons"] {
        assert!(place.teach(kind, json!({ "kind": kind }), None));
        let rows = dataset::read(&place.folder.join(kind).join("judgments.jsonl")).unwrap();
        assert_eq!(rows.len(), different.len());
        for row in rows {
            if kind == "ratings" {
                let rated = row.rated().unwrap();
                assert_eq!((rated.rating, rated.scale), (stars(plain(&rated.response)), Some((1.0, 5.0))));
            } else {
                let pair = row.comparison().unwrap();
                let first = taste(0, plain(&pair.a), plain(&pair.b));
                assert_eq!(first > 0.5, pair.choice == Choice::A);
            }
        }
        let metrics = std::fs::read_to_string(place.folder.join(kind).join("metrics.jsonl")).unwrap();
        let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        let held_out = last["eval_decided"].as_f64().unwrap();
        assert!(held_out > 0.0 && held_out < different.len() as f64 / 2.0, "{last}");
    }
}
