//! Repository chores: `cargo xtask <chore>`.

mod stories;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((chore, rest)) if chore == "stories" => stories::run(rest),
        _ => bail!("usage: cargo xtask stories ..."),
    }
}
