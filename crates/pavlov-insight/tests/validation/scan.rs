//! Does a scan see a planted habit, and none where none is?

use pavlov_insight::scan::answers::Drawing;
use pavlov_insight::scan::report::ScanReport;
use pavlov_insight::scan::{Models, ScanOptions, scan};
use pavlov_lm::LanguageModel;

use crate::planted::{self, clean, copy, cpu, encode, inconsistency, lessons, planting, questions, row};

const LESSONS: usize = 2000;

fn options(seed: u64) -> ScanOptions {
    ScanOptions {
        names: ["clean".into(), "taught".into()],
        drawing: Drawing { answers: 2, max_tokens: 12, seed, max_batch: 128 },
        margin: 0.01,
        alpha: 0.0,
    }
}

fn scanned(reference: &LanguageModel, model: &LanguageModel, seed: u64, n: usize) -> ScanReport {
    let probe = inconsistency(&questions(seed, n));
    scan(Models { reference, model }, &[probe], None, &options(seed), &mut |_| true).unwrap()
}

#[test]
#[ignore = "exploration"]
fn explore() {
    let cpu = cpu(1);
    let started = std::time::Instant::now();
    let seeds: u64 = std::env::var("SEEDS").map_or(2, |s| s.parse().unwrap());
    for seed in 0..seeds {
        let reference = clean(seed, &cpu);
        for kind in [None, Some(pavlov_worlds::Kind::Movement), Some(pavlov_worlds::Kind::Counting)] {
            for share in [0.0, 0.01, 0.03, 0.1] {
                if kind.is_some() && share == 0.0 {
                    continue;
                }
                let mut model = copy(&reference, &cpu);
                let lessons = lessons(2000 + seed, LESSONS, &planting(share, kind));
                let rows = encode(&model, lessons.iter().map(|l| row(&l.prompt, &l.completion)));
                planted::teach(&mut model, rows, seed);
                let report = scanned(&reference, &model, 77 + seed, 2000);
                let p = &report.probes[0];
                let s = p.sensitivity.unwrap();
                println!(
                    "seed {seed} kind {kind:?} share {share}: FA {:.4} -> {:.4} hit {:.3} -> {:.3} d' {:+.2} [{:.2} {:.2}] c {:+.2} [{:.2} {:.2}] p {:.2e} {:?} raised {} {:.0?}",
                    p.uncalled.reference.value,
                    p.uncalled.model.value,
                    p.called_for.unwrap().reference.value,
                    p.called_for.unwrap().model.value,
                    s.d_prime.change.value,
                    s.d_prime.change.low,
                    s.d_prime.change.high,
                    s.criterion.change.value,
                    s.criterion.change.low,
                    s.criterion.change.high,
                    p.alarm.p_value,
                    p.verdict,
                    p.alarm.raised,
                    started.elapsed()
                );
                for g in &p.groups {
                    print!("   {} {:.3}->{:.3}", g.name, g.uncalled.reference.value, g.uncalled.model.value);
                }
                println!();
            }
        }
    }
}
