//! ONNX's own conformance tests: every model is run and compared with the expected outputs.
//!
//! `conformance.txt` lists the tests that do not pass, each with the reason that the error gives; all others must
//! pass. A wrong answer fails whatever the list says. `BLESS=1` rewrites the list. Beside the run with the extents
//! that a model declares, on the fastest instruction set of the processor, every test that passes there is run on each
//! instruction set, and with all extents as symbols; how many need no numbers is counted.
//!

use libtest_mimic::{Arguments, Failed, Trial};
use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_ir::{DType, Literal, Number};
use rlx_onnx::{Extents, HostValue, ImportOptions, Model, OnnxProgram, read_value};
use rlx_runtime::{CompileOptions, Session, SessionOptions};
use rlx_testkit::{is_blessing, onnx_conformance};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The suites and the least number of tests that pass.
const SUITES: &[&str] = &["node", "simple", "pytorch-converted", "pytorch-operator", "light"];
/// Tests that draw random numbers, which no two systems draw alike: types and shapes are compared.
const RANDOM: &str = "random: ";
/// Tests that differ in the last places of a narrow dtype, for the reason that the list says: compared within [`ROUNDED`].
const ROUNDING: &str = "rounding: ";
const ROUNDED: f64 = 1.0 / 512.0;

/// What became of a test.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Pass,
    /// Refused with this reason.
    Refused(String),
    Wrong(String),
}

struct Case {
    name: String,
    folder: PathBuf,
    relative: f64,
    absolute: f64,
    opset: i64,
}

fn cases(root: &Path, suite: &str) -> Result<Vec<Case>, String> {
    let text = |error: std::io::Error| format!("{suite}: {error}");
    let mut cases = vec![];
    for entry in fs::read_dir(root.join(suite)).map_err(text)? {
        let folder = entry.map_err(text)?.path();
        let json = fs::read_to_string(folder.join("case.json")).map_err(text)?;
        let json: serde_json::Value = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        let number = |key: &str| json[key].as_f64().unwrap_or(0.0);
        let (relative, absolute) = (number("rtol"), number("atol"));
        cases.push(Case {
            name: format!("{suite}/{name}"),
            folder,
            relative,
            absolute,
            opset: number("opset") as i64,
        });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

/// One run of a test; the number of compiled graphs that it took.
fn run(case: &Case, session: &Session, extents: Option<Extents>, is_random: bool) -> (Verdict, usize) {
    let outcome = catch_unwind(AssertUnwindSafe(|| try_run(case, session, extents, is_random)));
    match outcome {
        Ok(Ok(stages)) => (Verdict::Pass, stages),
        Ok(Err(verdict)) => (verdict, 0),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            (Verdict::Wrong(format!("it panicked: {}", text.unwrap_or_default())), 0)
        }
    }
}

fn try_run(
    case: &Case,
    session: &Session,
    extents: Option<Extents>,
    is_random: bool,
) -> Result<usize, Verdict> {
    let refused = |error: rlx_onnx::OnnxError| Verdict::Refused(error.to_string().replace('\n', "; "));
    let model = Model::open(case.folder.join("model.onnx")).map_err(refused)?;
    let (inputs, outputs) = (model.inputs().map_err(refused)?, model.outputs().map_err(refused)?);
    let mut program = OnnxProgram::new(model, session, ImportOptions::default());
    let mut stages = 0;
    for set in 0.. {
        let folder = case.folder.join(format!("data_{set}"));
        if !folder.is_dir() {
            if set == 0 {
                return Err(Verdict::Wrong("it has no data".into()));
            }
            break;
        }
        let read = |part: &str, index: usize, kind| -> Result<HostValue, Verdict> {
            let path = folder.join(format!("{part}_{index}.pb"));
            let bytes =
                fs::read(&path).map_err(|error| Verdict::Wrong(format!("{}: {error}", path.display())))?;
            read_value(&bytes, kind, &path.display().to_string()).map_err(refused)
        };
        let mut feeds = vec![];
        for (index, input) in inputs.iter().enumerate() {
            feeds.push((input.name.as_str(), read("input", index, &input.kind)?));
        }
        let results = match extents {
            None => program.run(&feeds),
            Some(extents) => program.run_with(&feeds, extents),
        };
        let results = results.map_err(refused)?;
        stages = program.stages();
        for (index, output) in outputs.iter().enumerate() {
            let expected = read("output", index, &output.kind)?;
            let found = results.get(index).map(|(_, value)| value);
            let found = found.ok_or_else(|| Verdict::Wrong(format!("output {index} is missing")))?;
            compare(found, &expected, case, is_random)
                .map_err(|text| Verdict::Wrong(format!("output {:?}: {text}", output.name)))?;
        }
    }
    Ok(stages)
}

fn compare(found: &HostValue, expected: &HostValue, case: &Case, is_random: bool) -> Result<(), String> {
    match (found, expected) {
        (HostValue::Tensor(found), HostValue::Tensor(expected)) => {
            if found.ty() != expected.ty() {
                return Err(format!("is {}, expected {}", found.ty(), expected.ty()));
            }
            if is_random { Ok(()) } else { compare_numbers(found, expected, case) }
        }
        (HostValue::Sequence(found), HostValue::Sequence(expected)) => {
            if found.len() != expected.len() {
                return Err(format!("has {} values, expected {}", found.len(), expected.len()));
            }
            found
                .iter()
                .zip(expected)
                .try_for_each(|(found, expected)| compare(found, expected, case, is_random))
        }
        (HostValue::Optional(Some(found)), HostValue::Optional(Some(expected))) => {
            compare(found, expected, case, is_random)
        }
        (found, HostValue::Optional(Some(expected))) if !matches!(found, HostValue::Optional(_)) => {
            compare(found, expected, case, is_random)
        }
        _ if found == expected => Ok(()),
        _ => Err(format!("is {found:?}, expected {expected:?}")),
    }
}

fn compare_numbers(found: &Literal, expected: &Literal, case: &Case) -> Result<(), String> {
    let relative =
        if expected.dtype() == DType::BF16 { case.relative.max(1.0 / 64.0) } else { case.relative };
    let close = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= case.absolute + relative * b.abs()
    };
    for index in 0..expected.len() {
        let (own, other) = (found.number(index), expected.number(index));
        let same = match (own, other) {
            (Number::Float(a), Number::Float(b)) => close(a, b),
            (Number::Complex(a, b), Number::Complex(c, d)) => close(a, c) && close(b, d),
            _ => own == other,
        };
        if !same {
            return Err(format!("element {index} of {} is {own:?}, expected {other:?}", expected.ty()));
        }
    }
    Ok(())
}

fn session(level: SimdLevel) -> Result<Session, String> {
    let backend = CpuBackend::with(1, level).map_err(|error| error.to_string())?;
    // The expected outputs round after every op, as ONNX says; fused steps would keep more.
    let compile = CompileOptions { excess_precision: false, ..CompileOptions::default() };
    Session::on(Arc::new(backend), SessionOptions { compile, ..SessionOptions::default() })
        .map_err(|error| error.to_string())
}

fn expectations(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.split_once(' ').ok_or_else(|| format!("no reason in {line:?}"))?;
            Ok((name.to_string(), reason.trim().to_string()))
        })
        .collect()
}

/// Runs all tests on every path; the report, or what is not as expected.
fn suite(root: &Path, filter: Option<&str>) -> Result<String, String> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance.txt");
    let expected = expectations(&list)?;
    let fastest = session(SimdLevel::detect())?;
    let levels: Vec<SimdLevel> = SimdLevel::ALL.into_iter().filter(|level| level.is_available()).collect();
    let sessions = levels.iter().map(|&level| session(level)).collect::<Result<Vec<_>, _>>()?;
    let mut report = String::new();
    let mut findings = vec![];
    let mut refusals: BTreeMap<String, String> = BTreeMap::new();
    for suite in SUITES {
        let (mut total, mut pass, mut plain, mut plain_pass, mut newest, mut newest_pass, mut symbolic) =
            (0, 0, 0, 0, 0, 0, 0);
        for mut case in cases(root, suite)? {
            if filter.is_some_and(|filter| !case.name.contains(filter)) {
                continue;
            }
            let reason = expected.get(&case.name);
            let is_random = reason.is_some_and(|reason| reason.starts_with(RANDOM));
            let is_rounded = reason.is_some_and(|reason| reason.starts_with(ROUNDING));
            if is_rounded {
                case.relative = ROUNDED;
            }
            let is_expanded = case.name.contains("_expanded");
            let (verdict, _) = run(&case, &fastest, None, is_random);
            let passes = verdict == Verdict::Pass && !is_random && !is_rounded;
            total += 1;
            pass += usize::from(passes);
            plain += usize::from(!is_expanded);
            plain_pass += usize::from(passes && !is_expanded);
            newest += usize::from(case.opset == 28);
            newest_pass += usize::from(passes && case.opset == 28);
            match (&verdict, reason) {
                (Verdict::Wrong(text), _) => findings.push(format!("{}: WRONG: {text}", case.name)),
                (Verdict::Pass, Some(reason)) if is_random || is_rounded => {
                    refusals.insert(case.name.clone(), reason.clone());
                }
                (Verdict::Pass, Some(_)) => {
                    findings.push(format!("{}: passes now; take it off the list", case.name))
                }
                (Verdict::Refused(text), reason) => {
                    refusals.insert(case.name.clone(), text.clone());
                    if reason != Some(text) && !is_blessing() {
                        findings.push(format!("{}: refused: {text}", case.name));
                    }
                }
                (Verdict::Pass, None) => {}
            }
            if verdict != Verdict::Pass {
                continue;
            }
            for (level, session) in levels.iter().zip(&sessions) {
                let (verdict, _) = run(&case, session, None, is_random);
                if verdict != Verdict::Pass {
                    findings.push(format!("{} at {level:?}: {verdict:?}", case.name));
                }
            }
            match run(&case, &fastest, Some(Extents::Symbolic), is_random) {
                (Verdict::Pass, _) => symbolic += 1,
                (Verdict::Refused(_), _) => {}
                (Verdict::Wrong(text), _) => {
                    findings.push(format!("{} with symbols: WRONG: {text}", case.name))
                }
            }
        }
        let _ = writeln!(
            report,
            "{suite}: {pass} of {total} pass; without expanded twins {plain_pass} of {plain}; opset 28: {newest_pass} of \
             {newest}; with all extents as symbols {symbolic}"
        );
    }
    if is_blessing() && filter.is_none() {
        let mut text = String::from(
            "# Conformance tests of ONNX that do not pass, and why. BLESS=1 rewrites the list.\n",
        );
        for (name, reason) in &refusals {
            let _ = writeln!(text, "{name} {reason}");
        }
        fs::write(&list, text).map_err(|error| error.to_string())?;
        findings.retain(|finding| finding.contains("WRONG") || finding.contains(" at "));
    }
    if findings.is_empty() { Ok(report) } else { Err(format!("{report}{}", findings.join("\n"))) }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let Some(root) = onnx_conformance("conformance tests of ONNX") else { return ExitCode::SUCCESS };
    // One test: a filter chooses among the cases, not among the tests of this program.
    let filter = arguments.filter.take();
    let test = move || match suite(&root, filter.as_deref()) {
        Ok(report) => {
            println!("{report}");
            Ok(())
        }
        Err(findings) => Err(Failed::from(findings)),
    };
    libtest_mimic::run(&arguments, vec![Trial::test("conformance", test)]).exit_code()
}
