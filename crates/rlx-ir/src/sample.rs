//! Concrete operands for samples, and graphs around them: what every generic
//! test of interpreter, passes and backends runs on.

use crate::dtype::{DType, DTypeClass};
use crate::graph::Graph;
use crate::interpret::Tensors;
use crate::literal::{Literal, element_count};
use crate::number::Number;
use crate::op::{Fill, Sample};
use crate::ops::Op;
use crate::shape::TensorType;

/// A small counter-based generator (SplitMix64): the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct Generator(u64);

impl Generator {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Generator {
        Generator(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next integer in `0..below` (0 for an empty range).
    pub fn below(&mut self, below: usize) -> usize {
        if below == 0 { 0 } else { (self.next_u64() % below as u64) as usize }
    }
}

/// A literal of static type `ty`, filled as asked.
///
/// # Panics
/// Never for a static type that fits memory; symbolic types are the caller's error.
pub fn fill_literal(ty: &TensorType, fill: Fill, generator: &mut Generator) -> Literal {
    let dims = ty.shape.as_static().expect("samples have static types");
    let count = element_count(&dims).expect("samples are small");
    let (low, high) = match (fill, ty.dtype.class()) {
        (Fill::Range(low, high), _) => (low, high),
        (Fill::Definite, _) => (-1.0, 1.0),
        (Fill::Any, DTypeClass::Unsigned) => (0.0, 4.0),
        (Fill::Any, DTypeClass::Bool) => (0.0, 2.0),
        (Fill::Any, DTypeClass::Signed) if ty.dtype.block_bits() < 8 => (-2.0, 2.0),
        (Fill::Any, DTypeClass::Signed) => (-9.0, 9.0),
        (Fill::Any, _) => (-2.0, 2.0),
    };
    if ty.dtype.block_elements() > 1 {
        let bytes = ty.dtype.byte_size(count).expect("samples are small");
        let data: Vec<u8> = (0..bytes).map(|_| generator.next_u64() as u8 & 0x3f).collect();
        return Literal::from_bytes(ty.dtype, &dims, &data).expect("the byte count follows the type");
    }
    let mut next = || low + generator.unit() * (high - low);
    let numbers = (0..count).map(|_| match ty.dtype.class() {
        DTypeClass::Float => Number::Float(next()),
        DTypeClass::Complex => {
            let re = next();
            Number::Complex(re, next())
        }
        _ => Number::Int(next().floor() as i128),
    });
    let mut numbers: Vec<Number> = numbers.collect();
    if fill == Fill::Definite {
        make_definite(&dims, &mut numbers);
    }
    Literal::from_numbers(ty.dtype, &dims, numbers).expect("one number per element")
}

/// Makes matrices of numbers in -1 .. 1 Hermitian, with a diagonal above the sum of each row's other magnitudes.
fn make_definite(dims: &[usize], numbers: &mut [Number]) {
    let &[.., rows, columns] = dims else { return };
    for matrix in numbers.chunks_exact_mut((rows * columns).max(1)) {
        for row in 0..rows {
            for column in 0..row.min(columns) {
                matrix[column * columns + row] = match matrix[row * columns + column] {
                    Number::Complex(re, im) => Number::Complex(re, -im),
                    real => real,
                };
            }
            let above = 1.5 * columns as f64;
            let diagonal = &mut matrix[row * columns + row];
            *diagonal = match *diagonal {
                Number::Complex(re, _) => Number::Complex(re + above, 0.0),
                real => Number::Float(real.as_f64().unwrap_or(0.0) + above),
            };
        }
    }
}

impl Sample<Op> {
    /// Operands of the sample, the same for the same seed.
    pub fn literals(&self, seed: u64) -> Vec<Literal> {
        let mut generator = Generator::new(seed);
        self.operands.iter().map(|(ty, fill)| fill_literal(ty, *fill, &mut generator)).collect()
    }

    /// A graph with one input per operand (`x0`, `x1`, ..) and one output per
    /// result (`y0`, ..), and its feeds.
    pub fn graph(&self, seed: u64) -> (Graph, Tensors) {
        self.graph_with(seed, self.operands.len())
    }

    /// The same graph, but operands from number `inputs` on are params.
    pub fn graph_with(&self, seed: u64, inputs: usize) -> (Graph, Tensors) {
        let mut graph = Graph::new(self.op.def().name);
        let mut feeds = Tensors::new();
        let mut operands = vec![];
        for (index, literal) in self.literals(seed).into_iter().enumerate() {
            let (name, ty) = (format!("x{index}"), literal.ty());
            operands.push(match index < inputs {
                true => graph.input(name.as_str(), ty),
                false => graph.param(name.as_str(), ty),
            });
            feeds.insert(name, literal);
        }
        for (index, value) in graph.push_all(self.op.clone(), &operands).into_iter().enumerate() {
            graph.output(format!("y{index}"), value);
        }
        (graph, feeds)
    }
}

/// Is every dtype of the sample one that arithmetic kernels see?
pub fn is_arithmetic(ty: &TensorType) -> bool {
    !ty.dtype.is_storage_only() && ty.dtype != DType::F8E8M0
}
