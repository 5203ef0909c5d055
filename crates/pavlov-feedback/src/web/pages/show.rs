//! A task on the screen: its prompt, answers and form. No name of a policy, no seed, no score comes here.

use minijinja::{Value, context};
use pavlov_schema::feedback::TaskKind;
use pavlov_schema::marks::marked_text;
use pavlov_schema::text::Text;

use super::entries::{FLAGS, PICKS, STRENGTHS, rank_field};

use crate::settings::{Question, Scale, Settings};
use crate::store::Shown;
use crate::web::fields::Fields;
use crate::web::render::{View, differences, plain, render};
use crate::web::view::safe;

/// Thumbs as paths of a 24 by 24 picture: emoji look different on each computer, and on some like nothing.
const THUMB_UP: &str =
    "M2 10h4v11H2zM8 10l4-8c1.8 0 3 1.2 3 3v4h5.2c1.2 0 2.1 1.1 1.8 2.3l-1.7 8A2.2 2.2 0 0 1 18.2 21H8z";
const THUMB_DOWN: &str =
    "M2 3h4v11H2zM8 14l4 8c1.8 0 3-1.2 3-3v-4h5.2c1.2 0 2.1-1.1 1.8-2.3l-1.7-8A2.2 2.2 0 0 0 18.2 3H8z";

/// How texts are shown, as the address says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Formatted,
    Plain,
    Differences,
}

impl Look {
    pub(super) fn named(name: &str) -> Look {
        match name {
            "plain" => Look::Plain,
            "differences" => Look::Differences,
            _ => Look::Formatted,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Look::Formatted => "formatted",
            Look::Plain => "plain",
            Look::Differences => "differences",
        }
    }

    fn view(self) -> View {
        if self == Look::Formatted { View::Formatted } else { View::Plain }
    }
}

/// What is asked, as turns.
pub(super) fn prompt(prompt: &Text, look: Look) -> Vec<Value> {
    let turn = |role: &str, text: &str| {
        let class = if matches!(role, "user" | "assistant" | "system") { role } else { "other" };
        context! { role => class, role_shown => role, html => safe(render(text, look.view())) }
    };
    match prompt {
        Text::Plain(text) => vec![turn("", text)],
        Text::Chat(turns) if turns.len() == 1 => vec![turn("", &turns[0].content)],
        Text::Chat(turns) => turns.iter().map(|message| turn(&message.role, &message.content)).collect(),
    }
}

/// What was asked, in one line.
pub(super) fn brief(prompt: &Text) -> String {
    let text = match prompt {
        Text::Plain(text) => text.clone(),
        // The last turn is the question.
        Text::Chat(turns) => turns.last().map(|turn| turn.content.clone()).unwrap_or_default(),
    };
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 120 {
        line = line.chars().take(119).chain(['…']).collect();
    }
    // Characters that hide or turn others have no place in a list.
    line.chars().filter(|c| !crate::web::render::is_deceiving(*c)).collect()
}

/// The answers as they are shown, with what was edited.
pub(super) fn answers(responses: &[Shown], look: Look, values: &Fields) -> Vec<Value> {
    let texts: Vec<String> = responses.iter().map(|response| marked_text(&response.text)).collect();
    let html: Vec<String> = match (look, texts.as_slice()) {
        (Look::Differences, [first, second]) => {
            let (first, second) = differences(first, second);
            vec![first, second]
        }
        (Look::Differences | Look::Plain, texts) => texts.iter().map(|text| plain(text)).collect(),
        (Look::Formatted, texts) => texts.iter().map(|text| render(text, View::Formatted)).collect(),
    };
    let one = |(i, html): (usize, String)| {
        let side = match i {
            0 => "left".to_owned(),
            1 => "right".to_owned(),
            i => (i + 1).to_string(),
        };
        let title = if responses.len() == 1 { "The answer".to_owned() } else { format!("Answer {}", i + 1) };
        let written = values.get(&format!("edit_{side}"));
        let edited = !written.is_empty() && written.trim() != texts[i].trim();
        let edit = if edited { written } else { &texts[i] };
        let id = &*responses[i].id;
        context! { side, title, number => i + 1, id, html => safe(html), edit, edited,
        field => rank_field(id), rank => values.get(&rank_field(id)) }
    };
    html.into_iter().enumerate().map(one).collect()
}

/// The questions of a rating.
pub(super) fn questions(settings: &Settings, values: &Fields) -> Vec<Value> {
    let question = |question: &Question| {
        let given = values.get(&format!("score_{}", question.name));
        let (low, high) = question.scale.range();
        let title = |value: i32| match (question.scale, value) {
            (Scale::Thumbs, 0) => "No".to_owned(),
            (Scale::Thumbs, _) => "Yes".to_owned(),
            (_, value) => value.to_string(),
        };
        let points = (low as i32..=high as i32).map(|value| {
            let icon = if value == 0 { THUMB_DOWN } else { THUMB_UP };
            context! { value, title => title(value), icon, on => given == value.to_string() }
        });
        let kind = if question.scale == Scale::Thumbs { "thumbs" } else { "likert" };
        context! { name => &*question.name, text => &*question.text, kind, low => &*question.anchors[0], high => &*question.anchors[1],
        points => points.collect::<Vec<_>>() }
    };
    settings.questions.iter().map(question).collect()
}

/// What every form on a task needs.
pub(super) fn form(
    kind: TaskKind,
    settings: &Settings,
    responses: &[Shown],
    look: Look,
    values: &Fields,
) -> Value {
    let picks = PICKS
        .iter()
        .map(|&(_, name, title, key)| context! { name, title, key, on => values.get("pick") == name });
    let strengths = STRENGTHS.iter().map(|&(value, title)| {
        context! { value, title, on => values.get("strength") == value.to_string() }
    });
    let flags = FLAGS
        .iter()
        .map(|&(_, name, title)| context! { name, title, on => values.all("flag").any(|flag| flag == name) });
    let text = match (values.get("text"), responses.first()) {
        ("", Some(original)) if kind == TaskKind::Edit => marked_text(&original.text),
        (text, _) => text.to_owned(),
    };
    let written = context! { text, rationale => values.get("rationale"), marks => values.get("marks"), all_bad => !values.get("all_bad").is_empty(),
    flagged => values.all("flag").next().is_some() };
    context! {
        kind => kind.name(), answers => answers(responses, look, values), questions => questions(settings, values),
        picks => picks.collect::<Vec<_>>(), strengths => strengths.collect::<Vec<_>>(), flags => flags.collect::<Vec<_>>(),
        values => written, view => look.name(),
        settings => context! { strength => settings.strength, rationale => settings.rationale, marks => settings.marks,
                               edits => settings.edits },
    }
}

/// Ways to look at a task, with the address of each.
pub(super) fn looks(kind: TaskKind, path: &str, now: Look) -> Vec<Value> {
    let all = [(Look::Formatted, "Formatted"), (Look::Plain, "Plain"), (Look::Differences, "Differences")];
    let usable = all.into_iter().filter(|(look, _)| *look != Look::Differences || kind == TaskKind::Pairwise);
    let look = |(look, title): (Look, &str)| {
        context! { name => look.name(), title, href => format!("{path}?view={}", look.name()), here => look == now }
    };
    usable.map(look).collect()
}

/// What the form is headed.
pub(super) fn heading(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Pairwise => "Which answer is better?",
        TaskKind::Ranking => "Put the answers in order",
        TaskKind::Pointwise => "How good is this answer?",
        TaskKind::Demonstration => "Write a good answer",
        TaskKind::Edit => "Make this answer better",
    }
}

/// The keys of a kind of task.
pub(super) fn keys(kind: TaskKind) -> Vec<Value> {
    let mut keys: Vec<(&[&str], &str)> = match kind {
        TaskKind::Pairwise => vec![
            (&["1", "2"], "choose an answer; once one is chosen, 1 to 4 say how clearly"),
            (&["←", "→"], "choose the other answer, at any time"),
            (&["0"], "a tie"),
            (&["b"], "both are bad"),
            (&["1", "2", "3", "4"], "negligibly, slightly, clearly, significantly"),
            (&["Esc"], "choose nothing"),
            (&["e"], "edit the chosen answer"),
            (&["d"], "show the differences"),
        ],
        TaskKind::Ranking => vec![
            (&["1", "…", "9"], "the next best answer"),
            (&["="], "as good as the one before it"),
            (&["↑", "↓"], "the last one further up, further down"),
            (&["⌫"], "take the last one back"),
            (&["b"], "none of them will do"),
            (&["Esc"], "begin anew"),
        ],
        TaskKind::Pointwise => {
            vec![
                (&["1", "…", "7"], "answer the question; the next one follows"),
                (&["↑", "↓"], "another question"),
            ]
        }
        TaskKind::Demonstration | TaskKind::Edit => {
            vec![(&["e"], "write"), (&["Ctrl", "Enter"], "submit while you write")]
        }
    };
    keys.extend_from_slice(&[
        (&["Enter"], "submit"),
        (&["s"], "skip, with a reason"),
        (&["u"], "undo the last answer"),
        (&["r"], "say why"),
        (&["f"], "flag a problem"),
    ]);
    if kind != TaskKind::Demonstration {
        keys.extend_from_slice(&[
            (&["+", "-"], "mark words you liked, disliked"),
            (&["p"], "show the text as written"),
        ]);
    }
    keys.extend_from_slice(&[(&["g"], "open or close the guidelines"), (&["?"], "this list")]);
    keys.into_iter().map(|(keys, text)| context! { keys => keys.to_vec(), text }).collect()
}
