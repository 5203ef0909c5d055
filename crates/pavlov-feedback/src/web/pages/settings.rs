//! What a manager decides about a project.

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use minijinja::{Value, context};
use serde_json::json;

use super::home::KINDS;
use super::{back, inside};
use crate::error::{Error, Result as Checked};
use crate::manage::manage;
use crate::roles::Action;
use crate::settings::{Question, Scale, Settings};
use crate::web::App;
use crate::web::failure::{Result, status};
use crate::web::fields::{Fields, Form};
use crate::web::session::{Inside, Viewer};

/// How a setting is asked.
enum Ask {
    Check,
    Whole,
    Share,
    Select(&'static [(&'static str, &'static str)]),
}
use Ask::{Check, Select, Share, Whole};

struct Field(&'static str, &'static str, &'static str, Ask);

const SELECTIONS: &[(&str, &str)] = &[
    ("uniform", "at random"),
    ("in_order", "in the order they came"),
    ("information", "where the outcome is least certain"),
];

/// Every setting but the questions, in groups.
const GROUPS: [(&str, &[Field]); 5] = [
    (
        "What raters see",
        &[
            Field("kind", "What they do where a task does not say", "", Select(&[])),
            Field("strength", "Ask how clearly one is better", "", Check),
            Field("rationale", "Let them say why", "", Check),
            Field(
                "marks",
                "Let them mark words",
                "The words that earned or lost it: a human credit map.",
                Check,
            ),
            Field(
                "edits",
                "Let them edit an answer of a comparison",
                "Gives a demonstration, and edited > original.",
                Check,
            ),
            Field("blind_colleagues", "Hide colleagues' answers", "", Check),
            Field(
                "undo_window_s",
                "Seconds to undo an answer",
                "Then it is sealed, and training sees it.",
                Whole,
            ),
        ],
    ),
    (
        "How many see a task",
        &[
            Field("overlap", "People for each task", "", Whole),
            Field("shared_share", "Share of tasks seen by more", "From 0 to 1.", Share),
            Field("shared_overlap", "People for these", "", Whole),
            Field("max_overlap", "People at most, where they disagree", "", Whole),
            Field("adjudicate", "A reviewer decides what stays undecided", "", Check),
            Field(
                "lease_s",
                "Seconds a task is held at least",
                "Three times the median answer where that is longer.",
                Whole,
            ),
        ],
    ),
    (
        "Which task comes next",
        &[
            Field("selection", "Tasks are chosen", "", Select(SELECTIONS)),
            Field(
                "uniform_share",
                "Share chosen at random all the same",
                "At least 0.2: statistics are made from it.",
                Share,
            ),
            Field("max_open_tasks", "Open tasks at most", "More are refused until some are answered.", Whole),
            Field("max_staleness", "Policy updates until a task is withdrawn", "Empty: never.", Whole),
        ],
    ),
    (
        "Quality",
        &[
            Field("gold_share", "Share of tasks with a known answer", "Served silently.", Share),
            Field("calibration", "Practice tasks before the first live one", "", Whole),
            Field(
                "calibration_pass",
                "Share of them that must be right",
                "Below it a manager looks first.",
                Share,
            ),
            Field("repeat_share", "Share asked again, swapped", "For each rater's consistency.", Share),
            Field("repeat_after", "Tasks before one may come again", "", Whole),
            Field("promote_unanimous", "Make gold of tasks this many answered alike", "0: never.", Whole),
            Field(
                "hasty_ms",
                "Milliseconds under which an answer is marked hasty",
                "Nothing is excluded for it.",
                Whole,
            ),
        ],
    ),
    ("Blinding", &[Field("hold_leaks", "Hold back answers that name their model", "", Check)]),
];

pub(super) async fn page(
    State(app): State<App>,
    Path(project): Path<String>,
    viewer: Viewer,
) -> Result<Html<String>> {
    let here = viewer.enter(&app, &project, Action::ChangeProject).await?;
    Ok(form(&here, &here.project.settings, &here.project.guidelines, None))
}

fn form(here: &Inside, settings: &Settings, guidelines: &str, error: Option<String>) -> Html<String> {
    let values = serde_json::to_value(settings).unwrap_or_default();
    let field = |&Field(key, title, hint, ref ask): &Field| {
        let value = match &values[key] {
            serde_json::Value::Bool(set) => Value::from(*set),
            serde_json::Value::String(text) => Value::from(text.as_str()),
            serde_json::Value::Null => Value::from(""),
            other => Value::from(other.to_string()),
        };
        let (kind, step) = match ask {
            Check => ("check", ""),
            Whole => ("number", "1"),
            Share => ("number", "any"),
            Select(_) => ("select", ""),
        };
        let options: Vec<Value> = match ask {
            Select([]) => {
                KINDS.iter().map(|&(kind, title, _)| context! { name => kind.name(), title }).collect()
            }
            Select(options) => options.iter().map(|&(name, title)| context! { name, title }).collect(),
            _ => Vec::new(),
        };
        context! { key, title, hint, value, options, step, type => kind }
    };
    let groups = GROUPS
        .iter()
        .map(|&(title, fields)| context! { title, fields => fields.iter().map(field).collect::<Vec<_>>() });
    let more = context! { groups => groups.collect::<Vec<_>>(), questions => questions_text(&settings.questions), guidelines, error,
    closed => here.project.closed_at.is_some() };
    inside(here, "settings.html", "Settings", "settings", more)
}

/// One question a line.
fn questions_text(questions: &[Question]) -> String {
    let line = |question: &Question| {
        let scale = match question.scale {
            Scale::Thumbs => "thumbs",
            Scale::Likert5 => "1-5",
            Scale::Likert7 => "1-7",
        };
        [&*question.name, &question.text, scale, &question.anchors[0], &question.anchors[1]].join(" | ")
    };
    questions.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn questions(text: &str) -> Checked<Vec<Question>> {
    let line = |(i, line): (usize, &str)| {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let scale = match parts.get(2).copied() {
            Some("thumbs") => Scale::Thumbs,
            Some("1-5" | "1–5") => Scale::Likert5,
            Some("1-7" | "1–7") => Scale::Likert7,
            _ => {
                let mend = "write name | question | thumbs, 1-5 or 1-7 | lowest | highest";
                return Err(Error::invalid(format!("`questions`, line {}: {mend}", i + 1)));
            }
        };
        let part = |i: usize| parts.get(i).map(|part| (*part).to_owned()).unwrap_or_default();
        Ok(Question { name: part(0), text: part(1), scale, anchors: [part(3), part(4)] })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
}

/// The settings that a form asks for.
fn read(old: &Settings, fields: &Fields) -> Checked<Settings> {
    let mut values = serde_json::to_value(old).map_err(|error| Error::Bug(error.to_string()))?;
    for Field(key, title, _, ask) in GROUPS.iter().flat_map(|(_, fields)| fields.iter()) {
        let text = fields.get(key).trim();
        values[key] = match ask {
            Check => json!(text == "true"),
            Select(_) => json!(text),
            Whole | Share if text.is_empty() && *key == "max_staleness" => json!(null),
            Whole => json!(
                text.parse::<u64>().map_err(|_| Error::invalid(format!("“{title}” needs a whole number")))?
            ),
            Share => json!(
                text.parse::<f64>()
                    .map_err(|_| Error::invalid(format!("“{title}” needs a number from 0 to 1")))?
            ),
        };
    }
    let mut settings: Settings =
        serde_json::from_value(values).map_err(|error| Error::invalid(error.to_string()))?;
    settings.questions = questions(fields.get("questions"))?;
    settings.validate()?;
    Ok(settings)
}

pub(super) async fn save(
    State(app): State<App>,
    Path(project): Path<String>,
    Form { viewer, fields }: Form,
) -> Result<Response> {
    let here = viewer.enter(&app, &project, Action::ChangeProject).await?;
    let guidelines = fields.get("guidelines").trim().to_owned();
    let saved = match read(&here.project.settings, &fields) {
        Err(error) => Err(error),
        Ok(settings) => {
            let guidelines = guidelines.clone();
            let change = manage(app.store(), here.actor(), move |m| {
                m.set_settings(&settings)?;
                m.set_guidelines(&guidelines)
            });
            change.await
        }
    };
    match saved {
        Ok(()) => Ok(back(&here, "")),
        Err(error) => {
            let page = form(
                &here,
                &here.project.settings,
                &guidelines,
                Some(format!("Nothing was saved: {error}.")),
            );
            Ok((status(&error), page).into_response())
        }
    }
}

pub(super) async fn close(state: State<App>, path: Path<String>, form: Form) -> Result<Response> {
    set_closed(state, path, form, true).await
}

pub(super) async fn open(state: State<App>, path: Path<String>, form: Form) -> Result<Response> {
    set_closed(state, path, form, false).await
}

async fn set_closed(
    State(app): State<App>,
    Path(project): Path<String>,
    form: Form,
    closed: bool,
) -> Result<Response> {
    let here = form.viewer.enter(&app, &project, Action::ChangeProject).await?;
    manage(app.store(), here.actor(), move |m| m.set_closed(closed)).await?;
    Ok(back(&here, "/settings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_field_and_comes_back_from_the_form() {
        let old = Settings { max_staleness: Some(3), ..Settings::default() };
        let values = serde_json::to_value(&old).unwrap();
        let mut sent: Vec<(String, String)> = vec![("questions".into(), questions_text(&old.questions))];
        for (key, value) in values.as_object().unwrap().iter().filter(|(key, _)| *key != "questions") {
            assert!(
                GROUPS.iter().any(|(_, fields)| fields.iter().any(|field| field.0 == key)),
                "no field for `{key}`"
            );
            let text = value.as_str().map_or(value.to_string(), str::to_owned);
            if text != "false" {
                sent.push((key.clone(), text));
            }
        }
        assert_eq!(
            read(&Settings { gold_share: 0.5, strength: false, ..Settings::default() }, &Fields(sent))
                .unwrap(),
            old
        );
    }

    #[test]
    fn questions_are_read_by_line() {
        let text = "help | Does it help? | thumbs | no | yes\n\ntrue | Is it true? | 1-7 | wrong | right";
        let read = questions(text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].scale, read[1].anchors[0].as_str()), (Scale::Likert7, "wrong"));
        assert!(questions("help | ?").unwrap_err().to_string().contains("line 1"));
    }
}
