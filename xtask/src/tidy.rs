//! Invariants of the source as tests: each is the absence of something, and says how to mend what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::steps::root;

/// Lines a Rust file may have before its `mod tests`.
const LONGEST_FILE: usize = 700;

/// Every file of the source whose name ends so, with its text, by path from the root.
pub(crate) fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    walk(root(), &mut |path| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if extensions.contains(&extension) {
            let text = fs::read_to_string(path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    });
    assert!(!found.is_empty(), "found {} files under {}", found.len(), root().display());
    found.sort();
    found
}

fn walk(folder: &Path, on_file: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        // Build output, runs, environments of the golden scripts, and git's own.
        if name.starts_with("target") || ["runs", "venv", ".git"].contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, on_file);
        } else {
            on_file(&path);
        }
    }
}

/// The code before a file's unit tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default()
}

/// Lines of code, numbered from 1, without those that are only a comment.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = without_tests(text).lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[track_caller]
pub(crate) fn assert_none(found: &[String], mend: &str) {
    assert!(found.is_empty(), "{mend}:\n{}", found.join("\n"));
}

/// The lines of code of some files in which any of these words is.
fn lines_with(words: &[&str], mut in_file: impl FnMut(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files(&["rs"]) {
        if in_file(&path) {
            let lines = code_lines(&text).filter(|(_, line)| words.iter().any(|word| line.contains(word)));
            found.extend(lines.map(|(number, line)| format!("{}:{number}: {}", path.display(), line.trim())));
        }
    }
    found
}

/// The library crates' sources; their tests may do what they like.
fn is_library(path: &Path) -> bool {
    path.starts_with("crates") && !path.starts_with("crates/pavlov") && path.iter().any(|part| part == "src")
}

fn manifest(path: &Path) -> toml::Table {
    fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
}

/// The names in one table of dependencies, also of those for one platform.
fn dependencies(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    let keys = |value: &toml::Table| -> Vec<String> {
        value.get(table).and_then(|t| t.as_table()).map(|t| t.keys().cloned().collect()).unwrap_or_default()
    };
    let mut names: BTreeSet<String> = keys(manifest).into_iter().collect();
    for platform in manifest.get("target").and_then(|t| t.as_table()).into_iter().flat_map(|t| t.values()) {
        names.extend(keys(platform.as_table().unwrap()));
    }
    names
}

#[test]
fn files_are_short() {
    let too_long = |(path, text): &(PathBuf, String)| {
        let lines = without_tests(text).lines().count();
        (lines > LONGEST_FILE).then(|| format!("{}: {lines} lines", path.display()))
    };
    let found: Vec<String> = files(&["rs"]).iter().filter_map(too_long).collect();
    assert_none(&found, &format!("split files of more than {LONGEST_FILE} lines before their tests"));
}

#[test]
fn dependencies_point_one_way() {
    let allowed = BTreeMap::from([
        ("pavlov-schema", vec![]),
        ("pavlov-worlds", vec!["pavlov-schema"]),
        ("pavlov-engine", vec!["pavlov-schema"]),
        ("pavlov-lm", vec!["pavlov-schema", "pavlov-engine"]),
        ("pavlov-train", vec!["pavlov-schema", "pavlov-engine", "pavlov-lm"]),
        ("pavlov-insight", vec!["pavlov-schema", "pavlov-engine", "pavlov-lm", "pavlov-train"]),
        ("pavlov-feedback", vec!["pavlov-schema"]),
        (
            "pavlov",
            vec![
                "pavlov-schema",
                "pavlov-worlds",
                "pavlov-engine",
                "pavlov-lm",
                "pavlov-train",
                "pavlov-insight",
                "pavlov-feedback",
            ],
        ),
        ("xtask", vec![]),
    ]);
    let mut found = Vec::new();
    for (path, _) in files(&["toml"]) {
        if path.file_name().unwrap() != "Cargo.toml" || path.parent() == Some(Path::new("")) {
            continue;
        }
        let manifest = manifest(&path);
        let name = manifest["package"]["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else {
            found.push(format!("{name}: say here what it may depend on"));
            continue;
        };
        for other in dependencies(&manifest, "dependencies") {
            if other.starts_with("pavlov") && !allowed.contains(&other.as_str()) {
                found.push(format!("{name} depends on {other}"));
            }
        }
    }
    assert_none(&found, "a crate may depend only on those below it (ARCHITECTURE.md)");
}

/// Everything a package of the lock file brings along.
fn closure(package: &str) -> BTreeSet<String> {
    let lock = manifest(Path::new("Cargo.lock"));
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let list = package.get("dependencies").and_then(|list| list.as_array());
        // "name" or "name version".
        let names = list.into_iter().flatten().map(|name| name.as_str().unwrap().split(' ').next().unwrap());
        edges.entry(package["name"].as_str().unwrap()).or_default().extend(names);
    }
    let mut seen = BTreeSet::new();
    let mut open = vec![package];
    while let Some(name) = open.pop() {
        if seen.insert(name.to_owned()) {
            open.extend(edges.get(name).into_iter().flatten());
        }
    }
    seen
}

#[test]
fn plain_data_needs_no_tensors_and_no_runtime() {
    let unwanted =
        ["ndarray", "candle-core", "burn", "tch", "gemm", "faer", "nalgebra", "tokio", "async-std", "smol"];
    let closure = closure("pavlov-schema");
    assert!(closure.contains("serde_json"), "the lock file was not understood");
    let found: Vec<String> = closure.into_iter().filter(|name| unwanted.contains(&name.as_str())).collect();
    assert_none(&found, "pavlov-schema must not bring along");
}

#[test]
fn random_numbers_have_one_source() {
    let mut found = Vec::new();
    for (path, _) in files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let names = dependencies(&manifest(&path), "dependencies");
        found.extend(
            names
                .into_iter()
                .filter(|name| name.starts_with("rand") || name == "fastrand")
                .map(|name| format!("{}: {name}", path.display())),
        );
    }
    assert_none(&found, "random numbers come from pavlov_schema::rng alone");
}

#[test]
fn unsafe_code_is_in_the_kernels_alone() {
    let word = ["unsafe ", "{"].concat();
    let found = lines_with(&[&word, "unsafe fn", "unsafe impl"], |path| {
        !path.starts_with("crates/pavlov-engine") && path != Path::new("xtask/src/tidy.rs")
    });
    assert_none(&found, "unsafe code belongs in pavlov-engine");
    for (path, _) in files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let manifest = manifest(&path);
        if manifest.contains_key("package") && !path.starts_with("crates/pavlov-engine") {
            let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
            assert_eq!(
                inherits.and_then(toml::Value::as_bool),
                Some(true),
                "{}: [lints] workspace",
                path.display()
            );
        }
    }
}

#[test]
fn libraries_do_not_print_or_exit() {
    let words = ["println!", "print!(", "eprint!(", "process::exit", "env::var", "env::args"];
    assert_none(
        &lines_with(&words, is_library),
        "return it; the binary prints, exits and reads the environment",
    );
}

#[test]
fn nothing_of_a_build_machine_is_left() {
    let mut found = Vec::new();
    for (path, text) in files(&["rs", "toml", "md", "py", "yml", "yaml"]) {
        if path == Path::new("xtask/src/tidy.rs") {
            continue;
        }
        for (i, line) in text.lines().enumerate() {
            if ["/work/", "/home/", "/root/", "/Users/", "../shared", "C:\\Users"]
                .iter()
                .any(|p| line.contains(p))
            {
                found.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    assert_none(&found, "remove paths of one machine");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut found = Vec::new();
    for (path, text) in files(&["md"]) {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or_default();
            if !root().join(path.parent().unwrap()).join(file).exists() {
                found.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert_none(&found, "mend links to files that are not there");
}
