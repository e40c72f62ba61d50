//! Where things are: the repository root, the build folder, the files under version control.
//!
//! Invariants: paths of files are given from the root with `/` between their parts; the build folder is
//! the one this very program was built into.
//!
//! It does not read manifests beyond single lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The repository that this program was built from.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Its root folder.
    pub root: PathBuf,
    /// The build folder.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the repository and the build folder.
    pub fn find() -> Result<Self> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().context("the xtask package lies in the repository root")?.to_path_buf();
        let program = std::env::current_exe()?;
        let profile = program
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"))
            .context("the program lies in a build folder")?;
        let target = profile.parent().context("the build folder has a profile folder")?.to_path_buf();
        Ok(Self { root, target })
    }

    /// All files that git tracks or would track, sorted.
    pub fn files(&self) -> Result<Vec<String>> {
        let output = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(&self.root)
            .output()
            .context("git could not be started")?;
        if !output.status.success() {
            bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
        let mut files: Vec<String> = text
            .split('\0')
            .filter(|path| !path.is_empty() && self.root.join(path).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The text of one file, named from the root.
    pub fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("{path} could not be read"))
    }
}
