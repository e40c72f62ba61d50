//! Child processes whose output is shown as it comes and read line by line.
//!
//! Invariants: what is run is printed first; standard output and standard error keep their common order;
//! colours are off, so that lines can be read.
//!
//! It sets no time limit.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// Runs `command`, echoes its output, hands every line to `each`, and returns the exit status.
pub fn run(mut command: Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    println!("+ {}", spell(&command));
    let (reader, writer) = std::io::pipe().context("no pipe could be made")?;
    let program = command.get_program().to_string_lossy().into_owned();
    command.env("CARGO_TERM_COLOR", "never").stdin(Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("`{program}` could not be started"))?;
    // The command holds the writing ends; without this the pipe would never end.
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut screen = std::io::stdout();
    while reader.read_until(b'\n', &mut line)? > 0 {
        screen.write_all(&line)?;
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(child.wait()?)
}

/// The command as one would type it.
pub fn spell(command: &Command) -> String {
    let quote = |part: &std::ffi::OsStr| {
        let part = part.to_string_lossy();
        if part.contains(' ') { format!("\"{part}\"") } else { part.into_owned() }
    };
    std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_errors_come_in_order_with_the_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b >&2; echo c; exit 3"]);
        let mut lines = Vec::new();
        let status = run(command, |line| lines.push(line.to_owned())).expect("a shell is there");
        assert_eq!((lines.join(" ").as_str(), status.code()), ("a b c", Some(3)));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(Command::new("no-such-program-here"), |_| {}).expect_err("there is no such program");
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn commands_are_spelled_as_typed() {
        let mut command = Command::new("cargo");
        command.args(["run", "a b"]);
        assert_eq!(spell(&command), "cargo run \"a b\"");
    }
}
