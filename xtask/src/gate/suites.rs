//! Reads what test programs print: which suite runs, and how many of its tests passed and failed.
//!
//! Invariants: only lines of cargo (`Running ...`, `Doc-tests ...`) start a suite, only `test result:` lines
//! count; a suite that never told its result while the run failed counts as one failure.
//!
//! It does not judge single tests.

use std::time::Duration;

/// One test program, or the doc tests of one crate.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Suite {
    /// The step that ran it.
    pub step: &'static str,
    /// Crate or file name, and kind.
    pub name: String,
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that were skipped by an attribute.
    pub ignored: usize,
    /// Time that the suite itself tells.
    pub time: Duration,
    /// Whether a result line was seen.
    pub told: bool,
}

/// Collects suites from lines.
#[derive(Debug)]
pub struct Reader {
    step: &'static str,
    package: String,
    suites: Vec<Suite>,
}

impl Reader {
    /// A reader for one step.
    pub fn new(step: &'static str) -> Self {
        Self { step, package: String::new(), suites: Vec::new() }
    }

    /// Takes one line of output.
    pub fn line(&mut self, line: &str) {
        if let Some(name) = self.suite_name(line.trim_start()) {
            self.suites.push(Suite { step: self.step, name, ..Suite::default() });
        } else if let Some(result) = line.strip_prefix("test result: ")
            && let Some(suite) = self.suites.last_mut()
        {
            suite.told = true;
            suite.passed += number_before(result, " passed");
            suite.failed += number_before(result, " failed");
            suite.ignored += number_before(result, " ignored");
            suite.time += seconds(result);
        }
    }

    /// The name of the suite that a line of cargo starts. Cargo names the package only with its unit tests, which
    /// come before its other tests.
    fn suite_name(&mut self, line: &str) -> Option<String> {
        if let Some(package) = line.strip_prefix("Doc-tests ") {
            return Some(format!("{package} (doc)"));
        }
        let (source, program) = line.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once(" (")?;
        let program = program.rsplit(['/', '\\']).next()?;
        let program = program.rsplit_once('-').map_or(program, |(name, _)| name);
        if source.starts_with("unittests") {
            self.package = program.to_owned();
            return Some(format!("{program} (unit)"));
        }
        Some(format!("{} ({program})", self.package))
    }

    /// The suites, after a run that succeeded or not.
    pub fn finish(mut self, success: bool) -> Vec<Suite> {
        for suite in self.suites.iter_mut().filter(|suite| !suite.told && !success) {
            suite.failed += 1;
            suite.name += " (ended without a result)";
        }
        self.suites
    }
}

fn number_before(text: &str, unit: &str) -> usize {
    let Some((before, _)) = text.split_once(unit) else { return 0 };
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn seconds(text: &str) -> Duration {
    let digits = text.split_once("finished in ").map_or("", |(_, rest)| rest.trim_end_matches('s'));
    digits.parse().map_or(Duration::ZERO, Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
   Compiling rlx-ir v0.1.0
     Running unittests src/lib.rs (target/debug/deps/rlx_ir-0f3a)
test a ... ok
test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.50s
     Running tests/all.rs (target/debug/deps/all-0f3a)
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.25s
     Running tests/dies.rs (target/debug/deps/dies-0f3a)
   Doc-tests rlx_ir
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn read(success: bool) -> Vec<(String, usize, usize, usize)> {
        let mut reader = Reader::new("test");
        OUTPUT.lines().for_each(|line| reader.line(line));
        reader.finish(success).into_iter().map(|s| (s.name, s.passed, s.failed, s.ignored)).collect()
    }

    #[test]
    fn suites_are_counted_from_their_own_output() {
        let suites = read(false);
        let died = "rlx_ir (dies) (ended without a result)";
        let expected = [
            ("rlx_ir (unit)", 12, 0, 1),
            ("rlx_ir (all)", 3, 2, 0),
            (died, 0, 1, 0),
            ("rlx_ir (doc)", 3, 0, 0),
        ];
        assert_eq!(
            suites,
            expected.map(|(name, passed, failed, ignored)| (name.to_owned(), passed, failed, ignored))
        );
        assert_eq!(read(true)[2], ("rlx_ir (dies)".to_owned(), 0, 0, 0));
    }

    #[test]
    fn times_are_read() {
        let mut reader = Reader::new("test");
        OUTPUT.lines().for_each(|line| reader.line(line));
        assert_eq!(reader.finish(true)[0].time, Duration::from_millis(1500));
    }
}
