//! The command line: the list of commands. What a command takes stands in its own file.

use crate::commands::{bench, completions, devices, embed, explain, generate, inspect, run, train};
use clap::{Parser, Subcommand};

/// Compile, run and explain tensor programs and models.
#[derive(Parser)]
#[command(name = "rlx", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  rlx generate \"Once upon a time\"
  rlx run model.rlx --weights w.safetensors --input x=@x.npy --output-dir out
  rlx explain model.rlx --html model.html
  rlx inspect model.safetensors

Exit codes: 0 success, 1 failure (reason on stderr), 2 wrong usage.";

/// One command.
#[derive(Subcommand)]
pub enum Command {
    /// Run a graph or module in text form, or a model folder, on named inputs
    Run(run::Args),
    /// Show what the compiler does with a model: stages, fusion, dispatch, memory
    Explain(explain::Args),
    /// Show what a weights or graph file holds
    Inspect(inspect::Args),
    /// List the devices that this build and machine have
    Devices(devices::Args),
    /// Measure compile and run times
    Bench(bench::Args),
    /// Continue a text with a language model
    Generate(generate::Args),
    /// Turn sentences into vectors
    Embed(embed::Args),
    /// Train a model as a configuration file says
    Train(train::Args),
    /// Print the completion script of a shell
    Completions(completions::Args),
    /// Print the reference page of this program
    #[command(hide = true)]
    Reference,
}
