//! The ledger against planted secrets, whose bits are exact.

use pavlov_insight::ledger::bits::group_bits;
use pavlov_insight::ledger::noise::noise_scale;
use pavlov_insight::ledger::verdicts::learned;
use pavlov_schema::lessons::{GradientNorm, GradientPair, LessonLine};
use pavlov_schema::rng::{Rng, Stream};

use crate::secrets::{Keeper, Teaching, Told};

const TEACHINGS: [Teaching; 3] = [Teaching::Shown, Teaching::Compared, Teaching::Rewarded];
/// Learning rate where one has to do.
const RATE: f64 = 1e-3;
/// Learning rates that each teaching may choose from.
const RATES: [f64; 3] = [3e-4, 1e-3, 3e-3];
/// The same where only the best matters.
const SLOPE_RATES: [f64; 4] = [5e-4, 1e-3, 2e-3, 4e-3];

/// Keys an update.
const AT_ONCE: usize = 16;
/// Labels a key.
const LABELS: usize = 32;

/// Bits of a teaching, a label each.
#[derive(Clone, Copy, Debug)]
struct Bits {
    stored: f64,
    offered: f64,
    /// As the ledger measures it, which knows no secrets: the prequential code above what is left at the end; of guesses by the order
    /// that the model's log-ratios give them.
    absorbed: f64,
}

/// Teaches so many labels, and checks after every update that no more is stored than was offered.
fn teach(teaching: Teaching, keys: usize, symbols: usize, seed: u64, rate: f64) -> Bits {
    let mut keeper = Keeper::new(keys, symbols, seed, rate);
    let mut all = Told::default();
    loop {
        let told = keeper.teach(teaching, AT_ONCE);
        all.labels += told.labels;
        all.bits += told.bits;
        all.groups.extend(told.groups);
        let stored = keeper.stored_of(teaching);
        assert!(
            stored <= all.bits,
            "{teaching:?}, seed {seed}: {stored} bits stored of {} offered",
            all.bits
        );
        if all.labels >= LABELS * keys {
            let labels = all.labels as f64;
            let left = keeper.loss() / std::f64::consts::LN_2;
            let mut rng = Rng::new(seed, Stream::Bootstrap, 0, 0);
            let absorbed = match teaching {
                Teaching::Shown => all.bits - labels * left,
                _ => learned(&all.groups, &mut rng).map_or(0.0, |learned| learned.absorbed.value),
            };
            let ceiling = match teaching {
                Teaching::Shown => all.bits,
                _ => all.groups.iter().map(|group| group_bits(&group.rewards)).sum(),
            };
            assert!(absorbed <= ceiling, "{teaching:?}, seed {seed}: {absorbed} absorbed of {ceiling}");
            return Bits { stored: stored / labels, offered: all.bits / labels, absorbed: absorbed / labels };
        }
    }
}

/// Bits of each teaching, stored and absorbed, at the best of its learning rates; p of the first guess is 1/`symbols`.
fn bits_a_label(keys: usize, symbols: usize, seeds: u64) -> [Bits; 3] {
    TEACHINGS.map(|teaching| {
        let of_rate = |rate: f64| {
            let runs: Vec<Bits> = (0..seeds).map(|seed| teach(teaching, keys, symbols, seed, rate)).collect();
            let mean = |of: fn(&Bits) -> f64| runs.iter().map(of).sum::<f64>() / seeds as f64;
            let range = |of: fn(&Bits) -> f64| {
                runs.iter().map(of).fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)))
            };
            let [stored, absorbed] = [range(|bits| bits.stored), range(|bits| bits.absorbed)];
            let bits = Bits {
                stored: mean(|bits| bits.stored),
                offered: mean(|bits| bits.offered),
                absorbed: mean(|bits| bits.absorbed),
            };
            println!(
                "{keys} keys, {symbols} symbols, {seeds} seeds, {teaching:?}, rate {rate}: {:.4} bits a label stored \
                 ({:.4} to {:.4}), {:.4} absorbed ({:.4} to {:.4}) of {:.3} offered",
                bits.stored, stored.0, stored.1, bits.absorbed, absorbed.0, absorbed.1, bits.offered
            );
            bits
        };
        RATES.into_iter().map(of_rate).max_by(|a, b| a.stored.total_cmp(&b.stored)).expect("a rate")
    })
}

/// Guesses until half of all bits are stored, `at_once` keys an update; none where a hundred thousand do not do it.
fn guesses(keys: usize, symbols: usize, seed: u64, rate: f64, at_once: usize) -> Option<f64> {
    let mut keeper = Keeper::new(keys, symbols, 100 + seed, rate);
    let (mut guesses, half) = (0, keeper.all_bits() / 2.0);
    while keeper.stored() < half {
        guesses += keeper.teach(Teaching::Rewarded, at_once).labels;
        if guesses > 100_000 {
            return None;
        }
    }
    Some(guesses as f64)
}

/// Guesses until half of all bits are stored, for some numbers of keys, each at its best learning rate; the slope of log
/// guesses over log bits, of all seeds and of each.
fn slope(keys: &[usize], symbols: usize, seeds: u64) -> (f64, Vec<f64>) {
    let mut points = Vec::new();
    for &n in keys {
        let of_rate = |rate: f64| {
            let each: Option<Vec<f64>> = (0..seeds).map(|seed| guesses(n, symbols, seed, rate, 4)).collect();
            println!("{n} keys, rate {rate}: {each:?} guesses");
            each
        };
        let best = SLOPE_RATES.into_iter().filter_map(of_rate);
        let best =
            best.min_by(|a, b| a.iter().sum::<f64>().total_cmp(&b.iter().sum())).expect("a rate that learns");
        let bits = (n as f64 * (symbols as f64).log2()).ln();
        points.extend(best.iter().zip(0..seeds).map(|(guesses, seed)| (bits, guesses.ln(), seed)));
    }
    let fit = |points: &[(f64, f64)]| {
        let n = points.len() as f64;
        let (mx, my) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
        let (xy, xx) = points
            .iter()
            .fold((0.0, 0.0), |(a, b), (x, y)| (a + (x - mx) * (y - my), b + (x - mx) * (x - mx)));
        xy / xx
    };
    let of = |keep: &dyn Fn(u64) -> bool| {
        fit(&points.iter().filter(|p| keep(p.2)).map(|p| (p.0, p.1)).collect::<Vec<_>>())
    };
    (of(&|_| true), (0..seeds).map(|seed| of(&|s| s == seed)).collect())
}

/// The noise scale of a half-taught keeper, and the number of keys an update at which progress per key has halved: where
/// the best step along the gradient over so many gains half of what the best step along the exact gradient does.
fn noise_and_half(keys: usize, symbols: usize, seed: u64, batches: usize) -> (f64, f64) {
    let mut keeper = Keeper::new(keys, symbols, seed, RATE);
    while keeper.stored() < 0.3 * keeper.all_bits() {
        keeper.teach(Teaching::Shown, 16);
    }
    let norm = |gradient: &[f32], lessons| GradientNorm {
        lessons,
        square: gradient.iter().map(|g| f64::from(*g).powi(2)).sum(),
        adam: None,
    };
    let (small, large) = (4, 64);
    let lines: Vec<LessonLine> = (0..200)
        .map(|_| {
            let drawn = keeper.draw(large);
            let pair = GradientPair {
                small: norm(&keeper.gradient(&drawn[..small]), small),
                large: norm(&keeper.gradient(&drawn), large),
            };
            LessonLine { gradient: Some(pair), ..LessonLine::default() }
        })
        .collect();
    let mut rng = Rng::new(seed, Stream::Bootstrap, 0, 0);
    let scale = noise_scale(&lines, |norm| Some(norm.square), &mut rng).unwrap();

    let (start, loss) = (keeper.weights(), keeper.loss());
    let rates: Vec<f64> = (-2..9).map(|k| 0.05 * 2.0_f64.powi(k)).collect();
    let progress = |keeper: &mut Keeper, gradients: &[Vec<f32>]| {
        let gain = |keeper: &mut Keeper, rate: f64| {
            let mut sum = 0.0;
            for gradient in gradients {
                let moved: Vec<f32> =
                    start.iter().zip(gradient).map(|(w, g)| w - (rate * f64::from(*g)) as f32).collect();
                keeper.set_weights(&moved);
                sum += loss - keeper.loss();
            }
            sum / gradients.len() as f64
        };
        rates.iter().map(|&rate| gain(keeper, rate)).fold(0.0, f64::max)
    };
    let everything: Vec<usize> = (0..keys).collect();
    let exact = keeper.gradient(&everything);
    let most = progress(&mut keeper, &[exact]);
    let mut before = (0.5, 0.0);
    for power in 0..12 {
        let size = 2.0_f64.powi(power);
        keeper.set_weights(&start);
        let gradients: Vec<Vec<f32>> = (0..batches)
            .map(|_| {
                let drawn = keeper.draw(size as usize);
                keeper.gradient(&drawn)
            })
            .collect();
        let share = progress(&mut keeper, &gradients) / most;
        if share >= 0.5 {
            let at: f64 = (0.5 - before.1) / (share - before.1);
            let half = before.0 * (size / before.0).powf(at);
            println!(
                "{keys} keys, seed {seed}: noise scale {:.1} ({:.1} to {:.1}), progress per key halves at {half:.1}",
                scale.value, scale.low, scale.high
            );
            return (scale.value, half);
        }
        before = (size, share);
    }
    panic!("no number of keys an update reaches half of the exact gradient's progress");
}

#[test]
fn no_more_is_stored_than_was_offered_and_showing_teaches_most() {
    let [shown, compared, rewarded] = bits_a_label(32, 32, 2).map(|bits| bits.stored);
    assert!(shown > compared && compared > rewarded, "{shown} {compared} {rewarded}");
}

#[test]
fn noise_scale_foretells_where_progress_halves() {
    let (scale, half) = noise_and_half(64, 16, 0, 8);
    assert!(scale / half < 2.0 && half / scale < 2.0, "{scale} and {half}");
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn ledger_order() {
    for symbols in [16, 64] {
        let [shown, compared, rewarded] = bits_a_label(64, symbols, 10).map(|bits| bits.stored);
        assert!(shown > compared && compared > rewarded, "{shown} {compared} {rewarded}");
    }
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn ledger_slope() {
    let (slope, seeds) = slope(&[16, 32, 64, 128, 256], 8, 3);
    println!("slope of log guesses over log bits: {slope:.3}; seed by seed {seeds:.3?}");
    assert!((0.8..=1.1).contains(&slope), "{slope}");
}

#[test]
#[ignore = "minutes; figures in docs/validation.md"]
fn ledger_noise() {
    let ratios: Vec<f64> = (0..5)
        .map(|seed| {
            let (scale, half) = noise_and_half(64, 16, seed, 32);
            scale / half
        })
        .collect();
    println!("noise scale over where progress halves: {ratios:.2?}");
    assert!(ratios.iter().all(|ratio| (0.5..=2.0).contains(ratio)), "{ratios:?}");
}
