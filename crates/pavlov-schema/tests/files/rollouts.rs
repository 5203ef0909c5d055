use pavlov_schema::rollout::{Credited, Finish, Rollout, Scored};
use pavlov_schema::rollout_file::{read, write};

fn rollout(tokens: &[u32], parts: &[(&str, f64)]) -> Credited {
    let rollout = Rollout {
        prompt_id: "gsm8k-7".into(),
        prompt_index: 7,
        choice: 1,
        prompt_text: "Wie groß?".into(),
        prompt_tokens: vec![],
        completion: "🦀".into(),
        tokens: tokens.into(),
        behaviour_logp: tokens.iter().map(|&t| -(t as f32)).collect(),
        finish: Finish::Stop,
        seed: u64::MAX,
        policy_version: 10,
    };
    let parts = parts.iter().map(|&(name, points)| (name.to_owned(), points)).collect();
    let weights = vec![0.5; tokens.len()];
    Credited {
        scored: Scored { rollout, reward: 1.0, parts },
        advantage: 0.5,
        weights,
        method: "group_mean".into(),
    }
}

#[test]
fn rollouts_come_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-000010.parquet");
    let rollouts = [
        rollout(&[1, u32::MAX], &[("exact", 1.0), ("a b; c{}", f64::INFINITY)]),
        rollout(&[], &[]),
        rollout(&[3], &[("a b; c{}", -0.25), ("length", 2.0)]),
    ];
    write(&path, 10, &rollouts).unwrap();
    assert_eq!(read(&path).unwrap(), rollouts.clone().map(|rollout| (10, rollout)));
    write(&path, 11, &[]).unwrap();
    assert_eq!(read(&path).unwrap(), []);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary stays");
}

#[test]
fn rollouts_that_contradict_themselves_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.parquet");
    let mut short = rollout(&[1, 2], &[]);
    short.weights.pop();
    for (wrong, what) in [
        (short, "row 2: 2 tokens, 1 credits and 2 log-probabilities"),
        (rollout(&[1], &[("tokens", 1.0)]), "row 2: the reward `tokens`"),
        (rollout(&[1], &[("x", 1.0), ("x", 1.0)]), "row 2: the reward `x`"),
    ] {
        let error = write(&path, 1, &[rollout(&[1], &[]), wrong]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(!path.exists());
    }
    let other = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/preference.parquet");
    let error = read(&other).unwrap_err().to_string();
    assert!(error.contains("preference.parquet: row 1: has no column `finish`"), "{error}");
}
