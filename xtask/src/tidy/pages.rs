//! The rules on files that are not Rust: machine paths, links, the code map, package manifests.
//!
//! Invariants: a link in a page leads to a file of the repository; every crate has its line in the code map and
//! depends only on crates above that line.
//!
//! It does not judge prose and does not follow links out of the repository.

use std::collections::BTreeSet;

use super::{File, Finding};

/// The page that holds the code map.
const CODE_MAP: &str = "ARCHITECTURE.md";

/// First folders of paths that exist on one machine only.
const MACHINE_FOLDERS: [&str; 7] = ["root", "home", "Users", "tmp", "work", "mnt", "private"];

/// What each package manifest holds.
const MANIFEST_LINES: [&str; 4] = [
    "lints.workspace|[lints]",
    "rust-version.workspace = true",
    "license.workspace = true",
    "description = ",
];

/// Reports absolute paths of one machine in any text file.
pub fn machine_paths(file: &File, findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        if let Some(found) = machine_path(line) {
            let message = format!("`{found}` is a path of one machine: use a path from the repository root");
            findings.push(Finding { rule: "path", path: file.path.clone(), line: index + 1, message });
        }
    }
}

fn machine_path(line: &str) -> Option<String> {
    let joined = |c: char| c.is_alphanumeric() || "._-~})".contains(c);
    for folder in MACHINE_FOLDERS {
        let start = format!("/{folder}/");
        for (at, _) in line.match_indices(&start) {
            let before = line[..at].chars().next_back();
            let after = line[at + start.len()..].chars().next();
            if !before.is_some_and(joined) && after.is_some_and(|c| c.is_alphanumeric() || "._-$".contains(c))
            {
                return Some(start);
            }
        }
    }
    None
}

/// Reports links of a page that lead to no file.
pub fn links(file: &File, paths: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !resolve(&file.path, target).is_some_and(|path| exists(&path, paths)) {
                let message = format!("the link `{target}` leads to no file of the repository");
                findings.push(Finding { rule: "link", path: file.path.clone(), line: index + 1, message });
            }
        }
    }
}

/// The path that a relative link in `page` names.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn exists(path: &str, paths: &BTreeSet<&str>) -> bool {
    let folder = format!("{path}/");
    paths.contains(path)
        || paths.range(folder.as_str()..).next().is_some_and(|next| next.starts_with(&folder))
}

/// Reports crates without a line in the code map, and crates that depend on one further down in it.
pub fn code_map(files: &[File], findings: &mut Vec<Finding>) {
    let page = files.iter().find(|file| file.path == CODE_MAP).map_or("", |file| &file.text);
    let order: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let position = |name: &str| order.iter().position(|other| *other == name);
    for file in files {
        let Some(name) = file.path.strip_prefix("crates/").and_then(|path| path.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let mut find =
            |message| findings.push(Finding { rule: "map", path: file.path.clone(), line: 1, message });
        let Some(own) = position(name) else {
            find(format!("crate `{name}` has no line in the code map of {CODE_MAP}"));
            continue;
        };
        for used in dependencies(&file.text).filter(|used| position(used).is_some_and(|other| other > own)) {
            find(format!("`{name}` uses `{used}`, which stands below it in the code map of {CODE_MAP}"));
        }
    }
}

/// The names in the dependency tables of a manifest, those for tests and builds left out.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-") && !line.contains("build-");
            return None;
        }
        inside.then(|| line.split(['.', '=', ' ']).next()).flatten()
    })
}

/// Reports package manifests that do not take the settings of the workspace.
pub fn manifest(file: &File, findings: &mut Vec<Finding>) {
    for wanted in MANIFEST_LINES {
        let found =
            wanted.split('|').any(|spelling| file.text.lines().any(|line| line.starts_with(spelling)));
        if !found {
            let message = format!("the manifest has no line `{}`", wanted.replace('|', "` or `"));
            findings.push(Finding { rule: "manifest", path: file.path.clone(), line: 1, message });
        }
    }
}
