//! Random graphs whose results are exact in f32.
//!
//! Values are dyadic: multiples of a small power of two, of small magnitude.
//! Every value carries a bound on both, and an op is added only while its
//! exact result fits the 24 bits of an f32. So any order of evaluation, any
//! fusion and any correct kernel gives the same bits, and comparison needs no
//! tolerance. Integers, truth values and other floats come in through casts and comparisons.
//!
//! The same seed gives the same graph and feeds everywhere.

use rlx_ir::interpret::Tensors;
use rlx_ir::op::Fill;
use rlx_ir::ops::{ActivationKind, BinaryKind, CompareKind, PadMode, ReduceKind};
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{Bindings, DType, Dim, Graph, Literal, Number, Shape, SymbolBounds, TensorType, Value};

/// A graph with feeds.
#[derive(Clone, Debug)]
pub struct RandomGraph {
    /// The graph, verified.
    pub graph: Graph,
    /// Inputs, params and states by name.
    pub feeds: Tensors,
}

/// The graph of `seed`: some tens of nodes over elementwise, movement, index,
/// reduce and matmul ops, branches and loops, some of them of no use; two or three outputs; with odd
/// seeds, one extent is the symbol `S`.
pub fn random_graph(seed: u64) -> RandomGraph {
    random_graph_with(seed, [2, 3, 4])
}

/// As [`random_graph`], with these extents in place of 2, 3 and 4. With odd
/// seeds the middle one is the bound of `S`; then it is none of the others, nor
/// twice the first, nor less than 3.
pub fn random_graph_with(seed: u64, extents: [i64; 3]) -> RandomGraph {
    let mut growth = Growth {
        extents,
        graph: Graph::new(format!("random {seed}")),
        feeds: Tensors::new(),
        generator: Generator::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)),
        detours: Generator::new(seed ^ 0x9e37_79b9_7f4a_7c15),
        values: vec![],
        symbolic: seed % 2 == 1,
    };
    growth.leaves();
    for _ in 0..8 + growth.generator.below(32) {
        growth.node();
    }
    growth.results()
}

/// A float value whose elements are multiples of `2^-fraction` below `2^magnitude`.
#[derive(Clone, Debug)]
struct Exact {
    value: Value,
    dims: Vec<i64>,
    magnitude: i32,
    fraction: i32,
}

impl RandomGraph {
    /// Other feeds, with `S` bound to `extent` (1 up to its bound) and other values of the same kind.
    pub fn feeds_for(&self, extent: i64, seed: u64) -> Tensors {
        let bindings: Bindings = [("S", extent)].into_iter().collect();
        let mut generator = Generator::new(seed);
        let leaves = self.graph.iter().filter_map(|(_, node)| Some((node.op.leaf_name()?, &node.types[0])));
        leaves
            .map(|(name, ty)| {
                let dims = ty.shape.eval(&bindings).expect("S is the only symbol");
                (name.to_string(), quarters(&dims, &mut generator))
            })
            .collect()
    }
}

/// Multiples of 1/4 in [-2, 2].
fn quarters(dims: &[usize], generator: &mut Generator) -> Literal {
    let ints = fill_literal(&TensorType::new(DType::I32, dims), Fill::Range(-8.0, 9.0), generator);
    let numbers = ints.to_ints().into_iter().map(|int| Number::Float(int as f64 / 4.0));
    Literal::from_numbers(DType::F32, dims, numbers).expect("one number per element")
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
    /// Chooses what goes through another dtype.
    detours: Generator,
    values: Vec<Exact>,
    symbolic: bool,
    extents: [i64; 3],
}

impl Growth {
    fn dim(&self, extent: i64) -> Dim {
        if self.is_symbolic(extent) { Dim::symbol("S") } else { Dim::from(extent) }
    }

    fn is_symbolic(&self, extent: i64) -> bool {
        self.symbolic && extent == self.extents[1]
    }

    fn shape(&self, dims: &[i64]) -> Shape {
        Shape::from(dims.iter().map(|&extent| self.dim(extent)).collect::<Vec<_>>())
    }

    fn literal(&mut self, dims: &[i64]) -> Literal {
        let dims: Vec<usize> = dims.iter().map(|&extent| extent as usize).collect();
        quarters(&dims, &mut self.generator)
    }

    fn leaves(&mut self) {
        if self.symbolic {
            self.graph.bound_symbol("S", SymbolBounds { min: 1, max: Some(self.extents[1]) });
        }
        let [a, b, c] = self.extents;
        let shapes: [&[i64]; 5] = [&[a, b, c], &[b, c], &[c], &[a, 1, c], &[c, c]];
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
        for dims in [&[][..], &[c]] {
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
            self.detour(&exact);
            self.values.push(exact);
        }
    }

    /// Twice the value now and then, computed in another float dtype that holds it.
    fn detour(&mut self, exact: &Exact) {
        let (dtype, digits) = [(DType::F64, 53), (DType::F16, 11), (DType::BF16, 8)][self.detours.below(3)];
        let twice = Exact { magnitude: exact.magnitude + 1, ..exact.clone() };
        // Half floats have few exponents below 1.
        let holds =
            twice.magnitude + twice.fraction <= digits && twice.magnitude <= 15 && twice.fraction <= 14;
        if self.detours.below(6) == 0 && (holds || dtype == DType::F64) && twice.fits() {
            let other = self.graph.cast(exact.value, dtype);
            let sum = self.graph.add(other, other);
            let value = self.graph.cast(sum, DType::F32);
            self.values.push(Exact { value, ..twice });
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
        match self.generator.below(14) {
            0..=2 => self.binary(),
            3 => self.activation(),
            4 => self.choice(),
            5 | 6 => self.movement(),
            7 => self.reduction(),
            8 => self.product(),
            9 => self.indexed(),
            10 => self.update(),
            11 => self.branch(),
            12 => self.scan(),
            _ => self.conditional_loop(),
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
            2 if dims[axis] > 1 && !self.is_symbolic(dims[axis]) => {
                let len = 1 + self.generator.below(dims[axis] as usize - 1) as i64;
                let start = self.generator.below((dims[axis] - len) as usize + 1);
                // A narrowed extent must not look like the symbol.
                let len = if self.is_symbolic(len) { len - 1 } else { len };
                dims[axis] = len;
                self.graph.narrow(x.value, axis, start, len)
            }
            3 => self.graph.reverse(x.value, vec![axis]),
            4 if rank < 3 => {
                dims.insert(0, self.extents[0]);
                let shape = self.shape(&dims);
                self.graph.expand(x.value, shape)
            }
            5 if dims[axis] == self.extents[0] => {
                dims[axis] *= 2;
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

    /// Elements chosen by position: a strided slice, a gather, a shift or a border.
    fn indexed(&mut self) {
        let x = self.pick();
        if x.dims.is_empty() {
            return;
        }
        let axis = self.generator.below(x.dims.len());
        let extent = x.dims[axis];
        let mut dims = x.dims.clone();
        let value = match self.generator.below(4) {
            0 if !self.is_symbolic(extent) && extent > 2 => {
                let (len, step) = ((extent + 1) / 2, [2, -2][self.generator.below(2)]);
                let start = if step > 0 { 0 } else { 2 * (len - 1) };
                dims[axis] = len;
                if self.is_symbolic(len) {
                    return;
                }
                self.graph.slice(
                    x.value,
                    vec![axis],
                    vec![Dim::from(start)],
                    vec![step],
                    vec![Dim::from(len)],
                )
            }
            1 => {
                // Position 0 is there for every value of the symbol.
                let below = if self.is_symbolic(extent) { 1 } else { extent as usize };
                let rows: Vec<i128> =
                    (0..self.extents[0]).map(|_| self.generator.below(below) as i128).collect();
                dims[axis] = self.extents[0];
                let rows = self.graph.constant(
                    Literal::ints(DType::I64, &[rows.len()], &rows).expect("one value per element"),
                );
                self.graph.gather(x.value, rows, axis)
            }
            2 => {
                let shift = self.generator.below(5) as i64 - 2;
                self.graph.roll(x.value, vec![axis], vec![Dim::from(shift)])
            }
            _ if !self.is_symbolic(extent) && !self.is_symbolic(extent + 3) && extent < 50 => {
                let mut ends = [vec![Dim::from(0); dims.len()], vec![Dim::from(0); dims.len()]];
                (ends[0][axis], ends[1][axis]) = (Dim::from(1), Dim::from(2));
                dims[axis] += 3;
                let [low, high] = ends;
                self.graph.pad(x.value, None, low, high, PadMode::Edge)
            }
            _ => return,
        };
        self.push(Exact { value, dims, ..x });
    }

    /// One value written over a part of another: its first rows, or rows chosen by constants.
    fn update(&mut self) {
        let (base, part) = (self.pick(), self.pick());
        let fits = !base.dims.is_empty()
            && base.dims.len() == part.dims.len()
            && base.dims[1..] == part.dims[1..]
            && part.dims[0] <= base.dims[0]
            && !self.is_symbolic(part.dims[0])
            && !self.is_symbolic(base.dims[0]);
        if !fits {
            return;
        }
        let start = self.generator.below((base.dims[0] - part.dims[0]) as usize + 1) as i128;
        let start =
            self.graph.constant(Literal::ints(DType::I32, &[1], &[start]).expect("one value per element"));
        let value = self.graph.dynamic_update_slice(base.value, part.value, start, vec![0]);
        let (magnitude, fraction) = (base.magnitude.max(part.magnitude), base.fraction.max(part.fraction));
        self.push(Exact { value, dims: base.dims, magnitude, fraction });
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
        if kind == ReduceKind::Sum && self.generator.below(3) == 0 {
            result.value = self.graph.cumsum(x.value, axis, keep, self.generator.below(2) == 0);
            return self.push(result);
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

    /// A body with inputs of these types and the outputs that `build` gives.
    fn body(types: &[&TensorType], build: impl FnOnce(&mut Graph, &[Value]) -> Vec<Value>) -> Graph {
        let mut body = Graph::new("body");
        let inputs = types.iter().enumerate().map(|(index, ty)| (format!("x{index}"), TensorType::clone(ty)));
        let inputs: Vec<Value> = inputs.map(|(name, ty)| body.input(name, ty)).collect();
        let values = build(&mut body, &inputs);
        body.set_outputs(values.into_iter().enumerate().map(|(index, value)| (format!("y{index}"), value)));
        body
    }

    /// Is the largest element of `x` above zero?
    fn predicate(graph: &mut Graph, x: Value) -> Value {
        let axes: Vec<usize> = (0..graph.ty(x).rank()).collect();
        let most = graph.reduce(x, ReduceKind::Max, axes, false);
        let zero = graph.scalar(DType::F32, 0.0);
        graph.compare(most, zero, CompareKind::Gt)
    }

    /// A value or its negation, with a capture and a result that nothing uses.
    fn branch(&mut self) {
        let (x, y) = (self.pick(), self.pick());
        let types = [self.graph.ty(x.value).clone(), self.graph.ty(y.value).clone()];
        let types = [&types[0], &types[1]];
        let predicate = Growth::predicate(&mut self.graph, y.value);
        let nested = self.generator.below(2) == 0;
        let then = Growth::body(&types, |_, inputs| vec![inputs[0], inputs[1]]);
        let otherwise = Growth::body(&types, |g, inputs| {
            let mut negated = g.neg(inputs[0]);
            if nested {
                let predicate = Growth::predicate(g, inputs[0]);
                let yes = Growth::body(&types, |g, inputs| vec![g.relu(inputs[0])]);
                let no = Growth::body(&types, |_, inputs| vec![inputs[0]]);
                negated = g.r#if(predicate, &[negated, inputs[1]], yes, no)[0];
            }
            vec![negated, g.abs(inputs[1])]
        });
        let values = self.graph.r#if(predicate, &[x.value, y.value], then, otherwise);
        self.push(Exact { value: values[0], ..x });
    }

    /// The largest elements so far along the first axis, what is added to each on the way, and the one before.
    fn scan(&mut self) {
        let x = self.pick();
        let (Some(&length), reverse) = (x.dims.first(), self.generator.below(2) == 0) else { return };
        let row = TensorType::new(DType::F32, self.shape(&x.dims[1..]));
        // A param has the bound of a symbol as its extent, not the symbol.
        let length =
            if self.graph.ty(x.value).shape[0] == self.dim(length) { self.dim(length) } else { return };
        if self.graph.ty(x.value).shape.dims()[1..] != *row.shape.dims() {
            return;
        }
        let start = self.graph.full(DType::F32, row.shape.clone(), -1.0);
        let body = Growth::body(&[&row, &row, &row], |g, inputs| {
            let most = g.maximum(inputs[0], inputs[2]);
            let sum = g.add(inputs[2], inputs[0]);
            // The carries trade places.
            vec![most, inputs[0], sum, inputs[1]]
        });
        let operands = [start, start, x.value];
        let values =
            self.graph.scan(&operands, length, 2usize, 1usize, reverse, rlx_ir::ops::Checkpoint::Every, body);
        let (magnitude, dims) = (x.magnitude.max(1), x.dims[1..].to_vec());
        self.push(Exact { value: values[0], dims: dims.clone(), magnitude, ..x.clone() });
        self.push(Exact { value: values[1], dims, magnitude, ..x.clone() });
        self.push(Exact { value: values[2], magnitude: magnitude + 1, ..x.clone() });
        self.push(Exact { value: values[3], magnitude, ..x });
    }

    /// Turns of a value until it was negated often enough, or is not above zero.
    fn conditional_loop(&mut self) {
        let (x, turns) = (self.pick(), self.generator.below(4) as f64);
        let (count, ty) = (TensorType::new(DType::I32, Shape::scalar()), self.graph.ty(x.value).clone());
        let condition = Growth::body(&[&count, &ty], |g, inputs| {
            let most = g.scalar(DType::I32, turns);
            let fewer = g.compare(inputs[0], most, CompareKind::Lt);
            let above = Growth::predicate(g, inputs[1]);
            vec![g.and(fewer, above)]
        });
        let body = Growth::body(&[&count, &ty], |g, inputs| {
            let one = g.scalar(DType::I32, 1.0);
            vec![g.add(inputs[0], one), g.neg(inputs[1])]
        });
        let start = self.graph.scalar(DType::I32, 0.0);
        let limit = (self.generator.below(2) == 0).then(|| Dim::from(9));
        let values = self.graph.r#while(&[start, x.value], 2usize, limit, condition, body);
        self.push(Exact { value: values[1], ..x });
    }

    fn results(mut self) -> RandomGraph {
        let count = 2 + self.generator.below(2);
        for index in 0..count {
            let value = if index == 0 { self.values.last().cloned() } else { None };
            let value = value.unwrap_or_else(|| self.pick()).value;
            self.graph.output(format!("y{index}"), value);
        }
        let [a, _, c] = self.extents;
        let state = TensorType::new(DType::F32, self.shape(&[a, 1, c]));
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
    fn other_extents_and_feeds_stay_exact() {
        for seed in 0..60 {
            let random = random_graph_with(seed, [5, 19, 33]);
            for extent in [1, 2, 19] {
                let feeds = if seed % 2 == 1 { random.feeds_for(extent, seed) } else { random.feeds.clone() };
                let evaluation = evaluate(&random.graph, &feeds).expect("dyadic values never fault");
                let floats = evaluation.outputs.iter().flat_map(|(_, literal)| literal.to_f64s());
                assert!(floats.into_iter().all(|value| (value * 1048576.0).fract() == 0.0));
            }
        }
    }

    #[test]
    fn graphs_are_not_trivial() {
        let nodes: usize = (0..100).map(|seed| random_graph(seed).graph.nodes().len()).sum();
        assert!(nodes > 2000, "{nodes} nodes in 100 graphs");
    }
}
