//! The gate: everything that must hold before a change lands, in one command with its own set-up.
//!
//! Invariants: the steps are one table; a step that cannot run on this machine is printed as `not run`
//! with its reason and counted; the last line is `N passed, N failed`, counted from the suites' own output,
//! where a failing step without test output counts as one failure. The exit status is zero only when nothing
//! failed.
//!
//! It does not retry and does not hide output.

mod setup;
mod steps;
mod suites;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use steps::STEPS;
use suites::Suite;

/// What the steps share.
struct Gate<'a> {
    workspace: &'a Workspace,
    /// Environment handed to every child.
    environment: Vec<(&'static str, String)>,
    /// Test suites that ran.
    suites: Vec<Suite>,
    /// What could not run, and why.
    not_run: Vec<(String, String)>,
}

impl Gate<'_> {
    fn not_run(&mut self, what: &str, why: &str) {
        println!("not run: {what}: {why}");
        self.not_run.push((what.to_owned(), why.to_owned()));
    }

    /// Adds the lines that tests left in the build folder.
    fn collect_not_run(&mut self) -> Result<()> {
        let folder = self.workspace.target.join("not-run");
        if !folder.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            for line in fs::read_to_string(entry?.path())?.lines() {
                let (what, why) = line.split_once('\t').unwrap_or((line, "no reason given"));
                self.not_run.push((what.to_owned(), why.to_owned()));
            }
        }
        self.not_run.sort();
        Ok(())
    }
}

/// How one step ended.
struct Outcome {
    step: &'static str,
    time: Duration,
    error: Option<String>,
}

/// Options of the gate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    list: bool,
    keep_going: bool,
    only: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => options.list = true,
                "--keep-going" => options.keep_going = true,
                "--only" => {
                    let name = arguments.next().context("`--only` needs the name of a step")?;
                    if !STEPS.iter().any(|step| step.name == name) {
                        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
                        bail!("no step is called `{name}`; the steps are: {}", names.join(", "));
                    }
                    options.only.push(name.clone());
                }
                other => bail!("unknown option `{other}`; known: --list, --only STEP, --keep-going"),
            }
        }
        Ok(options)
    }
}

/// Runs the gate.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if options.list {
        for step in STEPS {
            println!("{:<14} {}", step.name, step.what);
        }
        return Ok(());
    }
    let left_over = workspace.target.join("not-run");
    if left_over.is_dir() {
        fs::remove_dir_all(&left_over)?;
    }
    let environment = setup::environment(workspace)?;
    let mut gate = Gate { workspace, environment, suites: Vec::new(), not_run: Vec::new() };
    let outcomes = run_steps(&mut gate, &options);
    gate.collect_not_run()?;
    print!("{}", summary(&outcomes, &gate.suites, &gate.not_run));
    let (passed, failed) = totals(&outcomes, &gate.suites);
    println!("{passed} passed, {failed} failed");
    // The counts are the last line: the exit status alone tells the rest.
    std::process::exit(i32::from(failed > 0));
}

fn run_steps(gate: &mut Gate<'_>, options: &Options) -> Vec<Outcome> {
    let chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let mut outcomes = Vec::new();
    for step in STEPS.iter().filter(|step| chosen(step.name)) {
        println!("\n=== {}: {}", step.name, step.what);
        let start = Instant::now();
        let error = (step.run)(gate).err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            println!("step {} failed: {error}", step.name);
        }
        let failed = error.is_some();
        outcomes.push(Outcome { step: step.name, time: start.elapsed(), error });
        if failed && !options.keep_going {
            break;
        }
    }
    outcomes
}

/// Passed and failed: tests by their suites, and each failing step that no failing test explains.
fn totals(outcomes: &[Outcome], suites: &[Suite]) -> (usize, usize) {
    let passed = suites.iter().map(|suite| suite.passed).sum();
    let unexplained = |outcome: &&Outcome| {
        outcome.error.is_some() && !suites.iter().any(|suite| suite.step == outcome.step && suite.failed > 0)
    };
    let failed_tests: usize = suites.iter().map(|suite| suite.failed).sum();
    (passed, failed_tests + outcomes.iter().filter(unexplained).count())
}

fn summary(outcomes: &[Outcome], suites: &[Suite], not_run: &[(String, String)]) -> String {
    let mut text = format!("\n{:<44} {:>7} {:>7} {:>8}\n", "suite", "passed", "failed", "minutes");
    for suite in suites.iter().filter(|suite| suite.passed + suite.failed > 0) {
        let row = (&suite.name, suite.passed, suite.failed, minutes(suite.time));
        text += &format!("{:<44} {:>7} {:>7} {:>8}\n", row.0, row.1, row.2, row.3);
    }
    text += &format!("\n{:<44} {:>15} {:>8}\n", "step", "", "minutes");
    for outcome in outcomes {
        let state = if outcome.error.is_some() { "FAILED" } else { "ok" };
        text += &format!("{:<44} {state:>15} {:>8}\n", outcome.step, minutes(outcome.time));
    }
    text.push('\n');
    for same in not_run.chunk_by(|a, b| a == b) {
        let times = if same.len() > 1 { format!(" ({} times)", same.len()) } else { String::new() };
        text += &format!("not run: {}: {}{times}\n", same[0].0, same[0].1);
    }
    for outcome in outcomes {
        if let Some(error) = &outcome.error {
            text += &format!("failed: {}: {error}\n", outcome.step);
        }
    }
    text += &format!("{} not run\n", not_run.len());
    text
}

fn minutes(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(step: &'static str, error: Option<&str>) -> Outcome {
        Outcome { step, time: Duration::from_secs(90), error: error.map(str::to_owned) }
    }

    fn suite(step: &'static str, passed: usize, failed: usize) -> Suite {
        Suite { step, name: "unit".into(), passed, failed, ..Suite::default() }
    }

    #[test]
    fn failing_steps_count_once() {
        let outcomes =
            [outcome("fmt", Some("unformatted")), outcome("test", Some("red")), outcome("tidy", None)];
        assert_eq!(totals(&outcomes, &[suite("test", 5, 2)]), (5, 3));
        assert_eq!(totals(&outcomes, &[suite("test", 5, 0)]), (5, 2));
        assert_eq!(totals(&outcomes[2..], &[suite("test", 5, 0)]), (5, 0));
    }

    #[test]
    fn the_summary_names_what_did_not_run_and_what_failed() {
        let entry = |what: &str| (what.to_owned(), "no device".to_owned());
        let not_run = [entry("cuda"), entry("metal"), entry("metal")];
        let text = summary(&[outcome("fmt", Some("unformatted"))], &[suite("test", 5, 0)], &not_run);
        let lines = ["not run: cuda: no device\n", "not run: metal: no device (2 times)\n", "\n3 not run\n"];
        for wanted in lines.into_iter().chain(["1.50", "failed: fmt: unformatted"]) {
            assert!(text.contains(wanted), "{wanted:?} is missing in\n{text}");
        }
    }

    #[test]
    fn options_are_read_or_refused() {
        let parse =
            |words: &[&str]| Options::parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        let options = parse(&["--only", "fmt", "--keep-going", "--only", "tidy"]).expect("these are known");
        assert_eq!(
            options,
            Options { list: false, keep_going: true, only: vec!["fmt".into(), "tidy".into()] }
        );
        for (words, wanted) in
            [(&["--only"][..], "needs"), (&["--only", "x"], "no step"), (&["-x"], "unknown")]
        {
            let error = parse(words).expect_err("this is wrong").to_string();
            assert!(error.contains(wanted), "{words:?} gave {error}");
        }
    }
}
