//! Cells: op x dtype x attribute corner x arrangement of the operands x path, each of them run and counted.
//!
//! Corners are the samples of every op, and for each dtype that inference accepts and no sample has, a sample with that
//! dtype in place of its own. Arrangements follow from a corner alone: views of every operand that has axes for them,
//! and other extents where inference accepts these. Invariants: what exists is decided by inference, never by whether
//! it passes; a cell that does not run has one of the reasons of [`REASONS`].
//!
//! Nothing here names a backend.

use crate::backend_suite::agree;
use crate::fuzz::panic_message;
use crate::near::is_near;
use rlx_driver::{Backend, DriverError, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::op::{Fill, Sample};
use rlx_ir::{DType, Dim, Graph, Literal, Op, OpKind, Shape, TensorType, Value};
use rlx_opt::CompileOptions;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a cell that exists does not run: all there are.
pub const REASONS: [&str; 4] = [NO_VIEWS, NO_ZERO, NARROW, MISSING];
const NO_VIEWS: &str = "storage-only dtypes have no views";
const NO_ZERO: &str =
    "f8e8m0 is a scale: it has no zero, so that roundings between the ops of a definition show";
const NARROW: &str = "a whole layer in 8-bit floats rounds between the ops of its definition";
const MISSING: &str = "this processor lacks the instruction set";

/// How the operands of a cell lie, or of which extents they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arrangement {
    /// As the sample says.
    Contiguous,
    /// Every matrix or more is a view with its axes in reverse order.
    Transposed,
    /// Every operand with axes is each other element along its last axis, behind the first rows of the others.
    Strided,
    /// Every operand with an extent above 1 repeats along it.
    Broadcast,
    /// An extent is 0.
    Empty,
    /// An extent is 1.
    Single,
    /// An extent is 13, which no vector divides.
    Odd,
}

use Arrangement as A;

impl Arrangement {
    /// All of them.
    pub const ALL: [A; 7] =
        [A::Contiguous, A::Transposed, A::Strided, A::Broadcast, A::Empty, A::Single, A::Odd];

    fn extent(self) -> Option<usize> {
        match self {
            A::Empty => Some(0),
            A::Single => Some(1),
            A::Odd => Some(13),
            _ => None,
        }
    }
}

/// A way from a graph to its results.
pub struct CellPath<'a> {
    /// What the line of the report is called.
    pub name: String,
    /// What runs it: the interpreter where there is none.
    pub backend: Option<&'a (dyn Backend + Sync)>,
    /// Is it not on this machine?
    pub missing: bool,
    /// How it is compiled.
    pub options: CompileOptions,
}

/// What became of the cells of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathCount {
    /// Cells that agree with the interpreter.
    pub covered: usize,
    /// Those of them whose values are refused, by the interpreter and by the path.
    pub faults: usize,
    /// Cells that do not run, by their reasons.
    pub left_out: BTreeMap<&'static str, usize>,
    /// Cells that fail.
    pub failed: Vec<String>,
}

impl PathCount {
    fn exist(&self) -> usize {
        self.covered + self.failed.len() + self.left_out.values().sum::<usize>()
    }

    fn add(&mut self, other: PathCount) {
        self.covered += other.covered;
        self.faults += other.faults;
        self.failed.extend(other.failed);
        for (reason, count) in other.left_out {
            *self.left_out.entry(reason).or_default() += count;
        }
    }
}

/// The counts of all paths.
#[derive(Clone, Debug, Default)]
pub struct CellReport {
    /// By the name of the path.
    pub paths: Vec<(String, PathCount)>,
    /// Pairs of an op and a dtype that it takes.
    pub dtypes: usize,
    /// Ops with their dtypes and attributes.
    pub corners: usize,
}

impl CellReport {
    /// One line for each path, the total, and what was left out.
    pub fn text(&self) -> String {
        let mut total = PathCount::default();
        let mut text = format!("{} pairs of op and dtype, {} corners\n", self.dtypes, self.corners);
        for (name, count) in &self.paths {
            let _ = writeln!(text, "{name:<24} {:>7} of {:>7} cells", count.covered, count.exist());
            total.add(count.clone());
        }
        let _ = writeln!(
            text,
            "{:<24} {:>7} of {:>7} cells, {} of them faults on both sides",
            "total",
            total.covered,
            total.exist(),
            total.faults
        );
        for (reason, count) in &total.left_out {
            let _ = writeln!(text, "not run: {count} cells: {reason}");
        }
        text
    }

    /// Prints the counts; panics with the cells that fail.
    ///
    /// # Panics
    /// As a test fails.
    pub fn check(&self) {
        println!("{}", self.text());
        let failed: Vec<&String> = self.paths.iter().flat_map(|(_, count)| &count.failed).collect();
        let lines: String = failed.iter().take(100).map(|line| format!("{line}\n")).collect();
        assert!(failed.is_empty(), "{} cells failed:\n{lines}", failed.len());
        let used = self.paths.iter().flat_map(|(_, count)| count.left_out.keys());
        let unknown: Vec<_> = used.filter(|reason| !REASONS.contains(reason)).collect();
        assert!(unknown.is_empty(), "{unknown:?} are no reasons");
    }
}

/// Runs every cell on every path.
pub fn count_cells(paths: &[CellPath<'_>]) -> CellReport {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let counted: Vec<CellReport> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let mut report = CellReport::default();
                    for &kind in OpKind::ALL.iter().skip(worker).step_by(workers) {
                        report.add(cells_of(kind, paths));
                    }
                    report
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let mut report = CellReport::default();
    counted.into_iter().for_each(|part| report.add(part));
    report
}

impl CellReport {
    fn add(&mut self, other: CellReport) {
        self.corners += other.corners;
        self.dtypes += other.dtypes;
        for (name, count) in other.paths {
            match self.paths.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.add(count),
                None => self.paths.push((name, count)),
            }
        }
    }
}

/// Is the corner of this label one of 8-bit floats?
fn is_narrow(label: &str) -> bool {
    DType::ALL
        .iter()
        .any(|dtype| dtype.is_float() && dtype.block_bits() == 8 && label.ends_with(dtype.name()))
}

fn cells_of(kind: OpKind, paths: &[CellPath<'_>]) -> CellReport {
    let mut report = CellReport::default();
    let corners = corners(kind);
    report.corners = corners.len();
    let dtypes = corners.iter().flat_map(|(_, sample)| sample.operands.iter().map(|(ty, _)| ty.dtype));
    report.dtypes = dtypes.collect::<BTreeSet<_>>().len();
    report.paths = paths.iter().map(|path| (path.name.clone(), PathCount::default())).collect();
    for (label, sample) in &corners {
        for arrangement in Arrangement::ALL {
            let scale = sample.operands.iter().any(|(ty, _)| ty.dtype == DType::F8E8M0);
            let cases = match cases(sample, arrangement) {
                Cases::None => continue,
                Cases::Run(_) if kind == OpKind::FusedTransformerLayer && is_narrow(label) => {
                    Cases::LeftOut(NARROW)
                }
                Cases::Run(_) if scale && label.ends_with(DType::F8E8M0.name()) => Cases::LeftOut(NO_ZERO),
                cases => cases,
            };
            let cases = match cases {
                Cases::None => continue,
                Cases::LeftOut(reason) => {
                    for (_, count) in &mut report.paths {
                        *count.left_out.entry(reason).or_default() += 1;
                    }
                    continue;
                }
                Cases::Run(cases) => cases,
            };
            let expected: Vec<Expected> = cases.iter().map(Case::expected).collect();
            for (path, (_, count)) in paths.iter().zip(&mut report.paths) {
                if path.missing {
                    *count.left_out.entry(MISSING).or_default() += 1;
                    continue;
                }
                let mut runs = cases.iter().zip(&expected);
                match runs.try_for_each(|(case, expected)| run_guarded(path, case, expected, &sample.op)) {
                    Ok(()) => {
                        count.covered += 1;
                        count.faults += usize::from(expected.iter().all(Result::is_err));
                    }
                    Err(error) => {
                        let name = &path.name;
                        count.failed.push(format!("{name}: {label}, {arrangement:?}: {error}"));
                    }
                }
            }
        }
    }
    report
}

/// The samples of `kind`, and one for each further dtype.
fn corners(kind: OpKind) -> Vec<(String, Sample<Op>)> {
    let samples = kind.samples();
    let label = |index: usize, sample: &Sample<Op>| format!("{kind} sample {index} {:?}", sample.op);
    let mut seen: BTreeSet<DType> =
        samples.iter().flat_map(|sample| sample.operands.iter().map(|(ty, _)| ty.dtype)).collect();
    let mut found: Vec<_> =
        samples.iter().enumerate().map(|(index, sample)| (label(index, sample), sample.clone())).collect();
    for (index, sample) in samples.iter().enumerate() {
        let own: BTreeSet<DType> = sample.operands.iter().map(|(ty, _)| ty.dtype).collect();
        for (from, &to) in own.iter().flat_map(|from| DType::ALL.iter().map(move |to| (from, to))) {
            if seen.contains(&to) || to.block_elements() > 1 {
                continue;
            }
            let mut other = sample.clone();
            for (ty, _) in other.operands.iter_mut().filter(|(ty, _)| ty.dtype == *from) {
                ty.dtype = to;
            }
            if is_legal(&other) {
                seen.insert(to);
                found.push((format!("{} as {to}", label(index, sample)), other));
            }
        }
    }
    found
}

fn is_legal(sample: &Sample<Op>) -> bool {
    let types: Vec<&TensorType> = sample.operands.iter().map(|(ty, _)| ty).collect();
    sample.op.infer(&types).is_ok()
}

enum Cases {
    /// The arrangement does not exist for the corner.
    None,
    LeftOut(&'static str),
    Run(Vec<Case>),
}

/// A graph of views in front of an op, its feeds, and the operands that the views give.
struct Case {
    graph: Graph,
    feeds: Tensors,
    plain: Graph,
    operands: Tensors,
}

type Outputs = Vec<(String, Literal)>;
type Expected = Result<Outputs, String>;

impl Case {
    fn expected(&self) -> Expected {
        evaluate(&self.plain, &self.operands)
            .map(|evaluation| evaluation.outputs)
            .map_err(|error| error.to_string())
    }
}

fn cases(sample: &Sample<Op>, arrangement: Arrangement) -> Cases {
    let Some(extent) = arrangement.extent() else { return viewed(sample, arrangement) };
    let mut cases = vec![];
    let extents: BTreeSet<usize> = sample.operands.iter().flat_map(|(ty, _)| static_dims(ty)).collect();
    for from in extents.into_iter().filter(|&from| from != extent) {
        let mut other = sample.clone();
        for (ty, _) in &mut other.operands {
            let dims = static_dims(ty).into_iter().map(|dim| if dim == from { extent } else { dim });
            ty.shape = Shape::new(dims.map(Dim::from));
        }
        if other.operands.iter().all(|(ty, _)| has_whole_blocks(ty)) && is_legal(&other) {
            match viewed(&other, A::Contiguous) {
                Cases::Run(more) => cases.extend(more),
                other => return other,
            }
        }
    }
    if cases.is_empty() { Cases::None } else { Cases::Run(cases) }
}

fn static_dims(ty: &TensorType) -> Vec<usize> {
    ty.shape.as_static().expect("samples have static types")
}

fn has_whole_blocks(ty: &TensorType) -> bool {
    let count: usize = static_dims(ty).iter().product();
    let last = static_dims(ty).last().copied().unwrap_or(1);
    ty.dtype.byte_size(count).is_some() && last.is_multiple_of(ty.dtype.block_elements())
}

fn viewed(sample: &Sample<Op>, arrangement: Arrangement) -> Cases {
    let [mut graph, mut plain] = ["cell", "plain"].map(Graph::new);
    let (mut feeds, mut operands) = (Tensors::new(), Tensors::new());
    let mut values = [vec![], vec![]];
    let (mut changed, mut kept) = (false, false);
    for (index, (literal, (_, fill))) in sample.literals(17).into_iter().zip(&sample.operands).enumerate() {
        let name = format!("x{index}");
        let view = axes_for(&literal, *fill, arrangement).filter(|_| {
            let has_views = !literal.dtype().is_storage_only();
            kept |= !has_views;
            has_views
        });
        changed |= view.is_some();
        let (fed, given) = match view {
            Some(axis) => fed(&literal, arrangement, axis),
            None => (literal.clone(), literal),
        };
        let input = graph.input(name.as_str(), fed.ty());
        values[0].push(match view {
            Some(axis) => view_of(&mut graph, input, given.dims(), (arrangement, axis)),
            None => input,
        });
        values[1].push(plain.input(name.as_str(), given.ty()));
        feeds.insert(name.clone(), fed);
        operands.insert(name, given);
    }
    if arrangement != A::Contiguous && !changed {
        return if kept { Cases::LeftOut(NO_VIEWS) } else { Cases::None };
    }
    for (graph, values) in [&mut graph, &mut plain].into_iter().zip(values) {
        for (index, value) in graph.push_all(sample.op.clone(), &values).into_iter().enumerate() {
            graph.output(format!("y{index}"), value);
        }
    }
    Cases::Run(vec![Case { graph, feeds, plain, operands }])
}

/// The axis that the arrangement changes, where the operand has one for it.
fn axes_for(literal: &Literal, fill: Fill, arrangement: Arrangement) -> Option<usize> {
    let dims = literal.dims();
    match arrangement {
        A::Transposed => (dims.iter().filter(|&&dim| dim > 1).count() > 1).then_some(0),
        A::Strided => dims.len().checked_sub(1),
        A::Broadcast => {
            // Matrices that repeat a row are not definite.
            let most = if fill == Fill::Definite { dims.len().saturating_sub(2) } else { dims.len() };
            dims[..most].iter().position(|&dim| dim > 1)
        }
        _ => None,
    }
}

/// What is fed so that the view gives the operand, and the operand.
fn fed(literal: &Literal, arrangement: Arrangement, axis: usize) -> (Literal, Literal) {
    let dims = literal.dims();
    match arrangement {
        A::Transposed => {
            let reversed: Vec<usize> = dims.iter().rev().copied().collect();
            let turned = rearranged(literal, &reversed, |at| at.iter().rev().copied().collect());
            (turned, literal.clone())
        }
        A::Strided => {
            let larger: Vec<usize> =
                dims.iter().enumerate().map(|(i, &dim)| if i == axis { 2 * dim } else { dim + 1 }).collect();
            // What lies between is another element of the operand.
            let source = |at: &[usize]| {
                let place = |(i, (&at, &dim)): (usize, (&usize, &usize))| match i == axis {
                    true => (at / 2 + at % 2) % dim,
                    false => (at + dim - 1) % dim,
                };
                at.iter().zip(dims).enumerate().map(place).collect()
            };
            (rearranged(literal, &larger, source), literal.clone())
        }
        _ => {
            let mut one = dims.to_vec();
            one[axis] = 1;
            let fed = rearranged(literal, &one, <[usize]>::to_vec);
            let given = rearranged(literal, dims, |at| {
                let mut at = at.to_vec();
                at[axis] = 0;
                at
            });
            (fed, given)
        }
    }
}

fn view_of(graph: &mut Graph, x: Value, dims: &[usize], (arrangement, axis): (Arrangement, usize)) -> Value {
    match arrangement {
        A::Transposed => graph.transpose(x, (0..dims.len()).rev().collect::<Vec<_>>()),
        A::Strided => {
            let mut x = x;
            for (other, &dim) in dims.iter().enumerate().filter(|(other, _)| *other != axis) {
                x = graph.narrow_at(x, other as i64, 1, dim);
            }
            let (start, len) = (vec![Dim::from(0)], vec![Dim::from(dims[axis])]);
            graph.slice(x, vec![axis], start, vec![2], len)
        }
        _ => graph.expand(x, dims),
    }
}

/// A literal of extents `dims` whose element at each place is that of `literal` at `source` of the place.
fn rearranged(literal: &Literal, dims: &[usize], source: impl Fn(&[usize]) -> Vec<usize>) -> Literal {
    let (width, count) = (literal.dtype().block_bits() / 8, dims.iter().product());
    let mut bytes = Vec::with_capacity(count * width);
    let mut at = vec![0; dims.len()];
    for _ in 0..count {
        if literal.is_empty() {
            bytes.extend(std::iter::repeat_n(0, width));
            continue;
        }
        let index = source(&at).iter().zip(literal.dims()).fold(0, |index, (at, dim)| index * dim + at);
        bytes.extend(&literal.bytes()[index * width..(index + 1) * width]);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    Literal::from_bytes(literal.dtype(), dims, &bytes).expect("one element for each place")
}

/// A panic is what the cell fails with.
fn run_guarded(path: &CellPath<'_>, case: &Case, expected: &Expected, op: &Op) -> Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| run(path, case, expected, op)));
    result.unwrap_or_else(|panic| Err(panic_message(&*panic)))
}

fn run(path: &CellPath<'_>, case: &Case, expected: &Expected, op: &Op) -> Result<(), String> {
    let Some(backend) = path.backend else {
        return match (evaluate(&case.graph, &case.feeds), expected) {
            (Err(_), Err(_)) => Ok(()),
            (Ok(found), Ok(expected)) => same_bits(&found.outputs, expected),
            (Ok(_), Err(error)) => Err(format!("runs, where the operands by themselves fault: {error}")),
            (Err(error), Ok(_)) => Err(error.to_string()),
        };
    };
    let compiled = backend.compile(case.graph.clone(), &path.options);
    let mut executable = compiled.map_err(|error| error.to_string())?;
    let inputs: Vec<(&str, TensorRef<'_>)> =
        case.feeds.iter().map(|(name, literal)| (name.as_str(), literal.into())).collect();
    match (executable.run_typed(&inputs), expected) {
        (Err(DriverError::Fault { .. }), Err(_)) => Ok(()),
        (Ok(outputs), Ok(expected)) => agree(&outputs, expected, op).or_else(|error| {
            let near = outputs.len() == expected.len() && outputs.iter().zip(expected).all(rounded_elsewhere);
            if near && op.meaning().decompose.is_some() { Ok(()) } else { Err(error) }
        }),
        (Err(error), _) => Err(error.to_string()),
        (Ok(_), Err(error)) => Err(format!("runs, where the interpreter faults: {error}")),
    }
}

/// Do results of a definition differ by what was rounded between its ops, where values that repeat may cancel?
fn rounded_elsewhere(((_, found), (_, expected)): (&(String, Literal), &(String, Literal))) -> bool {
    let dtype = expected.dtype();
    let roundings = if dtype.size_of() == Some(1) { 1.0 } else { 256.0 };
    let wide = dtype.is_float() && (dtype.size_of() != Some(2));
    *found == *expected || wide && is_near(found, expected, dtype, roundings)
}

fn same_bits(found: &[(String, Literal)], expected: &[(String, Literal)]) -> Result<(), String> {
    let mut pairs = found.iter().zip(expected);
    pairs.try_for_each(|((name, found), (_, expected))| {
        compare(found, expected, Accuracy::Exact, None).map_err(|error| format!("output {name}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_give_the_operand() {
        let literal = Literal::ints(DType::I32, &[2, 3], &[1, 2, 3, 4, 5, 6]).expect("six values");
        for arrangement in [A::Transposed, A::Strided, A::Broadcast] {
            let axis = axes_for(&literal, Fill::Any, arrangement).expect("a matrix has axes");
            let (fed, given) = fed(&literal, arrangement, axis);
            assert_ne!(fed.dims(), literal.dims(), "{arrangement:?}");
            let mut graph = Graph::new("view");
            let x = graph.input("x", fed.ty());
            let y = view_of(&mut graph, x, given.dims(), (arrangement, axis));
            graph.output("y", y);
            let found = evaluate(&graph, &[("x".to_string(), fed)].into_iter().collect()).expect("a view");
            assert_eq!(found.outputs[0].1, given, "{arrangement:?}");
        }
    }

    #[test]
    fn cells_that_disagree_fail() {
        let literal =
            |value| vec![("y0".to_string(), Literal::ints(DType::I32, &[1], &[value]).expect("one"))];
        assert!(same_bits(&literal(1), &literal(1)).is_ok());
        assert!(same_bits(&literal(1), &literal(2)).is_err());
    }
}
