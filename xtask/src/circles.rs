//! Modules beside one another are imported one way, so that each can be read knowing only those below it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::tidy::{assert_none, code_lines, files};

/// The sources that keep to it.
const ONE_WAY: [&str; 2] = ["crates/pavlov-schema/src", "xtask/src"];

/// Adds every path at the beginning of the code, of which a group (`a::{b, c::D}`) names several; what is left comes back.
fn paths<'a>(mut path: PathBuf, code: &'a str, found: &mut Vec<PathBuf>) -> &'a str {
    let code = code.trim_start();
    let (name, rest) =
        code.split_at(code.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(code.len()));
    path.push(name);
    let Some(mut rest) = rest.strip_prefix("::") else {
        found.push(path);
        return rest;
    };
    if !rest.starts_with('{') {
        return paths(path, rest, found);
    }
    while !["", "}"].contains(&rest.get(..1).unwrap_or_default()) {
        rest = paths(path.clone(), &rest[1..], found).trim_start();
    }
    rest.strip_prefix('}').unwrap_or_default()
}

/// The imports of a crate's files, by their paths in its source, from which other imports lead back. A folder is one with what is
/// in it: its `mod.rs` may name its files and they it, and of files in two folders the folders count.
fn circles(files: &[(&Path, &str)]) -> Vec<String> {
    let module = |file: &Path| match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") => file.with_file_name(""),
        _ => file.with_extension(""),
    };
    let modules: BTreeSet<PathBuf> = files.iter().map(|(file, _)| module(file)).collect();
    let mut imports: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (file, text) in files {
        let (code, from) =
            (code_lines(text).flat_map(|(_, line)| [line, "\n"]).collect::<String>(), module(file));
        let mut named = Vec::new();
        for word in ["crate::", "super::"] {
            for (i, _) in code.match_indices(word).filter(|(i, _)| !code[..*i].ends_with("::")) {
                paths(PathBuf::new(), &code[i..], &mut named);
            }
        }
        for path in named {
            let ups = path.iter().filter(|name| *name == "super").count();
            let base =
                if ups == 0 { Path::new("") } else { from.ancestors().nth(ups).unwrap_or(Path::new("")) };
            let path = base.join(path.iter().skip(ups.max(1)).collect::<PathBuf>());
            let Some(to) = path.ancestors().find(|to| modules.contains(*to)) else { continue };
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            if shared < from.iter().count().min(to.iter().count()) {
                let part = |module: &Path| module.iter().take(shared + 1).collect::<PathBuf>();
                imports.entry(part(&from)).or_default().insert(part(to));
            }
        }
    }
    let leads_back = |(from, to): &(&PathBuf, &PathBuf)| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![*to]);
        while let Some(module) = open.pop() {
            if seen.insert(module) {
                open.extend(imports.get(module).into_iter().flatten());
            }
        }
        seen.contains(from)
    };
    let imports = imports.iter().flat_map(|(from, tos)| tos.iter().map(move |to| (from, to)));
    imports
        .filter(leads_back)
        .map(|(from, to)| format!("{} imports {}", from.display(), to.display()))
        .collect()
}

#[test]
fn imports_go_one_way() {
    let all = files(&["rs"]);
    for source in ONE_WAY {
        let of = |(path, text): &'_ (PathBuf, String)| {
            Some((path.strip_prefix(source).ok()?.to_owned(), text.clone()))
        };
        let files: Vec<(PathBuf, String)> = all.iter().filter_map(of).collect();
        let files: Vec<(&Path, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
        assert!(files.len() > 3, "{source} has moved");
        assert_none(&circles(&files), &format!("move what both need below both, in {source}"));
    }
}

#[test]
fn circles_are_found() {
    let found = |files: &[(&str, &str)]| {
        circles(&files.iter().map(|(path, text)| (Path::new(*path), *text)).collect::<Vec<_>>())
    };
    let [a, b] = ["a imports b", "b imports a"];
    let by_groups =
        [("lib.rs", "mod a;"), ("a.rs", "use crate::{\n    c::{X, Y as Z},\n    b::B,\n};"), ("c.rs", "")];
    assert_eq!(
        found(&[by_groups[0], by_groups[1], by_groups[2], ("b.rs", "fn f() { super::a::g() }")]),
        [a, b]
    );
    assert_eq!(found(&[by_groups[0], by_groups[1], by_groups[2], ("b.rs", "// crate::a")]), [""; 0]);
    // By a third; in a folder, beside it, and between a folder and its files, which is none.
    let third = [
        ("a.rs", "use crate::b;"),
        ("b.rs", "use crate::c::X;"),
        ("c.rs", "use crate::a;"),
        ("d.rs", "use crate::a;"),
    ];
    assert_eq!(found(&third), [a, "b imports c", "c imports a"]);
    let inside = [
        ("f/mod.rs", "use crate::f::x;"),
        ("f/x.rs", "use super::y::Y; use super::F;"),
        ("f/y.rs", "use crate::f::x::X;"),
    ];
    assert_eq!(found(&inside), ["f/x imports f/y", "f/y imports f/x"]);
    let beside = [("f/x.rs", "use super::super::a::A;"), ("f/mod.rs", ""), ("a.rs", "use crate::f::F;")];
    assert_eq!(found(&beside), ["a imports f", "f imports a"]);
    // Tests may name whatever they like.
    assert_eq!(
        found(&[
            ("a.rs", "use crate::b;"),
            ("b.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\nuse crate::a;\n}")
        ]),
        [""; 0]
    );
}
