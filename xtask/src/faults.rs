//! Seeded faults: proof that the tests can fail.
//!
//! Each fault of `xtask/faults.txt` changes one line in a copy of the repository under the build folder and
//! must turn the test it names red. Invariants: the working tree is never touched; a fault whose line is not
//! found exactly once is an error; a fault that does not compile, or a test that is red or empty without it,
//! is an error too, since its red would prove nothing.
//!
//! It does not invent faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;
use crate::workspace::Workspace;

/// Where the faults stand.
const LIST: &str = "xtask/faults.txt";

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    name: String,
    file: String,
    old: String,
    new: String,
    test: String,
}

/// Reads the list.
fn parse(text: &str) -> Result<Vec<Fault>> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let blocks = lines.split(|line| line.trim().is_empty()).filter(|block| !block.is_empty());
    blocks.map(parse_block).collect()
}

fn parse_block(block: &[&str]) -> Result<Fault> {
    let keys = ["fault", "file", "old", "new", "test"];
    ensure!(
        block.len() == keys.len(),
        "a fault has the lines {}; found:\n{}",
        keys.join(", "),
        block.join("\n")
    );
    let mut values = Vec::new();
    for (key, line) in keys.iter().zip(block) {
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':'));
        let value = value.with_context(|| format!("expected `{key}: ...`, found `{line}`"))?;
        ensure!(*key == "new" || !value.trim().is_empty(), "`{key}` is empty in:\n{}", block.join("\n"));
        values.push(value.trim().to_owned());
    }
    let [name, file, old, new, test] =
        <[String; 5]>::try_from(values).map_err(|_| anyhow::anyhow!("a fault has {} values", keys.len()))?;
    ensure!(old != new, "fault `{name}` changes nothing");
    Ok(Fault { name, file, old, new, test })
}

/// The text of the file with the fault in it.
fn apply(fault: &Fault, text: &str) -> Result<String> {
    let count = text.lines().filter(|line| line.trim() == fault.old).count();
    ensure!(
        count == 1,
        "fault `{}`: `{}` stands {count} times in {}, not once",
        fault.name,
        fault.old,
        fault.file
    );
    let seeded = text.lines().map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() == fault.old { format!("{indent}{}\n", fault.new) } else { format!("{line}\n") }
    });
    Ok(seeded.collect())
}

/// Checks that every fault of the list still applies.
pub fn check(workspace: &Workspace) -> Result<()> {
    let faults = parse(&workspace.read(LIST)?)?;
    let errors: Vec<String> = faults
        .iter()
        .filter_map(|fault| workspace.read(&fault.file).and_then(|text| apply(fault, &text)).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(errors.is_empty(), "{LIST} has stale entries:\n{}", errors.join("\n"));
    println!("{} faults apply", faults.len());
    Ok(())
}

/// Runs the faults: all of them, or those whose name or test holds one of the given words; `--check` only applies them.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    check(workspace)?;
    if arguments == ["--check"] {
        return Ok(());
    }
    let mut faults = parse(&workspace.read(LIST)?)?;
    let holds = |fault: &Fault, word: &String| fault.name.contains(word) || fault.test.contains(word);
    if let Some(word) = arguments.iter().find(|word| !faults.iter().any(|fault| holds(fault, word))) {
        bail!("no fault has `{word}` in its name or its test");
    }
    faults.retain(|fault| arguments.is_empty() || arguments.iter().any(|word| holds(fault, word)));
    let copy =
        Copy { tree: workspace.target.join("faults/tree"), target: workspace.target.join("faults/target") };
    copy.update(workspace)?;
    // All tests without a fault first: what is seeded and taken out again is built again.
    let mut baselines: Vec<(&str, Verdict)> = Vec::new();
    for fault in &faults {
        if !baselines.iter().any(|(test, _)| *test == fault.test) {
            baselines.push((&fault.test, copy.test(&fault.test)?));
        }
    }
    let mut rows = Vec::new();
    for fault in &faults {
        let healthy =
            baselines.iter().any(|(test, verdict)| *test == fault.test && *verdict == Verdict::Green);
        let verdict = if healthy { copy.seeded(fault)? } else { Verdict::NotGreenBefore };
        rows.push((fault, verdict));
    }
    println!();
    for (fault, verdict) in &rows {
        println!("{:<60} {:<40} {}", fault.name, fault.test, verdict.words());
    }
    let missed = rows.iter().filter(|(_, verdict)| *verdict != Verdict::Red).count();
    ensure!(missed == 0, "{missed} of {} faults prove nothing", rows.len());
    println!("{} faults seeded, all caught", rows.len());
    Ok(())
}

/// What a test said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Red,
    Green,
    Empty,
    Broken,
    NotGreenBefore,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::Red => "caught",
            Self::Green => "NOT CAUGHT",
            Self::Empty => "NO TEST RAN",
            Self::Broken => "DOES NOT COMPILE",
            Self::NotGreenBefore => "TEST IS NOT GREEN WITHOUT THE FAULT",
        }
    }

    /// Judges a run from whether it succeeded and what it printed.
    fn of(success: bool, compiled: bool, tests: usize) -> Self {
        match (success, compiled, tests) {
            (_, false, _) => Self::Broken,
            (true, true, 0) => Self::Empty,
            (true, true, _) => Self::Green,
            (false, true, _) => Self::Red,
        }
    }
}

/// A copy of the repository with its own build folder.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes the copy equal to the working tree; files that are equal keep their time stamps.
    fn update(&self, workspace: &Workspace) -> Result<()> {
        let files = workspace.files()?;
        for stale in files_under(&self.tree)? {
            let name = stale.strip_prefix(&self.tree)?.to_string_lossy().replace('\\', "/");
            if files.binary_search(&name).is_err() {
                fs::remove_file(&stale)?;
            }
        }
        for file in &files {
            write_if_changed(&self.tree.join(file), &fs::read(workspace.root.join(file))?)?;
        }
        Ok(())
    }

    /// Runs the test of `fault` with the fault in place, and takes the fault out again.
    fn seeded(&self, fault: &Fault) -> Result<Verdict> {
        println!("\n=== {}", fault.name);
        let path = self.tree.join(&fault.file);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, apply(fault, &text)?)?;
        let verdict = self.test(&fault.test);
        fs::write(&path, text)?;
        verdict
    }

    fn test(&self, arguments: &str) -> Result<Verdict> {
        let mut command = Command::new("cargo");
        command.arg("test").args(arguments.split_whitespace());
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        let (mut compiled, mut tests) = (true, 0);
        let status = process::run(command, |line| {
            compiled &= !line.starts_with("error: could not compile") && !line.starts_with("error[");
            tests += usize::from(line.starts_with("test ") && line.contains(" ... "));
        })?;
        Ok(Verdict::of(status.success(), compiled, tests))
    }
}

fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    fs::write(path, bytes).with_context(|| format!("{} could not be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "# list\n\nfault: sign lost\nfile: a.rs\nold: let x = -y;\nnew: let x = y;\ntest: -p a sign\n";

    fn one() -> Fault {
        parse(ONE).expect("the list is well formed").remove(0)
    }

    #[test]
    fn faults_are_read_in_blocks() {
        let second = ONE.replace("sign lost", "other");
        let faults = parse(&format!("{ONE}\n\n{second}")).expect("the list is well formed");
        assert_eq!(
            faults.iter().map(|fault| fault.name.as_str()).collect::<Vec<_>>(),
            ["sign lost", "other"]
        );
        assert_eq!((faults[0].old.as_str(), faults[0].test.as_str()), ("let x = -y;", "-p a sign"));
    }

    #[test]
    fn malformed_faults_are_refused() {
        for (from, to) in [("test: -p a sign\n", ""), ("old:", "was:"), ("a.rs", ""), ("= y", "= -y")] {
            assert!(parse(&ONE.replace(from, to)).is_err(), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn a_fault_changes_one_line_and_keeps_its_indentation() {
        let seeded = apply(&one(), "fn f() {\n    let x = -y;\n}\n").expect("the line stands once");
        assert_eq!(seeded, "fn f() {\n    let x = y;\n}\n");
    }

    #[test]
    fn a_fault_that_stands_never_or_twice_is_stale() {
        for text in ["", "let x = -y; // changed\n", "let x = -y;\nlet x = -y;\n"] {
            assert!(apply(&one(), text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_a_compiled_red_test_is_a_catch() {
        let verdicts = [(false, true, 3), (true, true, 3), (true, true, 0), (false, false, 0)];
        let expected = [Verdict::Red, Verdict::Green, Verdict::Empty, Verdict::Broken];
        assert_eq!(
            verdicts.map(|(success, compiled, tests)| Verdict::of(success, compiled, tests)),
            expected
        );
    }

    #[test]
    fn the_list_of_the_repository_applies() {
        check(&Workspace::find().expect("the tests run inside the repository")).expect("every fault applies");
    }
}
