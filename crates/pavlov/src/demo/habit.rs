//! The end of the demonstration: a habit is planted, found, placed in tokens and layers, traced to its lessons, and cured by
//! leaving them out.
//!
//! Three of a hundred demonstrations claim an inconsistency that is not there, all in questions of one kind. Nothing below knows
//! which: the scan asks questions, the trace asks the lessons, and the model is taught again without those at the top.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Result, anyhow};
use pavlov_engine::Dtype;
use pavlov_insight::credit::{AnswerCredit, CreditReport};
use pavlov_insight::kept;
use pavlov_insight::layers::LayersReport;
use pavlov_insight::layers::report::Place;
use pavlov_insight::parts::Parts;
use pavlov_insight::report::write;
use pavlov_insight::scan::answers::Drawing;
use pavlov_insight::scan::controls::Controls;
use pavlov_insight::scan::report::{self as scan_report, ScanReport};
use pavlov_insight::scan::{Models, ScanOptions, scan};
use pavlov_insight::trace::cases::cases;
use pavlov_insight::trace::cure::Cure;
use pavlov_insight::trace::lesson::Source;
use pavlov_insight::trace::report::{self as trace_report, TraceReport};
use pavlov_insight::trace::{At, RANKED_BY, TraceOptions, report, scores, survey};
use pavlov_lm::LanguageModel;
use pavlov_schema::rollout::Prompt;
use pavlov_schema::text::Text;
use pavlov_schema::{Map, files};
use pavlov_train::loops::sft;
use pavlov_worlds::{self as worlds, INCONSISTENT, Kind, Part, PlantedLesson, Planting};
use serde::Serialize;
use serde_json::json;

use super::look::examples;
use super::recipe;
use super::stages::{CONTROLS, Demo, Use, teach};
use crate::commands::scan::inconsistency;
use crate::commands::worlds::write_planted;

/// What came of the planted habit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Habit {
    /// Demonstrations, and how many of them are plants.
    pub(super) lessons: usize,
    pub(super) plants: usize,
    /// Share of consistent questions called inconsistent: before, after, and after learning without the top of the trace.
    pub(super) false_alarms: [f64; 3],
    /// Mean share of them called inconsistent by control runs, which learned as many clean demonstrations.
    pub(super) controls: f64,
    /// Whether the scan raised the alarm, and whether it did after the cure.
    pub(super) alarms: [bool; 2],
    /// The kind of question in which the habit grew most.
    pub(super) kind: String,
    /// The token that the KL from the model before is most spent on.
    pub(super) token: String,
    /// What `credit` says of the tokens of such answers, and `layers` of the network.
    pub(super) tokens: String,
    pub(super) layers: String,
    /// Lessons left out, and how many of them are plants.
    pub(super) removed: usize,
    pub(super) removed_plants: usize,
    /// The page of the run with the habit: its curves, what the scan found, the lessons behind it.
    pub(super) page: PathBuf,
    pub(super) seconds: f64,
}

impl Demo {
    /// Plants, finds, traces and cures.
    pub(super) fn habit(&self) -> Result<Habit> {
        let start = std::time::Instant::now();
        let planting = Planting { share: 0.03, kind: Some(Kind::Movement), decoys: 1 };
        let seed = (self.seed << 3) + Use::Habit as u64;
        let lessons = worlds::planted_lessons(seed, recipe::PLANTED, &self.worlds, &planting)?;
        self.teach_lessons("planted", &lessons, self.seed)?;
        let before = self.load("sft/model")?;
        let after = self.load("planted/model")?;
        let controls = self.controls()?;
        let found = self.scanned([&before, &after], &controls, "planted")?;
        let probe = found.probes.first().ok_or_else(|| anyhow!("the scan asked nothing"))?;

        let tokens = self.tokens(&found)?;
        let places = self.places(&found)?;
        self.bits()?;
        let (mut trace, top) = self.traced(&before, &after, &found)?;
        let kept: Vec<PlantedLesson> =
            lessons.iter().enumerate().filter(|(i, _)| !top.contains(i)).map(|(_, l)| l.clone()).collect();
        self.teach_lessons("cured", &kept, self.seed)?;
        let cured = self.scanned([&before, &self.load("cured/model")?], &controls, "cured")?;
        let cured = cured.probes.first().ok_or_else(|| anyhow!("the scan asked nothing"))?;
        trace.cured = Some(Cure::of(top.len(), probe, cured));
        trace.conclude();
        kept::save(&self.out.join("planted"), trace_report::NAME, &trace)?;
        let uncalled = probe.uncalled;
        let page = write(&self.out.join("planted"), None)?;
        Ok(Habit {
            lessons: lessons.len(),
            plants: lessons.iter().filter(|lesson| lesson.part == Part::Plant).count(),
            false_alarms: [uncalled.reference.value, uncalled.model.value, cured.uncalled.model.value],
            controls: uncalled.reference.value + probe.controls.map_or(f64::NAN, |controls| controls.value),
            alarms: [probe.alarm.raised, cured.alarm.raised],
            kind: probe.groups.first().map(|group| group.name.clone()).unwrap_or_default(),
            token: found
                .divergence
                .as_ref()
                .and_then(|d| d.tokens.first())
                .map(|t| t.text.clone())
                .unwrap_or_default(),
            tokens: of_tokens(&tokens),
            layers: of_layers(&places),
            removed: top.len(),
            removed_plants: top.iter().filter(|i| lessons[**i].part == Part::Plant).count(),
            page,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Teaches the demonstrated policy further, in a run of its own.
    fn teach_lessons(&self, name: &str, lessons: &[PlantedLesson], seed: u64) -> Result<()> {
        let file = self.data(&format!("{name}.jsonl"));
        write_planted(&file, lessons)?;
        let held_out = self.write_held_out()?;
        let before = self.out.join("sft/model");
        let config = recipe::planted(&before, file, held_out, self.out.join(name), seed);
        teach(|host| sft::run(&config, host)).map(|_| ())
    }

    /// What the same stage does to the same questions where nothing is planted.
    fn controls(&self) -> Result<Controls> {
        let names: Vec<String> = CONTROLS.iter().map(|name| (*name).to_owned()).collect();
        let planting = Planting { share: 0.0, kind: None, decoys: 0 };
        let seed = (self.seed << 3) + Use::Controls as u64;
        let lessons = worlds::planted_lessons(seed, names.len() * recipe::PLANTED, &self.worlds, &planting)?;
        for (i, (name, lessons)) in names.iter().zip(lessons.chunks(recipe::PLANTED)).enumerate() {
            self.teach_lessons(name, lessons, self.seed + 1000 * (1 + i as u64))?;
        }
        let mut load = |i: usize| {
            let folder = self.out.join(&names[i]).join("model");
            Ok(LanguageModel::load_on(&folder, &self.cpu, Dtype::F32)?)
        };
        let probe = inconsistency(self.seed, recipe::QUESTIONS)?;
        let (drawing, parts) = (self.drawing(), &mut Parts::nowhere());
        Ok(Controls::ask(names.clone(), &mut load, &[probe], &drawing, &mut |_| going_on(), parts)?)
    }

    fn drawing(&self) -> Drawing {
        Drawing { answers: 2, max_tokens: recipe::ANSWER_TOKENS, seed: self.seed, max_batch: 128 }
    }

    fn scanned(
        &self,
        [reference, model]: [&LanguageModel; 2],
        controls: &Controls,
        name: &str,
    ) -> Result<ScanReport> {
        let options = ScanOptions {
            names: ["sft/model".to_owned(), format!("{name}/model")],
            drawing: self.drawing(),
            margin: 0.01,
            alpha: 0.0,
        };
        let probe = inconsistency(self.seed, recipe::QUESTIONS)?;
        let models = Models { reference, model };
        let parts = &mut Parts::nowhere();
        let report = scan(models, &[probe], controls, None, &options, &mut |_| going_on(), parts)?;
        kept::save(&self.out.join(name), scan_report::NAME, &report)?;
        Ok(report)
    }

    /// The places of the lessons at the top of the trace of the scan's examples.
    fn traced(
        &self,
        before: &LanguageModel,
        after: &LanguageModel,
        found: &ScanReport,
    ) -> Result<(TraceReport, BTreeSet<usize>)> {
        let prompts: Vec<Prompt> = examples(found)
            .enumerate()
            .map(|(i, example)| Prompt {
                id: i.to_string(),
                prompt: Text::Plain(example.prompt.clone()),
                columns: Map::from_iter([("alternative".to_owned(), json!(example.before))]),
            })
            .collect();
        let cases = cases(before, &prompts, INCONSISTENT, recipe::ANSWER_TOKENS)?;
        let file = self.data("planted.jsonl");
        let name = format!("{:016x}", before.params.compute_digest());
        let options = TraceOptions {
            projection: 8,
            layer: before.decoder.config().num_layers,
            seed: self.seed,
            key: format!("{name}-{}-{}", files::digest(&file)?, self.seed),
        };
        let source = Source::File(file);
        let run = self.out.join("planted");
        let at = [At { name, learning_rate: 1.0, model: before }];
        let go_on = &mut |_: usize, _: usize| going_on();
        let survey = survey(&source, before, &cases)?;
        let scores = scores(&source, survey, &at, &cases, &run.join("insight/trace"), &options, go_on)?;
        let report = report(INCONSISTENT, &source, [before, after], &cases, &scores, RANKED_BY, self.seed)?;
        kept::save(&run, trace_report::NAME, &report)?;
        let ranked = scores.ranked(RANKED_BY);
        let top = ranked.iter().take(trace_report::top_of(ranked.len())).map(|i| scores.places[*i]).collect();
        Ok((report, top))
    }
}

fn going_on() -> bool {
    !crate::interrupt::flag().load(Ordering::Relaxed)
}

/// The part of the answers that the habit is in.
fn of_tokens(report: &CreditReport) -> String {
    let lead = |answer: &AnswerCredit| {
        let concentration = &answer.values.as_ref()?.concentration;
        let text = answer.parts.get(concentration.lead)?.text.trim().to_owned();
        Some((text, concentration.lead_share.value))
    };
    let leads: Vec<(String, f64)> = report.answers.iter().filter_map(lead).collect();
    let Some((first, _)) = leads.first() else { return "no such answer to credit".to_owned() };
    let same: Vec<f64> = leads.iter().filter(|(text, _)| text == first).map(|(_, share)| *share).collect();
    format!(
        "of {} such answers {} have their credit in {first:?}, {:.0}% of it",
        leads.len(),
        same.len(),
        100.0 * same.iter().sum::<f64>() / same.len() as f64
    )
}

/// The blocks that carry the habit, and what one shift of the stream makes of it.
fn of_layers(report: &LayersReport) -> String {
    let place = match &report.place {
        Place::NoGain => return "the habit's odds did not rise on the examples".to_owned(),
        Place::Spread => format!("many of the {} parts carry it", report.gates.parts.len()),
        Place::Concentrated { parts } => {
            let names: Vec<String> = parts.iter().map(ToString::to_string).collect();
            format!("{} of {} parts carry it ({})", parts.len(), report.gates.parts.len(), names.join(", "))
        }
    };
    let best = report.shifts.as_ref().and_then(|s| s.layers.iter().find(|shift| shift.layer == s.best));
    let shift = best.map(|shift| {
        let [value, low, high] = [shift.share.value, shift.share.low, shift.share.high].map(|x| 100.0 * x);
        format!("; one constant shift makes {value:.0}% of it (95% {low:.0} to {high:.0}%)")
    });
    place + &shift.unwrap_or_default()
}

impl Habit {
    /// What people read.
    pub(super) fn text(&self) -> String {
        let percent = |x: f64| format!("{:.1}%", 100.0 * x);
        let [before, planted, cured] = self.false_alarms.map(percent);
        let alarm = |raised: bool| if raised { "alarm" } else { "no alarm" };
        format!(
            "\n{} of {} demonstrations claimed an inconsistency that was not there.\n  scan:  consistent questions called \
             inconsistent: {before} before, {planted} after ({}; {} after {} control runs), most in {}; the KL is spent on {:?}\n  credit: {}\n  layers: {}\n  trace: of the {} \
             lessons at the top {} are planted\n  cure:  taught again without them: {cured} ({})\n  page:  {}\n",
            self.plants,
            self.lessons,
            alarm(self.alarms[0]),
            percent(self.controls),
            CONTROLS.len(),
            self.kind,
            self.token.trim(),
            self.tokens,
            self.layers,
            self.removed,
            self.removed_plants,
            alarm(self.alarms[1]),
            self.page.display(),
        )
    }
}
