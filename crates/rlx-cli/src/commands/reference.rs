//! The reference page of this program, read off its own help.

use crate::cli::Cli;
use clap::CommandFactory;
use std::io::Write;

/// Prints the page as Markdown.
pub fn run(out: &mut dyn Write) -> anyhow::Result<()> {
    let mut command = Cli::command().term_width(100);
    command.build();
    writeln!(out, "# The `rlx` program\n")?;
    writeln!(out, "Generated from the program's own help; a test checks that it is current.\n")?;
    writeln!(out, "```text\n{}```", plain(&mut command))?;
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .map(|sub| sub.get_name().to_string())
        .collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            writeln!(out, "\n## `rlx {name}`\n")?;
            writeln!(out, "```text\n{}```", plain(sub))?;
        }
    }
    Ok(())
}

fn plain(command: &mut clap::Command) -> String {
    let help = command.render_long_help().to_string();
    help.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
