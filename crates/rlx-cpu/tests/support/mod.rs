//! What the differential tests share: random operands behind random views, and
//! the comparison at every instruction set on one and two threads.

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, SharedBytes, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::op::Fill;
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Graph, Literal, Number, TensorType, Value};
use rlx_opt::CompileOptions;
use rlx_testkit::near::is_near;

/// A graph under construction, with its feeds.
pub struct Case {
    pub graph: Graph,
    pub accuracy: Accuracy,
    /// The dtype in which the reference rounds between ops where kernels keep
    /// more: a few of its roundings at the largest magnitude are no difference.
    pub rounded: Option<DType>,
    generator: Generator,
    feeds: Tensors,
    weights: Vec<String>,
}

impl Case {
    fn new(seed: u64) -> Case {
        Case {
            graph: Graph::new("case"),
            accuracy: Accuracy::Exact,
            rounded: None,
            generator: Generator::new(seed),
            feeds: Tensors::new(),
            weights: vec![],
        }
    }

    pub fn below(&mut self, below: usize) -> usize {
        self.generator.below(below)
    }

    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn output(&mut self, name: &str, value: Value) {
        self.graph.output(name, value);
    }

    pub fn feed(&mut self, name: &str, literal: Literal) -> Value {
        let value = self.graph.input(name, literal.ty());
        self.feeds.insert(name.into(), literal);
        value
    }

    /// Integers below `bound`, often behind a view.
    pub fn indices(&mut self, name: &str, dtype: DType, dims: &[usize], bound: usize) -> Value {
        self.viewed(name, dims, |case, dims| {
            let fill = Fill::Range(0.0, bound as f64);
            fill_literal(&TensorType::new(dtype, dims), fill, &mut case.generator)
        })
    }

    /// A weight of exactly these extents.
    pub fn weight(&mut self, name: &str, dtype: DType, dims: &[usize]) -> Value {
        let literal = fill_literal(&TensorType::new(dtype, dims), Fill::Any, &mut self.generator);
        let value = self.graph.param(name, literal.ty());
        self.feeds.insert(name.into(), literal);
        self.weights.push(name.into());
        value
    }

    /// An operand of these extents that is a random view of an input.
    pub fn operand(&mut self, name: &str, dtype: DType, dims: &[usize]) -> Value {
        let literal = |case: &mut Case, dims: &[usize]| {
            fill_literal(&TensorType::new(dtype, dims), Fill::Any, &mut case.generator)
        };
        self.viewed(name, dims, literal)
    }

    /// As [`Case::operand`], now and then with NaN and infinities among floats, and any bits among integers.
    pub fn special(&mut self, name: &str, dtype: DType, dims: &[usize]) -> Value {
        let spoil = (dtype.is_float() || dtype.is_int()) && self.below(3) == 0;
        self.viewed(name, dims, |case, dims| {
            let literal = fill_literal(&TensorType::new(dtype, dims), Fill::Any, &mut case.generator);
            let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0];
            let numbers: Vec<Number> = literal
                .numbers()
                .into_iter()
                .map(|number| match spoil && case.below(60) == 0 {
                    true if dtype.is_float() => Number::Float(values[case.below(values.len())]),
                    true => Number::Int(i128::from(case.generator.next_u64())).cast(dtype),
                    false => number,
                })
                .collect();
            Literal::from_numbers(dtype, dims, numbers).unwrap()
        })
    }

    fn viewed(
        &mut self,
        name: &str,
        dims: &[usize],
        literal: impl Fn(&mut Case, &[usize]) -> Literal,
    ) -> Value {
        let axis = if dims.is_empty() { 0 } else { self.below(dims.len()) };
        let choice = if dims.is_empty() { 0 } else { self.below(6) };
        match choice {
            1 => {
                let other = self.below(dims.len());
                let mut swapped = dims.to_vec();
                swapped.swap(axis, other);
                let literal = literal(self, &swapped);
                let value = self.feed(name, literal);
                self.graph.swap_axes(value, axis as i64, other as i64)
            }
            2 => {
                let (before, after) = (self.below(3), self.below(3));
                let mut larger = dims.to_vec();
                larger[axis] += before + after;
                let literal = literal(self, &larger);
                let value = self.feed(name, literal);
                self.graph.narrow_at(value, axis as i64, before, dims[axis])
            }
            3 => {
                let mut smaller = dims.to_vec();
                smaller[axis] = 1;
                let literal = literal(self, &smaller);
                let value = self.feed(name, literal);
                self.graph.expand(value, dims)
            }
            4 => {
                let literal = literal(self, dims);
                let value = self.feed(name, literal);
                self.graph.push(rlx_ir::ops::Reverse { axes: vec![axis] }, &[value])
            }
            _ => {
                let literal = literal(self, dims);
                self.feed(name, literal)
            }
        }
    }
}

/// One of `choices`.
pub fn pick<T: Copy>(case: &mut Case, choices: &[T]) -> T {
    choices[case.below(choices.len())]
}

/// An extent: often odd, sometimes one, seldom zero.
pub fn extent(case: &mut Case, most: usize) -> usize {
    match case.below(12) {
        0 => 0,
        1 | 2 => 1,
        _ => 1 + case.below(most),
    }
}

/// An extent as [`extent`] gives, seldom a much longer one: past the blocks that kernels work in.
pub fn long_extent(case: &mut Case, usual: usize, most: usize) -> usize {
    if case.below(6) == 0 { 1 + case.below(most) } else { extent(case, usual) }
}

/// Seldom makes one axis much longer, and the others shorter where the whole would be large.
pub fn stretch(case: &mut Case, dims: &mut [usize], most: usize) {
    if dims.is_empty() || case.below(4) > 0 {
        return;
    }
    let axis = case.below(dims.len());
    dims[axis] = 1 + case.below(most);
    while dims.iter().product::<usize>() > 60_000 {
        let (_, other) =
            dims.iter_mut().enumerate().filter(|(at, _)| *at != axis).max_by_key(|(_, dim)| **dim).unwrap();
        *other /= 2;
    }
}

/// Up to `rank` extents.
pub fn extents(case: &mut Case, rank: usize, most: usize) -> Vec<usize> {
    let rank = case.below(rank + 1);
    let mut dims: Vec<usize> = (0..rank).map(|_| extent(case, most)).collect();
    while dims.iter().product::<usize>() > 20_000 {
        let largest = (0..rank).max_by_key(|&axis| dims[axis]).unwrap_or(0);
        dims[largest] /= 2;
    }
    dims
}

/// Builds and checks `count` cases. Those of one instruction set must agree in every bit.
pub fn assert_agreement(seed: u64, count: u64, build: impl Fn(&mut Case)) {
    let levels = SimdLevel::ALL.into_iter().filter(|level| level.is_available());
    let backends: Vec<CpuBackend> =
        levels.flat_map(|level| [1, 3].map(|threads| CpuBackend::with(threads, level).unwrap())).collect();
    let (mut findings, mut compared) = (vec![], 0);
    for round in 0..count {
        let mut case = Case::new(seed * 1000 + round);
        build(&mut case);
        if case.graph.outputs().is_empty() {
            continue;
        }
        compared += 1;
        let text = rlx_ir::text::print_graph(&case.graph);
        if let Err(error) = check(case, &backends) {
            findings.push(format!("round {round}: {error}\n{text}"));
        }
    }
    assert!(compared > 0, "no case was built");
    let first: Vec<_> = findings.iter().take(5).cloned().collect();
    assert!(findings.is_empty(), "{} of {compared}:\n{}", findings.len(), first.join("\n"));
}

/// Compares one case on every backend with the reference.
fn check(case: Case, backends: &[CpuBackend]) -> Result<(), String> {
    let graph = case.graph.finish().map_err(|error| error.to_string())?;
    let expected = evaluate(&graph, &case.feeds).map_err(|error| error.to_string())?;
    let mut alone = vec![];
    for (index, backend) in backends.iter().enumerate() {
        let label = format!("{:?}", backend.info().features);
        let compiled = backend.compile(graph.clone(), &CompileOptions::default());
        let mut executable = compiled.map_err(|error| error.to_string())?;
        for name in &case.weights {
            let bytes = SharedBytes::from(case.feeds[name].bytes().to_vec());
            executable.bind_param(name, bytes).map_err(|error| error.to_string())?;
        }
        let inputs = case.feeds.iter().filter(|(name, _)| !case.weights.contains(name));
        let inputs: Vec<(&str, TensorRef<'_>)> =
            inputs.map(|(name, literal)| (name.as_str(), literal.into())).collect();
        let outputs = executable.run_typed(&inputs).map_err(|error| format!("{label}: {error}"))?;
        let bits: Vec<Vec<u8>> = outputs.iter().map(|(_, literal)| literal.bytes().to_vec()).collect();
        if index % 2 == 1 && bits != alone {
            return Err(format!("{label}: threads change bits"));
        }
        alone = bits;
        for ((name, actual), (_, reference)) in outputs.iter().zip(&expected.outputs) {
            let compared = compare(actual, reference, case.accuracy, None);
            let excused = case.rounded.is_some_and(|dtype| is_near(actual, reference, dtype, 8.0));
            compared
                .or_else(|error| if excused { Ok(()) } else { Err(error) })
                .map_err(|error| format!("{label}: output {name}: {error}"))?;
        }
    }
    Ok(())
}
