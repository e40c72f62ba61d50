//! Builder helpers that derivative and batching rules share: zeros, sums that
//! undo a broadcast, and scalar programs as graph code.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::{Graph, Value};
use crate::ops::{
    Activation, ActivationKind, Binary, BinaryKind, Cumsum, ElementwiseRegion, Gather, Op, PadMode,
    ReduceKind,
};
use crate::scalar::{ScalarKind, ScalarProgram};
use crate::shape::{Shape, TensorType};
use std::sync::Arc;

impl Graph {
    /// Zeros of the type of `value`.
    #[track_caller]
    pub fn zeros_like(&mut self, value: Value) -> Value {
        match self.try_ty(value).cloned() {
            Some(ty) => self.full(ty.dtype, ty.shape, 0.0),
            None => Value::POISON,
        }
    }

    /// Ones of the type of `value`.
    #[track_caller]
    pub fn ones_like(&mut self, value: Value) -> Value {
        match self.try_ty(value).cloned() {
            Some(ty) => self.full(ty.dtype, ty.shape, 1.0),
            None => Value::POISON,
        }
    }

    /// `x` times a number, in the dtype of `x`.
    #[track_caller]
    pub fn scaled(&mut self, x: Value, factor: f64) -> Value {
        let Some(dtype) = self.try_ty(x).map(|ty| ty.dtype) else { return Value::POISON };
        let factor = self.scalar(dtype, factor);
        self.mul(x, factor)
    }

    /// The conjugates of complex numbers; real ones as they are.
    #[track_caller]
    pub fn conjugated(&mut self, x: Value) -> Value {
        match self.try_ty(x).is_some_and(|ty| ty.dtype.is_complex()) {
            true => self.conjugate(x),
            false => x,
        }
    }

    /// The extent as a rank-0 value: a constant, or ones counted at run time.
    #[track_caller]
    pub fn extent(&mut self, dtype: DType, dim: &Dim) -> Value {
        if let Some(value) = dim.as_static() {
            return self.scalar(dtype, value as f64);
        }
        let ones = self.full(dtype, vec![dim.clone()], 1.0);
        self.reduce(ones, ReduceKind::Sum, vec![0], false)
    }

    /// Zeros, `extent` of them along `axis`, with the elements of `x` at `start`, `start + step` and so on.
    #[track_caller]
    pub fn place(&mut self, x: Value, axis: usize, start: &Dim, step: u64, extent: &Dim) -> Value {
        let Some(dims) = self.try_ty(x).map(|ty| ty.shape.dims().to_vec()) else { return Value::POISON };
        let mut x = x;
        let mut len = dims[axis].clone();
        if step > 1 {
            let mut apart = dims.clone();
            apart.insert(axis + 1, Dim::from(1));
            x = self.reshape(x, apart);
            x = self.pad_axis(x, axis + 1, Dim::from(0), Dim::from(step as usize - 1));
            len = len * Dim::from(step as usize);
            let mut joined = dims;
            joined[axis] = len.clone();
            x = self.reshape(x, joined);
        }
        // The last elements may be followed by more zeros than there is room for.
        let missing = extent.clone() - start.clone() - len;
        let after = if step > 1 { missing.maximum(&Dim::from(0)) } else { missing };
        x = self.pad_axis(x, axis, start.clone(), after);
        if step > 1 { self.narrow(x, axis, 0, extent.clone()) } else { x }
    }

    /// `x` with zeros before and after its elements along `axis`.
    #[track_caller]
    pub fn pad_axis(&mut self, x: Value, axis: usize, before: Dim, after: Dim) -> Value {
        if before.is(0) && after.is(0) {
            return x;
        }
        let rank = self.try_ty(x).map_or(0, TensorType::rank);
        let at = |end: &Dim| -> Vec<Dim> {
            (0..rank).map(|other| if other == axis { end.clone() } else { Dim::from(0) }).collect()
        };
        let (low, high) = (at(&before), at(&after));
        self.pad(x, None, low, high, PadMode::Constant)
    }

    /// `x` with all axes but the last made one.
    #[track_caller]
    pub(crate) fn as_matrix(&mut self, x: Value) -> Value {
        let Some(ty) = self.try_ty(x).cloned() else { return Value::POISON };
        match ty.shape.dims() {
            [lead @ .., last] if lead.len() > 1 => {
                let rows = lead.iter().cloned().fold(Dim::from(1), |product, dim| product * dim);
                self.reshape(x, vec![rows, last.clone()])
            }
            _ => x,
        }
    }

    /// `x` summed over the axes along which a tensor of shape `shape` was broadcast to it.
    #[track_caller]
    pub fn sum_to(&mut self, x: Value, shape: &Shape) -> Value {
        let Some(ty) = self.try_ty(x).cloned() else { return Value::POISON };
        if ty.shape == *shape {
            return x;
        }
        let lead = ty.rank() - shape.rank();
        let repeated = |axis: &usize| {
            axis.checked_sub(lead).is_none_or(|own| shape[own].is(1) && !ty.shape[*axis].is(1))
        };
        let axes: Vec<usize> = (0..ty.rank()).filter(repeated).collect();
        let total = |g: &mut Graph, x| g.reduce(x, ReduceKind::Sum, axes.clone(), true);
        let sum = if ty.dtype.is_complex() {
            let (re, im) = (self.real(x), self.imag(x));
            let (re, im) = (total(self, re), total(self, im));
            self.complex(re, im)
        } else {
            total(self, x)
        };
        if self.try_ty(sum).is_some_and(|ty| ty.shape == *shape) {
            return sum;
        }
        self.reshape(sum, shape.clone())
    }

    /// The derivative of `relu` at `x` times `dy`; 0 at 0.
    #[track_caller]
    pub fn relu_backward(&mut self, x: Value, dy: Value) -> Value {
        self.activation_backward(x, dy, ActivationKind::Relu, None)
    }

    /// The derivative by its operand of [`Cumsum`] from that by its result: the sum from the other end.
    #[track_caller]
    pub fn cumsum_backward(&mut self, op: &Cumsum, dy: Value) -> Value {
        self.cumsum(dy, op.axis, op.exclusive, !op.reverse)
    }

    /// The derivative by the table of [`Gather`] from that by its result: a sum per row of the table.
    #[track_caller]
    pub fn gather_backward(&mut self, op: &Gather, table: Value, indices: Value, dy: Value) -> Value {
        let zeros = self.zeros_like(table);
        self.scatter_add(zeros, indices, dy, op.axis)
    }

    /// `x` with its axis 0 in front of as many axes of extent 1 as make rank `rank`.
    #[track_caller]
    pub fn align_batch(&mut self, x: Value, rank: usize) -> Value {
        let Some(ty) = self.try_ty(x).cloned() else { return Value::POISON };
        if ty.rank() >= rank || ty.rank() == 0 {
            return x;
        }
        let mut dims = ty.shape.into_dims();
        let missing = rank - dims.len();
        dims.splice(1..1, std::iter::repeat_n(Dim::from(1), missing));
        self.reshape(x, dims)
    }

    /// `x` repeated along a new axis 0 of extent `size`.
    #[track_caller]
    pub fn expand_batch(&mut self, x: Value, size: &Dim) -> Value {
        let Some(ty) = self.try_ty(x) else { return Value::POISON };
        let dims = std::iter::once(size.clone()).chain(ty.shape.dims().iter().cloned());
        let shape = Shape::from(dims.collect::<Vec<_>>());
        self.expand(x, shape)
    }

    /// `x` with axis `from` moved to `to`.
    #[track_caller]
    pub fn move_axis(&mut self, x: Value, from: usize, to: usize) -> Value {
        let rank = self.try_ty(x).map_or(0, TensorType::rank);
        if from == to || from >= rank || to >= rank {
            return x;
        }
        let mut permutation: Vec<usize> = (0..rank).filter(|&axis| axis != from).collect();
        permutation.insert(to, from);
        self.transpose(x, permutation)
    }

    /// The outputs of `program` at every coordinate of `shape`, on operands that broadcast to it. Inputs that
    /// no output needs are left out, and what is a single op becomes that op.
    #[track_caller]
    pub fn apply_program(
        &mut self,
        program: &ScalarProgram,
        operands: &[Value],
        shape: &Shape,
    ) -> Vec<Value> {
        let (program, used) = program.clone().without_unused();
        let operands: Vec<Value> = used.iter().map(|&input| operands[input]).collect();
        if program.instrs.is_empty() {
            let copy = |&output: &u32| self.spread(operands[output as usize], shape);
            return program.outputs.iter().map(copy).collect();
        }
        if let Some(value) = self.single_op(&program, &operands) {
            return vec![self.spread(value, shape)];
        }
        let region = ElementwiseRegion { program: Arc::new(program), shape: shape.clone() };
        self.push_all(region, &operands)
    }

    fn spread(&mut self, x: Value, shape: &Shape) -> Value {
        match self.try_ty(x) {
            Some(ty) if ty.shape != *shape => self.expand(x, shape.clone()),
            _ => x,
        }
    }

    /// The one instruction of a program as an op of its own, where there is one.
    fn single_op(&mut self, program: &ScalarProgram, operands: &[Value]) -> Option<Value> {
        let [instr] = &program.instrs[..] else { return None };
        if program.outputs != [program.inputs.len() as u32] {
            return None;
        }
        let ScalarKind::Op(op) = instr.kind else {
            return match instr.kind {
                ScalarKind::Float(bits) => Some(self.scalar(instr.dtype, f64::from_bits(bits))),
                _ => None,
            };
        };
        let args: Vec<Value> = instr.args.iter().map(|&arg| operands[arg as usize]).collect();
        let activation = ActivationKind::ALL.iter().find(|kind| kind.word() == op.name());
        let binary = BinaryKind::ALL.iter().find(|kind| kind.word() == op.name());
        let op: Op = match (args.len(), activation, binary) {
            (1, Some(&kind), _) if instr.dtype.is_float() => Activation::of(kind).into(),
            (2, _, Some(&kind)) => Binary { kind }.into(),
            _ => return None,
        };
        Some(self.push(op, &args))
    }
}
