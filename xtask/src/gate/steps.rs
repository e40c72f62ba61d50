//! The steps of the gate, in the order in which they run: one table, one function each.
//!
//! Invariants: cheap steps come first; steps run the commands that a developer would type; examples
//! are run as the workspace builds them.
//!
//! Steps do not count tests; `suites` does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Gate;
use super::setup;
use super::suites::Reader;
use crate::{docs, faults, format, process, tidy};

/// One step: its name, what it checks, and how.
pub struct Step {
    /// The name for `--only`.
    pub name: &'static str,
    /// What it checks.
    pub what: &'static str,
    /// Runs it.
    pub run: fn(&mut Gate<'_>) -> Result<()>,
}

/// All steps in order.
pub const STEPS: &[Step] = &[
    Step { name: "toolchain", what: "rustc is not older than the stated minimum", run: toolchain },
    Step { name: "setup", what: "the model, driver and folders that tests need", run: setup::run },
    Step { name: "fmt", what: "the code is formatted", run: fmt },
    Step {
        name: "tidy",
        what: "size, doc, unsafe, naming and habit rules",
        run: |gate| tidy::run(gate.workspace, &[]),
    },
    Step {
        name: "faults",
        what: "every seeded fault still applies",
        run: |gate| faults::check(gate.workspace),
    },
    Step { name: "docs", what: "generated pages are current", run: docs_are_current },
    Step { name: "clippy", what: "no warnings in any target", run: clippy },
    Step { name: "rustdoc", what: "API docs build without warnings", run: rustdoc },
    Step { name: "test", what: "unit tests, integration tests, filetests, doc tests", run: test },
    Step { name: "examples", what: "every example runs", run: examples },
    Step { name: "first-command", what: "the first command of the README", run: first_command },
];

/// What the README tells a newcomer to type first.
const FIRST_COMMAND: [&str; 5] = ["run", "--release", "--", "generate", "Once upon a time"];

fn cargo(gate: &Gate<'_>, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(&gate.workspace.root);
    command.envs(gate.environment.iter().map(|(name, value)| (name, value)));
    command
}

fn require(command: Command) -> Result<()> {
    let spelled = process::spell(&command);
    let status = process::run(command, |_| {})?;
    ensure!(status.success(), "`{spelled}` ended with {status}");
    Ok(())
}

fn toolchain(gate: &mut Gate<'_>) -> Result<()> {
    let minimum = value_of(&gate.workspace.read("Cargo.toml")?, "rust-version")
        .context("Cargo.toml states no rust-version")?;
    let output = Command::new("rustc").arg("--version").output().context("rustc could not be started")?;
    let version = String::from_utf8(output.stdout)?;
    println!("{}; the minimum is {minimum}", version.trim());
    let found = version.split_whitespace().nth(1).context("rustc told no version")?;
    ensure!(numbers(found) >= numbers(&minimum), "rustc {found} is older than {minimum}");
    // Clippy takes its minimum from the manifests, and tidy keeps every manifest to the one of the workspace.
    ensure!(
        !gate.workspace.root.join("clippy.toml").exists(),
        "clippy.toml could state another minimum: remove it"
    );
    Ok(())
}

/// The string value of the first `key = "..."` line.
fn value_of(text: &str, key: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='))?;
    Some(rest.trim().trim_matches('"').to_owned())
}

/// Major, minor and patch of a version; parts that are missing count as zero.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

fn fmt(gate: &mut Gate<'_>) -> Result<()> {
    format::run(gate.workspace, &["--check".to_owned()])
}

fn docs_are_current(gate: &mut Gate<'_>) -> Result<()> {
    docs::run(gate.workspace, &["--check".to_owned()])
}

fn clippy(gate: &mut Gate<'_>) -> Result<()> {
    require(cargo(gate, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn rustdoc(gate: &mut Gate<'_>) -> Result<()> {
    let mut command = cargo(gate, &["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    require(command)
}

fn test(gate: &mut Gate<'_>) -> Result<()> {
    let command = cargo(gate, &["test", "--workspace", "--no-fail-fast"]);
    let mut reader = Reader::new("test");
    let status = process::run(command, |line| reader.line(line))?;
    let suites = reader.finish(status.success());
    for suite in suites.iter().filter(|suite| suite.ignored > 0) {
        gate.not_run(&format!("{} tests of {}", suite.ignored, suite.name), "marked as ignored");
    }
    gate.suites.extend(suites);
    ensure!(status.success(), "`cargo test` ended with {status}");
    Ok(())
}

/// Builds all at once: `cargo run --package` would build what they need anew, with fewer features.
fn examples(gate: &mut Gate<'_>) -> Result<()> {
    require(cargo(gate, &["build", "--workspace", "--examples"]))?;
    let built = gate.workspace.target.join("debug/examples");
    let files = gate.workspace.files()?;
    let mut count = 0;
    for path in &files {
        let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
        let example = match parts[..] {
            ["crates", _, "examples", example] if path.ends_with(".rs") => example,
            ["crates", _, "examples", example, "main"] => example,
            _ => continue,
        };
        let arguments =
            documented_arguments(&gate.workspace.read(path)?, &setup::minilm_folder(gate.workspace));
        let mut command = Command::new(built.join(example));
        command.args(arguments).current_dir(&gate.workspace.root);
        require(command)?;
        count += 1;
    }
    println!("{count} examples ran");
    Ok(())
}

/// The arguments of the command in an example's doc, the embedding model where the doc says a path to it.
fn documented_arguments(source: &str, model: &Path) -> Vec<String> {
    let command =
        source.lines().take_while(|line| line.starts_with("//!")).find(|line| line.contains("--example "));
    let Some((_, arguments)) = command.and_then(|line| line.split_once(" -- ")) else { return vec![] };
    let mut parts = vec![];
    for (index, part) in arguments.split('"').enumerate() {
        match index % 2 {
            1 => parts.push(part.to_owned()),
            _ => parts.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    let is_model = |part: &String| part.starts_with("path/to/all-MiniLM");
    parts.into_iter().map(|part| if is_model(&part) { model.display().to_string() } else { part }).collect()
}

fn first_command(gate: &mut Gate<'_>) -> Result<()> {
    let command = cargo(gate, &FIRST_COMMAND);
    let spelled = process::spell(&command);
    ensure!(gate.workspace.read("README.md")?.contains(&spelled), "README.md does not show `{spelled}`");
    let output = command_output(command)?;
    ensure!(!output.trim().is_empty(), "`{spelled}` printed nothing");
    Ok(())
}

/// Runs a command that must succeed and returns what it printed as its result.
fn command_output(mut command: Command) -> Result<String> {
    let spelled = process::spell(&command);
    println!("+ {spelled}");
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    ensure!(output.status.success(), "`{spelled}` ended with {}", output.status);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert!(numbers("1.95.0-beta.2") >= numbers("1.95"));
        assert!(numbers("1.94.9") < numbers("1.95"));
    }

    #[test]
    fn values_are_read_from_their_own_line() {
        let text = "# rust-version\nrust-version = \"1.95\"\nmsrv=\"2\"";
        assert_eq!(value_of(text, "rust-version").as_deref(), Some("1.95"));
        assert_eq!(value_of(text, "msrv").as_deref(), Some("2"));
        assert_eq!(value_of(text, "license"), None);
    }

    #[test]
    fn step_names_are_unique() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
