//! `rlx completions`: scripts for shells.

use crate::cli::Cli;
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  rlx completions bash > ~/.local/share/bash-completion/completions/rlx
  rlx completions fish > ~/.config/fish/completions/rlx.fish";

/// Arguments of `rlx completions`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    // Into memory first: the generator panics when a pipe is closed.
    let mut script = vec![];
    generate(args.shell, &mut Cli::command(), "rlx", &mut script);
    Ok(out.write_all(&script)?)
}
