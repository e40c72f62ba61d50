//! Blessing: runs tests with `BLESS=1`, under which golden files are rewritten instead of compared.
//!
//! Invariants: what changed is left in the working tree for review; nothing is committed.
//!
//! It does not decide whether a change is right: the reader of the diff does.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Runs `cargo test` with the given arguments (the whole workspace if none) and rewrites golden files.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let mut command = Command::new("cargo");
    command.arg("test").current_dir(&workspace.root).env("BLESS", "1").env("INSTA_UPDATE", "always");
    match arguments {
        [] => command.arg("--workspace"),
        arguments => command.args(arguments),
    };
    if !process::run(command, |_| {})?.success() {
        bail!("some tests failed while blessing; what passed is rewritten");
    }
    println!("blessed; review with: git diff --stat");
    Ok(())
}
