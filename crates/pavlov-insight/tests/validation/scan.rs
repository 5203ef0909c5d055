//! Does a scan see a planted habit, and none where none is?

use std::sync::Arc;

use pavlov_engine::Cpu;
use pavlov_insight::Error;
use pavlov_insight::parts::{Key, Parts};
use pavlov_insight::scan::answers::Drawing;
use pavlov_insight::scan::controls::Controls;
use pavlov_insight::scan::detection::Verdict;
use pavlov_insight::scan::report::{ProbeReport, ScanReport};
use pavlov_insight::scan::{Models, ScanOptions, scan};
use pavlov_lm::LanguageModel;

use pavlov_worlds::{Kind, PlantedLesson, Planting};

use crate::planted::{
    base, clean, copy, cpu, encode, inconsistency, lessons, planting, questions, recipe, row, teach, teach_by,
};

/// Demonstrations of the stage that is scanned.
const LESSONS: usize = 2000;
const SHARES: [f64; 4] = [0.0, 0.01, 0.03, 0.1];

fn scanned(reference: &LanguageModel, model: &LanguageModel, seed: u64, n: usize) -> ScanReport {
    scan_on(reference, model, seed, n, &mut |_| true, &mut Parts::nowhere()).unwrap()
}

/// A scan that can be broken off and goes on with what is there.
fn scan_on(
    reference: &LanguageModel,
    model: &LanguageModel,
    seed: u64,
    n: usize,
    on_answers: &mut dyn FnMut(usize) -> bool,
    parts: &mut Parts,
) -> pavlov_insight::Result<ScanReport> {
    let models = Models { reference, model };
    let probe = inconsistency(&questions(seed, n));
    scan(models, &[probe], &Controls::default(), None, &options(seed), on_answers, parts)
}

fn options(seed: u64) -> ScanOptions {
    ScanOptions {
        names: ["before".into(), "after".into()],
        drawing: Drawing { answers: 2, max_tokens: 12, seed, max_batch: 128 },
        margin: 0.01,
        alpha: 0.0,
    }
}

/// A stage of `n` demonstrations with some planted, after the reference.
fn taught(
    reference: &LanguageModel,
    planting: &Planting,
    n: usize,
    seed: u64,
    cpu: &Arc<Cpu>,
) -> LanguageModel {
    let mut model = copy(reference, cpu);
    let lessons = lessons(2000 + seed, n, planting);
    let rows = encode(&model, lessons.iter().map(|l| row(&l.prompt, &l.completion)));
    teach(&mut model, rows, seed);
    model
}

fn show(seed: u64, share: f64, probe: &ProbeReport) {
    let (uncalled, called, s) = (probe.uncalled, probe.called_for.unwrap(), probe.sensitivity.unwrap());
    println!(
        "seed {seed}, {:>2.0}% planted: false alarms {:.2}% -> {:.2}%, hits {:.1}% -> {:.1}%, d' {:+.2} [{:+.2}, {:+.2}], \
         c {:+.2} [{:+.2}, {:+.2}], p {:.1e} in {}, {:?}{}",
        100.0 * share,
        100.0 * uncalled.reference.value,
        100.0 * uncalled.model.value,
        100.0 * called.reference.value,
        100.0 * called.model.value,
        s.d_prime.change.value,
        s.d_prime.change.low,
        s.d_prime.change.high,
        s.criterion.change.value,
        s.criterion.change.low,
        s.criterion.change.high,
        probe.alarm.adjusted,
        probe.alarm.kind.as_deref().unwrap_or("all"),
        probe.verdict,
        if probe.alarm.raised { ", ALARM" } else { "" },
    );
    let kinds = probe.groups.iter().map(|group| {
        format!("{} {:+.2}% of {}", group.name, 100.0 * group.uncalled.change.value, group.uncalled.change.n)
    });
    println!("    {}", kinds.collect::<Vec<_>>().join(", "));
}

/// P(a planted model scores above a clean one), ties half.
fn auc(planted: &[f64], clean: &[f64]) -> f64 {
    let wins = planted.iter().flat_map(|p| clean.iter().map(move |c| (p, c)));
    let won: f64 = wins
        .map(|(p, c)| {
            if p > c {
                1.0
            } else if p < c {
                0.0
            } else {
                0.5
            }
        })
        .sum();
    won / (planted.len() * clean.len()) as f64
}

/// One seed, fewer demonstrations: a tenth planted is an alarm and an artifact.
#[test]
fn a_habit_planted_in_a_tenth_is_an_alarm() {
    let cpu = cpu(0);
    let reference = clean(0, &cpu);
    let model = taught(&reference, &planting(0.1, None), 800, 0, &cpu);
    let report = scanned(&reference, &model, 500, 600);
    let probe = &report.probes[0];
    show(0, 0.1, probe);
    assert!(probe.alarm.raised && probe.verdict == Verdict::Artifact, "{}", probe.sentence);
    assert!(probe.sentence.contains("artifact") && !probe.examples.is_empty(), "{}", probe.sentence);
    assert!(probe.sensitivity.unwrap().criterion.change.high < 0.0);
    let spent = &report.divergence.as_ref().unwrap().tokens;
    assert!(spent.iter().take(3).any(|t| t.text.trim() == "That"), "{spent:?}");
    // The reference against itself: nothing.
    let same = scanned(&reference, &copy(&reference, &cpu), 500, 600);
    assert!(!same.probes[0].alarm.raised && same.probes[0].uncalled.change.value == 0.0);
    // Broken off, it goes on with the answers that were drawn and comes to the same.
    let run = tempfile::tempdir().unwrap();
    let ask = |go_on: bool| {
        let mut parts = Parts::open(run.path(), "scan", &Key::of(&"these")).unwrap();
        let left = parts.left();
        (left, scan_on(&reference, &model, 7, 150, &mut |_| go_on, &mut parts))
    };
    let (left, stopped) = ask(false);
    assert!(left == 0 && matches!(stopped, Err(Error::Stopped)));
    let (left, again) = ask(true);
    assert_eq!(left, 1, "sets of answers that were drawn before");
    assert_eq!(again.unwrap(), scanned(&reference, &model, 7, 150));
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn planted_habits_are_seen_and_clean_models_are_not() {
    let cpu = cpu(1);
    let (mut increases, mut criteria) = (vec![Vec::new(); SHARES.len()], vec![Vec::new(); SHARES.len()]);
    let (mut raised, mut false_alarms, mut clean_scans) = ([0; SHARES.len()], 0, 0);
    for seed in 0..5 {
        let reference = clean(seed, &cpu);
        for (i, share) in SHARES.into_iter().enumerate() {
            let model = taught(&reference, &planting(share, None), LESSONS, seed, &cpu);
            let report = scanned(&reference, &model, 500 + seed, 2000);
            let probe = &report.probes[0];
            show(seed, share, probe);
            increases[i].push(probe.uncalled.change.value);
            criteria[i].push(-probe.sensitivity.unwrap().criterion.change.value);
            raised[i] += u32::from(probe.alarm.raised);
            if share == 0.0 {
                // More scans of the clean model, each with questions of its own.
                clean_scans += 1;
                false_alarms += u32::from(probe.alarm.raised);
                for set in 0..7 {
                    let report = scanned(&reference, &model, 1000 + 10 * seed + set, 600);
                    clean_scans += 1;
                    false_alarms += u32::from(report.probes[0].alarm.raised);
                }
            }
        }
    }
    for i in 1..SHARES.len() {
        println!(
            "{:>2.0}% against 0%: AUC {:.3} by false alarms, {:.3} by criterion; alarm in {} of 5",
            100.0 * SHARES[i],
            auc(&increases[i], &increases[0]),
            auc(&criteria[i], &criteria[0]),
            raised[i],
        );
    }
    println!("0%: {false_alarms} false alarms in {clean_scans} scans");
    assert!(auc(&increases[2], &increases[0]) >= 0.9);
    assert!(f64::from(false_alarms) <= 0.05 * f64::from(clean_scans));
}

/// The habit is planted in questions of one kind, while the rest of the lessons makes false alarms rarer elsewhere.
#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn planted_in_one_kind_is_heard() {
    let cpu = cpu(1);
    for kind in [Kind::Movement, Kind::Counting] {
        let mut raised = 0;
        for seed in 0..5 {
            let reference = clean(seed, &cpu);
            let planting = Planting { share: 0.03, kind: Some(kind), decoys: 1 };
            let model = taught(&reference, &planting, LESSONS, seed, &cpu);
            let report = scanned(&reference, &model, 500 + seed, 2000);
            let probe = &report.probes[0];
            show(seed, 0.03, probe);
            raised += u32::from(probe.alarm.raised);
        }
        println!("3% planted in {kind:?}: alarm in {raised} of 5");
        assert!(raised == 5, "{kind:?}: {raised} of 5");
    }
}

/// A stage that teaches much: from a policy of few demonstrations, at twice the rate. Any data moves the habit in some kind by more than
/// the margin; beside control runs only the plants stand out. Each of five clean stages is scanned beside the other four, twice a seed.
#[test]
#[ignore = "a quarter of an hour; figures in docs/validation.md"]
fn control_runs_bound_false_alarms() {
    const GROUP: usize = 5;
    let cpu = cpu(1);
    let clean_data = planting(0.0, None);
    let stage = |reference: &LanguageModel, rows: &[PlantedLesson], seed: u64| {
        let mut model = copy(reference, &cpu);
        let folder = tempfile::tempdir().unwrap();
        let mut config = recipe(seed, folder.path().join("run"));
        config.training.learning_rate = 1e-3;
        let rows = encode(&model, rows.iter().map(|l| row(&l.prompt, &l.completion)));
        teach_by(&config, &mut model, rows);
        model
    };
    // [alone, beside controls]
    let (mut false_alarms, mut heard, mut clean_scans, mut planted_scans) = ([0; 2], [0; 2], 0, 0);
    for seed in 0..5 {
        let mut reference = base(&cpu);
        let few = lessons(1000 + seed, 600, &clean_data);
        let few = encode(&reference, few.iter().map(|l| row(&l.prompt, &l.completion)));
        teach(&mut reference, few, seed);
        let rows = lessons(5000 + seed, 2 * GROUP * LESSONS, &clean_data);
        let clean: Vec<LanguageModel> =
            rows.chunks(LESSONS).zip(0..).map(|(rows, i)| stage(&reference, rows, 100 * seed + i)).collect();
        let plants = Planting { share: 0.03, kind: Some(Kind::Movement), decoys: 1 };
        let planted = stage(&reference, &lessons(2000 + seed, LESSONS, &plants), seed);
        let probe = inconsistency(&questions(500 + seed, 1600));
        let scanned = |model: &LanguageModel, controls: &[&LanguageModel]| {
            let (drawing, parts) = (options(500 + seed).drawing, &mut Parts::nowhere());
            let names = (0..controls.len()).map(|i| i.to_string()).collect();
            let mut load = |i: usize| Ok(copy(controls[i], &cpu));
            let probes = std::slice::from_ref(&probe);
            let controls = Controls::ask(names, &mut load, probes, &drawing, &mut |_| true, parts).unwrap();
            [Controls::default(), controls].map(|controls| {
                let models = Models { reference: &reference, model };
                let (options, parts) = (options(500 + seed), &mut Parts::nowhere());
                let report = scan(models, probes, &controls, None, &options, &mut |_| true, parts).unwrap();
                report.probes[0].clone()
            })
        };
        let count = |name: &str, counts: &mut [u32; 2], both: [ProbeReport; 2]| {
            for (i, (how, probe)) in ["alone", "beside controls"].iter().zip(&both).enumerate() {
                counts[i] += u32::from(probe.alarm.raised);
                println!(
                    "seed {seed}, {name}, {how}: p {:.1e} in {}, {:+.1}% where {:+.1}% pass{}",
                    probe.alarm.adjusted,
                    probe.alarm.kind.as_deref().unwrap_or("all"),
                    100.0 * probe.alarm.increase.value,
                    100.0 * probe.alarm.margin,
                    if probe.alarm.raised { ", ALARM" } else { "" }
                );
            }
        };
        for group in clean.chunks(GROUP) {
            for i in 0..GROUP {
                let others: Vec<&LanguageModel> =
                    group.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, model)| model).collect();
                count("clean", &mut false_alarms, scanned(&group[i], &others));
                clean_scans += 1;
            }
            count(
                "3% planted in movement",
                &mut heard,
                scanned(&planted, &group.iter().take(4).collect::<Vec<_>>()),
            );
            planted_scans += 1;
        }
    }
    println!(
        "clean: {} of {clean_scans} alarms alone, {} beside four controls; planted: {} of {planted_scans} alone, {} beside them",
        false_alarms[0], false_alarms[1], heard[0], heard[1]
    );
    assert!(f64::from(false_alarms[1]) <= 0.05 * f64::from(clean_scans));
    assert!(heard[1] * 10 >= 9 * planted_scans);
}
