//! Filetests: text in, subtest, text out, all in one file.
//!
//! ```text
//! ; run: print
//! ; A comment in the header tells what is tested.
//! the text that the subtest gets
//!
//! ; expect:
//! what the subtest returns
//! ```
//!
//! A header may hold several `run` lines; the expected parts stand in the same order, and each one repeats its
//! run line (`; expect: print wide`). Invariants: the subtest sees the text with the header lines blanked, so
//! that line numbers in its messages are those of the file; expected text is compared whole, but for spaces at
//! line ends and empty lines at its end. With `BLESS=1` a difference rewrites the file instead of failing.
//!
//! The runner knows no text form and no pass: subtests are functions from text to text.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a subtest gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Name of the test: suite and file, without extension.
    pub name: String,
    /// Words after the subtest's name in the run line.
    pub arguments: Vec<String>,
    /// The text, with the header lines blanked.
    pub text: String,
}

/// A subtest: returns the text to compare, or why there is none.
pub type Subtest = fn(&Input) -> Result<String, String>;

/// Starts a run line.
const RUN: &str = "; run:";
/// Starts an expected part.
const EXPECT: &str = "; expect:";

/// Runs every `.rlx` file in the folders under `root` with the given subtests; the whole of a `main`.
///
/// `root` is the `filetests` folder, its folders are the suites. Takes the arguments of the usual test harness.
pub fn filetest_main(root: &Path, subtests: &[(&'static str, Subtest)]) -> ExitCode {
    let arguments = Arguments::from_args();
    let bless = is_blessing();
    let files = match test_files(root) {
        Ok(files) if !files.is_empty() => files,
        Ok(_) => return refuse(&format!("no filetest lies under {}", root.display())),
        Err(error) => return refuse(&format!("{} could not be read: {error}", root.display())),
    };
    let trial = |(name, path): (String, PathBuf)| {
        let subtests = subtests.to_vec();
        Trial::test(name.clone(), move || run_file(&name, &path, &subtests, bless).map_err(Failed::from))
    };
    libtest_mimic::run(&arguments, files.into_iter().map(trial).collect()).exit_code()
}

/// Are golden files to be rewritten (`BLESS=1`)?
pub fn is_blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// Names and paths of all filetests, sorted.
fn test_files(root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for suite in fs::read_dir(root)? {
        let suite = suite?.path();
        if !suite.is_dir() {
            continue;
        }
        for file in fs::read_dir(&suite)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "rlx") {
                let part = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                files.push((format!("{}/{}", part(&suite), part(&path)), path));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn run_file(
    name: &str,
    path: &Path,
    subtests: &[(&'static str, Subtest)],
    bless: bool,
) -> Result<(), String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("{} could not be read: {error}", path.display()))?;
    let blessed = evaluate(name, &text, subtests)?;
    if same_text(&blessed, &text) {
        return Ok(());
    }
    if bless {
        return fs::write(path, blessed)
            .map_err(|error| format!("{} could not be written: {error}", path.display()));
    }
    let hint = "if the new text is right: cargo xtask bless";
    Err(format!("{}: the result differs; {hint}\n{}", path.display(), difference(&text, &blessed)))
}

/// Runs the subtests of one file and returns the file as it should be.
fn evaluate(name: &str, file: &str, subtests: &[(&'static str, Subtest)]) -> Result<String, String> {
    let source = source_part(file);
    let runs: Vec<&str> = header(source).filter_map(|line| line.strip_prefix(RUN)).map(str::trim).collect();
    if runs.is_empty() {
        return Err(format!("the file has no `{RUN} <subtest>` line at its top"));
    }
    let text = blank_header(source);
    let mut blessed = source.trim_end().to_owned();
    for run in &runs {
        let mut words = run.split_whitespace().map(str::to_owned);
        let wanted = words.next().unwrap_or_default();
        let Some((_, subtest)) = subtests.iter().find(|(name, _)| *name == wanted) else {
            let known: Vec<_> = subtests.iter().map(|(name, _)| *name).collect();
            return Err(format!("no subtest is called `{wanted}`; known: {}", known.join(", ")));
        };
        let input = Input { name: name.to_owned(), arguments: words.collect(), text: text.clone() };
        let output = subtest(&input).map_err(|message| format!("`{run}` failed: {message}"))?;
        if output.lines().any(|line| line.starts_with(EXPECT)) {
            return Err(format!("`{run}` returned a line that starts with `{EXPECT}`"));
        }
        let title = if runs.len() > 1 { format!("{EXPECT} {run}") } else { EXPECT.to_owned() };
        blessed += &format!("\n\n{title}\n{}", output.trim_end());
    }
    blessed.truncate(blessed.trim_end().len());
    blessed.push('\n');
    Ok(blessed)
}

/// Everything before the first expected part.
fn source_part(file: &str) -> &str {
    let mut end = 0;
    for line in file.split_inclusive('\n') {
        if line.starts_with(EXPECT) {
            return &file[..end];
        }
        end += line.len();
    }
    file
}

/// The comment lines at the top.
fn header(source: &str) -> impl Iterator<Item = &str> {
    source.lines().take_while(|line| line.starts_with(';'))
}

fn blank_header(source: &str) -> String {
    let count = header(source).count();
    let rest = source.lines().skip(count).flat_map(|line| [line, "\n"]);
    std::iter::repeat_n("\n", count).chain(rest).collect()
}

/// Equal but for spaces at line ends and empty lines at the end.
fn same_text(a: &str, b: &str) -> bool {
    a.trim_end().lines().map(str::trim_end).eq(b.trim_end().lines().map(str::trim_end))
}

/// The lines that differ: `-` is in the file, `+` is the result; equal lines around them are left out.
fn difference(found: &str, wanted: &str) -> String {
    let (found, wanted): (Vec<&str>, Vec<&str>) = (found.lines().collect(), wanted.lines().collect());
    let start = found.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
    let (found, wanted) = (&found[start..], &wanted[start..]);
    let end = found.iter().rev().zip(wanted.iter().rev()).take_while(|(a, b)| a == b).count();
    let mut text = format!("from line {}:\n", start + 1);
    for (mark, lines) in [('-', &found[..found.len() - end]), ('+', &wanted[..wanted.len() - end])] {
        for line in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{mark}{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBTESTS: [(&str, Subtest); 3] = [
        ("upper", |input| Ok(format!("{}{}", input.text.trim().to_uppercase(), input.arguments.concat()))),
        ("line", |input| {
            Ok(input.text.lines().position(|line| !line.is_empty()).map_or(0, |at| at + 1).to_string())
        }),
        ("fail", |input| Err(format!("no {}", input.text.trim()))),
    ];

    fn evaluated(file: &str) -> Result<String, String> {
        evaluate("suite/file", file, &SUBTESTS)
    }

    #[test]
    fn a_right_file_stays_as_it_is() {
        let file = "; run: upper x y\n; a comment\nabc\n\n; expect:\nABCxy\n";
        assert_eq!(evaluated(file).as_deref(), Ok(file));
    }

    #[test]
    fn a_wrong_result_changes_the_file_and_blessing_is_stable() {
        let blessed =
            evaluated("; run: upper\nabc\n; expect:\nabc\n; expect:\nmore\n").expect("the subtest works");
        assert_eq!(blessed, "; run: upper\nabc\n\n; expect:\nABC\n");
        assert_eq!(evaluated(&blessed), Ok(blessed));
    }

    #[test]
    fn several_runs_have_their_own_expected_parts() {
        let blessed = evaluated("; run: upper x\n; run: line\n\nabc\n").expect("the subtests work");
        assert_eq!(
            blessed,
            "; run: upper x\n; run: line\n\nabc\n\n; expect: upper x\nABCx\n\n; expect: line\n4\n"
        );
    }

    #[test]
    fn bad_files_and_failing_subtests_are_refused() {
        let cases = [
            ("abc\n; run: upper\n", "has no `; run:"),
            ("; run: lower\nabc\n", "known: upper, line, fail"),
            ("; run:\nabc\n", "no subtest is called ``"),
            ("; run: fail\nabc\n", "`fail` failed: no abc"),
        ];
        for (file, wanted) in cases {
            let error = evaluated(file).expect_err("the file is bad");
            assert!(error.contains(wanted), "{file:?} gave {error:?}");
        }
    }

    #[test]
    fn spaces_at_line_ends_do_not_matter_but_inner_lines_do() {
        assert!(same_text("a \nb\n\n", "a\nb"));
        assert!(!same_text("a\n\nb", "a\nb"));
        assert!(!same_text(" a", "a"));
    }

    #[test]
    fn differences_show_only_what_differs() {
        assert_eq!(difference("a\nb\nc\n", "a\nd\ne\nc\n"), "from line 2:\n-b\n+d\n+e\n");
        assert_eq!(difference("a\n", "a\nb\n"), "from line 2:\n+b\n");
    }

    #[test]
    fn files_are_compared_found_and_blessed_on_disk() {
        let root = std::env::temp_dir().join(format!("rlx-filetest-{}", std::process::id()));
        let path = root.join("suite/one.rlx");
        fs::create_dir_all(root.join("suite")).expect("the folder can be made");
        fs::write(root.join("suite/readme.md"), "not a test").expect("the file can be written");
        fs::write(&path, "; run: upper\nabc\n").expect("the file can be written");
        let files = test_files(&root).expect("the folder can be read");
        let run = |bless| run_file("suite/one", &path, &SUBTESTS, bless);
        let results = [run(false), run(true), run(false)].map(|result| result.is_ok());
        fs::remove_dir_all(&root).expect("the folder is ours");
        assert_eq!(files, [("suite/one".to_owned(), path.clone())]);
        assert_eq!(results, [false, true, true]);
    }
}
