//! For everybody: axe-core's rules, and the whole way by keyboard.

use pavlov_feedback::roles::Role;
use serde_json::{Value, json};

use crate::chromium::{Browser, Page};
use crate::world::{World, pairs};

const AXE: &str = include_str!("axe/axe.min.js");

/// The rules of axe-core that a page breaks, in the colours and the size it now has.
pub(crate) fn violations(page: &mut Page) -> Vec<String> {
    // What is folded is looked at, too.
    page.eval("document.querySelectorAll('details').forEach((d) => { if (!d.name) d.open = true })");
    if page.eval("window.axe === undefined") == true {
        page.eval(&format!("{AXE}; 1"));
    }
    let found = page.eval("axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.html.slice(0, 160) + ' ' + (n.any[0]?.message ?? n.all[0]?.message ?? '')).slice(0, 4).join(' ; ')]))");
    let rules = page.eval("axe.getRules().length").as_u64().unwrap();
    assert!(rules > 80, "axe-core has {rules} rules");
    let text = |v: &Value| {
        v.as_array().unwrap().iter().map(|part| part.as_str().unwrap_or("")).collect::<Vec<_>>().join(": ")
    };
    found.as_array().unwrap().iter().map(text).collect()
}

/// With Tab, the keys of forms, and nothing else: one goes in, compares, and goes out. Whatever has the focus shows it.
pub(crate) fn by_keyboard_alone(browser: &mut Browser) {
    let world = World::new();
    let project = world.project("keys", |_| {});
    world.tasks(&project, &pairs(2));
    let mut page = world.person(browser, &project, "Rita", Role::Rater);
    page.open(&world.url);
    walk_to(&mut page, "document.activeElement.matches('a.button.primary')");
    page.leaving(|page| page.key("Enter"));
    walk_to(&mut page, "document.activeElement.matches('[name=pick]')");
    // Radio buttons go by arrow, as everywhere.
    page.key("ArrowRight");
    assert_eq!(page.eval("document.querySelector('[name=pick]:checked').value"), "tie");
    walk_to(&mut page, "document.activeElement.id === 'submit'");
    page.leaving(|page| page.key("Enter"));
    assert!(page.text().contains("Saved: A tie."));
    // Said aloud once: the seconds that go by are not.
    assert_eq!(page.eval("document.querySelector('#undo [role=status]').innerText"), "Saved: A tie.");
    assert_eq!(
        page.eval("document.getElementById('undo-left').closest('[role=status], [aria-live]')"),
        Value::Null
    );
    nothing_moves(&mut page);
    walk_to(&mut page, "document.activeElement.closest('#undo')");
    page.leaving(|page| page.key("Enter"));
    assert!(page.text().contains("Taken back"));
    walk_to(&mut page, "document.activeElement.closest('.who form')");
    page.leaving(|page| page.key("Enter"));
    assert!(page.text().contains("Sign in") && world.said(&project).is_empty());
}

/// Where somebody wants no motion, there is none.
fn nothing_moves(page: &mut Page) {
    let moving = "[...document.querySelectorAll('*')].filter((e) => { const s = getComputedStyle(e); return s.transitionDuration !== '0s' || s.animationName !== 'none' }).length";
    assert_ne!(page.eval(moving), 0, "there is something to still");
    let still = json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
    page.call("Emulation.setEmulatedMedia", still);
    assert_eq!(page.eval(moving), 0);
}

pub(crate) fn walk_to(page: &mut Page, wanted: &str) {
    for _ in 0..60 {
        page.key("Tab");
        // A radio button is drawn by the text beside it.
        let shown = "(() => { const e = document.activeElement; const s = getComputedStyle(e.matches('.pick input, .strengths input, .points input') ? e.nextElementSibling : e); const r = e.getBoundingClientRect(); return e === document.body || (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1 && r.width > 0) })()";
        assert_eq!(
            page.eval(shown),
            true,
            "the focus is not seen on {}",
            page.eval("document.activeElement.outerHTML")
        );
        if page.eval(&format!("!!({wanted})")) == true {
            return;
        }
    }
    panic!("Tab never came to {wanted}");
}
