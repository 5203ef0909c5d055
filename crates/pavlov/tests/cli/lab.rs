//! A folder with a tiny random model, and the program to run on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use pavlov_engine::{Cpu, DecoderConfig, Dtype, ParameterKind};
use pavlov_lm::{LanguageModel, ModelFiles, SaveDtype};
use pavlov_worlds::{
    CHAT_TEMPLATE, Config, SPECIALS, Split, generate, special_names, tokenizer_json, vocabulary,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest sequence of the tiny model, in tokens.
pub(crate) const CONTEXT: usize = 128;

pub(crate) struct Lab {
    folder: TempDir,
}

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Lab {
    /// With a model in `model`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let decoder = DecoderConfig {
            intermediate_size: 64,
            num_kv_heads: 1,
            max_positions: CONTEXT,
            ..DecoderConfig::llama(vocabulary().len() + SPECIALS.len(), 32, 2, 2)
        };
        let files = ModelFiles::new_llama(&decoder, &tokenizer_json(), &special_names(), Some(CHAT_TEMPLATE))
            .unwrap();
        let mut model = LanguageModel::random(files, &Arc::new(Cpu::new(1)), Dtype::F32, 3).unwrap();
        // Larger than usual, so that what is said depends on everything that was said before.
        let matrices = model.params.specs().filter(|spec| spec.kind == ParameterKind::Matrix);
        for name in matrices.map(|spec| spec.name.clone()).collect::<Vec<_>>() {
            let larger: Vec<f32> = model.params.get(&name).unwrap().iter().map(|w| 8.0 * w).collect();
            model.params.set(&name, &larger).unwrap();
        }
        model.save(&folder.path().join("model"), SaveDtype::F32).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes rows as JSON lines.
    pub(crate) fn rows(&self, name: &str, rows: &[Value]) {
        let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
        fs::write(self.path(name), lines.join("\n")).unwrap();
    }

    /// Writes a file as it is.
    pub(crate) fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A copy of the model.
    pub(crate) fn copy_of_model(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(self.path("model")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        to
    }

    /// The program, in the lab's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pavlov"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }

    /// The lines of a file of JSON lines.
    pub(crate) fn json_lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The lines of stdout, each of which must be JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// Ended with this code and one line of error that has all of `parts`; nothing is a bug.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: Vec<&str> = self.err.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one line of error, the last: {self:?}");
        for part in parts {
            assert!(errors[0].contains(part), "{part:?} is missing: {}", errors[0]);
        }
        assert!(!self.err.contains("bug: "), "{self:?}");
    }
}

/// Prompts and right answers of small worlds.
pub(crate) fn demonstrations(n: u64) -> Vec<Value> {
    let world = |i| generate(5, i, &Config::demo(), Split::Train);
    (0..n)
        .map(world)
        .map(|w| json!({"prompt": w.prompt(), "completion": w.answer, "answer": w.answer}))
        .collect()
}

/// Every file below a folder, with its bytes.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}
