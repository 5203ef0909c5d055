//! The verbs that teach: a configuration, a loop of `pavlov-train`, and what is shown while it runs.

use std::time::Instant;

use anyhow::{Error, Result};
use pavlov_engine::Cpu;
use pavlov_schema::{Map, Value};
use pavlov_train::reward::Waiting;
use pavlov_train::run::{Ending, Event, Host, Metrics, Precision};
use pavlov_train::settings::{Settings, read_assignment, read_toml};
use serde_json::json;

use crate::args::TrainArgs;
use crate::failure::Interrupted;
use crate::screen::{self, Progress};
use crate::{interrupt, stdout};

/// Characters of a sampled prompt or answer that are shown.
const SHOWN: usize = 300;

/// Names the file of the feedback application's token.
const TOKEN_FILE: &str = "PAVLOV_FEEDBACK_TOKEN_FILE";

/// Reads the configuration and runs a loop with it.
pub(crate) fn run<C: Settings>(
    args: &TrainArgs,
    teach: impl FnOnce(&C, &mut Host) -> pavlov_train::Result<Ending>,
) -> Result<()> {
    let config: C = configuration(args)?;
    say_machine(&config.to_map());
    interrupt::listen("stopping: a checkpoint is saved first; press Ctrl-C again to stop at once")?;
    let command: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut view = View::new(args.json);
    let mut events = |event: Event| view.show(event);
    let mut host = Host { stop: interrupt::flag(), events: &mut events, command: &command };
    let ending = teach(&config, &mut host);
    view.progress = None;
    let ending = ending?;
    if let Some(error) = view.failed {
        return Err(error);
    }
    end(ending, &command, args)
}

/// The file's keys, then those of `--set`, then the flags: the later the stronger.
fn configuration<C: Settings>(args: &TrainArgs) -> Result<C> {
    let mut map = match &args.config {
        Some(file) => read_toml(file)?,
        None => Map::new(),
    };
    for setting in &args.settings {
        let (key, value) = read_assignment(setting)?;
        map.insert(key, value);
    }
    // Only verbs that ask people know the key; the others are not to stumble over what the shell happens to have.
    if let Some(file) = std::env::var_os(TOKEN_FILE)
        && C::keys().iter().any(|key| key.name == "feedback_token_file")
    {
        map.entry("feedback_token_file").or_insert_with(|| file.to_string_lossy().into());
    }
    for (given, key) in [(args.resume, "resume_from_checkpoint"), (args.overwrite, "overwrite_output_dir")] {
        if given {
            map.insert(key.to_owned(), Value::Bool(true));
        }
    }
    Ok(C::from_map(map)?)
}

fn say_machine(config: &Map<String, Value>) {
    let threads = config.get("threads").and_then(Value::as_u64).unwrap_or(0) as usize;
    let dtype = config.get("dtype").cloned().and_then(|dtype| serde_json::from_value(dtype).ok());
    let dtype: Precision = dtype.unwrap_or_default();
    screen::machine(&Cpu::new(threads), dtype.resolve());
}

fn end(ending: Ending, command: &[String], args: &TrainArgs) -> Result<()> {
    match ending {
        Ending::Finished { model, step, metrics } => {
            let place = match &model {
                Some(folder) => format!("the model is in {}", folder.display()),
                None => "the model was not saved (save_final_model)".to_owned(),
            };
            screen::line(&format!("finished after {step} updates; {place}"));
            if args.json {
                let mut line =
                    Map::from_iter([("step".to_owned(), json!(step)), ("model".to_owned(), json!(model))]);
                line.extend(metrics);
                stdout::json(&line)?;
            }
            Ok(())
        }
        Ending::Stopped { checkpoint, step } => {
            if args.json {
                stdout::json(&json!({"step": step, "checkpoint": checkpoint}))?;
            }
            let again: Vec<&str> = command
                .iter()
                .skip(1)
                .map(String::as_str)
                .filter(|arg| !["--resume", "--overwrite"].contains(arg))
                .collect();
            let again = again.into_iter().map(quoted).collect::<Vec<_>>().join(" ");
            let what = format!("{} is saved; go on with: pavlov {again} --resume", checkpoint.display());
            Err(Error::new(Interrupted(what)))
        }
    }
}

/// An argument as a shell needs it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// What is shown of a run: machine lines on stdout if asked for, the rest on stderr.
struct View {
    json: bool,
    progress: Option<Progress>,
    /// Tokens before this process began, and when it did.
    start: Option<(f64, Instant)>,
    /// The first error of stdout, which also stops the run.
    failed: Option<Error>,
}

impl View {
    fn new(json: bool) -> Self {
        Self { json, progress: None, start: None, failed: None }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Started { step, total, path } => {
                let from = if step > 0 { format!(", going on after update {step}") } else { String::new() };
                screen::line(&format!("run in {}: {total} updates{from}", path.display()));
                self.progress = Some(Progress::start(step, total));
            }
            Event::Step { step, metrics, .. } => {
                let message = self.message(&metrics);
                if let Some(progress) = &self.progress {
                    progress.step(step, &message);
                }
            }
            Event::Logged { step, metrics, .. } => {
                let message = self.message(&metrics);
                if let Some(progress) = &self.progress {
                    progress.logged(step, &message);
                }
                self.machine(step, metrics);
            }
            Event::Evaluated { step, metrics } => {
                // Those with a slash are details, for the file.
                let main = metrics.iter().filter(|(name, _)| !name.contains('/'));
                let numbers: Vec<String> =
                    main.map(|(name, value)| format!("{name} {}", short(value))).collect();
                screen::line(&format!("step {step} · {}", numbers.join(" · ")));
                self.machine(step, metrics);
            }
            Event::Saved { path } => screen::line(&format!("saved {}", path.display())),
            Event::Sample { step, prompt, completion, reward } => {
                let reward = reward.map(|reward| format!(" · reward {reward:.3}")).unwrap_or_default();
                screen::line(&format!("step {step}{reward}\n  {}\n  → {}", cut(&prompt), cut(&completion)));
            }
            Event::Waiting { step, stands: Waiting { awaited, held, of } } => {
                let held = match held {
                    0 => String::new(),
                    held => format!(
                        "; {held} are held back: show or withdraw them on the project's page of tasks"
                    ),
                };
                screen::line(&format!("step {step} · {awaited} of {of} answers of people are awaited{held}"));
            }
            Event::Note(line) => screen::line(&format!("note: {line}")),
        }
    }

    /// A line of metrics on stdout. Nobody to read it is a wish to stop.
    fn machine(&mut self, step: u64, metrics: Metrics) {
        if !self.json || self.failed.is_some() {
            return;
        }
        let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
        line.extend(metrics);
        if let Err(error) = stdout::json(&line) {
            self.failed = Some(error);
            interrupt::ask();
        }
    }

    /// The numbers a person watches, the foremost first: a narrow window cuts the line.
    fn message(&mut self, metrics: &Metrics) -> String {
        let show = |names: &[&str]| -> Vec<String> {
            let known = names.iter().filter_map(|name| Some((*name, metrics.get(*name)?)));
            known
                .map(|(name, value)| format!("{} {}", name.replace("learning_rate", "lr"), short(value)))
                .collect()
        };
        let rewarded = metrics.contains_key("reward");
        let (first, last): (&[&str], &[&str]) = if rewarded {
            (&["reward", "kl"], &["loss", "learning_rate"])
        } else {
            (&["loss", "accuracy"], &["learning_rate"])
        };
        let mut parts = show(first);
        if let Some(tokens) = metrics.get("num_tokens").and_then(Value::as_f64) {
            let (before, since) = *self.start.get_or_insert((tokens, Instant::now()));
            let seconds = since.elapsed().as_secs_f64();
            if tokens > before && seconds > 0.0 {
                parts.push(format!("{:.0} tokens/s", (tokens - before) / seconds));
            }
        }
        parts.extend(show(last));
        parts.join(" · ")
    }
}

/// Four digits that matter.
fn short(value: &Value) -> String {
    match value.as_f64() {
        Some(0.0) => "0".to_owned(),
        Some(x) if x.abs() < 1e-3 || x.abs() >= 1e5 => format!("{x:.2e}"),
        Some(x) if x.fract() == 0.0 => format!("{x}"),
        Some(x) => format!("{x:.4}"),
        None => value.to_string(),
    }
}

/// Text of a model on one line, cut, with what could steer a terminal made visible.
fn cut(text: &str) -> String {
    let line: String = text.trim().replace('\n', "⏎").chars().take(SHOWN).collect();
    let ellipsis = if text.chars().count() > SHOWN { "…" } else { "" };
    line.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect::<String>() + ellipsis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown =
            [json!(0.0), json!(2e-5), json!(12), json!(1.234_567), json!(123_456.7)].map(|v| short(&v));
        assert_eq!(shown, ["0", "2.00e-5", "12", "1.2346", "1.23e5"]);
    }

    #[test]
    fn text_of_models_cannot_steer_the_terminal() {
        assert_eq!(cut("a\n\u{1b}[2Jb\n"), "a⏎\u{FFFD}[2Jb");
        assert_eq!(cut(&"x".repeat(400)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn the_command_to_go_on_can_be_pasted() {
        assert_eq!(quoted("data=a b.jsonl"), "'data=a b.jsonl'");
        assert_eq!(quoted("max_steps=3"), "max_steps=3");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
