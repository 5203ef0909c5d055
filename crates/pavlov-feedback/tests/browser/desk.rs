//! What raters do, by hand.

use pavlov_feedback::roles::Role;
use pavlov_schema::feedback::TaskKind;
use serde_json::json;

use crate::chromium::{Browser, Page};
use crate::world::{PASSWORD, World, pairs, settings_for};

/// From the first start to the first answers: the one-time link, a project, tasks, an invited rater, a comparison by keyboard,
/// an edit, an undo.
pub(crate) fn from_set_up_to_undo(browser: &mut Browser) {
    let world = World::new();
    let secret = world.store.write_now(|w| w.invite(None, Role::Owner, None, 3_600_000)).unwrap();
    let mut owner = browser.person();
    owner.open(&format!("{}/", world.url));
    assert!(owner.text().contains("Sign in"));
    owner.open(&format!("{}/join/{secret}", world.url));
    owner.fill("input[name=name]", "Boss");
    owner.fill("input[name=password]", PASSWORD);
    owner.leaving(|page| page.key("Enter"));
    assert!(owner.text().contains("There is no project yet"));
    owner.fill("input[name=name]", "first");
    owner.leaving(|page| page.click("details button[type=submit]"));
    let code = owner.eval("location.pathname").as_str().unwrap().to_owned();
    owner.open(&format!("{}{code}/tasks", world.url));
    let rows: Vec<String> = pairs(4).as_array().unwrap().iter().map(ToString::to_string).collect();
    owner.fill("#rows", &rows.join("\n"));
    owner.leaving(|page| page.click("form[action$=import] button"));
    assert!(owner.text().contains("4 tasks were added"), "{}", owner.text());
    owner.open(&format!("{}{code}/members", world.url));
    owner.leaving(|page| page.click("form[action$=invitations] button"));
    let link =
        owner.eval("document.querySelector('#invitation-link').textContent").as_str().unwrap().to_owned();

    let mut rater = browser.person();
    rater.open(&link);
    assert!(rater.text().contains("Welcome to first"));
    rater.fill("input[name=name]", "Rita");
    rater.fill("input[name=password]", PASSWORD);
    rater.leaving(|page| page.key("Enter"));
    let rate = format!("{}{code}/rate", world.url);
    rater.open(&rate);
    // Nothing on the page tells where an answer is from.
    assert!(!rater.eval("document.documentElement.outerHTML").as_str().unwrap().contains("policy"));
    compare(&mut rater);
    let project = world.store.read_now(|r| Ok(r.projects()?.remove(0))).unwrap();
    let said = world.said(&project);
    assert_eq!(said.len(), 2, "{said:?}");
    let left = |i: usize| said[i]["shown"][0].as_str().unwrap().to_owned();
    let first = &said[0]["said"]["pairwise"];
    assert_eq!((first["choice"].as_str().unwrap(), first["strength"].as_u64()), (&*left(0), Some(3)));
    let second = &said[1]["said"]["pairwise"];
    assert_eq!(second["choice"], "both_bad");
    assert_eq!(
        (second["edit"]["of"].as_str().unwrap(), second["edit"]["text"].as_str().unwrap()),
        (&*left(1), "The key is in the shed.")
    );
    // The link works once.
    let mut other = browser.person();
    other.open(&link);
    assert!(other.text().contains("There is no such invitation"), "{}", other.text());
    // Signed out, the page is gone and comes back after signing in.
    rater.leaving(|page| page.click(".who button"));
    rater.open(&rate);
    rater.fill("input[name=name]", "rita");
    rater.fill("input[name=password]", "wrong password");
    rater.leaving(|page| page.key("Enter"));
    assert!(rater.text().contains("Name or password is wrong"));
    rater.fill("input[name=password]", PASSWORD);
    rater.leaving(|page| page.key("Enter"));
    assert_eq!(rater.eval("location.pathname"), format!("{code}/rate"));
}

/// By keyboard: the left answer, clearly better; then both bad, with an edit; the second is undone and said again.
fn compare(rater: &mut Page) {
    rater.key("1");
    assert_eq!(rater.eval("document.querySelector('.answer.picked').dataset.side"), "left");
    rater.key("2");
    assert_eq!(
        rater.eval("document.querySelector('[name=strength]:checked').value"),
        "2",
        "a digit now says how clearly"
    );
    rater.key("ArrowRight");
    assert_eq!(rater.eval("document.querySelector('.answer.picked').dataset.side"), "right");
    rater.key("ArrowLeft");
    rater.key("3");
    rater.leaving(|page| page.key("Enter"));
    assert!(rater.text().contains("Saved: Answer 1 is better, clearly."), "{}", rater.text());
    rater.key("0");
    rater.leaving(|page| page.key("Enter"));
    assert!(rater.text().contains("Saved: A tie."));
    let task = "document.querySelector('.prompt').innerText";
    let third = rater.eval(task);
    rater.leaving(|page| page.key("u"));
    assert!(rater.text().contains("Taken back: say it anew."));
    assert_ne!(rater.eval(task), third, "the second task is back");
    assert_eq!(
        rater.eval("document.querySelector('[name=pick]:checked').value"),
        "tie",
        "with what was said"
    );
    rater.key("b");
    rater.key("e");
    assert_eq!(rater.eval("document.activeElement.id"), "edit-left");
    // Keys are letters inside of fields.
    rater.eval("document.activeElement.select()");
    rater.write("The key is in the shed.");
    rater.key("Escape");
    rater.leaving(|page| page.key("Enter"));
    assert!(rater.text().contains("Saved: Both are bad; answer 1 edited."), "{}", rater.text());
    rater.key("s");
    rater.eval("document.querySelector('#skip input').checked = true");
    rater.leaving(|page| page.click("#skip button"));
    assert!(rater.text().contains("Skipped."));
    rater.key("?");
    assert_eq!(rater.eval("document.getElementById('help').open"), true);
    rater.key("Escape");
}

/// Ratings with several questions, demonstrations, edits; then an answer is changed and taken back.
pub(crate) fn every_kind(browser: &mut Browser) {
    let world = World::new();
    let rated = world.project("rated", settings_for(TaskKind::Pointwise));
    world.tasks(
        &rated,
        &json!([{ "prompt": "Why is the sky blue?", "responses": [{ "text": "Light scatters." }] }]),
    );
    let mut page = world.person(browser, &rated, "Rita", Role::Rater);
    page.open(&world.at(&rated, "/rate"));
    for key in ["2", "4", "6"] {
        page.key(key);
    }
    page.leaving(|page| page.key("Enter"));
    assert!(page.text().contains("All done"), "{}", page.text());
    let scores = world.said(&rated)[0]["said"]["pointwise"]["scores"].clone();
    let values: Vec<f64> =
        scores.as_array().unwrap().iter().map(|score| score["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [1.0, 4.0, 6.0]);
    world.wait(120);
    page.open(&world.at(&rated, "/answers"));
    page.leaving(|page| page.click("a.button"));
    page.eval("document.querySelector('[name=score_truth][value=\"2\"]').click()");
    page.leaving(|page| page.click("#submit"));
    assert_eq!(world.said(&rated)[0]["said"]["pointwise"]["scores"][1]["value"], 2.0);
    world.wait(120);
    page.open(&world.at(&rated, "/answers"));
    page.fill("input[name=reason]", "I was tired");
    page.leaving(|page| page.click("button.danger"));
    assert!(page.text().contains("Taken back") && world.said(&rated).is_empty());

    let written = world.project("written", settings_for(TaskKind::Demonstration));
    world.tasks(&written, &json!([{ "prompt": "Say hello." }, { "prompt": "Mend this.", "kind": "edit", "responses": [{ "text": "Helo!\nYou" }] }]));
    let mut page = world.person(browser, &written, "Wim", Role::Rater);
    page.open(&world.at(&written, "/rate"));
    page.fill("#text", "Hello!\n  Two lines.");
    page.leaving(|page| page.click("#submit"));
    assert_eq!(
        page.eval("document.querySelector('#text').value"),
        "Helo!\nYou",
        "an edit begins with the answer"
    );
    page.fill("#text", "Hello!\nYou");
    page.leaving(|page| page.click("#submit"));
    let said = world.said(&written);
    assert_eq!(said[0]["said"], json!({ "demonstration": { "text": "Hello!\n  Two lines." } }));
    assert_eq!(said[1]["said"], json!({ "edit": { "text": "Hello!\nYou" } }));
}

/// Reload, a crashed tab, a server that is away, an expired lease: what was begun is found again and what was said is there once.
pub(crate) fn nothing_is_lost(browser: &mut Browser) {
    let world = World::new();
    let project = world.project("kept", |_| {});
    world.tasks(&project, &pairs(3));
    let mut page = world.person(browser, &project, "Rita", Role::Rater);
    page.open(&world.at(&project, "/rate"));
    page.key("2");
    page.key("4");
    page.key("r");
    page.write("because it is true");
    page.until("document.getElementById('saved').textContent === 'Draft saved'");
    let begun = "[document.querySelector('[name=pick]:checked').value, document.querySelector('[name=strength]:checked').value,
                  document.getElementById('rationale').value, document.querySelector('.prompt').innerText].join('|')";
    let before = page.eval(begun);
    assert!(before.as_str().unwrap().starts_with("right|4|because it is true|"));
    page.leaving(|page| {
        page.call("Page.reload", json!({}));
    });
    assert_eq!(page.eval(begun), before, "after a reload");
    let context = browser.crash(page);
    let mut page = browser.tab_in(context);
    page.open(&world.at(&project, "/rate"));
    assert_eq!(page.eval(begun), before, "after a crash");
    // An older page of another tab changes nothing that is newer.
    let mut old = browser.tab_of(&page);
    old.open(&world.at(&project, "/rate"));
    page.fill("#rationale", "newer");
    page.until("document.getElementById('saved').textContent === 'Draft saved'");
    old.leaving(|page| {
        page.call("Page.reload", json!({}));
    });
    assert_eq!(old.eval("document.getElementById('rationale').value"), "newer");
    // The lease runs out; what is sent still counts, and sent again from the other tab it counts once.
    world.wait(3600);
    page.leaving(|page| page.click("#submit"));
    old.leaving(|page| page.click("#submit"));
    assert!(old.text().contains("You had answered that task already"), "{}", old.text());
    let said = world.said(&project);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["rationale"], "newer");
    // Something that cannot be taken is on the page again, with the reason.
    let form = "document.getElementById('judge')";
    page.eval(&format!("{form}.noValidate = true; {form}.elements.rationale.value = 'no choice made'"));
    page.leaving(|page| page.click("#submit"));
    assert!(page.text().contains("Not taken: choose an answer"), "{}", page.text());
    assert_eq!(page.eval("document.getElementById('rationale').value"), "no choice made");
}

/// Two raters at once get two tasks; a third that comes when all are held is told to come again.
pub(crate) fn two_raters_never_share(browser: &mut Browser) {
    let world = World::new();
    let project = world.project("shared", |_| {});
    world.tasks(&project, &pairs(6));
    let mut ana = world.person(browser, &project, "Ana", Role::Rater);
    let mut ben = world.person(browser, &project, "Ben", Role::Rater);
    let task = "document.querySelector('[name=task]').value";
    let mut seen = Vec::new();
    for _ in 0..3 {
        for page in [&mut ana, &mut ben] {
            page.open(&world.at(&project, "/rate"));
        }
        let (a, b) = (ana.eval(task), ben.eval(task));
        assert_ne!(a, b);
        seen.extend([a.as_str().unwrap().to_owned(), b.as_str().unwrap().to_owned()]);
        for page in [&mut ana, &mut ben] {
            page.key("0");
            page.leaving(|page| page.key("Enter"));
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6, "nobody saw what another had");
    assert!(ben.text().contains("All done"));
    world
        .tasks(&project, &json!([{ "prompt": "one more", "responses": [{ "text": "x" }, { "text": "y" }] }]));
    ana.open(&world.at(&project, "/rate"));
    ben.open(&world.at(&project, "/rate"));
    assert!(
        ana.text().contains("one more") && ben.text().contains("Nothing for you right now"),
        "{}",
        ben.text()
    );
}

/// Marks on words reach the log in characters of the answer, by keyboard and by pointer.
pub(crate) fn words_are_marked(browser: &mut Browser) {
    let world = World::new();
    let project = world.project("marked", |_| {});
    world.tasks(&project, &json!([{ "prompt": "p", "responses": [{ "text": "Ünder **the** tree" }, { "text": "Ünder **the** tree!" }] }]));
    let mut page = world.person(browser, &project, "Rita", Role::Rater);
    page.open(&world.at(&project, "/rate"));
    page.key("+");
    page.key(" ");
    page.key("ArrowRight");
    page.key(" ");
    page.key("Escape");
    let place = page.eval("(() => { const r = document.querySelectorAll('#answer-right [data-s]')[2].getBoundingClientRect(); return [r.x + 5, r.y + 5] })()");
    page.key("-");
    for kind in ["mousePressed", "mouseReleased"] {
        let click = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "buttons": 1, "clickCount": 1 });
        page.call("Input.dispatchMouseEvent", click);
    }
    page.key("Escape");
    page.key("1");
    page.leaving(|page| page.key("Enter"));
    let said = &world.said(&project)[0];
    let (left, right) = if said["shown"][0] == "a" { (0, 1) } else { (1, 0) };
    let end = if right == 1 { 19 } else { 18 };
    let mut marks = said["marks"].as_array().unwrap().clone();
    marks.sort_by_key(|marks| marks["response"] != left);
    assert_eq!(
        marks[0],
        json!({ "response": left, "spans": [{ "start": 0, "end": 5, "sign": 1 }, { "start": 8, "end": 11, "sign": 1 }] })
    );
    assert_eq!(marks[1], json!({ "response": right, "spans": [{ "start": 14, "end": end, "sign": -1 }] }));
}

/// In the difference view of long answers, what both say stays side by side, whichever of the two is scrolled.
pub(crate) fn differences_scroll_together(browser: &mut Browser) {
    let world = World::new();
    let project = world.project("aligned", |_| {});
    let lines = |who: &str, from: usize, to: usize| {
        (from..to).map(|i| format!("Line {i} is said by {who}.")).collect::<Vec<_>>().join("\n")
    };
    let first = [lines("both", 0, 40), lines("one alone", 100, 160), lines("both", 40, 90)].join("\n");
    let second = lines("both", 0, 90);
    world.tasks(&project, &json!([{ "prompt": "p", "responses": [{ "text": first }, { "text": second }] }]));
    let mut page = world.person(browser, &project, "Ada", Role::Rater);
    page.open(&world.at(&project, "/rate?view=differences"));
    // Where line 70 stands in each box, once `side` is scrolled so that it is in the middle.
    let scrolled = |page: &mut Page, side: usize| {
        page.eval(&format!(
            "(async () => {{
                const boxes = [...document.querySelectorAll('.aligned .text')];
                const at = (box) => {{
                    const word = [...box.querySelectorAll('[data-s]')].find((w) => w.textContent === '70');
                    return word.getBoundingClientRect().top - box.getBoundingClientRect().top;
                }};
                const box = boxes[{side}];
                box.scrollTop += at(box) - box.clientHeight / 2;
                await new Promise((r) => setTimeout(r, 200));
                return boxes.map((box) => Math.round(at(box)));
            }})()"
        ))
    };
    for side in [0, 1, 0] {
        let places = scrolled(&mut page, side);
        let [a, b] = [0, 1].map(|i| places[i].as_i64().unwrap());
        assert!(a > 50 && (a - b).abs() < 60, "side {side}: {a} and {b}");
    }
    let ends = page.eval(
        "(async () => {
            const boxes = [...document.querySelectorAll('.aligned .text')];
            boxes[1].scrollTop = boxes[1].scrollHeight;
            await new Promise((r) => setTimeout(r, 200));
            return boxes.map((box) => Math.round(box.scrollHeight - box.clientHeight - box.scrollTop));
        })()",
    );
    assert_eq!(ends, json!([0, 0]), "both end together");
}
