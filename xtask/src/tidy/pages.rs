//! The rules on files that are not Rust: machine paths, links, the code map, package manifests.
//!
//! Invariants: a link in a page leads to a file of the repository; every crate has its line in the code map.
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

/// Reports crates without a line in the code map.
pub fn code_map(files: &[File], findings: &mut Vec<Finding>) {
    let page = files.iter().find(|file| file.path == CODE_MAP).map_or("", |file| &file.text);
    for file in files {
        let Some(folder) =
            file.path.strip_prefix("crates/").and_then(|path| path.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        if !page.contains(&format!("`{folder}`")) {
            let message = format!("crate `{folder}` has no line in the code map of {CODE_MAP}");
            findings.push(Finding { rule: "map", path: file.path.clone(), line: 1, message });
        }
    }
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
