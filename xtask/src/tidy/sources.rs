//! Rules about single source files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file longer than this is more than one thing.
const MAX_LINES: usize = 900;

/// What a file named `plan.rs` or `decide.rs`, or any file of the logic layer, must not import. Of `std::net` only what
/// sends and receives: addresses are mere values.
const EFFECTS: [&str; 12] = [
    "tokio",
    "kube",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
];

/// The Rust files below a crate's directory, sorted; build output and nested packages are not there.
pub(super) fn rust_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in
            std::fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))?
        {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The violations in one file. `logic`: it belongs to the logic layer.
pub(super) fn check(path: &Path, text: &str, logic: bool) -> Vec<String> {
    let shown = path.display();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut violations = Vec::new();
    if name == "mod.rs" {
        let better = path.parent().unwrap_or(path).with_extension("rs");
        violations.push(format!("{shown}: name it {}", better.display()));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        violations.push(format!("{shown}: {lines} lines, more than {MAX_LINES}"));
    }
    let whose = match name {
        "plan.rs" | "decide.rs" => Some("a pure file"),
        _ if logic && path.components().any(|part| part.as_os_str() == "src") => Some("the logic layer"),
        _ => None,
    };
    for (number, line) in text.lines().enumerate() {
        let code = code_of(line);
        let at = format!("{shown}:{}", number + 1);
        if code.contains(concat!("todo", "!(")) || code.contains(concat!("unimplemented", "!(")) {
            violations.push(format!("{at}: {} is no answer", concat!("todo", "!")));
        }
        if let (Some(whose), Some(effect)) = (whose, effect_in(code)) {
            violations.push(format!("{at}: {whose} imports {effect}"));
        }
    }
    violations
}

/// The line without its comment; a `//` inside a string cuts too much, which only makes the check milder.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

fn effect_in(code: &str) -> Option<&'static str> {
    let grouped = code.contains("std::time::{") && (code.contains("Instant") || code.contains("SystemTime"));
    if grouped {
        return Some("the clock");
    }
    EFFECTS.into_iter().find(|effect| mentions(code, effect))
}

/// Whether a path stands in the code as itself and not as a part of a longer name (`kube_objects`, `my_tokio`).
fn mentions(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + path.len()..).unwrap_or_default();
        let part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
        let whole = before.is_none_or(|letter| !part(letter) && letter != '"' && letter != '.');
        let used = after.starts_with("::") || (path.contains("::") && !after.starts_with(part));
        whole && used
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_found_where_they_are_forbidden() {
        let plan = Path::new("crates/hub/src/plan.rs");
        for bad in [
            "use tokio::sync::Mutex;",
            "let t = std::time::Instant::now();",
            "use std::time::{Duration, SystemTime};",
            "use kube::Client;",
            "use std::fs;",
        ] {
            assert_eq!(check(plan, bad, false).len(), 1, "{bad}");
        }
        for fine in
            ["use kube_objects::Status;", "// tokio::spawn", "use std::time::Duration;", "std::format!();"]
        {
            assert!(check(plan, fine, false).is_empty(), "{fine}");
        }
        assert!(check(Path::new("crates/hub/src/run.rs"), "use tokio::sync::Mutex;", false).is_empty());
        assert_eq!(check(Path::new("crates/workflow/src/a.rs"), "use tokio::sync::Mutex;", true).len(), 1);
        assert!(check(Path::new("crates/workflow/tests/a.rs"), "use std::fs;", true).is_empty());
    }

    #[test]
    fn long_files_and_old_names_are_found() {
        let long = "\n".repeat(MAX_LINES + 1);
        assert_eq!(check(Path::new("src/a.rs"), &long, false).len(), 1);
        assert_eq!(check(Path::new("src/a/mod.rs"), "", false), ["src/a/mod.rs: name it src/a.rs"]);
        let unfinished = concat!("fn a() { todo", "!() }");
        assert_eq!(check(Path::new("src/a.rs"), unfinished, false).len(), 1);
    }
}
