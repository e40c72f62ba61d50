//! Running the program and looking at what it says.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Exit code, stdout and stderr of one call.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs `rlx` with `arguments`.
pub fn rlx<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Said {
    let output = program().args(arguments).output().expect("the program starts");
    said(output)
}

/// The program, its working folder that of the test models.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlx"));
    // Vulkan's loader complains on stderr where no folder is named.
    command.current_dir(models()).env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code().expect("no signal ended it"),
        out: String::from_utf8(output.stdout).expect("it prints text"),
        err: String::from_utf8(output.stderr).expect("it prints text"),
    }
}

/// Runs `rlx`, which must succeed without a word on stderr; what it prints.
pub fn succeeds(arguments: &[&str]) -> String {
    let said = rlx(arguments);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
    said.out
}

/// Runs `rlx`, which must fail with `code` and print nothing; what it says on stderr.
pub fn fails(code: i32, arguments: &[&str]) -> String {
    let said = rlx(arguments);
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{arguments:?}: {}", said.err);
    said.err
}

/// As [`succeeds`], parsed.
pub fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&succeeds(arguments)).expect("it prints JSON")
}

/// The folder of the test models.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models")
}
