//! Model text that tries to act on the page.

use pavlov_feedback::roles::Role;
use pavlov_feedback::web::attacks::ATTACKS;
use serde_json::{Value, json};

use crate::chromium::{Browser, Page};
use crate::world::World;

/// Every attack as prompt, answers, guidelines and reason, on every page that shows them: no script runs, no dialog opens,
/// nothing is asked of another machine, nothing of the page is another's.
pub(crate) fn attacks_are_inert(browser: &mut Browser) {
    let world = World::new();
    let all = ATTACKS.join("\n\n");
    let half = ATTACKS.len() / 2;
    let project = world.project("attacked", |settings| {
        settings.overlap = 2;
        settings.max_overlap = 2;
        settings.hold_leaks = false;
    });
    let (id, by, text) = (project.id, world.owner.id, all.clone());
    world.store.write_now(move |w| w.set_guidelines(id, &text, by)).unwrap();
    let task = json!({ "prompt": all, "responses": [{ "text": ATTACKS[..half].join("\n\n") }, { "text": ATTACKS[half..].join("\n\n") }] });
    // Alone, too, a turn each: what comes before an attack may be what makes it harmless.
    let alone = |text: &&str| json!({ "role": "<script>window.hacked=1</script>", "content": text });
    let each: Vec<Value> = ATTACKS
        .chunks(16)
        .map(|some| {
            json!({ "prompt": some.iter().map(alone).collect::<Vec<_>>(),
        "responses": [{ "text": some.concat() }, { "text": some.join("\n") }] })
        })
        .collect();
    let mut tasks = vec![task];
    tasks.extend(each);
    world.tasks(&project, &json!(tasks));
    let mut rater = world.person(browser, &project, "Rita", Role::Rater);
    for _ in 0..tasks.len() {
        for view in ["formatted", "plain", "differences"] {
            rater.open(&world.at(&project, &format!("/rate?view={view}")));
            inert(&mut rater, &world.url);
        }
        rater.key("1");
        rater.key("r");
        rater.write(ATTACKS[0]);
        rater.leaving(|page| page.click("#submit"));
    }
    rater.open(&world.at(&project, "/answers"));
    inert(&mut rater, &world.url);
    let mut second = world.person(browser, &project, "<img src=x onerror=window.hacked=1>", Role::Rater);
    second.open(&world.at(&project, "/rate"));
    second.key("b");
    second.leaving(|page| page.key("Enter"));
    let mut owner = world.owner(browser);
    for path in ["", "/tasks", "/review", "/members", "/settings", "/audit", "/exclusions"] {
        owner.open(&world.at(&project, path));
        inert(&mut owner, &world.url);
    }
    owner.open(&world.at(&project, "/review"));
    owner.leaving(|page| page.click("ol a"));
    inert(&mut owner, &world.url);
}

/// Nothing of the texts acted.
fn inert(page: &mut Page, url: &str) {
    // Whatever would run late has had its turn.
    page.eval("new Promise((done) => setTimeout(done, 30))");
    assert_eq!(page.eval("typeof window.hacked"), "undefined");
    let own = "[...document.querySelectorAll('script')].every((s) => s.src.startsWith(location.origin + '/static/'))
        && document.querySelectorAll('.text a, .text img, .text input, .text button, .text form, .text style, .text iframe, .text [id], .text [style], .text svg').length === 0
        && document.querySelectorAll('iframe, object, embed, base, video, audio, meta[http-equiv]').length === 0";
    assert_eq!(page.eval(own), true, "{}", page.eval("document.documentElement.outerHTML"));
    assert!(page.eval("location.href").as_str().unwrap().starts_with(url));
    for event in page.events() {
        match event["method"].as_str().unwrap_or_default() {
            "Page.javascriptDialogOpening" => panic!("a dialog opened: {event}"),
            "Network.requestWillBeSent" => {
                let to = event["params"]["request"]["url"].as_str().unwrap();
                assert!(to.starts_with(url), "a request left for {to}");
            }
            // What the policy had to stop was not text.
            "Log.entryAdded" => {
                let text = event["params"]["entry"]["text"].as_str().unwrap_or_default().to_owned();
                assert!(
                    !text.contains("Content Security Policy") && !text.contains("Content-Security-Policy"),
                    "{text}"
                );
            }
            _ => {}
        }
    }
}
