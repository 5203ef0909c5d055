//! Putting answers in order.

use pavlov_feedback::roles::Role;
use pavlov_feedback::store::Project;
use pavlov_schema::feedback::TaskKind;
use serde_json::{Value, json};

use crate::accessible::walk_to;
use crate::chromium::{Browser, Page};
use crate::world::{World, settings_for};

/// What is said aloud of the order so far.
const SAID: &str = "document.querySelector('.said').textContent";

fn open(world: &World, browser: &mut Browser, tasks: usize) -> (Project, Page) {
    let project = world.project("order", settings_for(TaskKind::Ranking));
    let answers: Vec<Value> =
        ["red", "green", "blue", "white"].iter().map(|text| json!({ "text": text })).collect();
    let task = |i| json!({ "prompt": format!("Which colour is best? ({i})"), "responses": answers });
    world.tasks(&project, &Value::Array((0..tasks).map(task).collect()));
    let mut page = world.person(browser, &project, "Rita", Role::Rater);
    page.open(&world.at(&project, "/rate"));
    (project, page)
}

/// The ranks that were said, by place on the screen.
fn ranks(said: &Value) -> Vec<u64> {
    let places = said["shown"].as_array().unwrap().iter();
    let rank = |letter: &Value| {
        said["said"]["ranking"]["ranks"][usize::from(letter.as_str().unwrap().as_bytes()[0] - b'a')].as_u64()
    };
    places.map(|letter| rank(letter).unwrap()).collect()
}

/// By keyboard alone: digits, equals, arrows, back; what is begun outlives a reload, and an undo brings back what was said.
pub(crate) fn by_keyboard(browser: &mut Browser) {
    let world = World::new();
    let (project, mut page) = open(&world, browser, 2);
    let keys = |page: &mut Page, keys: &[&str]| keys.iter().for_each(|key| page.key(key));
    keys(&mut page, &["3", "1", "="]);
    assert_eq!(page.eval(SAID), "Best is 1 and 3. Without a place: 2, 4.");
    assert_eq!(
        page.eval("[...document.querySelectorAll('.rank')].map((e) => e.textContent).join()"),
        "best,,best,"
    );
    // Not sent before every answer has its place; and the next time it is.
    page.key("Enter");
    page.until("document.getElementById('saved').textContent.startsWith('Give every answer its place')");
    keys(&mut page, &["4", "2", "ArrowUp"]);
    assert_eq!(page.eval(SAID), "Best is 1 and 3, then 2, then 4. That is all of them.");
    keys(&mut page, &["Backspace", "9"]);
    assert_eq!(page.eval(SAID), "Best is 1 and 3, then 4. Without a place: 2.");
    page.until("document.getElementById('saved').textContent === 'Draft saved'");
    page.leaving(|page| {
        page.call("Page.reload", json!({}));
    });
    assert_eq!(page.eval(SAID), "Best is 1 and 3, then 4. Without a place: 2.", "after a reload");
    page.key("2");
    page.leaving(|page| page.key("Enter"));
    assert!(page.text().contains("Saved: Best is 1 and 3, then 4, then 2."), "{}", page.text());
    assert_eq!(ranks(&world.said(&project)[0]), [1, 4, 1, 3]);
    page.leaving(|page| page.key("u"));
    assert_eq!(
        page.eval(SAID),
        "Best is 1 and 3, then 4, then 2. That is all of them.",
        "with what was said"
    );
    page.key("b");
    assert_eq!(page.eval(SAID), "None of them will do.");
    page.leaving(|page| page.key("Enter"));
    assert!(page.text().contains("Saved: None will do."), "{}", page.text());
    assert_eq!(world.said(&project)[0]["said"], json!({ "ranking": { "all_bad": true } }));
    // With Tab and Enter: each thing to press is reached, shows that it is, and is not lost when the list is made anew.
    for answer in ["Answer 1", "Answer 2", "Answer 3", "Answer 4"] {
        walk_to(&mut page, &format!("document.activeElement.textContent.startsWith('{answer}')"));
        page.key("Enter");
        assert_eq!(page.eval("!!document.activeElement.closest('#ranking')"), true);
    }
    walk_to(&mut page, "document.activeElement.id === 'submit'");
    page.key("Escape");
    assert!(page.eval(SAID).as_str().unwrap().starts_with("Press the numbers"), "{}", page.eval(SAID));
    keys(&mut page, &["4", "3", "2", "1"]);
    page.leaving(|page| page.key("Enter"));
    assert_eq!(ranks(&world.said(&project)[1]), [4, 3, 2, 1]);
    // Changed later, from the list of one's answers.
    world.wait(120);
    page.open(&world.at(&project, "/answers"));
    page.leaving(|page| page.click("li:first-child a.button"));
    assert_eq!(page.eval(SAID), "Best is 4, then 3, then 2, then 1. That is all of them.");
    keys(&mut page, &["1", "ArrowUp"]);
    page.leaving(|page| page.key("Enter"));
    assert_eq!(ranks(&world.said(&project)[1]), [3, 4, 2, 1]);
}

/// By clicks: answers in order, then one up, one apart, one away; none of them, and anew.
pub(crate) fn by_pointer(browser: &mut Browser) {
    let world = World::new();
    let (project, mut page) = open(&world, browser, 1);
    let press = |page: &mut Page, what: &str| page.click(&format!("[data-does='{what}']"));
    for what in ["place 2", "place 4", "place 1", "place 3", "up 3", "equal 4"] {
        press(&mut page, what);
    }
    assert_eq!(page.eval(SAID), "Best is 2 and 4, then 3, then 1. That is all of them.");
    press(&mut page, "equal 2");
    assert_eq!(page.eval(SAID), "Best is 4, then 2, then 3, then 1. That is all of them.");
    press(&mut page, "remove 3");
    page.click("[name=all_bad]");
    assert_eq!(page.eval(SAID), "None of them will do.");
    // Whoever puts one in order after all thinks again.
    press(&mut page, "place 3");
    assert_eq!(page.eval("document.querySelector('[name=all_bad]').checked"), false);
    for what in ["place 1", "place 2", "place 4", "down 1"] {
        press(&mut page, what);
    }
    page.leaving(|page| page.click("#submit"));
    assert_eq!(ranks(&world.said(&project)[0]), [3, 2, 1, 4]);
}
