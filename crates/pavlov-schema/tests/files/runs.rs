use std::fs;
use std::io;
use std::path::Path;

use pavlov_schema::lessons::{self, GradientNorm, GradientPair, LessonLine};
use pavlov_schema::run::{DataFile, Existing, Manifest, RunDir};
use serde_json::{Map, Value, json};

fn run(folder: &tempfile::TempDir) -> RunDir {
    RunDir::create(&folder.path().join("run"), Existing::Refuse).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn metrics(run: &RunDir) -> String {
    fs::read_to_string(run.path().join("metrics.jsonl")).unwrap()
}

fn line(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn full_disk() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

#[test]
fn a_failed_save_leaves_the_old_checkpoint_whole() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(&folder);
    assert_eq!(run.latest_checkpoint().unwrap(), None);
    let save = |step, text: &'static str| {
        run.save_checkpoint(step, |folder| {
            fs::create_dir(folder.join("sub"))?;
            fs::write(folder.join("sub/weights"), text)
        })
    };
    let first = save(100, "old").unwrap();
    assert_eq!(first.path, run.path().join("checkpoints/step-000100"));
    for step in [100, 200] {
        let error = run
            .save_checkpoint(step, |folder| {
                fs::write(folder.join("weights"), "half")?;
                Err(full_disk())
            })
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("step-{step:06}: cannot save the checkpoint: ")), "{error}");
        assert_eq!(names(&run.path().join("checkpoints")), ["step-000100"]);
        assert_eq!(fs::read_to_string(first.path.join("sub/weights")).unwrap(), "old");
        assert!(!first.path.join("weights").exists());
    }
    save(100, "new").unwrap();
    assert_eq!(fs::read_to_string(first.path.join("sub/weights")).unwrap(), "new");
    assert_eq!(names(&run.path().join("checkpoints")), ["step-000100"]);
}

#[test]
fn checkpoints_are_ordered_by_number_and_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(&folder);
    for step in [1_000_000, 2, 999_999] {
        run.save_checkpoint(step, |_| Ok(())).unwrap();
    }
    assert_eq!(run.latest_checkpoint().unwrap().unwrap().step, 1_000_000);
    run.prune(2).unwrap();
    assert_eq!(names(&run.path().join("checkpoints")), ["step-1000000", "step-999999"]);
    run.prune(0).unwrap();
    assert_eq!(names(&run.path().join("checkpoints")), ["step-1000000"]);
}

#[test]
fn resuming_mends_a_save_that_was_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = run(&folder).path().join("checkpoints");
    for name in [".tmp-step-000003", ".old-step-000001", ".old-step-000002", "step-000002"] {
        fs::create_dir(checkpoints.join(name)).unwrap();
        fs::write(checkpoints.join(name).join("name"), name).unwrap();
    }
    let run = RunDir::create(&folder.path().join("run"), Existing::Resume).unwrap();
    assert_eq!(names(&checkpoints), ["step-000001", "step-000002"]);
    assert_eq!(fs::read_to_string(checkpoints.join("step-000001/name")).unwrap(), ".old-step-000001");
    assert_eq!(run.latest_checkpoint().unwrap().unwrap().step, 2);
}

#[test]
fn metrics_are_lines_and_rewind() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run(&folder);
    for step in 1..=3 {
        run.append_metrics(step, &line(&json!({"loss": 0.5, "step": 99}))).unwrap();
        fs::write(run.rollouts_path(step), "x").unwrap();
    }
    let all = "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":0.5}\n{\"step\":3,\"loss\":0.5}\n";
    assert_eq!(metrics(&run), all);
    fs::write(run.path().join("metrics.jsonl"), format!("{all}{{\"step\":4,\"lo")).unwrap();
    run.rewind(2).unwrap();
    assert_eq!(names(&run.path().join("rollouts")), ["step-000001.parquet", "step-000002.parquet"]);
    run.append_metrics(3, &line(&json!({"loss": 0.25}))).unwrap();
    assert_eq!(metrics(&run), all.replace("3,\"loss\":0.5", "3,\"loss\":0.25"));
    fs::write(run.path().join("metrics.jsonl"), "{\"step\":1}\nnonsense\n").unwrap();
    let error = run.rewind(1).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl:2: "), "{error}");
}

#[test]
fn lessons_are_lines_and_rewind() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run(&folder);
    assert_eq!(lessons::read(folder.path()).unwrap(), [], "a run of an earlier version has none");
    let norm = GradientNorm { lessons: 4, square: 0.1, adam: None };
    let of = |step| LessonLine {
        step,
        rows: vec![7, 0],
        nats: vec![0.1, 2.5],
        labels: vec![3, 1],
        energy: vec![0.5, 0.25],
        gradient: Some(GradientPair { small: norm, large: GradientNorm { lessons: 8, ..norm } }),
    };
    for step in 1..=3 {
        run.append_lessons(&of(step)).unwrap();
    }
    run.rewind(2).unwrap();
    run.append_lessons(&LessonLine { step: 3, ..LessonLine::default() }).unwrap();
    let path = run.path().join("lessons.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("\n{\"step\":3}\n"), "{text}");
    fs::write(&path, format!("{text}{{\"step\":4,\"ro")).unwrap();
    let read = lessons::read(run.path()).unwrap();
    assert_eq!(read, [of(1), of(2), LessonLine { step: 3, ..LessonLine::default() }]);
    fs::write(&path, "{}\n").unwrap();
    let error = lessons::read(run.path()).unwrap_err().to_string();
    assert!(error.contains("lessons.jsonl:1: ") && error.contains("teach again"), "{error}");
}

#[test]
fn a_run_directory_is_never_mixed_with_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let create = |existing| RunDir::create(&path, existing).map_err(|e| e.to_string());
    assert!(create(Existing::Resume).unwrap_err().contains("no run to resume"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("thesis.tex"), "years of work").unwrap();
    for existing in [Existing::Refuse, Existing::Overwrite, Existing::Resume] {
        assert!(create(existing).is_err());
        assert_eq!(names(&path), ["thesis.tex"]);
    }
    fs::remove_file(path.join("thesis.tex")).unwrap();

    create(Existing::Refuse).unwrap().write_config("seed = 1\n").unwrap();
    // No result yet: the second try needs no switch.
    let mut run = create(Existing::Refuse).unwrap();
    run.append_metrics(1, &Map::new()).unwrap();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    assert!(create(Existing::Refuse).unwrap_err().contains("holds another run"));
    assert_eq!(metrics(&create(Existing::Resume).unwrap()), "{\"step\":1}\n");
    assert_eq!(metrics(&create(Existing::Overwrite).unwrap()), "");
    assert_eq!(names(&path), ["checkpoints", "lessons.jsonl", "metrics.jsonl", "notes.txt", "rollouts"]);

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(
        RunDir::create(&file, Existing::Refuse).unwrap_err().to_string().contains("cannot open as a folder")
    );
}

#[test]
fn the_manifest_says_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(&folder);
    let data = folder.path().join("data.jsonl");
    fs::write(&data, "abc").unwrap();
    let manifest = Manifest {
        version: "0.1.0".into(),
        command: vec!["pavlov".into(), "sft".into()],
        seed: u64::MAX,
        data: vec![DataFile::of(&data, 3).unwrap()],
        processor: "x86-64 avx512_bf16".into(),
        dtype: "bf16".into(),
        threads: 2,
        started_at: "2026-01-31T12:00:00Z".into(),
    };
    run.write_manifest(&manifest).unwrap();
    assert_eq!(Manifest::read(run.path()).unwrap(), manifest);
    assert_eq!(manifest.data[0].digest, "78af5f94892f3950");
}
