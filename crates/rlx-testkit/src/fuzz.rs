//! Fuzzing inside the gate: numbered cases, the same for the same number on every machine.
//!
//! Invariants: a suite runs the fixed cases `0..fixed`, the cases that once failed, and then cases that no
//! run had before until its time is spent. A failure names the number of its case and says what the case
//! holds; the number goes into the suite's list of known cases. A case that runs too long is a failure too. The
//! first fresh number and how far the run got are printed, also where output of tests is held back.
//!
//! `RLX_TEST_FUZZ=3600s` makes a run of fresh cases only, which lasts so long and lists every finding at its end;
//! `RLX_TEST_FUZZ=N` runs case N alone.
//!
//! This file invents no case.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time of one case, also on a machine that is busy with other things.
const LONGEST: Duration = Duration::from_secs(60);
/// Fixed and known cases lie below, fresh ones above.
const FIRST_FRESH: u64 = 1 << 32;

/// Says what runs instead of a suite's own cases.
const VARIABLE: &str = "RLX_TEST_FUZZ";
/// Most findings of a long run.
const MOST_FINDINGS: usize = 50;

/// A suite of cases.
#[derive(Clone, Copy, Debug)]
pub struct Fuzz {
    /// Cases that every run has: `0..fixed`.
    pub fixed: u64,
    /// Cases that once failed.
    pub known: &'static [u64],
    /// Time for fresh cases.
    pub fresh: Duration,
}

/// What a suite ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Number of cases.
    pub cases: u64,
    /// How many of them said yes: what that means is the suite's choice.
    pub yes: u64,
    /// Whether these are the suite's own cases, not those that `RLX_TEST_FUZZ` asks for.
    pub whole: bool,
}

/// What the environment variable asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Seconds(u64),
    Case(u64),
}

fn asked(text: &str) -> Option<Asked> {
    match text.strip_suffix('s') {
        Some(seconds) => seconds.parse().ok().map(Asked::Seconds),
        None => text.parse().ok().map(Asked::Case),
    }
}

impl Fuzz {
    /// Runs `case` for every number. It says whether the case went the interesting way, or what is wrong.
    ///
    /// # Panics
    /// On the first case that panics, is wrong or takes longer than a minute, with its number.
    pub fn run(mut self, case: impl Fn(u64) -> Result<bool, String> + Send + 'static) -> Ran {
        let current = Arc::new(Mutex::new((0, Instant::now())));
        let (sender, done) = channel();
        let shared = current.clone();
        let mut start = fresh_number();
        let text = std::env::var(VARIABLE).ok();
        let only = text.map(|text| {
            asked(&text).unwrap_or_else(|| {
                fail(0, &format!("{VARIABLE} is {text:?}, expected seconds (60s) or a case"))
            })
        });
        if let Some(only) = only {
            (self.fixed, self.known) = (0, &[]);
            match only {
                Asked::Seconds(seconds) => self.fresh = Duration::from_secs(seconds),
                Asked::Case(case) => start = case,
            }
        }
        let suite = std::thread::current().name().unwrap_or("fuzz").to_string();
        // The stack of a usual thread: what recurses too deeply must fail here.
        std::thread::spawn(move || {
            let mut ran = Ran { whole: only.is_none(), ..Ran::default() };
            let mut findings = vec![];
            let mut one = |number: u64| {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = (number, Instant::now());
                let result = catch_unwind(AssertUnwindSafe(|| case(number)));
                let said = result.unwrap_or_else(|panic| Err(panic_message(&*panic)));
                ran.cases += 1;
                match said {
                    Ok(said) => ran.yes += u64::from(said),
                    Err(message)
                        if matches!(only, Some(Asked::Seconds(_))) && findings.len() < MOST_FINDINGS =>
                    {
                        let _ = writeln!(std::io::stderr(), "case {number}: {message}");
                        findings.push(number);
                    }
                    Err(message) => return Err(message),
                }
                Ok::<(), String>(())
            };
            let result = (|| {
                (0..self.fixed).chain(self.known.iter().copied()).try_for_each(&mut one)?;
                if let Some(Asked::Case(case)) = only {
                    return one(case);
                }
                let begin = Instant::now();
                (start..).take_while(|_| begin.elapsed() < self.fresh).try_for_each(&mut one)
            })();
            let result = match findings.is_empty() {
                true => result,
                false => result.and(Err(format!("the cases {findings:?} fail"))),
            };
            let fresh = ran.cases.saturating_sub(self.fixed + self.known.len() as u64);
            let _ = writeln!(
                std::io::stderr(),
                "{suite}: {} cases, {fresh} of them fresh ones from number {start} on",
                ran.cases
            );
            // Nobody listens any more after a case that took too long.
            let _ = sender.send(result.map(|()| ran));
        });
        loop {
            match done.recv_timeout(Duration::from_secs(1)) {
                Ok(Ok(ran)) => return ran,
                Ok(Err(message)) => {
                    let (number, _) = *current.lock().unwrap_or_else(PoisonError::into_inner);
                    fail(number, &message);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let (number, since) = *current.lock().unwrap_or_else(PoisonError::into_inner);
                    if since.elapsed() > LONGEST {
                        fail(number, "does not end");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => fail(0, "the thread of the suite is gone"),
            }
        }
    }
}

fn fail(number: u64, message: &str) -> ! {
    let hint = "add the number to the known cases of the suite once it is mended";
    std::panic::panic_any(format!("case {number}: {message}\n{hint}"))
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a text".into()))
}

/// A number that no run had before, by all likelihood.
fn fresh_number() -> u64 {
    FIRST_FRESH + (RandomState::new().build_hasher().finish() >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(
        fuzz: Fuzz,
        case: impl Fn(u64) -> Result<bool, String> + Send + 'static,
    ) -> Result<Ran, String> {
        catch_unwind(AssertUnwindSafe(|| fuzz.run(case))).map_err(|panic| panic_message(&*panic))
    }

    const FIVE: Fuzz = Fuzz { fixed: 5, known: &[77], fresh: Duration::ZERO };

    #[test]
    fn fixed_and_known_cases_run_and_are_counted() {
        let ran = outcome(FIVE, |number| Ok(number == 77));
        assert_eq!(ran, Ok(Ran { cases: 6, yes: 1, whole: true }));
    }

    #[test]
    fn fresh_cases_differ_from_run_to_run() {
        let fresh = Fuzz { fixed: 0, known: &[], fresh: Duration::from_secs(5) };
        let first = || outcome(fresh, |number| Err(number.to_string())).unwrap_err();
        assert_ne!(first(), first());
    }

    #[test]
    fn failures_name_their_case() {
        let wrong = outcome(FIVE, |number| if number == 3 { Err("is wrong".into()) } else { Ok(true) });
        assert!(wrong.unwrap_err().contains("case 3: is wrong"));
        let panicked = outcome(FIVE, |number| Ok([true; 5][number as usize]));
        assert!(panicked.unwrap_err().contains("case 77: panicked: index out of bounds"));
    }

    #[test]
    fn long_runs_and_cases_are_asked_for_by_text() {
        let texts = ["3600s", "77", "x", "7m", "s"];
        let expected = [Some(Asked::Seconds(3600)), Some(Asked::Case(77)), None, None, None];
        assert_eq!(texts.map(asked), expected);
    }
}
