//! A kernel under construction for one step: its buffers, extents and views.

use super::program::emit_program;
use super::{Argument, LoweredStep, register, small_float, storage};
use crate::builder::Builder;
use crate::error::KernelError;
use crate::ir::*;
use rlx_ir::lir::{self, EpilogueInput, KernelStep, Operand, View};
use rlx_ir::{DType, Dim};
use std::cell::RefCell;

/// Invocations of a workgroup, for every kernel.
pub(super) const WORKGROUP: u32 = 256;

pub(super) struct Emitter<'a> {
    pub step: &'a KernelStep,
    pub b: Builder,
    name: String,
    fault_word: u32,
    arguments: RefCell<Vec<(Argument, Scalar)>>,
    parameters: RefCell<Vec<Dim>>,
}

impl<'a> Emitter<'a> {
    pub fn new(step: &'a KernelStep, fault_word: u32) -> Emitter<'a> {
        let name = step.anchor.as_ref().map_or("elementwise", |anchor| anchor.op.def().name);
        let b = Builder::new(format!("k_{name}"), [WORKGROUP, 1, 1]);
        let name = name.to_string();
        Emitter { step, b, name, fault_word, arguments: RefCell::default(), parameters: RefCell::default() }
    }

    pub fn finish(self, groups: Dim) -> LoweredStep {
        LoweredStep {
            kernel: self.b.finish(),
            arguments: self.arguments.into_inner().into_iter().map(|(argument, _)| argument).collect(),
            parameters: self.parameters.into_inner(),
            groups,
            origin: self.step.origin.clone(),
            small: None,
        }
    }

    pub fn refuse(&self, what: String) -> KernelError {
        KernelError::Unsupported {
            kernel: format!("{} of {}", self.name, self.step.origin),
            what,
            target: "the kernel lowering".into(),
            hint: "run this op on the CPU, or decompose it".into(),
        }
    }

    pub fn storage(&self, dtype: DType) -> Result<Scalar, KernelError> {
        storage(dtype).ok_or_else(|| self.refuse(format!("dtype {dtype}")))
    }

    pub fn register(&self, dtype: DType) -> Result<Scalar, KernelError> {
        register(dtype).ok_or_else(|| self.refuse(format!("dtype {dtype}")))
    }

    /// An extent, stride or offset as a word: a constant where it is static, else a parameter.
    pub fn dim(&self, dim: &Dim) -> Result<Value, KernelError> {
        match dim.as_static() {
            Some(value) if (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&value) => {
                Ok(self.b.u32(value as u32))
            }
            Some(value) => Err(self.refuse(format!("extent or stride {value}, beyond 32 bits"))),
            None => Ok(self.parameter(dim)),
        }
    }

    /// A parameter; equal expressions share one.
    fn parameter(&self, dim: &Dim) -> Value {
        let mut parameters = self.parameters.borrow_mut();
        let known = parameters.iter().position(|known| known == dim);
        let index = known.unwrap_or_else(|| {
            self.b.declare_parameter(format!("p{}", parameters.len()), Scalar::U32);
            parameters.push(dim.clone());
            parameters.len() - 1
        });
        self.b.emit(Expr::Parameter(ParameterId(index as u32)))
    }

    /// The kernel's buffer for a buffer of the module, seen as elements of one type.
    pub fn place(&self, buffer: lir::BufferId, element: Scalar) -> Place {
        let written = self.step.outputs.iter().any(|view| view.buffer == buffer);
        self.argument(Argument::Buffer(buffer), element, written)
    }

    fn argument(&self, argument: Argument, element: Scalar, written: bool) -> Place {
        let mut arguments = self.arguments.borrow_mut();
        if let Some(known) = arguments.iter().position(|known| *known == (argument, element)) {
            return Place::Buffer(BufferId(known as u32));
        }
        let access = if written { Access::ReadWrite } else { Access::Read };
        arguments.push((argument, element));
        self.b.buffer(format!("b{}", arguments.len() - 1), element, access)
    }

    /// The position in its buffer of the element of a view at some coordinates.
    pub fn position(&self, view: &View, coordinates: &[Value]) -> Result<Value, KernelError> {
        let mut position = self.dim(&view.layout.offset)?;
        for (stride, &coordinate) in view.layout.strides.iter().zip(coordinates) {
            if stride.is(0) {
                continue;
            }
            position = self.b.add(position, self.b.mul(coordinate, self.dim(stride)?));
        }
        Ok(position)
    }

    /// The element of a view, in its compute type.
    pub fn load(&self, view: &View, coordinates: &[Value]) -> Result<Value, KernelError> {
        let (storage, register) = (self.storage(view.dtype)?, self.register(view.dtype)?);
        let place = self.place(view.buffer, storage);
        let value = self.b.load(place, self.position(view, coordinates)?);
        Ok(small_float::decode(view.dtype, self.b.num(value)).cast(register).value)
    }

    pub fn store(&self, view: &View, coordinates: &[Value], value: Value) -> Result<(), KernelError> {
        let storage = self.storage(view.dtype)?;
        let place = self.place(view.buffer, storage);
        let position = self.position(view, coordinates)?;
        let value = small_float::encode(view.dtype, self.b.num(value)).cast(storage);
        self.b.store(place, position, value.value);
        Ok(())
    }

    /// The element of an anchor's operand, computed where it is a region.
    pub fn operand(&self, operand: &Operand, coordinates: &[Value]) -> Result<Value, KernelError> {
        match operand {
            Operand::View(view) => self.load(view, coordinates),
            Operand::Region(region) => {
                let load = |view| self.load(view, coordinates);
                let inputs = region.inputs.iter().map(load).collect::<Result<Vec<_>, _>>()?;
                let outputs = emit_program(self, &region.program, &inputs, coordinates)?;
                outputs.first().copied().ok_or_else(|| self.refuse("a region without a result".into()))
            }
            Operand::Packed { key, .. } => Err(self.refuse(format!("operand layout {key}"))),
        }
    }

    /// Stores an anchor's results at some coordinates, through the epilogue where there is one.
    pub fn results(&self, coordinates: &[Value], results: &[Value]) -> Result<(), KernelError> {
        let step = self.step;
        let Some(epilogue) = &step.epilogue else {
            return step
                .outputs
                .iter()
                .zip(results)
                .try_for_each(|(view, &value)| self.store(view, coordinates, value));
        };
        let mut inputs = Vec::with_capacity(epilogue.inputs.len());
        for (input, &dtype) in epilogue.inputs.iter().zip(&epilogue.program.inputs) {
            inputs.push(match input {
                EpilogueInput::View(view) => self.load(view, coordinates)?,
                EpilogueInput::Anchor => self.b.cast(self.register(dtype)?, results[0]),
            });
        }
        let outputs = emit_program(self, &epilogue.program, &inputs, coordinates)?;
        step.outputs.iter().zip(outputs).try_for_each(|(view, value)| self.store(view, coordinates, value))
    }

    /// The coordinates of a position in row-major order.
    pub fn coordinates(&self, linear: Value, dims: &[Dim]) -> Result<Vec<Value>, KernelError> {
        let mut rest = linear;
        let mut coordinates = Vec::with_capacity(dims.len());
        for (axis, dim) in dims.iter().enumerate().rev() {
            if dim.is(1) {
                coordinates.push(self.b.u32(0));
                continue;
            }
            // What is left at the first axis longer than 1 is its coordinate.
            if dims[..axis].iter().all(|dim| dim.is(1)) {
                coordinates.push(rest);
                rest = self.b.u32(0);
                continue;
            }
            let extent = self.dim(dim)?;
            coordinates.push(self.b.binary(BinaryOp::Rem, rest, extent));
            rest = self.b.div(rest, extent);
        }
        coordinates.reverse();
        Ok(coordinates)
    }

    /// Runs `body` once for each element of a domain, with its row-major position; returns the number of workgroups.
    pub fn each(
        &self,
        dims: &[Dim],
        body: impl FnOnce(&Self, Value) -> Result<(), KernelError>,
    ) -> Result<Dim, KernelError> {
        let count = super::product(dims);
        let id = self.b.linear_invocation();
        self.when(self.b.lt(id, self.dim(&count)?), |e| body(e, id))?;
        Ok(count.ceil_div(&Dim::from(i64::from(WORKGROUP))))
    }

    /// Runs `body` under a condition.
    pub fn when(
        &self,
        condition: Value,
        body: impl FnOnce(&Self) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.b.open();
        let result = body(self);
        let block = self.b.close();
        self.b.push(Statement::If(condition, block, Vec::new()));
        result
    }

    /// The `f32` that `body` computes where a condition holds, else 0.
    pub fn value_when(
        &self,
        condition: Value,
        body: impl FnOnce(&Self) -> Result<Value, KernelError>,
    ) -> Result<Value, KernelError> {
        let result = self.local(self.b.f32(0.0));
        self.when(condition, |e| {
            e.b.set(result, body(e)?);
            Ok(())
        })?;
        Ok(self.b.get(result))
    }

    /// Counts from `start` below `end`.
    pub fn count(
        &self,
        [start, end, step]: [Value; 3],
        body: impl FnOnce(&Self, Value) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let counter = self.b.fresh(Scalar::U32);
        self.b.open();
        let result = body(self, counter);
        let body = self.b.close();
        self.b.push(Statement::For { counter, start, end, step, body });
        result
    }

    /// Counts from 0 below `end`.
    pub fn upto(
        &self,
        end: Value,
        body: impl FnOnce(&Self, Value) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.count([self.b.u32(0), end, self.b.u32(1)], body)
    }

    /// A mutable local with a first value.
    pub fn local(&self, value: Value) -> VariableId {
        let name = format!("x{}", self.b.kernel().variables.len());
        self.b.variable_of(name, value)
    }

    /// Changes a local by an operation with a value.
    pub fn accumulate(&self, local: VariableId, op: BinaryOp, value: Value) {
        self.b.set(local, self.b.binary(op, self.b.get(local), value));
    }

    /// Where `inside` does not hold, records that the index found at `position` is outside.
    pub fn fault_unless(&self, inside: Value, position: Value) -> Result<(), KernelError> {
        self.when(self.b.unary(UnaryOp::Not, inside), |e| {
            let faults = e.argument(Argument::Faults, Scalar::U32, true);
            // Always a parameter, so that steps share kernels.
            let word = e.parameter(&Dim::from(i64::from(e.fault_word)));
            e.b.atomic(AtomicOp::Min, faults, word, position);
            Ok(())
        })
    }

    /// An index of any integer type as `u32`, and whether it lies below `extent`.
    pub fn check_index(&self, index: Value, extent: Value) -> (Value, Value) {
        let ty = self.b.type_of(index);
        let word = self.b.cast(Scalar::U32, index);
        let below = self.b.lt(word, extent);
        if ty.bytes() <= 4 {
            // A negative index is a large word.
            return (word, below);
        }
        let same = self.b.binary(BinaryOp::Eq, self.b.cast(ty, word), index);
        (word, self.b.and(below, same))
    }
}
