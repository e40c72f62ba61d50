//! Building kernels: methods that append statements and return values.
//!
//! The builder computes result types and never fails; a wrong operand type shows up when the kernel is verified. It is
//! changed through shared references, so that calls nest.
//! Arithmetic on constants is done at once, with the interpreter's meaning, so no kernel computes on constants alone.

use crate::interp::scalar;
use crate::ir::*;
use crate::num::Num;
use std::cell::{Ref, RefCell};
use std::collections::HashMap;

/// A kernel under construction and the block that statements go to.
#[derive(Debug)]
pub struct Builder {
    kernel: RefCell<Kernel>,
    blocks: RefCell<Vec<Block>>,
    constants: RefCell<HashMap<Value, Literal>>,
    /// Largest value that a `u32` can have, where that is less than the type allows.
    bounds: RefCell<HashMap<Value, u64>>,
}

impl Builder {
    /// An empty kernel.
    pub fn new(name: impl Into<String>, workgroup: [u32; 3]) -> Builder {
        let kernel = Kernel {
            name: name.into(),
            workgroup,
            buffers: Vec::new(),
            arrays: Vec::new(),
            parameters: Vec::new(),
            variables: Vec::new(),
            types: Vec::new(),
            body: Vec::new(),
        };
        Builder {
            kernel: RefCell::new(kernel),
            blocks: RefCell::new(vec![Vec::new()]),
            constants: RefCell::default(),
            bounds: RefCell::default(),
        }
    }

    /// The finished kernel, not yet verified.
    pub fn finish(self) -> Kernel {
        let body = self.blocks.borrow_mut().pop().unwrap_or_default();
        Kernel { body, ..self.kernel.into_inner() }
    }

    /// The declarations so far; its body is empty.
    pub fn kernel(&self) -> Ref<'_, Kernel> {
        self.kernel.borrow()
    }

    /// A value as a part of formulas.
    pub(crate) fn num(&self, value: Value) -> Num<'_> {
        Num { b: self, value }
    }

    /// The type of a value.
    pub fn type_of(&self, value: Value) -> Scalar {
        self.kernel().type_of(value).expect("values of a builder come from it")
    }

    /// Declares a buffer argument.
    pub fn buffer(&self, name: impl Into<String>, element: Scalar, access: Access) -> Place {
        Place::Buffer(BufferId(append(
            &mut self.kernel.borrow_mut().buffers,
            Buffer { name: name.into(), element, access },
        )))
    }

    /// Declares a workgroup array.
    pub fn array(&self, name: impl Into<String>, element: Scalar, length: u32) -> Place {
        Place::Array(ArrayId(append(
            &mut self.kernel.borrow_mut().arrays,
            WorkgroupArray { name: name.into(), element, length },
        )))
    }

    /// Declares a run-time word.
    pub fn declare_parameter(&self, name: impl Into<String>, ty: Scalar) -> ParameterId {
        ParameterId(append(&mut self.kernel.borrow_mut().parameters, Parameter { name: name.into(), ty }))
    }

    /// Declares a `u32` run-time word and reads it.
    pub fn parameter(&self, name: impl Into<String>) -> Value {
        let id = self.declare_parameter(name, Scalar::U32);
        self.emit(Expr::Parameter(id))
    }

    /// Declares a mutable local, unwritten.
    pub fn variable(&self, name: impl Into<String>, ty: Scalar) -> VariableId {
        VariableId(append(&mut self.kernel.borrow_mut().variables, Variable { name: name.into(), ty }))
    }

    /// Declares a mutable local with a first value.
    pub fn variable_of(&self, name: impl Into<String>, value: Value) -> VariableId {
        let ty = self.type_of(value);
        let id = self.variable(name, ty);
        self.set(id, value);
        id
    }

    /// A fresh value of a type, to be defined by the caller's statement.
    pub fn fresh(&self, ty: Scalar) -> Value {
        Value(append(&mut self.kernel.borrow_mut().types, ty))
    }

    /// Appends a statement.
    pub fn push(&self, statement: Statement) {
        self.blocks.borrow_mut().last_mut().expect("the builder keeps one open block").push(statement);
    }

    /// Defines a value, or finds that it is an operand or a constant.
    pub fn emit(&self, expr: Expr) -> Value {
        let expr = match self.fold(&expr) {
            Some(Folded::Operand(value)) => return value,
            Some(Folded::Constant(literal)) => Expr::Constant(literal),
            None => expr,
        };
        let ty = infer(&self.kernel(), &expr).unwrap_or(Scalar::U32);
        let value = self.fresh(ty);
        if let Expr::Constant(literal) = expr {
            self.constants.borrow_mut().insert(value, literal);
        }
        if let Some(bound) = self.bound_of(ty, &expr) {
            self.bounds.borrow_mut().insert(value, bound);
        }
        self.push(Statement::Let(value, expr));
        value
    }

    /// The constant that a value is known to be.
    pub fn constant_of(&self, value: Value) -> Option<Literal> {
        self.constants.borrow().get(&value).copied()
    }

    /// The largest value that a `u32` can have, as far as its definition tells.
    pub fn upper_bound(&self, value: Value) -> u64 {
        self.bounds.borrow().get(&value).copied().unwrap_or(u64::from(u32::MAX))
    }

    fn bound_of(&self, ty: Scalar, expr: &Expr) -> Option<u64> {
        let bound = |value: Value| self.upper_bound(value);
        let largest = match *expr {
            Expr::Constant(literal) => literal.bits,
            Expr::Binary(BinaryOp::And | BinaryOp::Min, a, b) => bound(a).min(bound(b)),
            Expr::Binary(BinaryOp::Add, a, b) => bound(a) + bound(b),
            Expr::Binary(BinaryOp::Mul, a, b) => bound(a) * bound(b),
            Expr::Select(_, a, b) => bound(a).max(bound(b)),
            Expr::Cast(_, a) if self.kernel().type_of(a) == Some(Scalar::Bool) => 1,
            _ => return None,
        };
        (ty == Scalar::U32 && largest < u64::from(u32::MAX)).then_some(largest)
    }

    fn fold(&self, expr: &Expr) -> Option<Folded> {
        let ty = infer(&self.kernel(), expr).ok()?;
        let known = |value: Value| self.constant_of(value);
        let bits = match *expr {
            Expr::Unary(op, a) => scalar::unary(op, ty, known(a)?.bits),
            Expr::Cast(to, a) => scalar::cast(known(a)?.ty, to, known(a)?.bits),
            Expr::Bitcast(_, a) => known(a)?.bits,
            Expr::Select(condition, a, b) => {
                return Some(Folded::Operand(if known(condition)?.bits != 0 { a } else { b }));
            }
            Expr::Binary(op, a, b) => match (known(a), known(b)) {
                (Some(x), Some(y)) => scalar::binary(op, x.ty, x.bits, y.bits),
                (None, Some(y)) => return neutral_right(op, y).then_some(Folded::Operand(a)),
                (Some(x), None) => return neutral_left(op, x).then_some(Folded::Operand(b)),
                (None, None) => return None,
            },
            _ => return None,
        };
        Some(Folded::Constant(Literal { ty, bits }))
    }

    /// A constant from its bits.
    pub fn literal(&self, ty: Scalar, bits: u64) -> Value {
        self.emit(Expr::Constant(Literal { ty, bits }))
    }

    /// A `u32` constant.
    pub fn u32(&self, value: u32) -> Value {
        self.literal(Scalar::U32, u64::from(value))
    }

    /// An `i32` constant.
    pub fn i32(&self, value: i32) -> Value {
        self.literal(Scalar::I32, u64::from(value as u32))
    }

    /// An `f32` constant.
    pub fn f32(&self, value: f32) -> Value {
        self.literal(Scalar::F32, u64::from(value.to_bits()))
    }

    /// A bool constant.
    pub fn bool(&self, value: bool) -> Value {
        self.literal(Scalar::Bool, u64::from(value))
    }

    /// A function of one operand.
    pub fn unary(&self, op: UnaryOp, a: Value) -> Value {
        self.emit(Expr::Unary(op, a))
    }

    /// A function of two operands.
    pub fn binary(&self, op: BinaryOp, a: Value, b: Value) -> Value {
        self.emit(Expr::Binary(op, a, b))
    }

    /// `a + b`.
    pub fn add(&self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// `a * b`.
    pub fn mul(&self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// `a / b`.
    pub fn div(&self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Div, a, b)
    }

    /// `a < b`.
    pub fn lt(&self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Lt, a, b)
    }

    /// Both, on bool or bitwise.
    pub fn and(&self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::And, a, b)
    }

    /// `then` where `condition`, else `otherwise`.
    pub fn select(&self, condition: Value, then: Value, otherwise: Value) -> Value {
        self.emit(Expr::Select(condition, then, otherwise))
    }

    /// Conversion; no statement when the type is the same.
    pub fn cast(&self, ty: Scalar, a: Value) -> Value {
        if self.type_of(a) == ty { a } else { self.emit(Expr::Cast(ty, a)) }
    }

    /// The same bits as another type; no statement when the type is the same.
    pub fn bitcast(&self, ty: Scalar, a: Value) -> Value {
        if self.type_of(a) == ty { a } else { self.emit(Expr::Bitcast(ty, a)) }
    }

    /// A launch index.
    pub fn builtin(&self, builtin: Builtin) -> Value {
        self.emit(Expr::Builtin(builtin))
    }

    /// The present value of a variable.
    pub fn get(&self, variable: VariableId) -> Value {
        self.emit(Expr::Get(variable))
    }

    /// Assigns a variable.
    pub fn set(&self, variable: VariableId, value: Value) {
        self.push(Statement::Set(variable, value));
    }

    /// Reads an element.
    pub fn load(&self, place: Place, index: Value) -> Value {
        self.emit(Expr::Load(place, index))
    }

    /// Writes an element.
    pub fn store(&self, place: Place, index: Value, value: Value) {
        self.push(Statement::Store(place, index, value));
    }

    /// An atomic; gives the old value.
    pub fn atomic(&self, op: AtomicOp, place: Place, index: Value, value: Value) -> Value {
        let ty = self.kernel().element_of(place).unwrap_or(Scalar::U32);
        let result = self.fresh(ty);
        self.push(Statement::Atomic { result, op, place, index, value });
        result
    }

    /// Compare and exchange; gives the old value.
    pub fn compare_exchange(&self, place: Place, index: Value, expected: Value, value: Value) -> Value {
        let ty = self.kernel().element_of(place).unwrap_or(Scalar::U32);
        let result = self.fresh(ty);
        self.push(Statement::CompareExchange { result, place, index, expected, value });
        result
    }

    /// A barrier of the workgroup.
    pub fn barrier(&self, fence: Fence) {
        self.push(Statement::Barrier(fence));
    }

    /// Starts a block: statements go to it until [`Builder::close`].
    pub fn open(&self) {
        self.blocks.borrow_mut().push(Vec::new());
    }

    /// Ends the block that was opened last.
    pub fn close(&self) -> Block {
        self.blocks.borrow_mut().pop().expect("blocks are opened before they are closed")
    }

    /// Collects the statements that `fill` appends.
    pub fn block<R>(&self, fill: impl FnOnce(&Builder) -> R) -> (Block, R) {
        self.open();
        let result = fill(self);
        (self.close(), result)
    }

    /// Runs `then` where `condition` holds.
    pub fn when(&self, condition: Value, then: impl FnOnce(&Builder)) {
        let (then, ()) = self.block(then);
        self.push(Statement::If(condition, then, Vec::new()));
    }

    /// Counts from `start` below `end`.
    pub fn count(&self, start: Value, end: Value, step: Value, body: impl FnOnce(&Builder, Value)) {
        let counter = self.fresh(Scalar::U32);
        let (body, ()) = self.block(|b| body(b, counter));
        self.push(Statement::For { counter, start, end, step, body });
    }

    /// Repeats `body` while `header`'s result holds.
    pub fn repeat(&self, header: impl FnOnce(&Builder) -> Value, body: impl FnOnce(&Builder)) {
        let (header, condition) = self.block(header);
        let (body, ()) = self.block(body);
        self.push(Statement::While { header, condition, body });
    }

    /// The workgroup's number in a grid folded over axes 0 and 1.
    pub fn linear_group(&self) -> Value {
        let [x, y, width] =
            [Builtin::GroupId(0), Builtin::GroupId(1), Builtin::GroupCount(0)].map(|b| self.builtin(b));
        self.add(self.mul(y, width), x)
    }

    /// The invocation's number in a grid folded over axes 0 and 1, for workgroups along axis 0.
    pub fn linear_invocation(&self) -> Value {
        let size = self.kernel().workgroup[0];
        let first = self.mul(self.linear_group(), self.u32(size));
        self.add(first, self.builtin(Builtin::LocalId(0)))
    }
}

/// Appends to a list of a kernel; returns the position.
fn append<T>(list: &mut Vec<T>, item: T) -> u32 {
    list.push(item);
    list.len() as u32 - 1
}

enum Folded {
    Operand(Value),
    Constant(Literal),
}

/// True when `x op constant` is `x` for every integer or bool `x`.
fn neutral_right(op: BinaryOp, constant: Literal) -> bool {
    use BinaryOp::*;
    match op {
        Mul | Div => constant.ty.is_integer() && constant.bits == 1,
        Add | Sub | Or | Xor | Shl | Shr => !constant.ty.is_float() && constant.bits == 0,
        And => constant.ty == Scalar::Bool && constant.bits == 1,
        _ => false,
    }
}

/// True when `constant op x` is `x` for every integer or bool `x`.
fn neutral_left(op: BinaryOp, constant: Literal) -> bool {
    use BinaryOp::*;
    matches!(op, Mul | Add | Or | Xor | And) && neutral_right(op, constant)
}

/// The result type of an expression, or the rule that its operands break.
pub fn infer(kernel: &Kernel, expr: &Expr) -> Result<Scalar, String> {
    let ty = |value: Value| kernel.type_of(value).ok_or_else(|| format!("value %{} does not exist", value.0));
    match *expr {
        Expr::Constant(literal) => Ok(literal.ty),
        Expr::Parameter(id) => match kernel.parameters.get(id.index()) {
            Some(parameter) => Ok(parameter.ty),
            None => Err(format!("parameter {} does not exist", id.0)),
        },
        Expr::Builtin(_) => Ok(Scalar::U32),
        Expr::Get(id) => match kernel.variables.get(id.index()) {
            Some(variable) => Ok(variable.ty),
            None => Err(format!("variable {} does not exist", id.0)),
        },
        Expr::Load(place, index) => {
            expect("index", ty(index)?, Scalar::U32)?;
            kernel.element_of(place).ok_or_else(|| format!("{place:?} does not exist"))
        }
        Expr::Unary(op, a) => infer_unary(op, ty(a)?),
        Expr::Binary(op, a, b) => {
            expect("second operand", ty(b)?, ty(a)?)?;
            infer_binary(op, ty(a)?)
        }
        Expr::Select(condition, a, b) => {
            expect("condition", ty(condition)?, Scalar::Bool)?;
            expect("third operand", ty(b)?, ty(a)?)?;
            ty(a)
        }
        Expr::Cast(to, a) => ty(a).map(|_| to),
        Expr::Bitcast(to, a) => {
            let from = ty(a)?;
            let legal = from.bytes() == to.bytes() && from != Scalar::Bool && to != Scalar::Bool;
            if legal { Ok(to) } else { Err(format!("bitcast from {} to {}", from.name(), to.name())) }
        }
    }
}

fn infer_unary(op: UnaryOp, ty: Scalar) -> Result<Scalar, String> {
    let legal = match op {
        UnaryOp::Not => ty == Scalar::Bool || ty.is_integer(),
        op if op.is_float_only() => ty.is_float(),
        _ => ty != Scalar::Bool,
    };
    if legal { Ok(ty) } else { Err(format!("`{}` does not take {}", op.name(), ty.name())) }
}

fn infer_binary(op: BinaryOp, ty: Scalar) -> Result<Scalar, String> {
    use BinaryOp::*;
    let legal = match op {
        Pow | Atan2 => ty.is_float(),
        And | Or | Xor => ty == Scalar::Bool || ty.is_integer(),
        Shl | Shr => ty.is_integer(),
        _ if op.is_comparison() => true,
        _ => ty != Scalar::Bool,
    };
    match legal {
        true if op.is_comparison() => Ok(Scalar::Bool),
        true => Ok(ty),
        false => Err(format!("`{}` does not take {}", op.name(), ty.name())),
    }
}

fn expect(what: &str, found: Scalar, expected: Scalar) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what} is {}, expected {}", found.name(), expected.name()))
}
