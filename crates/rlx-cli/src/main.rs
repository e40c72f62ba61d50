//! The `rlx` program: runs, explains, inspects and measures models.
//!
//! Results go to stdout, progress and errors to stderr. The exit code is 0, 1
//! for a command that failed (the reason on stderr) or 2 for wrong usage. A
//! closed pipe ends the program quietly. Everything it does goes through the
//! public crates; no compile step and no kernel stands here.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod files;
mod inputs;
mod model;
mod onnx;
mod options;
mod picture;
mod progress;
mod report;

use clap::Parser;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// A command line that clap accepts and that still makes no sense.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Usage {}

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let result = commands::dispatch(cli.command, &mut out).and_then(|()| Ok(out.flush()?));
    // What is still buffered after a failed write must not be tried again.
    let _ = out.into_parts();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", report::plain(&told(&error)));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// The error and its causes, but those that its message tells already.
fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |told, cause| match cause.to_string() {
        cause if told.contains(&cause) => told,
        cause => format!("{told}: {cause}"),
    })
}

/// Did whoever read our output stop reading?
fn closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
