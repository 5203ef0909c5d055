//! A checkpoint that does not fit on the disk.

use crate::tiny;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tiny::{demonstrations, host_run, metrics, weights};
use pavlov_train::loops::sft::{self, Lessons, SftConfig};
use pavlov_train::run::{Ending, TrainingConfig};

const FOLDER: &str = "PAVLOV_FULL_DISK";

fn train(output_dir: &Path, resume: bool, stop_after: Option<u64>) -> pavlov_train::Result<Ending> {
    let training = TrainingConfig {
        output_dir: output_dir.to_owned(),
        resume_from_checkpoint: resume,
        learning_rate: 3e-3,
        max_steps: 6,
        logging_steps: 1,
        save_steps: 4,
        save_total_limit: 1,
        ..TrainingConfig::default()
    };
    let config = SftConfig { training, ..SftConfig::default() };
    let mut model = tiny::model();
    host_run(stop_after, |host| {
        let rows = sft::encode(&model.encoder(), &demonstrations(12), &config, Path::new("rows"), host)?;
        sft::train(&mut model, &Lessons { rows, ..Lessons::default() }, &config, host)
    })
    .0
}

#[test]
#[ignore = "the test below runs it in a process that may not write large files"]
fn resumes_without_room() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    println!("ended: {}", train(&folder, true, None).unwrap_err());
}

#[test]
fn the_old_checkpoint_stays_whole_and_the_run_goes_on_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
    train(&whole, false, None).unwrap();
    train(&parted, false, Some(2)).unwrap();

    // Blocks of 512 bytes: the weights fit, the moments do not.
    let limited = "trap '' XFSZ; ulimit -f 100; exec \"$0\" --exact full_disk::resumes_without_room --ignored --nocapture";
    let out = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, &parted)
        .output()
        .unwrap();
    let out = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let error = out
        .lines()
        .find_map(|line| line.split_once("ended: "))
        .unwrap_or_else(|| panic!("{out}"))
        .1
        .to_owned();
    assert!(error.contains("checkpoint of step 4 could not be saved"), "{error}");
    assert!(error.contains("step-000002 is whole"), "{error}");
    let left: Vec<_> =
        std::fs::read_dir(parted.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["step-000002"]);

    train(&parted, true, None).unwrap();
    assert_eq!(weights(&whole.join("model")), weights(&parted.join("model")));
    assert_eq!(metrics(&whole), metrics(&parted));
}
