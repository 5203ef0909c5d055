//! From a task that is sent to a record that is read, as a trainer and raters go through it.

use pavlov_feedback::settings::{Question, Scale, Settings};
use pavlov_schema::comparison::Choice;
use pavlov_schema::feedback::{Said, SealedRecord, TaskKind};
use serde_json::{Value, json};

use super::setup::{Place, pick, plain};

fn claim(place: &Place, token: &str) -> Value {
    place.post(token, "/projects/worlds/claim", &json!({})).ok()["task"].clone()
}

fn submit(place: &Place, token: &str, lease: &Value, body: &Value) -> Value {
    let path = format!("/projects/worlds/leases/{}/submit", lease["lease"].as_str().unwrap());
    place.post(token, &path, body).ok()
}

fn records(place: &Place, after: u64) -> Value {
    let service = place.token("service").unwrap();
    place.get(&service, &format!("/projects/worlds/records?after={after}")).ok()
}

#[test]
fn a_comparison_goes_from_trainer_to_rater_and_back() {
    let place = Place::new(plain());
    let added = place.pairs(2);
    assert_eq!(added["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(place.pairs(2)["tasks"][0]["existed"], true, "a key sent again adds nothing");
    let rater = place.token("rater").unwrap();
    let text = place.post(&rater, "/projects/worlds/claim", &json!({})).text;
    for secret in ["policy", "4242", "4343", "seed"] {
        assert!(!text.contains(secret), "what a rater gets names {secret}: {text}");
    }
    let task = claim(&place, &rater);
    let path = format!("/projects/worlds/leases/{}", task["lease"].as_str().unwrap());
    place.post(&rater, &format!("{path}/heartbeat"), &json!({})).ok();
    let draft = json!({"revision": 1, "body": "half a thought"});
    place.call(Some(&rater), "PUT", &format!("{path}/draft"), Some(&draft)).ok();
    assert_eq!(claim(&place, &rater)["draft"], draft, "a reload finds what was begun");
    let left = task["responses"][0]["text"].as_str().unwrap();
    let submitted = place.post(&rater, &format!("{path}/submit?next=true"), &pick("left", "once")).ok();
    assert!(submitted["next"]["task"]["lease"].is_string());
    let again = place.post(&rater, &format!("{path}/submit"), &pick("right", "once")).ok();
    assert_eq!(
        (again["logged"]["repeated"].clone(), again["logged"]["seq"].clone()),
        (json!(true), submitted["logged"]["seq"].clone())
    );
    assert_eq!(records(&place, 0)["records"], json!([]), "not sealed yet");
    place.pass(61);
    let page = records(&place, 0);
    let record: SealedRecord = serde_json::from_value(page["records"][0].clone()).unwrap();
    let Some(Said::Pairwise { choice, .. }) = record.answer.as_ref().map(|answer| &answer.said) else {
        panic!()
    };
    let chosen = &record.responses[usize::from(*choice == Choice::B)];
    assert_eq!(
        serde_json::to_value(&chosen.text).unwrap(),
        left,
        "the left one was chosen, wherever it stood"
    );
    assert_eq!(record.shown.map(|shown| shown.at(0) == Some(0)), Some(*choice == Choice::A));
    assert_eq!(records(&place, page["cursor"].as_u64().unwrap())["records"], json!([]));
    let service = place.token("service").unwrap();
    let dpo = place.get(&service, "/projects/worlds/export/dpo").text;
    let row: Value = serde_json::from_str(dpo.trim()).unwrap();
    assert_eq!(row["chosen"], left);
}

#[test]
fn an_undone_answer_is_never_shown_and_a_retracted_one_is_taken_back() {
    let place = Place::new(plain());
    place.pairs(1);
    let rater = place.token("rater").unwrap();
    let task = claim(&place, &rater);
    submit(&place, &rater, &task, &pick("left", "1"));
    let undone = place.post(&rater, "/projects/worlds/undo", &json!({"key": "2"})).ok();
    let again = undone["lease"].clone();
    assert_eq!(again["responses"], task["responses"], "the same order on the screen");
    submit(&place, &rater, &again, &pick("right", "3"));
    place.pass(61);
    let page = records(&place, 0);
    assert_eq!(page["records"].as_array().unwrap().len(), 1);
    assert_eq!(place.post(&rater, "/projects/worlds/undo", &json!({"key": "4"})).status, 409, "sealed");
    let code = task["task"].as_str().unwrap();
    place.post(&rater, &format!("/projects/worlds/answers/{code}/correct"), &pick("tie", "5")).ok();
    place
        .post(
            &rater,
            &format!("/projects/worlds/answers/{code}/retract"),
            &json!({"reason": "a slip", "key": "6"}),
        )
        .ok();
    place.pass(61);
    let later = records(&place, page["cursor"].as_u64().unwrap());
    let kinds: Vec<&str> =
        later["records"].as_array().unwrap().iter().map(|r| r["record"].as_str().unwrap()).collect();
    assert!(kinds.ends_with(&["retraction"]), "{kinds:?}");
    let service = place.token("service").unwrap();
    assert_eq!(place.get(&service, "/projects/worlds/export/judgments").text, "");
}

#[test]
fn a_reviewer_decides_and_skips_go_to_others() {
    let place = Place::new(Settings { overlap: 2, max_overlap: 2, ..plain() });
    place.pairs(1);
    let (a, b, c) = (place.rater("a"), place.rater("b"), place.rater("c"));
    let skipped = claim(&place, &c);
    let path = format!("/projects/worlds/leases/{}/skip", skipped["lease"].as_str().unwrap());
    place.post(&c, &path, &json!({"reason": "not my language", "key": "s"})).ok();
    assert!(claim(&place, &c).is_null(), "what was passed on does not come back");
    for (token, side) in [(&a, "first"), (&b, "second")] {
        let task = claim(&place, token);
        let left = task["responses"][0]["text"].as_str().unwrap().starts_with(side);
        submit(&place, token, &task, &pick(if left { "left" } else { "right" }, "k"));
    }
    let reviewer = place.token("reviewer").unwrap();
    let waiting = place.get(&reviewer, "/projects/worlds/disagreements").ok();
    let code = waiting["tasks"][0]["task"].as_str().unwrap().to_owned();
    let detail = place.get(&reviewer, &format!("/projects/worlds/tasks/{code}")).ok();
    assert_eq!(detail["answers"].as_array().unwrap().len(), 3, "two answers and a skip");
    assert!(!detail.to_string().contains("policy/"), "reviewers are blind, too");
    place.post(&reviewer, &format!("/projects/worlds/tasks/{code}/adjudicate"), &pick("left", "d")).ok();
    place.pass(61);
    let kinds: Vec<_> =
        records(&place, 0)["records"].as_array().unwrap().iter().map(|r| r["record"].clone()).collect();
    assert_eq!(kinds, [json!("judgment"), json!("judgment"), json!("adjudication")]);
    let manager = place.token("manager").unwrap();
    let audit = place.get(&manager, "/projects/worlds/audit").ok();
    assert_eq!(audit["entries"][0]["action"], "task.adjudicate");
}

#[test]
fn people_join_by_invitation_and_log_in() {
    let place = Place::new(plain());
    let manager = place.token("manager").unwrap();
    let link = place.post(&manager, "/projects/worlds/invitations", &json!({"role": "rater"})).ok();
    let join = json!({"invitation": link["invitation"], "name": "Ida", "password": "correct horse"});
    let joined = place.call(None, "POST", "/join", Some(&join)).ok();
    let token = joined["token"].as_str().unwrap();
    assert_eq!(place.get(token, "/me").ok()["projects"][0]["role"], "rater");
    let twice = place.call(
        None,
        "POST",
        "/join",
        Some(&json!({"invitation": link["invitation"], "name": "Eve", "password": "correct horse"})),
    );
    assert_eq!(twice.status, 404, "a link works once");
    let login = |password: &str| {
        place.call(None, "POST", "/login", Some(&json!({"name": "ida", "password": password})))
    };
    assert_eq!(login("wrong horse").status, 401);
    let second = login("correct horse").ok()["token"].as_str().unwrap().to_owned();
    place.post(&second, "/logout", &json!({})).ok();
    assert_eq!(place.get(&second, "/me").status, 401);
    place.get(token, "/me").ok();
}

/// For every widget configuration, what was submitted is what is exported.
#[test]
fn what_is_submitted_is_what_is_exported() {
    use TaskKind::{Demonstration, Edit, Pairwise, Pointwise, Ranking};
    for (n, kind) in [Pairwise, Ranking, Pointwise, Demonstration, Edit].into_iter().enumerate() {
        for switches in 0..16_u8 {
            let on = |bit: u8| switches >> bit & 1 == 1;
            let question = |name: &str, scale| Question {
                name: name.into(),
                text: "?".into(),
                scale,
                anchors: Default::default(),
            };
            let mut questions = vec![question("quality", Scale::Likert5)];
            if on(0) {
                questions.extend([question("polite", Scale::Thumbs), question("true", Scale::Likert7)]);
            }
            let settings = Settings {
                kind,
                questions,
                strength: on(0),
                rationale: on(1),
                marks: on(2),
                edits: on(3),
                ..plain()
            };
            round(&Place::new(settings), kind, n * 16 + usize::from(switches));
        }
    }
}

/// What a rater says of a task, with all that the form asks for.
fn said(kind: TaskKind, task: &Value, form: &Value, case: usize) -> Value {
    let shown = task["responses"].as_array().unwrap();
    match kind {
        TaskKind::Pairwise => {
            let mut said = json!({"pick": "left"});
            if form["strength"] == true {
                said["strength"] = json!(3);
            }
            if form["edits"] == true {
                said["edit"] = json!({"response": shown[0]["id"], "text": "mended"});
            }
            json!({ "pairwise": said })
        }
        TaskKind::Ranking if case % 16 == 15 => json!({"ranking": {"all_bad": true}}),
        TaskKind::Ranking => {
            // The last of the screen is the best; of three and more the first two are equals.
            let mut order: Vec<Vec<Value>> = shown.iter().rev().map(|one| vec![one["id"].clone()]).collect();
            if let [.., second, first] = &mut order[..]
                && shown.len() > 2
            {
                second.append(first);
                order.pop();
            }
            json!({"ranking": {"order": order}})
        }
        TaskKind::Pointwise => {
            let score = |q: &Value| json!({"question": q["name"], "value": 1});
            json!({"pointwise": {"scores": form["questions"].as_array().unwrap().iter().map(score).collect::<Vec<_>>()}})
        }
        TaskKind::Demonstration => json!({"demonstration": {"text": "written"}}),
        TaskKind::Edit => json!({"edit": {"text": "mended"}}),
    }
}

fn round(place: &Place, kind: TaskKind, case: usize) {
    let service = place.token("service").unwrap();
    // Rankings of 2 to 9 answers.
    let shows = *kind.responses().start() + if kind == TaskKind::Ranking { case % 8 } else { 0 };
    let responses: Vec<Value> =
        (0..shows).map(|i| json!({"text": format!("answer {i} of {case}")})).collect();
    place
        .post(
            &service,
            "/projects/worlds/tasks",
            &json!({"tasks": [{"prompt": "q", "responses": responses}]}),
        )
        .ok();
    let rater = place.token("rater").unwrap();
    let task = claim(place, &rater);
    let project = place.get(&rater, "/projects/worlds").ok();
    let form = &project["form"];
    let mut reply = json!({});
    let shown = task["responses"].as_array().unwrap();
    let first = task["responses"][0]["id"].clone();
    reply["said"] = said(kind, &task, form, case);
    if form["rationale"] == true {
        reply["rationale"] = json!("because");
    }
    if form["marks"] == true && shows > 0 {
        reply["marks"] = json!([{"response": first, "spans": [{"start": 0, "end": 6, "sign": -1}]}]);
    }
    reply["flags"] = json!(["spam"]);
    submit(place, &rater, &task, &json!({"reply": reply, "key": "k", "active_ms": 1234}));
    place.pass(61);
    let line = place.get(&service, "/projects/worlds/export/judgments").text;
    let row: Value = serde_json::from_str(line.trim()).unwrap();
    let what = format!("{kind:?} {case}: {row}");
    assert_eq!(row["flags"], json!(["spam"]), "{what}");
    assert_eq!(row["active_ms"], 1234, "{what}");
    assert_eq!(row["rationale"].is_string(), form["rationale"] == true, "{what}");
    let left = task["responses"][0]["text"].clone();
    match kind {
        TaskKind::Pairwise => {
            let chosen = usize::from(row["choice"] == "b");
            assert_eq!(row["responses"][chosen]["text"], left, "{what}");
            assert_eq!(row["strength"].as_u64(), (form["strength"] == true).then_some(3), "{what}");
            assert_eq!(row["edited"]["text"].as_str(), (form["edits"] == true).then_some("mended"), "{what}");
            if form["edits"] == true {
                assert_eq!(row["edited"]["of"], row["choice"], "{what}");
            }
        }
        TaskKind::Ranking if case % 16 == 15 => {
            assert_eq!((&row["all_bad"], &row["ranks"]), (&json!(true), &Value::Null), "{what}");
        }
        TaskKind::Ranking => {
            // By place on the screen, the answer that was there and its rank.
            let answers = row["shown"].as_array().unwrap().iter().map(|letter| {
                let answer = usize::from(letter.as_str().unwrap().as_bytes()[0] - b'a');
                (&row["responses"][answer]["text"], row["ranks"][answer].as_u64().unwrap())
            });
            let last = if shows > 2 { [shows - 1; 2] } else { [2, 1] };
            let ranks = last.into_iter().chain((1..shows - 1).rev()).take(shows).map(|rank| rank as u64);
            let wanted = shown.iter().map(|one| &one["text"]).zip(ranks);
            assert_eq!(answers.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{what}");
        }
        TaskKind::Pointwise => {
            let others = row["ratings"].as_array().map_or(0, Vec::len);
            assert_eq!(
                (row["rating"].as_f64(), others + 1),
                (Some(1.0), form["questions"].as_array().unwrap().len()),
                "{what}"
            );
        }
        TaskKind::Demonstration => assert_eq!(row["responses"][0]["text"], "written", "{what}"),
        TaskKind::Edit => assert_eq!(
            (&row["responses"][0]["text"], row["responses"][1]["text"].as_str()),
            (&left, Some("mended")),
            "{what}"
        ),
    }
    if shows > 0 && form["marks"] == true {
        let marked = row["marks"][0]["response"].as_u64().unwrap() as usize;
        assert_eq!(row["responses"][marked]["text"], left, "{what}");
        assert_eq!(row["marks"][0]["spans"], json!([{"start": 0, "end": 6, "sign": -1}]), "{what}");
    }
}
