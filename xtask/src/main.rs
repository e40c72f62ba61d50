//! Repository chores: the gate, tidy, generated pages, blessing of golden files, seeded faults.
//!
//! Invariants: every chore is one row of the table below; a chore that fails ends the program with a
//! non-zero status and one message.
//!
//! It holds no logic of its own; each chore is a module.
#![forbid(unsafe_code)]

mod bless;
mod docs;
mod faults;
mod format;
mod gate;
mod process;
mod stories;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use workspace::Workspace;

/// One chore: its name, what it does, and its entry.
struct Chore {
    name: &'static str,
    what: &'static str,
    run: fn(&Workspace, &[String]) -> Result<()>,
}

const CHORES: &[Chore] = &[
    Chore { name: "test", what: "the whole gate; --list, --only STEP, --keep-going", run: gate::run },
    Chore { name: "tidy", what: "size, doc, unsafe, naming and habit rules", run: tidy::run },
    Chore {
        name: "fmt",
        what: "format every Rust file, those of macro-declared modules too; --check",
        run: format::run,
    },
    Chore { name: "docs", what: "write the generated pages; --check", run: docs::run },
    Chore { name: "bless", what: "rewrite golden files: bless [arguments of cargo test]", run: bless::run },
    Chore {
        name: "faults",
        what: "seed each listed fault and require a red test; --check, [words of names or tests]",
        run: faults::run,
    },
    Chore {
        name: "stories",
        what: "sample the story grammar, or check a text with it",
        run: |_, rest| stories::run(rest),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        bail!("no chore named\n\n{}", usage());
    };
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        println!("{}", usage());
        return Ok(());
    }
    match CHORES.iter().find(|chore| chore.name == name) {
        Some(chore) => (chore.run)(&Workspace::find()?, rest),
        None => bail!("no chore is called `{name}`\n\n{}", usage()),
    }
}

fn usage() -> String {
    let rows = CHORES.iter().map(|chore| format!("  cargo xtask {:<8} {}", chore.name, chore.what));
    std::iter::once("chores:".to_owned()).chain(rows).collect::<Vec<_>>().join("\n")
}
