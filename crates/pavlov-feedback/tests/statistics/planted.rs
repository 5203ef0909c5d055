//! A sound board fires no probe; a board with one defect fires the one that looks for it, and no other.

use pavlov_feedback::stats::crowd::crowd;
use pavlov_feedback::stats::probe::Finding;
use pavlov_feedback::stats::strength::{Fits, NotComparable, Outcome, Terms, Vote, fit};
use pavlov_feedback::stats::style::Style;
use pavlov_schema::rng::{Rng, Stream};

/// A board of four policies, far enough apart to be told.
struct Board {
    theta: [f64; 4],
    /// Log-odds for being first, and for a standard deviation of each term of style.
    order: f64,
    style: [f64; 4],
    /// Log-odds of the cycle 0 → 1 → 2 → 0.
    cycle: f64,
    /// Share of votes by rater 0; the others share the rest.
    heavy: f64,
    votes: usize,
}

const SOUND: Board =
    Board { theta: [-1.2, -0.4, 0.4, 1.2], order: 0.0, style: [0.0; 4], cycle: 0.0, heavy: 0.1, votes: 3000 };

fn probe(policies: usize, votes: &[Vote], prior: f64) -> Vec<Finding> {
    let fits = Fits::of(policies, votes, prior);
    pavlov_feedback::stats::probe::probe(policies, votes, fits.as_ref().ok(), prior)
}

fn draw(board: &Board, seed: u64) -> Vec<Vote> {
    let vote = |item: usize| {
        let mut rng = Rng::new(seed, Stream::Judge, 0, item as u64);
        let first = rng.below(4);
        let second = (first + 1 + rng.below(3)) % 4;
        let length = rng.normal();
        let mut looks = Rng::new(seed, Stream::Judge, 3, item as u64);
        let style: [f32; 4] = std::array::from_fn(|k| if k == 0 { length } else { looks.normal() });
        let rater = if rng.uniform_f64() < board.heavy { 0 } else { 1 + rng.below(9) };
        let turn = match (first, second) {
            (0, 1) | (1, 2) | (2, 0) => board.cycle,
            (1, 0) | (2, 1) | (0, 2) => -board.cycle,
            _ => 0.0,
        };
        let styled: f64 = board.style.iter().zip(&style).map(|(beta, &share)| beta * f64::from(share)).sum();
        let d = board.theta[first] - board.theta[second] + board.order + styled + turn;
        let weights = [(d / 2.0).exp(), (-d / 2.0).exp(), 0.4];
        let mut left = rng.uniform_f64() * weights.iter().sum::<f64>();
        let mut outcome = Outcome::Tie;
        for (weight, said) in weights.iter().zip([Outcome::First, Outcome::Second, Outcome::Tie]) {
            if left < *weight {
                outcome = said;
                break;
            }
            left -= weight;
        }
        Vote { first, second, outcome, item, rater, style }
    };
    (0..board.votes).map(vote).collect()
}

fn names(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|found| serde_json::to_value(found).unwrap()["probe"].as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn assert_fires(board: &Board, expected: &[&str]) {
    for seed in 0..5 {
        let found = probe(4, &draw(board, seed), 0.05);
        assert_eq!(names(&found), expected, "seed {seed}: {found:?}");
    }
}

#[test]
fn a_sound_board_fires_nothing() {
    assert_fires(&SOUND, &[]);
}

#[test]
fn each_defect_fires_its_probe() {
    assert_fires(&Board { order: 0.8, ..SOUND }, &["position_bias"]);
    assert_fires(&Board { style: [0.5, 0.0, 0.0, 0.0], ..SOUND }, &["style_bias"]);
    assert_fires(&Board { heavy: 0.7, ..SOUND }, &["voter_concentration"]);
    assert_fires(&Board { theta: [-1.6, -1.6, -1.6, 1.6], cycle: 1.5, ..SOUND }, &["intransitivity"]);
}

#[test]
fn raters_who_like_lists_are_allowed_for() {
    // Of two policies the worse one writes lists, mostly, and lists are all that raters look at.
    for seed in 0..5 {
        let vote = |item: usize| {
            let mut rng = Rng::new(seed, Stream::Judge, 2, item as u64);
            let first = rng.below(2);
            // Policy 1 has a list where 0 has none in six of ten comparisons, the other way round in two.
            let more: f32 = match rng.below(10) {
                0..6 => 1.0,
                6..8 => -1.0,
                _ => 0.0,
            };
            let lists = if first == 1 { more } else { -more };
            let quality: f64 = if first == 0 { 0.2 } else { -0.2 };
            let likes_first = rng.uniform_f64() < 1.0 / (1.0 + (-quality - 1.5 * f64::from(lists)).exp());
            let outcome = if likes_first { Outcome::First } else { Outcome::Second };
            let style = [rng.normal(), 0.0, lists, 0.0];
            Vote { first, second: 1 - first, outcome, item, rater: rng.below(20), style }
        };
        let votes: Vec<Vote> = (0..3000).map(vote).collect();
        let Fits { ordered, styled, .. } = Fits::of(2, &votes, 0.05).unwrap();
        let styled = styled.unwrap();
        let (plain, error) = ordered.difference(1, 0);
        assert!(plain > 3.0 * error, "seed {seed}: plain strengths are fooled: {plain} ± {error}");
        let (controlled, error) = styled.difference(0, 1);
        assert!((controlled - 0.2).abs() < 3.0 * error && controlled > 0.0, "{seed}: {controlled} ± {error}");
        let [length, headers, lists, bold] = styled.style_effects().unwrap();
        assert!((lists.0 - 1.5).abs() < 3.0 * lists.1 && lists.1 < 0.1, "seed {seed}: {lists:?}");
        assert!(length.0.abs() < 3.3 * length.1, "seed {seed}: {length:?}");
        // Of what no answer has nothing is made up.
        assert_eq!((headers, bold), ((0.0, 0.0), (0.0, 0.0)));
        let found = probe(2, &votes, 0.05);
        assert_eq!(names(&found), ["style_bias", "style_reordering"], "seed {seed}: {found:?}");
        assert!(
            matches!(found[0], Finding::StyleBias { style: Style::Lists, log_odds, .. } if log_odds > 1.0)
        );
    }
}

#[test]
fn styles_that_always_come_together_share_their_effect() {
    // Every list has a heading: which of the two is liked nobody can know.
    let votes: Vec<Vote> = draw(&Board { style: [0.0, 0.8, 0.0, 0.0], ..SOUND }, 0)
        .into_iter()
        .map(|vote| Vote { style: [0.0, vote.style[1], vote.style[1], 0.0], ..vote })
        .collect();
    let fit = fit(4, &votes, Terms { ties: true, order: true, style: true }, 0.05).unwrap();
    assert!(
        (fit.style[1] - fit.style[2]).abs() < 1e-9 && (fit.style[1] - 0.4).abs() < 0.1,
        "{:?}",
        fit.style
    );
}

/// Comparisons of four policies by raters of planted reliability, `n` of each.
fn by_raters(eta: &[f64], n: usize, seed: u64) -> Vec<Vote> {
    let vote = |rater: usize, item: usize| {
        let mut rng = Rng::new(seed, Stream::Judge, 10 + rater as u64, item as u64);
        let first = rng.below(4);
        let second = (first + 1 + rng.below(3)) % 4;
        let delta = SOUND.theta[first] - SOUND.theta[second];
        let follows = rng.uniform_f64() < eta[rater];
        let likes_first = rng.uniform_f64() < 1.0 / (1.0 + (-delta).exp());
        let outcome = if follows == likes_first { Outcome::First } else { Outcome::Second };
        Vote { first, second, outcome, item, rater, style: [0.0; 4] }
    };
    (0..eta.len()).flat_map(|rater| (0..n).map(move |item| vote(rater, item))).collect()
}

#[test]
fn crowd_bt_tells_good_careless_and_adverse_raters_apart() {
    let eta = [1.0, 0.95, 0.9, 0.9, 0.5, 0.1];
    for seed in 0..5 {
        let votes = by_raters(&eta, 500, seed);
        let found = crowd(4, eta.len(), &votes, 0.05).unwrap();
        for (k, (one, planted)) in found.reliability.iter().zip(eta).enumerate() {
            let one = one.unwrap();
            assert!((one.value - planted).abs() < 0.12, "seed {seed}, rater {k}: {one:?}");
        }
        let [good, careless, adverse] = [0, 4, 5].map(|k| found.reliability[k].unwrap());
        assert!(good.low > careless.high && careless.low > adverse.high, "seed {seed}: {found:?}");
        // Who judges by chance or against the others makes Bradley and Terry's strengths far too small.
        let plain = fit(4, &votes, Terms::default(), 0.05).unwrap();
        let [crowd, plain] = [&found.theta, &plain.theta].map(|theta| (theta[3] - theta[0] - 2.4).abs());
        assert!(crowd < 0.8 * plain, "seed {seed}: off by {crowd} and {plain}");
    }
}

#[test]
fn crowd_bt_says_nothing_of_whom_it_hardly_knows() {
    let mut votes = by_raters(&[0.9, 0.9, 0.9], 200, 0);
    votes.retain(|vote| vote.rater != 2 || vote.item < 19);
    let found = crowd(4, 3, &votes, 0.05).unwrap().reliability;
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    // Policies without a difference tell nobody apart: the interval says so.
    let level: Vec<Vote> = (0..200)
        .flat_map(|item| {
            [0, 1].map(|rater| {
                let outcome = if item % 2 == 0 { Outcome::First } else { Outcome::Second };
                Vote { first: 0, second: 1, outcome, item, rater, style: [0.0; 4] }
            })
        })
        .collect();
    let one = crowd(2, 2, &level, 0.05).unwrap().reliability[0].unwrap();
    assert!(one.low < 0.2 && one.high > 0.9, "{one:?}");
}

#[test]
fn a_lead_within_the_error_is_volatile() {
    let mut votes = draw(&SOUND, 0);
    // Everything that was said of 3 is said of 2 too, and the other way round: they are equal.
    let other = |policy: usize| [0, 1, 3, 2][policy];
    let mirrored: Vec<Vote> = votes
        .iter()
        .map(|vote| Vote {
            first: other(vote.first),
            second: other(vote.second),
            item: vote.item + votes.len(),
            // Of the same people it would cancel within each, and the error would be none.
            rater: vote.rater + 10,
            ..*vote
        })
        .collect();
    votes.extend(mirrored);
    assert_eq!(names(&probe(4, &votes, 0.05)), ["rank_volatility"]);
}

#[test]
fn an_unbalanced_order_turns_two_policies() {
    // Policies 2 and 3 are nearly equal, but 2 was always shown first against 3, where being first helps much.
    let board = Board { theta: [-1.2, -0.4, 0.4, 0.8], order: 1.2, votes: 4000, ..SOUND };
    for seed in 0..5 {
        let votes: Vec<Vote> = draw(&board, seed)
            .into_iter()
            .filter(|vote| (vote.first, vote.second) != (3, 2) && (vote.first != 3) && vote.second != 2)
            .collect();
        let found = names(&probe(4, &votes, 0.05));
        assert_eq!(found, ["position_bias", "position_reordering"], "seed {seed}");
    }
}

#[test]
fn ties_left_out_can_turn_two_policies() {
    // 0 beats 2 twice as often as 1 does, of those decided; but nearly all of its comparisons are ties.
    let mut votes = Vec::new();
    let mut add = |first: usize, second: usize, outcome: Outcome, times: usize| {
        for _ in 0..times {
            let item = votes.len();
            // Both orders alike.
            let (first, second, outcome) = match (item % 2, outcome) {
                (0, outcome) => (first, second, outcome),
                (_, Outcome::First) => (second, first, Outcome::Second),
                (_, Outcome::Second) => (second, first, Outcome::First),
                (_, Outcome::Tie) => (second, first, Outcome::Tie),
            };
            votes.push(Vote { first, second, outcome, item, rater: item % 10, style: [0.0; 4] });
        }
    };
    add(0, 2, Outcome::First, 40);
    add(0, 2, Outcome::Second, 4);
    add(0, 2, Outcome::Tie, 1600);
    add(1, 2, Outcome::First, 900);
    add(1, 2, Outcome::Second, 300);
    let found = probe(3, &votes, 0.01);
    assert_eq!(names(&found), ["tie_convention"], "{found:?}");
}

#[test]
fn a_disconnected_board_is_not_comparable() {
    let votes: Vec<Vote> =
        draw(&SOUND, 0).into_iter().filter(|vote| (vote.first < 2) == (vote.second < 2)).collect();
    let groups = vec![vec![0, 1], vec![2, 3]];
    let found = probe(4, &votes, 0.05);
    assert_eq!(found, [Finding::Separation { groups: groups.clone() }]);
    let refused = fit(4, &votes, Terms::default(), 0.05).unwrap_err();
    assert_eq!(refused, NotComparable { groups });
    // Connected one way only is not enough: 3 never lost.
    let unbeaten: Vec<Vote> = draw(&SOUND, 0)
        .into_iter()
        .filter(|vote| match vote.outcome {
            Outcome::First => vote.second != 3,
            Outcome::Second => vote.first != 3,
            Outcome::Tie => vote.first != 3 && vote.second != 3,
        })
        .collect();
    assert_eq!(fit(4, &unbeaten, Terms::default(), 0.05).unwrap_err().groups, [vec![0, 1, 2], vec![3]]);
}

#[test]
fn clustered_errors_cover_where_naive_ones_do_not() {
    // Three people on each item who follow the item's own luck: naive intervals are too narrow.
    let (mut inside, mut inside_naive, mut all) = (0, 0, 0);
    for seed in 0..150 {
        let votes: Vec<Vote> = (0..400)
            .flat_map(|item| {
                let mut rng = Rng::new(seed, Stream::Judge, 1, item as u64);
                let (first, luck) = (rng.below(2), 2.0 * f64::from(rng.normal()));
                let d = if first == 0 { luck } else { -luck };
                let mut one = || {
                    if rng.uniform_f64() < 1.0 / (1.0 + (-d).exp()) {
                        Outcome::First
                    } else {
                        Outcome::Second
                    }
                };
                [0, 1, 2].map(|k| Vote {
                    first,
                    second: 1 - first,
                    outcome: one(),
                    item,
                    rater: (item + k * 7) % 40,
                    style: [0.0; 4],
                })
            })
            .collect();
        let fit = fit(2, &votes, Terms::default(), 0.0).unwrap();
        // The truth is 0: luck is even.
        all += 1;
        inside += usize::from(fit.theta[0].abs() < 1.96 * fit.error(0));
        inside_naive += usize::from(fit.theta[0].abs() < 1.96 * fit.naive[0][0].sqrt());
    }
    let (clustered, naive) =
        (f64::from(inside as u32) / f64::from(all), f64::from(inside_naive as u32) / f64::from(all));
    assert!(clustered > 0.89 && naive < 0.88, "clustered {clustered}, naive {naive}");
}
