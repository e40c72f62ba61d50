//! Generated pages: written from the code they describe, and checked for being current.
//!
//! Invariants: a page is a function of the code alone, so that two runs give the same bytes; the gate fails
//! when a page on disk differs.
//!
//! It writes no prose: prose stands in doc comments, where the code is.

mod ops;

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// One generated page.
struct Page {
    path: &'static str,
    text: fn() -> String,
}

const PAGES: &[Page] = &[Page { path: "docs/ops.md", text: ops::page }];

/// Writes every generated page; with `--check` only tells those that are not current.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let check_only = match arguments {
        [] => false,
        [argument] if argument == "--check" => true,
        _ => bail!("docs takes `--check` or nothing, found `{}`", arguments.join(" ")),
    };
    let mut stale = Vec::new();
    for page in PAGES {
        let path = workspace.root.join(page.path);
        let text = (page.text)();
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            continue;
        }
        if check_only {
            stale.push(page.path);
            continue;
        }
        fs::create_dir_all(path.parent().context("a page lies in a folder")?)?;
        fs::write(&path, text).with_context(|| format!("{} could not be written", page.path))?;
        println!("wrote {}", page.path);
    }
    match stale[..] {
        [] => Ok(()),
        _ => bail!("not current: {}; run `cargo xtask docs`", stale.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_differs_is_written_once_and_told_by_check() {
        let root = std::env::temp_dir().join(format!("rlx-docs-{}", std::process::id()));
        let workspace = Workspace { root: root.clone(), target: root.join("target") };
        let check = || run(&workspace, &["--check".to_owned()]);
        let before = check();
        let written = run(&workspace, &[]);
        let after = check();
        let damaged = fs::write(root.join(PAGES[0].path), "changed");
        let changed = check();
        fs::remove_dir_all(root).expect("the folder is ours");
        assert!(before.is_err() && written.is_ok() && after.is_ok() && damaged.is_ok() && changed.is_err());
    }
}
