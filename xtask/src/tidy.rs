//! Tidy: the size, doc, unsafe, naming and habit rules of this repository, checked on its text.
//!
//! Invariants: every rule has a name, a message that says what to do, and a test in which a bad snippet
//! makes it fail. A rule about size, unsafe code or assertions can be lifted for one place by an entry with
//! its reason in `xtask/tidy-allow.txt`; an entry that lifts nothing is itself a finding.
//!
//! It does not build anything and does not repeat what rustc, clippy and rustfmt already check.

mod allow;
mod lexer;
mod outline;
mod pages;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use allow::AllowList;

/// Where the exceptions stand.
pub const ALLOW_LIST: &str = "xtask/tidy-allow.txt";

/// One file of the repository, held in memory.
#[derive(Debug, Clone)]
pub struct File {
    /// Path from the repository root, with `/` between its parts.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the rule.
    pub rule: &'static str,
    /// Path of the file.
    pub path: String,
    /// Line, counted from 1.
    pub line: usize,
    /// What was found and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// Lines and unsafe code of one package.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Count {
    /// Rust files.
    pub files: usize,
    /// Lines of Rust.
    pub lines: usize,
    /// Uses of the `unsafe` keyword.
    pub unsafe_uses: usize,
}

/// What a run of the rules found.
#[derive(Debug, Default)]
pub struct Report {
    /// Broken rules in the order of files and lines.
    pub findings: Vec<Finding>,
    /// Sizes by package.
    pub counts: BTreeMap<String, Count>,
}

/// Runs every rule over `files`, the exceptions among them.
pub fn check(files: &[File]) -> Report {
    let mut report = Report::default();
    let allow_text = files.iter().find(|file| file.path == ALLOW_LIST).map_or("", |file| &file.text);
    let mut allow = AllowList::parse(allow_text, &mut report.findings);
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let rust = |file: &&File| file.path.ends_with(".rs");
    for file in files {
        pages::machine_paths(file, &mut report.findings);
        if rust(&file) {
            let unsafe_uses = rules::check(file, &mut allow, &mut report.findings);
            let count = report.counts.entry(package_of(&file.path).to_owned()).or_default();
            count.files += 1;
            count.lines += file.text.lines().count();
            count.unsafe_uses += unsafe_uses;
        } else if file.path.ends_with(".md") {
            pages::links(file, &paths, &mut report.findings);
        } else if file.path.ends_with("Cargo.toml") && file.path != "Cargo.toml" {
            pages::manifest(file, &mut report.findings);
        }
    }
    pages::code_map(files, &mut report.findings);
    allow.report_stale(&mut report.findings);
    report.findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    report
}

/// The package a path belongs to: its folder under `crates`, or its first folder.
fn package_of(path: &str) -> &str {
    path.strip_prefix("crates/").unwrap_or(path).split('/').next().unwrap_or(path)
}

/// Reads every text file of the repository; files that are not UTF-8 are data, not text.
pub fn read_files(workspace: &Workspace) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for path in workspace.files()? {
        if let Ok(text) = fs::read_to_string(workspace.root.join(&path)) {
            files.push(File { path, text });
        }
    }
    Ok(files)
}

/// Runs the rules on the repository, prints sizes and findings, and fails on any finding.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("tidy takes no argument, found `{argument}`");
    }
    let report = check(&read_files(workspace)?);
    print_counts(&report.counts);
    for finding in &report.findings {
        println!("{finding}");
    }
    match report.findings.len() {
        0 => Ok(()),
        count => bail!("tidy found {count} things to put right"),
    }
}

fn print_counts(counts: &BTreeMap<String, Count>) {
    let mut total = Count::default();
    println!("{:<16} {:>6} {:>8} {:>8} {:>10}", "package", "files", "lines", "unsafe", "per 1,000");
    for (package, count) in counts {
        print_count(package, count);
        total.files += count.files;
        total.lines += count.lines;
        total.unsafe_uses += count.unsafe_uses;
    }
    print_count("total", &total);
}

fn print_count(package: &str, count: &Count) {
    let per_thousand = 1000.0 * count.unsafe_uses as f64 / count.lines.max(1) as f64;
    println!(
        "{package:<16} {:>6} {:>8} {:>8} {per_thousand:>10.2}",
        count.files, count.lines, count.unsafe_uses
    );
}
