//! The page itself: a template that escapes what it is given, and its style.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};

use super::Report;
use super::sections::Curve;
use crate::{Error, Result};

/// The style of every page: light and dark, phone and paper.
pub const CSS: &str = include_str!("page.css");
const PAGE: &str = include_str!("page.html");

/// What a page has beyond a report while a run goes.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Live {
    /// Curves of all runs that are watched; empty for one.
    pub compared: Vec<Curve>,
    /// Names of all runs that are watched.
    pub runs: Vec<String>,
    /// Its final model is there, and no line of metrics came after it.
    pub finished: bool,
    /// When its last line of metrics was written, in milliseconds since 1970.
    pub last_line: Option<u64>,
}

/// Reports as one page: a file of its own, or, `live`, the page of a run that goes.
pub fn render(reports: &[Report], live: Option<&Live>) -> Result<String> {
    let mut environment = Environment::new();
    // Everything is text unless it is marked as drawn here.
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page.html", PAGE).map_err(wrong)?;
    environment.add_filter("drawn", |svg: String| Value::from_safe_string(svg));
    let template = environment.get_template("page.html").map_err(wrong)?;
    let (reports, live) = (Value::from(Serde(reports)), Value::from(Serde(live)));
    template.render(context! { reports, live, css => Value::from_safe_string(CSS.to_owned()) }).map_err(wrong)
}

#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn wrong(error: minijinja::Error) -> Error {
    Error::Question(format!("the page could not be made ({error:#}); report it with the run's insight/"))
}
