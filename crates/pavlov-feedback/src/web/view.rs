//! Templates, compiled into the program. Values are escaped unless [`safe`] says that `render` made them.

use std::sync::LazyLock;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

macro_rules! templates {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),+]
    };
}

const TEMPLATES: &[(&str, &str)] = templates!(
    "access.html",
    "account.html",
    "answers.html",
    "audit.html",
    "base.html",
    "error.html",
    "exclusions.html",
    "home.html",
    "join.html",
    "lesson.html",
    "leave.html",
    "login.html",
    "members.html",
    "parts.html",
    "project.html",
    "quality.html",
    "rate.html",
    "rate_pairwise.html",
    "rate_pointwise.html",
    "rate_ranking.html",
    "rate_write.html",
    "rest.html",
    "review.html",
    "settings.html",
    "task.html",
    "tasks.html",
);

static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    pages.set_undefined_behavior(UndefinedBehavior::Chainable);
    for (name, text) in TEMPLATES {
        pages.add_template(name, text).expect("templates are parsed in a test");
    }
    pages
});

/// A page of a template.
pub(super) fn page(template: &str, context: Value) -> String {
    let page = PAGES.get_template(template).and_then(|template| template.render(context));
    // Templates are part of the program: an error here is a bug, and its page says so without a template.
    page.unwrap_or_else(|error| {
        let mut out = String::from(
            "<!doctype html><title>Pavlov</title><p>This is a bug of Pavlov, please report it: ",
        );
        super::render::escape(&mut out, &format!("{template}: {error:#}"));
        out
    })
}

/// HTML that `render` made.
pub(super) fn safe(html: String) -> Value {
    Value::from_safe_string(html)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn templates_parse_and_escape() {
        for (name, _) in TEMPLATES {
            assert!(PAGES.get_template(name).is_ok(), "{name}");
        }
        let page = page("error.html", context! { title => "<b>", message => "\"><script>", back => "/" });
        assert!(
            page.contains("&lt;b&gt;") && !page.contains("<script>") && !page.contains("bug of Pavlov"),
            "{page}"
        );
    }

    #[test]
    fn pages_have_no_inline_script_or_style() {
        for (name, text) in TEMPLATES {
            assert!(!text.contains("style=") && !text.contains("<style"), "{name}");
            assert!(!text.contains(" onclick") && !text.contains("javascript:"), "{name}");
            assert!(!text.contains("|safe") && !text.contains("| safe"), "{name}: only `render` makes HTML");
            let scripts = text.matches("<script").count();
            assert_eq!(scripts, text.matches("<script src=\"/static/").count(), "{name}");
        }
    }
}
