//! Random graphs whose results are exact in f32.
//!
//! Values are dyadic: multiples of a small power of two, of small magnitude.
//! Every value carries a bound on both, and an op is added only while its
//! exact result fits the 24 bits of an f32. So any order of evaluation, any
//! fusion and any correct kernel gives the same bits, and comparison needs no
//! tolerance. Integers and truth values come in through casts and comparisons.
//!
//! The same seed gives the same graph and feeds everywhere.

use rlx_ir::interpret::Tensors;
use rlx_ir::op::Fill;
use rlx_ir::ops::{ActivationKind, BinaryKind, CompareKind, ReduceKind};
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Dim, Graph, Literal, Number, Shape, SymbolBounds, TensorType, Value};

/// A graph with feeds.
#[derive(Clone, Debug)]
pub struct RandomGraph {
    /// The graph, verified.
    pub graph: Graph,
    /// Inputs, params and states by name.
    pub feeds: Tensors,
}

/// The graph of `seed`: some tens of nodes over elementwise, movement, reduce
/// and matmul ops, some of them of no use; two or three outputs; with odd
/// seeds, one extent is the symbol `S`.
pub fn random_graph(seed: u64) -> RandomGraph {
    let mut growth = Growth {
        graph: Graph::new(format!("random {seed}")),
        feeds: Tensors::new(),
        generator: Generator::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)),
        values: vec![],
        symbolic: seed % 2 == 1,
    };
    growth.leaves();
    for _ in 0..8 + growth.generator.below(32) {
        growth.node();
    }
    growth.results()
}

/// The extent that the symbol stands for.
const SYMBOLIC: i64 = 3;

/// A float value whose elements are multiples of `2^-fraction` below `2^magnitude`.
#[derive(Clone, Debug)]
struct Exact {
    value: Value,
    dims: Vec<i64>,
    magnitude: i32,
    fraction: i32,
}

impl Exact {
    fn fits(&self) -> bool {
        self.magnitude + self.fraction <= 23 && self.magnitude <= 20 && self.fraction <= 20
    }
}

struct Growth {
    graph: Graph,
    feeds: Tensors,
    generator: Generator,
    values: Vec<Exact>,
    symbolic: bool,
}

impl Growth {
    fn dim(&self, extent: i64) -> Dim {
        if self.symbolic && extent == SYMBOLIC { Dim::symbol("S") } else { Dim::from(extent) }
    }

    fn shape(&self, dims: &[i64]) -> Shape {
        Shape::from(dims.iter().map(|&extent| self.dim(extent)).collect::<Vec<_>>())
    }

    fn literal(&mut self, dims: &[i64]) -> Literal {
        let dims: Vec<usize> = dims.iter().map(|&extent| extent as usize).collect();
        let ints = fill_literal(
            &TensorType::new(DType::I32, dims.as_slice()),
            Fill::Range(-8.0, 9.0),
            &mut self.generator,
        );
        let numbers = ints.to_ints().into_iter().map(|int| Number::Float(int as f64 / 4.0));
        Literal::from_numbers(DType::F32, &dims, numbers).expect("one number per element")
    }

    fn leaves(&mut self) {
        if self.symbolic {
            self.graph.bound_symbol("S", SymbolBounds { min: 1, max: Some(SYMBOLIC) });
        }
        let shapes: [&[i64]; 5] = [&[2, 3, 4], &[3, 4], &[4], &[2, 1, 4], &[4, 4]];
        for (index, dims) in shapes.into_iter().enumerate() {
            let literal = self.literal(dims);
            let (name, ty) = (format!("x{index}"), TensorType::new(DType::F32, self.shape(dims)));
            let value = match index {
                0 | 1 => self.graph.input(name.as_str(), ty),
                3 => self.graph.state(name.as_str(), ty),
                // Params have static shapes, so that work on them can be prepared.
                _ => self
                    .graph
                    .param(name.as_str(), TensorType::new(DType::F32, Shape::new(dims.iter().copied()))),
            };
            self.feeds.insert(name, literal);
            self.push(Exact { value, dims: dims.to_vec(), magnitude: 2, fraction: 2 });
        }
        for dims in [&[][..], &[4]] {
            let literal = self.literal(dims);
            let value = self.graph.constant(literal);
            self.push(Exact { value, dims: dims.to_vec(), magnitude: 2, fraction: 2 });
        }
        for number in [1.0, -0.0, 2.0] {
            let value = self.graph.scalar(DType::F32, number);
            self.push(Exact { value, dims: vec![], magnitude: 2, fraction: 0 });
        }
    }

    fn push(&mut self, exact: Exact) {
        if exact.value != Value::POISON && exact.fits() {
            self.values.push(exact);
        }
    }

    /// A value so far, the later ones more often.
    fn pick(&mut self) -> Exact {
        let count = self.values.len();
        let recent = count.min(6);
        let index = match self.generator.below(2) {
            0 => count - 1 - self.generator.below(recent),
            _ => self.generator.below(count),
        };
        self.values[index].clone()
    }

    fn node(&mut self) {
        match self.generator.below(9) {
            0..=2 => self.binary(),
            3 => self.activation(),
            4 => self.choice(),
            5 | 6 => self.movement(),
            7 => self.reduction(),
            _ => self.product(),
        }
    }

    fn broadcast(a: &[i64], b: &[i64]) -> Option<Vec<i64>> {
        let rank = a.len().max(b.len());
        let at =
            |dims: &[i64], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |index| dims[index]);
        let axis = |axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        };
        (0..rank).map(axis).collect()
    }

    fn binary(&mut self) {
        use BinaryKind as K;
        let (a, b) = (self.pick(), self.pick());
        let Some(dims) = Growth::broadcast(&a.dims, &b.dims) else { return };
        let kind = [K::Add, K::Sub, K::Mul, K::Max, K::Min, K::Mul, K::Add][self.generator.below(7)];
        let (magnitude, fraction) = match kind {
            K::Mul => (a.magnitude + b.magnitude, a.fraction + b.fraction),
            K::Add | K::Sub => (a.magnitude.max(b.magnitude) + 1, a.fraction.max(b.fraction)),
            _ => (a.magnitude.max(b.magnitude), a.fraction.max(b.fraction)),
        };
        let result = Exact { value: Value::POISON, dims, magnitude, fraction };
        if result.fits() {
            let value = self.graph.binary(a.value, b.value, kind);
            self.push(Exact { value, ..result });
        }
    }

    fn activation(&mut self) {
        use ActivationKind as K;
        let x = self.pick();
        let kind = [K::Neg, K::Abs, K::Relu, K::Floor, K::Round, K::Sign, K::Neg][self.generator.below(7)];
        let value = self.graph.activation(x.value, kind, None);
        match kind {
            K::Floor | K::Round => {
                self.push(Exact { value, magnitude: x.magnitude + 1, fraction: 0, ..x.clone() });
                // Whole numbers go through integers and back.
                if self.generator.below(2) == 0 && x.magnitude < 15 {
                    let dtype = [DType::I32, DType::I64][self.generator.below(2)];
                    let whole = self.graph.cast(value, dtype);
                    let sum = self.graph.add(whole, whole);
                    let value = self.graph.cast(sum, DType::F32);
                    self.push(Exact { value, magnitude: x.magnitude + 2, fraction: 0, ..x });
                }
            }
            K::Sign => self.push(Exact { value, magnitude: 1, fraction: 0, ..x }),
            _ => self.push(Exact { value, ..x }),
        }
    }

    fn choice(&mut self) {
        let (a, b) = (self.pick(), self.pick());
        let Some(dims) = Growth::broadcast(&a.dims, &b.dims) else { return };
        let kind = [CompareKind::Lt, CompareKind::Ge, CompareKind::Eq][self.generator.below(3)];
        let condition = self.graph.compare(a.value, b.value, kind);
        let (yes, no) = if self.generator.below(2) == 0 { (&a, &b) } else { (&b, &a) };
        let value = self.graph.where_(condition, yes.value, no.value);
        let (magnitude, fraction) = (a.magnitude.max(b.magnitude), a.fraction.max(b.fraction));
        self.push(Exact { value, dims, magnitude, fraction });
    }

    fn movement(&mut self) {
        let x = self.pick();
        let rank = x.dims.len();
        if rank == 0 {
            return;
        }
        let axis = self.generator.below(rank);
        let mut dims = x.dims.clone();
        let value = match self.generator.below(6) {
            0 => {
                let mut permutation: Vec<usize> = (0..rank).collect();
                permutation.rotate_left(1 + self.generator.below(rank));
                dims = permutation.iter().map(|&axis| x.dims[axis]).collect();
                self.graph.transpose(x.value, permutation)
            }
            1 if axis + 1 < rank => {
                let merged = dims.remove(axis) * dims[axis];
                dims[axis] = merged;
                let mut shape: Vec<Dim> = x.dims.iter().map(|&extent| self.dim(extent)).collect();
                let first = shape.remove(axis);
                shape[axis] = first * shape[axis].clone();
                // Only extents of the small set may be symbolic, so merged ones end this line.
                let value = self.graph.reshape(x.value, shape);
                return if self.symbolic { self.end(value) } else { self.push(Exact { value, dims, ..x }) };
            }
            2 if dims[axis] > 1 && dims[axis] != SYMBOLIC => {
                let len = 1 + self.generator.below(dims[axis] as usize - 1) as i64;
                let start = self.generator.below((dims[axis] - len) as usize + 1);
                // A narrowed extent must not look like the symbol.
                let len = if len == SYMBOLIC { 2 } else { len };
                dims[axis] = len;
                self.graph.narrow(x.value, axis, start, len)
            }
            3 => self.graph.reverse(x.value, vec![axis]),
            4 if rank < 3 => {
                dims.insert(0, 2);
                let shape = self.shape(&dims);
                self.graph.expand(x.value, shape)
            }
            5 if dims[axis] == 2 => {
                dims[axis] = 4;
                self.graph.concat(&[x.value, x.value], axis)
            }
            _ => return,
        };
        self.push(Exact { value, dims, ..x });
    }

    /// Makes `value` matter without letting other nodes build on its shape.
    fn end(&mut self, value: Value) {
        let rank = self.graph.try_ty(value).map_or(0, TensorType::rank);
        let largest = self.graph.reduce(value, ReduceKind::Max, (0..rank).collect::<Vec<_>>(), false);
        self.push(Exact { value: largest, dims: vec![], magnitude: 12, fraction: 11 });
    }

    fn reduction(&mut self) {
        let x = self.pick();
        if x.dims.is_empty() {
            return;
        }
        let axis = self.generator.below(x.dims.len());
        let keep = self.generator.below(2) == 0;
        let kind = [ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min][self.generator.below(3)];
        let mut result = Exact { value: Value::POISON, ..x.clone() };
        if kind == ReduceKind::Sum {
            result.magnitude += 64 - (x.dims[axis] as u64).leading_zeros() as i32;
        }
        if !result.fits() {
            return;
        }
        if keep {
            result.dims[axis] = 1;
        } else {
            result.dims.remove(axis);
        }
        result.value = self.graph.reduce(x.value, kind, vec![axis], keep);
        self.push(result);
    }

    fn product(&mut self) {
        let (a, b) = (self.pick(), self.pick());
        let (Some(&k), true, true) = (a.dims.last(), a.dims.len() >= 2, b.dims.len() == 2) else { return };
        let square = b.dims[0] == b.dims[1];
        let transpose_b = if square { self.generator.below(2) == 0 } else { b.dims[0] != k };
        let columns = if transpose_b { b.dims[0] } else { b.dims[1] };
        if b.dims[usize::from(transpose_b)] != k {
            return;
        }
        let mut dims = a.dims.clone();
        *dims.last_mut().expect("rank 2 at least") = columns;
        let magnitude = a.magnitude + b.magnitude + 64 - (k as u64).leading_zeros() as i32;
        let result = Exact { value: Value::POISON, dims, magnitude, fraction: a.fraction + b.fraction };
        if result.fits() {
            let value = self.graph.matmul(a.value, b.value, false, transpose_b);
            self.push(Exact { value, ..result });
        }
    }

    fn results(mut self) -> RandomGraph {
        let count = 2 + self.generator.below(2);
        for index in 0..count {
            let value = if index == 0 { self.values.last().cloned() } else { None };
            let value = value.unwrap_or_else(|| self.pick()).value;
            self.graph.output(format!("y{index}"), value);
        }
        let state = TensorType::new(DType::F32, self.shape(&[2, 1, 4]));
        let fits = self.values.iter().rev().find(|exact| *self.graph.ty(exact.value) == state);
        if let Some(value) = fits.map(|exact| exact.value) {
            self.graph.update_state("x3", value);
        }
        let graph = self.graph.finish().expect("only well-typed nodes were added");
        RandomGraph { graph, feeds: self.feeds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlx_ir::interpret::evaluate;
    use rlx_ir::{Op, OpKind};

    #[test]
    fn graphs_evaluate_and_repeat() {
        for seed in 0..300 {
            let random = random_graph(seed);
            assert_eq!(random.graph, random_graph(seed).graph);
            let evaluation = evaluate(&random.graph, &random.feeds).expect("dyadic values never fault");
            for (_, literal) in &evaluation.outputs {
                assert!(literal.to_f64s().iter().all(|value| value.is_finite()));
            }
        }
    }

    #[test]
    fn square_matrices_are_multiplied_both_ways() {
        let (mut straight, mut transposed) = (0, 0);
        for graph in (0..300).map(|seed| random_graph(seed).graph) {
            for (_, node) in graph.nodes_of(OpKind::MatMul) {
                let Op::MatMul(op) = &node.op else { continue };
                let b = graph.ty(node.operands[1]).shape.dims();
                if b[0] == b[1] {
                    *(if op.transpose_b { &mut transposed } else { &mut straight }) += 1;
                }
            }
        }
        assert!(straight > 0 && transposed > 0, "{straight} straight, {transposed} transposed");
    }

    #[test]
    fn graphs_are_not_trivial() {
        let nodes: usize = (0..100).map(|seed| random_graph(seed).graph.nodes().len()).sum();
        assert!(nodes > 2000, "{nodes} nodes in 100 graphs");
    }
}
