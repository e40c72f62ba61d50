//! The commands, one file each: its arguments and what it does.

pub mod bench;
pub mod completions;
pub mod devices;
pub mod embed;
pub mod explain;
pub mod generate;
pub mod inspect;
mod reference;
pub mod run;
pub mod train;

use crate::cli::Command;
use std::io::Write;

/// Runs `command`; results go to `out`.
pub fn dispatch(command: Command, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
        Command::Inspect(args) => inspect::run(&args, out),
        Command::Devices(args) => devices::run(&args, out),
        Command::Bench(args) => bench::run(&args, out),
        Command::Generate(args) => generate::run(&args, out),
        Command::Embed(args) => embed::run(&args, out),
        Command::Train(args) => train::run(&args, out),
        Command::Completions(args) => completions::run(&args, out),
        Command::Reference => reference::run(out),
    }
}
