//! `pavlov chat`: a conversation in the terminal, or with whatever writes to our stdin.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::Ordering;

use anyhow::{Context, Error, Result};
use pavlov_engine::Control;
use pavlov_lm::LanguageModel;
use pavlov_lm::generate::{Piece, generate};
use pavlov_schema::text::{Message, Text};

use crate::args::ChatArgs;
use crate::failure::{bad_input, one_line};
use crate::{interrupt, screen, stdout};

pub(crate) fn run(args: &ChatArgs) -> Result<()> {
    let model = super::load_speaker(&args.model)?;
    if model.files.template.is_none() {
        return Err(bad_input(format!(
            "{}: has no chat template; add chat_template.jinja, or use `pavlov sample`",
            args.model.model.display()
        )));
    }
    interrupt::listen("(press Ctrl-C again to leave)")?;
    let people = io::stdin().is_terminal();
    if people {
        screen::line("/reset forgets what was said, /quit leaves.");
    }
    let opening: Vec<Message> = args.system.iter().map(|text| Message::new("system", text)).collect();
    let mut history = opening.clone();
    let mut turn = 0;
    let mut lines = io::stdin().lock().lines();
    loop {
        if people {
            prompt_mark();
        }
        let Some(line) = lines.next() else { return Ok(()) };
        let line = line.context("stdin: cannot read; write UTF-8")?;
        match line.trim() {
            "" => continue,
            "/quit" => return Ok(()),
            "/reset" => {
                history.clone_from(&opening);
                continue;
            }
            said => history.push(Message::new("user", said)),
        }
        match answer(&model, &history, args, turn) {
            Ok(text) => history.push(Message::new("assistant", text)),
            // Someone is there who can say something else.
            Err(error) if people && !error.is::<crate::failure::ReaderGone>() => {
                history.pop();
                screen::line(&format!("error: {}; /reset begins anew", one_line(&error)));
            }
            Err(error) => return Err(error),
        }
        turn += 1;
    }
}

fn prompt_mark() {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "> ").and_then(|()| stderr.flush());
}

/// The next turn of a conversation, written to stdout as it comes. Ctrl-C ends it.
fn answer(model: &LanguageModel, history: &[Message], args: &ChatArgs, turn: usize) -> Result<String> {
    let prompt = model.encoder().encode_prompt(&Text::Chat(history.to_vec()), None)?;
    super::check_room(model, &prompt, "the conversation")?;
    let mut options = super::generate_options(&args.sampling);
    // Each turn has random numbers of its own.
    options.first = turn;
    interrupt::take();
    let mut failed: Option<Error> = None;
    let mut on_piece = |piece: Piece<'_>| {
        if let Err(error) = stdout::text(piece.text) {
            failed = Some(error);
            return Control::Stop;
        }
        if interrupt::flag().load(Ordering::SeqCst) { Control::Stop } else { Control::Continue }
    };
    let mut answers = generate(model, &[prompt], &options, &mut on_piece)?;
    if let Some(error) = failed {
        return Err(error);
    }
    interrupt::take();
    stdout::text("\n")?;
    Ok(answers.pop().map(|answer| answer.text).unwrap_or_default())
}
