//! The pages in a real browser: Debian's Chromium, which `cargo xtask test` installs where it can. Without one these tests say
//! that they did not run.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod accessible;
mod attacks;
mod chromium;
mod company;
mod desk;
mod order;
mod pictures;
#[path = "../provider/mod.rs"]
#[allow(dead_code, reason = "the tests of the API use the rest")]
mod provider;
mod showcase;
mod world;

/// One browser for all: starting it takes longer than most of what is tested.
#[test]
fn in_a_browser() {
    let Some(program) = chromium::installed() else {
        eprintln!(
            "\n*** THE BROWSER TESTS DID NOT RUN: no chromium is installed (apt-get install chromium) ***\n"
        );
        assert!(std::env::var_os("CI").is_none(), "CI must run the browser tests");
        return;
    };
    let mut browser = chromium::Browser::start(program);
    let mut failed = Vec::new();
    let mut step = |name: &'static str, test: fn(&mut chromium::Browser)| {
        let start = std::time::Instant::now();
        // One that fails does not hide what the others find.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut browser))).is_err() {
            failed.push(name);
        }
        eprintln!("browser: {name}: {:.1} s", start.elapsed().as_secs_f64());
    };
    step("set up, invite, rate", desk::from_set_up_to_undo);
    step("join and sign in through a provider", company::through_a_provider);
    step("every kind of task", desk::every_kind);
    step("nothing is lost", desk::nothing_is_lost);
    step("two raters", desk::two_raters_never_share);
    step("words are marked", desk::words_are_marked);
    step("differences scroll together", desk::differences_scroll_together);
    step("an order by keyboard", order::by_keyboard);
    step("an order by pointer", order::by_pointer);
    step("attacks", attacks::attacks_are_inert);
    step("by keyboard alone", accessible::by_keyboard_alone);
    step("every page", pictures::every_page);
    assert!(failed.is_empty(), "failed: {failed:?}");
}
