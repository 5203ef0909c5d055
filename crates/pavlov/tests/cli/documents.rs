//! The documents say what the program says.

use std::fs;

use crate::lab::Lab;

/// The keys that a verb's help lists: name, default, what.
fn keys(lab: &Lab, verb: &str) -> Vec<(String, String, String)> {
    let help = lab.run(&[verb, "--help"]).ok().out;
    let (_, list) = help.split_once("Keys of the configuration").unwrap();
    let mut keys: Vec<(String, String, String)> = Vec::new();
    for line in list.lines().skip(1).filter(|line| !line.is_empty()) {
        if let Some(more) = line.strip_prefix("      ") {
            let (_, _, what) = keys.last_mut().unwrap();
            what.push_str(if what.is_empty() { "" } else { " " });
            what.push_str(more);
        } else {
            let (name, default) = line.trim().split_once(" [default: ").unwrap_or((line.trim(), ""));
            keys.push((
                name.to_owned(),
                default.strip_suffix(']').unwrap_or(default).to_owned(),
                String::new(),
            ));
        }
    }
    keys
}

#[test]
fn every_key_is_in_commands_md() {
    let lab = Lab::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
    let document = fs::read_to_string(path).unwrap();
    for verb in ["pretrain", "sft", "reward", "grpo", "pairwise"] {
        let keys = keys(&lab, verb);
        assert!(keys.len() >= 30, "{verb}: {keys:?}");
        for (name, default, what) in keys {
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            let row = format!("| `{name}` | {default} | {} |", what.replace('|', "\\|"));
            assert!(document.contains(&row), "{verb}: docs/commands.md needs the row\n{row}");
        }
    }
}
