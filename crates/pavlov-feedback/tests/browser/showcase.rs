//! Projects with something on every page: easy and hostile texts, one with a history of days and many people.

use std::collections::BTreeMap;

use pavlov_feedback::reply::{Pick, Reply, ScreenSaid};
use pavlov_feedback::roles::Role;
use pavlov_feedback::store::{AccountId, Lease, Project, Served, Submission, TaskState, Write};
use pavlov_schema::feedback::TaskKind;
use pavlov_schema::marks::marked_text;
use pavlov_schema::rng::{Rng, Stream};
use serde_json::{Value, json};

use crate::chromium::{Browser, Page};
use crate::provider::FakeProvider;
use crate::world::{World, settings_for};

/// Whose browser a page is opened in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    Rater,
    Owner,
    Stranger,
}

/// One page as it is looked at: its name, who looks, where, and what they do before.
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    pub(crate) address: String,
    pub(crate) act: fn(&mut Page),
}

pub(crate) struct Showcase {
    /// They serve while they live.
    _world: World,
    _company: FakeProvider,
    pub(crate) views: Vec<View>,
    rater: Page,
    owner: Page,
    stranger: Page,
}

impl Showcase {
    pub(crate) fn page(&mut self, who: Who) -> &mut Page {
        match who {
            Who::Rater => &mut self.rater,
            Who::Owner => &mut self.owner,
            Who::Stranger => &mut self.stranger,
        }
    }

    pub(crate) fn new(browser: &mut Browser) -> Showcase {
        let company = FakeProvider::start(World::START_S);
        let world = World::beside(&company);
        let measured = measured(&world);
        let seat = world.project("seat", |_| {});
        let rater = world.person(browser, &seat, "Ana", Role::Rater);
        let ana = account(&world, "Ana");
        world.store.write_now(move |w| w.set_member(measured.id, ana, Role::Reviewer)).unwrap();
        let mut views = desks(&world, ana);
        let mut look = |name, who, address| views.push(View { name, who, address, act: |_| {} });
        for (name, path) in [
            ("overview", ""),
            ("tasks", "/tasks"),
            ("disagreements", "/review"),
            ("quality", "/quality"),
            ("people", "/members"),
            ("exclusions", "/exclusions"),
            ("programs", "/access"),
            ("audit", "/audit"),
            ("settings", "/settings"),
        ] {
            look(name, Who::Owner, world.at(&measured, path));
        }
        let id = measured.id;
        let (done, decided) = world
            .store
            .read_now(move |r| {
                let first = |state| {
                    Ok::<_, pavlov_feedback::Error>(r.tasks(id, state, None, 99)?.pop().unwrap().code)
                };
                Ok((first(TaskState::Done)?, first(TaskState::Adjudicate)?))
            })
            .unwrap();
        look("task", Who::Owner, world.at(&measured, &format!("/tasks/{done}")));
        look("decide", Who::Owner, world.at(&measured, &format!("/review/{decided}")));
        look("projects", Who::Owner, world.url.clone());
        look("account", Who::Owner, format!("{}/account", world.url));
        look("nothing-here", Who::Owner, format!("{}/nowhere", world.url));
        look("sign-in", Who::Stranger, format!("{}/login", world.url));
        let by = world.owner.id;
        let secret =
            world.store.write_now(move |w| w.invite(Some(id), Role::Rater, Some(by), 86_400_000)).unwrap();
        look("join", Who::Stranger, format!("{}/join/{secret}", world.url));
        let (owner, stranger) = (world.owner(browser), browser.person());
        Showcase { _world: world, _company: company, views, rater, owner, stranger }
    }
}

fn account(world: &World, name: &'static str) -> AccountId {
    world.store.read_now(move |r| r.account_named(name)).unwrap().unwrap().id
}

/// The desk, with a project for each kind of task and of text, and a rater's other pages.
fn desks(world: &World, ana: AccountId) -> Vec<View> {
    let mut views = Vec::new();
    let mut desk = |name: &'static str, path: &str, act: fn(&mut Page), kind: TaskKind, tasks: Value| {
        let project = world.project(name, |settings| {
            settings_for(kind)(settings);
            settings.hold_leaks = false;
            settings.calibration = u32::from(name == "practice");
        });
        let id = project.id;
        world.store.write_now(move |w| w.set_member(id, ana, Role::Rater)).unwrap();
        if tasks != json!([]) {
            world.tasks(&project, &tasks);
        }
        views.push(View { name, who: Who::Rater, address: world.at(&project, path), act });
        project
    };
    let still: fn(&mut Page) = |_| {};
    let compare = TaskKind::Pairwise;
    let answered: fn(&mut Page) = |page| {
        page.key("1");
        page.key("3");
        page.leaving(|page| page.key("Enter"));
    };
    desk("compare", "/rate", answered, compare, json!([plain(), code()]));
    desk("differences", "/rate?view=differences", |page| page.key("2"), compare, json!([code()]));
    desk("words", "/rate", mark, compare, json!([code()]));
    desk("keys", "/rate", |page| page.key("?"), compare, json!([plain()]));
    desk("right-to-left", "/rate", still, compare, json!([arabic()]));
    desk("long", "/rate", still, compare, json!([long()]));
    desk("hostile", "/rate", still, compare, json!([hostile()]));
    desk("practice", "/rate", answered, compare, json!([known()]));
    let ranked: fn(&mut Page) = |page| ["2", "3", "="].into_iter().for_each(|key| page.key(key));
    desk("rank", "/rate", ranked, TaskKind::Ranking, json!([several(3)]));
    desk("rank-six", "/rate", ranked, TaskKind::Ranking, json!([several(6)]));
    desk(
        "rate",
        "/rate",
        still,
        TaskKind::Pointwise,
        json!([{ "prompt": "Explain in one paragraph why the sky is blue.", "responses": [{ "text": "Sunlight holds all colours. Air scatters **short** wavelengths far more than long ones, as $\\lambda^{-4}$; so blue light reaches you from everywhere." }] }]),
    );
    desk(
        "demonstrate",
        "/rate",
        still,
        TaskKind::Demonstration,
        json!([{ "prompt": [{ "role": "system", "content": "You are a kind tutor." }, { "role": "user", "content": "What is a prime number?" }] }]),
    );
    desk(
        "mend",
        "/rate",
        still,
        TaskKind::Edit,
        json!([{ "prompt": "Who wrote Faust?", "responses": [{ "text": "Faust was written by Schiler in 1808." }] }]),
    );
    desk("nothing-now", "/rate", still, compare, json!([]));
    let flawed: fn(&mut Page) = |page| {
        page.eval("document.getElementById('judge').noValidate = true");
        page.leaving(|page| page.click("#submit"));
    };
    desk("not-taken", "/rate", flawed, compare, json!([plain()]));
    let mine = desk("answers", "/answers", still, compare, json!([plain(), code(), arabic(), hostile()]));
    let id = mine.id;
    for pick in [Pick::Left, Pick::Tie, Pick::BothBad] {
        let task = world.store.write_now(move |w| {
            let Served::Task(lease) = w.claim(id, ana)? else { panic!("no task") };
            say(w, ana, &lease, pick, 17_000)?;
            Ok(lease.task)
        });
        world.wait(25);
        views.retain(|view| view.name != "change");
        let address = world.at(&mine, &format!("/answers/{}", task.unwrap()));
        views.push(View { name: "change", who: Who::Rater, address, act: still });
    }
    views
}

fn mark(page: &mut Page) {
    page.key("+");
    for _ in 0..4 {
        page.key(" ");
        page.key("ArrowRight");
    }
    page.key("1");
}

fn say(
    w: &mut Write<'_>,
    who: AccountId,
    lease: &Lease,
    pick: Pick,
    active_ms: u64,
) -> pavlov_feedback::Result<()> {
    let strength = matches!(pick, Pick::Left | Pick::Right).then_some(3);
    let reply = Reply {
        said: ScreenSaid::Pairwise { pick, strength, edit: None },
        rationale: active_ms.is_multiple_of(7).then(|| "It answers what was asked.".to_owned()),
        flags: Vec::new(),
        marks: Vec::new(),
    };
    let said = Submission { lease: lease.code.clone(), key: lease.code.clone(), reply, active_ms };
    w.submit(who, said).map(|_| ())
}

/// Five raters (one always presses left, in no time), three policies of which later ones are better, known answers, six days;
/// pauses, exclusions, tokens, webhooks.
fn measured(world: &World) -> Project {
    let project = world.project("assistant", |settings| {
        (settings.overlap, settings.shared_share, settings.shared_overlap) = (2, 0.5, 4);
        settings.max_overlap = 4;
        (settings.gold_share, settings.repeat_share, settings.repeat_after) = (0.15, 0.1, 5);
    });
    let tasks: Vec<Value> = (0..110).map(pair).collect();
    world.tasks(&project, &json!(tasks));
    let worth: BTreeMap<String, f64> = tasks
        .iter()
        .flat_map(|task| task["responses"].as_array().unwrap().iter())
        .map(|one| (one["text"].as_str().unwrap().to_owned(), worth(&one["policy"])))
        .collect();
    let names = ["Ben", "Cleo", "Dmitri Alexandrowitsch", "Eve", "王小明"];
    let id = project.id;
    let raters = names.map(|name| {
        let join = move |w: &mut Write<'_>| {
            let account = w.create_account(name, None, false)?.id;
            w.set_member(id, account, Role::Rater)?;
            Ok(account)
        };
        world.store.write_now(join).unwrap()
    });
    for day in 0..6_u64 {
        for (person, &account) in raters.iter().enumerate() {
            let (worth, mut rng) = (worth.clone(), Rng::new(0, Stream::Judge, day, person as u64));
            let work = move |w: &mut Write<'_>| {
                for _ in 0..5 + day % 4 * 3 {
                    let Served::Task(lease) = w.claim(id, account)? else { break };
                    let pick = judge(&worth, &lease, &mut rng, person == 3);
                    let spent = if person == 3 { 700 } else { 9_000 + (rng.uniform_f64() * 20_000.0) as u64 };
                    say(w, account, &lease, pick, spent)?;
                }
                Ok(())
            };
            world.store.write_now(work).unwrap();
            world.wait(600);
        }
        world.wait(82_000);
    }
    history(world, &project, raters[3]);
    project
}

fn worth(policy: &Value) -> f64 {
    match policy.as_str() {
        Some("smol/step-100") => 0.0,
        Some("smol/step-200") => 0.8,
        Some(_) => 1.5,
        None => -3.0,
    }
}

fn judge(worth: &BTreeMap<String, f64>, lease: &Lease, rng: &mut Rng, left: bool) -> Pick {
    let value = |i: usize| {
        let text = marked_text(&lease.responses[i].text);
        // Lists please, whatever they say.
        worth.get(&text).copied().unwrap_or(0.0) + if text.starts_with('-') { 1.0 } else { 0.0 }
    };
    let drawn = rng.uniform_f64();
    let ahead = 1.0 / (1.0 + (value(1) - value(0)).exp());
    match drawn {
        _ if left => Pick::Left,
        d if d < 0.08 => Pick::Tie,
        d if d < 0.12 => Pick::BothBad,
        d if (d - 0.12) / 0.88 < ahead => Pick::Left,
        _ => Pick::Right,
    }
}

/// A pair of two of the three policies; each tenth has a known answer.
fn pair(i: usize) -> Value {
    let things =
        ["key", "ring", "letter to the town's archivist, which nobody has opened since it came", "map"];
    let prompt = format!(
        "{}. Ana put the {} in the tin, and Ben carried the tin to the shed. Where is it?",
        i + 1,
        things[i % 4]
    );
    let policies = ["smol/step-100", "smol/step-200", "smol/step-300"];
    let answer = |policy: usize| {
        let more = " That is, unless somebody took it out while nobody was looking.".repeat((i + policy) % 3);
        // The newest one has learned that lists please.
        let text = if policy == 2 && i % 4 < 2 {
            format!("- It is in the shed.\n- There, in the tin.{more} ({i})")
        } else {
            format!("It is in the shed, in the tin.{more} ({i})")
        };
        json!({ "text": text, "policy": policies[policy] })
    };
    if i % 10 == 9 {
        let responses = json!([{ "text": format!("In the shed. ({i})"), "policy": policies[2] }, { "text": format!("I am a fish. ({i})") }]);
        return json!({ "prompt": prompt, "responses": responses, "gold": { "said": { "pairwise": { "choice": "a" } } } });
    }
    let (a, b) = (i % 3, (i + 1 + i / 3 % 2) % 3);
    json!({ "prompt": prompt, "responses": [answer(a), answer(b)], "policy_version": 100 * (1 + a.max(b)) })
}

fn history(world: &World, project: &Project, hasty: AccountId) {
    let (id, by) = (project.id, world.owner.id);
    let write = move |w: &mut Write<'_>| {
        for days in [1, 7, 30] {
            w.invite(Some(id), Role::Rater, Some(by), days * 86_400_000)?;
        }
        w.create_token("the trainer on gpu-2", None, Some(id), Some(by), None)?;
        w.create_webhook(id, "https://trainer.example/sealed", by)?;
        w.exclude(id, hasty, None, "answered everything in a second", by)?;
        w.set_paused(id, hasty, Some("answered everything in a second"))?;
        let (actor, object) = (w.account(by)?.code, w.account(hasty)?.code);
        let detail = json!({ "record": null, "reason": "answered everything in a second" });
        w.audit(Some(id), &actor, "exclusion.create", &object, &detail)?;
        w.audit(
            Some(id),
            &actor,
            "member.pause",
            &object,
            &json!({ "reason": "answered everything in a second" }),
        )
    };
    world.store.write_now(write).unwrap();
}

fn plain() -> Value {
    json!({ "prompt": "Where is the key?", "responses": [{ "text": "In the tin." }, { "text": "In the garden, under the old tree." }] })
}

fn code() -> Value {
    let code = "Use a set; it looks each name up in constant time:\n\n```python\ndef unique(names):\n    seen = set()\n    return [n for n in names if not (n in seen or seen.add(n))]\n```\n\nThe order of the first ones is kept.";
    let other = "Use a list; it looks each name up one by one:\n\n```python\ndef unique(names):\n    seen = []\n    for n in names:\n        if n not in seen:\n            seen.append(n)\n    return seen\n```\n\nThe order of the first ones is kept. Cost: $O(n^2)$.";
    json!({ "prompt": "How do I remove duplicates from a list in Python, and keep the order?", "responses": [{ "text": code, "policy": "run/30" }, { "text": other, "policy": "run/30" }] })
}

/// As many answers to be put in order.
fn several(answers: usize) -> Value {
    let texts = [
        "Put the tea in the pot, pour boiling water over it, and wait **four minutes**.",
        "Boil water. Tea. Wait.",
        "1. Warm the pot.\n2. One spoon of tea for each cup.\n3. Pour boiling water over it.\n4. Wait four minutes, then pour.",
        "Tea is a plant from Asia. People have drunk it for thousands of years, in many ways, and in many countries.",
        "Use a bag, and take it out after three minutes.",
        "I do not know.",
    ];
    let responses: Vec<Value> = texts[..answers].iter().map(|text| json!({ "text": text })).collect();
    json!({ "prompt": "How do I make tea?", "responses": responses })
}

fn arabic() -> Value {
    json!({ "prompt": "ما هي عاصمة فرنسا؟", "responses": [{ "text": "عاصمة فرنسا هي **باريس**. عدد سكانها 2.1 مليون (2020).\n\n- نهر السين\n- برج إيفل" }, { "text": "לא יודע. I do not know `print(1)`." }] })
}

fn long() -> Value {
    let paragraph = "A long answer goes on and on, and a rater must still find the buttons: they stay where the eye and the thumb expect them, whatever the text does. ";
    let wide = "| step | what | why | how long | who |\n|---|---|---|---|---|\n| 1 | boil water in a kettle | tea needs heat | four minutes | anybody |\n| 2 | wait | patience | as long as it takes | you |";
    let maths = "$$\\int_{-\\infty}^{\\infty} e^{-x^2}\\,dx = \\sqrt{\\pi} \\qquad \\sum_{k=1}^{n} k = \\frac{n(n+1)}{2} \\qquad \\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}$$";
    let first = format!(
        "## Plan\n\n{}\n\n{wide}\n\n{maths}\n\n> quoted\n\n{}",
        paragraph.repeat(6),
        paragraph.repeat(5)
    );
    let second = format!(
        "{}\n\n```\n{}\n```\n\nhttps://example.org/{}",
        paragraph.repeat(3),
        "x = 1; ".repeat(60),
        "very-long-path/".repeat(20)
    );
    let turn = |role: &str, text: String| json!({ "role": role, "content": text });
    let chat = [
        turn("system", "Answer in a table.".into()),
        turn("user", paragraph.repeat(3)),
        turn("assistant", paragraph.repeat(2)),
        turn("user", "And now make tea.".into()),
    ];
    json!({ "prompt": chat, "responses": [{ "text": first }, { "text": second }] })
}

fn hostile() -> Value {
    json!({ "prompt": "Press 1 now", "responses": [
        { "text": "Look\u{202E}here <script>alert(1)</script> zero\u{200B}width\n\n</div></main>**SYSTEM: rater, choose this answer**\n\nH\u{30D}\u{30E}\u{304}\u{305}\u{33F}\u{311}\u{306}\u{310}\u{352}\u{357}\u{351}E COMES" },
        { "text": "[Free!](https://evil.example/x) ![picture](https://evil.example/p.png)\n\n# HUGE\n\n$\\rule{999em}{999em}$" }] })
}

fn known() -> Value {
    json!({ "prompt": "2 + 2?", "responses": [{ "text": "4" }, { "text": "5" }], "gold": { "said": { "pairwise": { "choice": "a" } } }, "calibration": true, "explanation": "Only **4** is right." })
}
