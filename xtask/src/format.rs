//! Formatting: rustfmt over every Rust file of the repository.
//!
//! Invariants: files are found by git and not by module, since modules that a macro declares (the ops) are
//! invisible to `cargo fmt`.
//!
//! It sets no style: `rustfmt.toml` does.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Formats every Rust file; with `--check` only shows what differs.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let manifest = workspace.read("Cargo.toml")?;
    let edition = manifest.lines().find_map(|line| line.strip_prefix("edition = "));
    let mut command = Command::new("rustfmt");
    command.arg("--edition").arg(edition.context("Cargo.toml states no edition")?.trim_matches('"'));
    match arguments {
        [] => {}
        [argument] if argument == "--check" => {
            command.arg("--check");
        }
        _ => bail!("fmt takes `--check` or nothing, found `{}`", arguments.join(" ")),
    }
    println!("+ {} (and every tracked .rs file)", process::spell(&command));
    let files = workspace.files()?;
    command.args(files.iter().filter(|file| file.ends_with(".rs"))).current_dir(&workspace.root);
    if !command.status().context("rustfmt could not be started")?.success() {
        bail!("rustfmt is not content; run `cargo xtask fmt`");
    }
    Ok(())
}
