//! Rewrites from kernels to kernels: what a target language lacks is said in the operations that it has.
//!
//! [`legalise`] is the whole chain for one [`Target`]: [`words`] puts typed buffers onto bindings of 32-bit words and
//! computes narrow types in 32-bit carriers; [`exact`] gives comparison, min, max, division, shifts and casts their
//! defined meaning where the language leaves it open; [`maths`] computes the transcendental functions in arithmetic.
//! Each keeps the meaning of the kernel to the accuracy that it states, and runs under the interpreter like any other.

pub mod exact;
pub mod maths;
mod narrow;
mod trigonometry;
pub mod words;

use crate::builder::Builder;
use crate::error::KernelError;
use crate::ir::*;
use crate::verify::verify;
use words::{Layout, Words};

/// What a language on a device has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its name in messages.
    pub name: String,
    /// 64-bit integers.
    pub integers64: bool,
}

impl Target {
    /// WGSL; 64-bit integers are a feature of the device.
    pub fn wgsl(integers64: bool) -> Target {
        Target { name: "WGSL".into(), integers64 }
    }
}

/// Rewrites a kernel so that a printer for the target can spell it, with its buffers bound as the layout says.
pub fn legalise(kernel: &Kernel, target: &Target, layout: &Layout) -> Result<Kernel, KernelError> {
    verify(kernel)?;
    let kernel = rewrite(kernel, &mut Words::new(kernel, target, layout)?)?;
    let kernel = rewrite(&kernel, &mut exact::Exact)?;
    let kernel = rewrite(&kernel, &mut maths::Maths)?;
    verify(&kernel)?;
    Ok(kernel)
}

/// How one rewrite treats each part of a kernel.
pub trait Rewrite {
    /// Declares buffers, arrays, parameters and variables; variables and arrays keep their order.
    fn declare(&mut self, old: &Kernel, b: &Builder) -> Result<(), KernelError> {
        for buffer in &old.buffers {
            b.buffer(&buffer.name, buffer.element, buffer.access);
        }
        for array in &old.arrays {
            b.array(&array.name, array.element, array.length);
        }
        for parameter in &old.parameters {
            b.declare_parameter(&parameter.name, parameter.ty);
        }
        for variable in &old.variables {
            b.variable(&variable.name, variable.ty);
        }
        Ok(())
    }

    /// Emits an expression. `ty` is its type in the old kernel, `operand` that of its first operand.
    fn expression(
        &mut self,
        b: &Builder,
        expr: Expr,
        ty: Scalar,
        operand: Scalar,
    ) -> Result<Value, KernelError>;

    /// Emits a store.
    fn store(&mut self, b: &Builder, place: Place, index: Value, value: Value) -> Result<(), KernelError> {
        b.store(place, index, value);
        Ok(())
    }

    /// The place and index that an atomic works on.
    fn atomic(&mut self, _: &Builder, place: Place, index: Value) -> Result<(Place, Value), KernelError> {
        Ok((place, index))
    }
}

/// Builds the kernel anew through a rewrite.
pub fn rewrite(old: &Kernel, rule: &mut dyn Rewrite) -> Result<Kernel, KernelError> {
    let mut walk =
        Walk { old, rule, b: Builder::new(&old.name, old.workgroup), map: vec![None; old.types.len()] };
    walk.rule.declare(old, &walk.b)?;
    walk.statements(&old.body)?;
    Ok(walk.b.finish())
}

struct Walk<'a> {
    old: &'a Kernel,
    rule: &'a mut dyn Rewrite,
    b: Builder,
    map: Vec<Option<Value>>,
}

impl Walk<'_> {
    fn value(&self, old: Value) -> Value {
        self.map[old.index()].expect("a verified kernel defines values before their use")
    }

    fn ty(&self, old: Value) -> Scalar {
        self.old.type_of(old).expect("a verified kernel types its values")
    }

    fn block(&mut self, block: &Block) -> Result<Block, KernelError> {
        // The builder's closure cannot borrow the walk, so the block is opened and closed around it.
        self.b.open();
        let result = self.statements(block);
        let block = self.b.close();
        result.map(|()| block)
    }

    fn statements(&mut self, block: &Block) -> Result<(), KernelError> {
        block.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), KernelError> {
        match *statement {
            Statement::Let(value, ref expr) => {
                let operands = expr.operands();
                let operand = operands.get(usize::from(matches!(expr, Expr::Select(..))));
                let operand = operand.map_or(self.ty(value), |&operand| self.ty(operand));
                let mapped = expr.map(|operand| self.value(operand));
                let ty = self.ty(value);
                let new = self.rule.expression(&self.b, mapped, ty, operand)?;
                self.map[value.index()] = Some(new);
            }
            Statement::Set(id, value) => self.b.set(id, self.value(value)),
            Statement::Store(place, index, value) => {
                let (index, value) = (self.value(index), self.value(value));
                self.rule.store(&self.b, place, index, value)?;
            }
            Statement::Atomic { result, op, place, index, value } => {
                let (index, value) = (self.value(index), self.value(value));
                let (place, index) = self.rule.atomic(&self.b, place, index)?;
                let ty = self.ty(result);
                let element = self.b.kernel().element_of(place).unwrap_or(ty);
                let value = self.b.bitcast(element, value);
                let old = self.b.atomic(op, place, index, value);
                self.map[result.index()] = Some(self.b.bitcast(ty, old));
            }
            Statement::CompareExchange { result, place, index, expected, value } => {
                let (index, expected, value) = (self.value(index), self.value(expected), self.value(value));
                let (place, index) = self.rule.atomic(&self.b, place, index)?;
                let ty = self.ty(result);
                let element = self.b.kernel().element_of(place).unwrap_or(ty);
                let (expected, value) = (self.b.bitcast(element, expected), self.b.bitcast(element, value));
                let old = self.b.compare_exchange(place, index, expected, value);
                self.map[result.index()] = Some(self.b.bitcast(ty, old));
            }
            Statement::If(condition, ref then, ref otherwise) => {
                let (then, otherwise) = (self.block(then)?, self.block(otherwise)?);
                self.b.push(Statement::If(self.value(condition), then, otherwise));
            }
            Statement::For { counter, start, end, step, ref body } => {
                let new = self.b.fresh(Scalar::U32);
                self.map[counter.index()] = Some(new);
                let body = self.block(body)?;
                let (start, end, step) = (self.value(start), self.value(end), self.value(step));
                self.b.push(Statement::For { counter: new, start, end, step, body });
            }
            Statement::While { ref header, condition, ref body } => {
                let header = self.block(header)?;
                let body = self.block(body)?;
                self.b.push(Statement::While { header, condition: self.value(condition), body });
            }
            Statement::Barrier(fence) => self.b.barrier(fence),
        }
        Ok(())
    }
}
