//! Signing in at a provider, which is another site.

use pavlov_feedback::roles::Role;

use crate::chromium::{Browser, Page};
use crate::provider::FakeProvider;
use crate::world::{PASSWORD, World};

/// An invited rater joins without a password, comes back later, and the owner connects an account that there is: each time to the
/// other site and back by nothing but what the pages offer.
pub(crate) fn through_a_provider(browser: &mut Browser) {
    let company = FakeProvider::start(World::START_S);
    let world = World::beside(&company);
    let project = world.project("invited", |_| {});
    let (id, by) = (project.id, world.owner.id);
    let secret =
        world.store.write_now(move |w| w.invite(Some(id), Role::Rater, Some(by), 3_600_000)).unwrap();
    let mut rita = browser.person();
    rita.open(&format!("{}/join/{secret}", world.url));
    rita.fill("input[name=name]", "Rita");
    rita.click("button[formaction]");
    back_at(&mut rita, &format!("/p/{}", project.code));
    assert!(rita.text().contains("Rita"), "{}", rita.text());

    rita.leaving(|page| page.click(".who button"));
    rita.open(&world.at(&project, "/answers"));
    assert!(rita.text().contains("Sign in"), "{}", rita.text());
    rita.click("form[action='/login/provider'] button");
    back_at(&mut rita, &format!("/p/{}/answers", project.code));

    company.set(|ways| ways.subject = "sub-of-olga".into());
    let mut olga = world.owner(browser);
    olga.open(&format!("{}/account", world.url));
    olga.fill("form[action='/account/connect'] input[name=password]", PASSWORD);
    olga.click("form[action='/account/connect'] button");
    olga.until("document.querySelector(\"form[action='/account/disconnect']\")");
    let mut elsewhere = browser.person();
    elsewhere.open(&format!("{}/login", world.url));
    elsewhere.click("form[action='/login/provider'] button");
    back_at(&mut elsewhere, "/");
    assert!(elsewhere.text().contains("Olga"), "{}", elsewhere.text());
}

/// Waits until the browser has been away and is signed in at a page of ours.
fn back_at(page: &mut Page, path: &str) {
    let signed_in = "document.readyState === 'complete' && document.querySelector('.who')";
    page.until(&format!("location.pathname === '{path}' && {signed_in}"));
}
