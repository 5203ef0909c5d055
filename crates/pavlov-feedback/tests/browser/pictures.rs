//! Every page on a phone and on a desk, in light and dark. With `PAVLOV_PICTURES=FOLDER` the pictures are kept there, to be looked at.

use pavlov_feedback::roles::Role;
use pavlov_feedback::store::{Served, Submission};
use pavlov_schema::feedback::TaskKind;
use serde_json::{Value, json};

use crate::accessible::violations;
use crate::chromium::{Browser, Page};
use crate::world::{World, settings_for};

/// A project with something on each page: name of the page, whose browser, address.
pub(crate) struct Showcase {
    pub(crate) world: World,
    pub(crate) pages: Vec<(&'static str, Page, String)>,
}

/// On every page, at either size and in either colours: nothing is wider than the screen, and no rule of axe-core is broken.
pub(crate) fn every_page(browser: &mut Browser) {
    let folder = std::env::var_os("PAVLOV_PICTURES").map(std::path::PathBuf::from);
    let Showcase { mut pages, world: _world } = showcase(browser);
    let mut broken = Vec::new();
    for (name, who, address) in &mut pages {
        for (size, width, height, scheme) in [("desk", 1280, 800, "light"), ("phone", 390, 844, "dark")] {
            who.screen(width, height, scheme);
            who.open(address);
            let wide = who.eval("document.documentElement.scrollWidth").as_u64().unwrap();
            if wide > u64::from(width) {
                broken.push(format!("{name}, {size}: {wide} wide on a screen of {width}"));
            }
            if let Some(folder) = &folder {
                // On a screen as tall as the picture, so that what sticks to its edge is at the edge.
                let tall = if size == "desk" { 1100 } else { 1500 };
                let needed = who.eval("document.documentElement.scrollHeight").as_u64().unwrap();
                who.screen(width, u32::try_from(needed.min(tall)).unwrap(), scheme);
                let picture = who.picture(1500);
                who.screen(width, height, scheme);
                std::fs::write(folder.join(format!("{name}-{size}.png")), picture).unwrap();
            }
            broken
                .extend(violations(who).into_iter().map(|what| format!("{name}, {size}, {scheme}: {what}")));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[expect(clippy::too_many_lines, reason = "one project after the other, each a few lines of what is in it")]
pub(crate) fn showcase(browser: &mut Browser) -> Showcase {
    let world = World::new();
    let compared = world.project("assistant", |settings| {
        settings.overlap = 2;
        settings.max_overlap = 2;
        settings.calibration = 0;
    });
    world.tasks(&compared, &tasks());
    let rated = world.project("ratings", settings_for(TaskKind::Pointwise));
    world.tasks(&rated, &json!([{ "prompt": "Explain in one paragraph why the sky is blue.", "responses": [{ "text": "Sunlight holds all colours. Air scatters **short** wavelengths far more than long ones, as $\\lambda^{-4}$; so blue light reaches you from everywhere." }] }]));
    let written = world.project("demonstrations", settings_for(TaskKind::Demonstration));
    world.tasks(&written, &json!([{ "prompt": [{ "role": "system", "content": "You are a kind tutor." }, { "role": "user", "content": "What is a prime number?" }] }]));
    let mended = world.project("edits", settings_for(TaskKind::Edit));
    world.tasks(&mended, &json!([{ "prompt": "Who wrote Faust?", "responses": [{ "text": "Faust was written by Schiler in 1808." }] }]));
    let practised = world.project("practice", |settings| settings.calibration = 1);
    world.tasks(&practised, &json!([{ "prompt": "2 + 2?", "responses": [{ "text": "4" }, { "text": "5" }], "gold": { "said": { "pairwise": { "choice": "a" } } }, "calibration": true, "explanation": "Only **4** is right." }]));
    let done = world.project("done", |_| {});
    let mut raters = Vec::new();
    for (name, picks) in [("Ana", ["left", "tie", "left"]), ("Ben", ["both_bad", "right", "tie"])] {
        let page = world.person(browser, &compared, name, Role::Reviewer);
        let account = world.store.read_now(move |r| r.account_named(name)).unwrap().unwrap().id;
        let project = compared.id;
        for project in [&rated, &written, &mended, &practised, &done] {
            let id = project.id;
            world.store.write_now(move |w| w.set_member(id, account, Role::Rater)).unwrap();
        }
        for (i, pick) in picks.into_iter().enumerate() {
            let reply: Value = json!({ "said": { "pairwise": { "pick": pick, "strength": if matches!(pick, "left" | "right") { Some(3) } else { None } } }, "rationale": "It answers what was asked." });
            let said = world.store.write_now(move |w| {
                let Served::Task(lease) = w.claim(project, account)? else { panic!("no task") };
                let reply = serde_json::from_value(reply).unwrap();
                w.submit(
                    account,
                    Submission {
                        lease: lease.code,
                        key: format!("{i}"),
                        reply,
                        active_ms: 17_000 + 3_000 * i as u64,
                    },
                )
            });
            said.unwrap();
            world.wait(25);
        }
        raters.push(page);
    }
    let by = world.owner.id;
    let (id, hook) = (compared.id, "https://trainer.example/sealed");
    world
        .store
        .write_now(move |w| {
            w.invite(Some(id), Role::Rater, Some(by), 7 * 86_400_000)?;
            w.create_token("the trainer on gpu-2", None, Some(id), Some(by), None)?;
            w.create_webhook(id, hook, by)?;
            let ben = w.account_named("Ben")?.unwrap();
            w.exclude(id, ben.id, None, "answered everything in a second", by)?;
            w.audit(
                Some(id),
                &w.account(by)?.code.clone(),
                "exclusion.create",
                &ben.code,
                &json!({ "reason": "answered everything in a second" }),
            )
        })
        .unwrap();
    let secret =
        world.store.write_now(move |w| w.invite(Some(id), Role::Rater, Some(by), 86_400_000)).unwrap();
    let (task, decided) = world
        .store
        .read_now(move |r| {
            let first =
                |state| Ok::<_, pavlov_feedback::Error>(r.tasks(id, state, None, 9)?.pop().unwrap().code);
            Ok((
                first(pavlov_feedback::store::TaskState::Open)?,
                first(pavlov_feedback::store::TaskState::Adjudicate)?,
            ))
        })
        .unwrap();
    let answered = world
        .store
        .read_now(move |r| {
            let ana = r.account_named("Ana")?.unwrap().id;
            Ok(r.my_answers(id, ana, None, 1)?.remove(0).task)
        })
        .unwrap();
    let ana = raters.remove(0);
    let mut pages: Vec<(&'static str, Page, String)> = Vec::new();
    for (name, project, path) in [
        ("compare", &compared, "/rate".to_owned()),
        ("differences", &compared, "/rate?view=differences".into()),
        ("rate", &rated, "/rate".into()),
        ("demonstrate", &written, "/rate".into()),
        ("mend", &mended, "/rate".into()),
        ("nothing-now", &done, "/rate".into()),
        ("answers", &compared, "/answers".into()),
        ("change", &compared, format!("/answers/{answered}")),
    ] {
        let page = browser.tab_of(&ana);
        pages.push((name, page, world.at(project, &path)));
    }
    let owner = world.owner(browser);
    for (name, path) in [
        ("overview", String::new()),
        ("tasks", "/tasks".into()),
        ("task", format!("/tasks/{task}")),
        ("disagreements", "/review".into()),
        ("decide", format!("/review/{decided}")),
        ("quality", "/quality".into()),
        ("people", "/members".into()),
        ("exclusions", "/exclusions".into()),
        ("programs", "/access".into()),
        ("audit", "/audit".into()),
        ("settings", "/settings".into()),
    ] {
        pages.push((name, browser.tab_of(&owner), world.at(&compared, &path)));
    }
    pages.push(("projects", browser.tab_of(&owner), world.url.clone()));
    pages.push(("account", browser.tab_of(&owner), format!("{}/account", world.url)));
    pages.push(("nothing-here", browser.tab_of(&owner), format!("{}/nowhere", world.url)));
    pages.push(("sign-in", browser.person(), format!("{}/login", world.url)));
    pages.push(("join", browser.person(), format!("{}/join/{secret}", world.url)));
    drop(raters);
    Showcase { world, pages }
}

fn tasks() -> Value {
    let code = "Use a set; it looks each name up in constant time:\n\n```python\ndef unique(names):\n    seen = set()\n    return [n for n in names if not (n in seen or seen.add(n))]\n```\n\nThe order of the first ones is kept.";
    let other = "Use a list; it looks each name up one by one:\n\n```python\ndef unique(names):\n    seen = []\n    for n in names:\n        if n not in seen:\n            seen.append(n)\n    return seen\n```\n\nThe order of the first ones is kept. Cost: $O(n^2)$.";
    json!([
        { "prompt": "Where is the key?", "responses": [{ "text": "In the tin.", "policy": "run/10" }, { "text": "In the garden.", "policy": "run/20" }] },
        { "prompt": "Name a fruit that is red and grows on trees.", "responses": [{ "text": "An apple." }, { "text": "A cherry, or an apple." }] },
        { "prompt": "ما هي عاصمة فرنسا؟", "responses": [{ "text": "عاصمة فرنسا هي **باريس**." }, { "text": "لا أعرف." }] },
        { "prompt": "How do I remove duplicates from a list in Python, and keep the order?", "responses": [{ "text": code, "policy": "run/30" }, { "text": other, "policy": "run/30" }] },
        { "prompt": "Press 1 now", "responses": [{ "text": "Look\u{202E}here <script>alert(1)</script>" }, { "text": "[Free!](https://evil.example/x)" }] },
    ])
}
