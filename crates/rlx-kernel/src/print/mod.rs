//! Printing kernels: one walk for every language, and a small [`Dialect`] for each.
//!
//! A printer only spells. What a language cannot say was rewritten before ([`crate::rewrite::legalise`]); what is left
//! over is refused by name. Constants stand where they are used.

pub mod wgsl;

use crate::error::KernelError;
use crate::ir::*;
use crate::text::constants;
use crate::verify::verify;
use std::collections::HashMap;

/// Facts about a kernel that its declarations depend on.
#[derive(Debug)]
pub struct Usage {
    /// Buffers that atomics work on.
    pub atomic_buffers: Vec<bool>,
    /// Workgroup arrays that atomics work on.
    pub atomic_arrays: Vec<bool>,
}

impl Usage {
    fn of(kernel: &Kernel) -> Usage {
        let mut usage = Usage {
            atomic_buffers: vec![false; kernel.buffers.len()],
            atomic_arrays: vec![false; kernel.arrays.len()],
        };
        kernel.visit(&mut |statement| {
            if let Statement::Atomic { place, .. } | Statement::CompareExchange { place, .. } = statement {
                match place {
                    Place::Buffer(id) => usage.atomic_buffers[id.index()] = true,
                    Place::Array(id) => usage.atomic_arrays[id.index()] = true,
                }
            }
        });
        usage
    }

    fn is_atomic(&self, place: Place) -> bool {
        match place {
            Place::Buffer(id) => self.atomic_buffers[id.index()],
            Place::Array(id) => self.atomic_arrays[id.index()],
        }
    }
}

/// The spelling of one language. `None` means that it has no such thing.
pub trait Dialect {
    /// Its name in messages.
    fn name(&self) -> &'static str;
    /// Everything before the body, the opening brace included.
    fn head(&self, kernel: &Kernel, usage: &Usage) -> String;
    /// A type; `None` for one that cannot be in a register.
    fn scalar(&self, ty: Scalar) -> Option<&'static str>;
    /// A constant.
    fn literal(&self, literal: Literal) -> String;
    /// The definition of a value.
    fn define(&self, ty: &str, name: &str, expression: &str) -> String;
    /// The declaration of a mutable local.
    fn variable(&self, ty: &str, name: &str) -> String;
    /// The start of a counted loop, the opening brace included.
    fn count(&self, name: &str, start: &str, end: &str, step: &str) -> String;
    /// A run-time word.
    fn parameter(&self, parameter: &Parameter) -> String;
    /// A launch index.
    fn builtin(&self, builtin: Builtin) -> String;
    /// A function of one operand.
    fn unary(&self, op: UnaryOp, ty: Scalar, a: &str) -> Option<String>;
    /// A function of two operands of type `ty`.
    fn binary(&self, op: BinaryOp, ty: Scalar, a: &str, b: &str) -> Option<String>;
    /// A choice.
    fn select(&self, condition: &str, then: &str, otherwise: &str) -> String;
    /// A conversion.
    fn cast(&self, to: &str, a: &str) -> String;
    /// The same bits as another type.
    fn bitcast(&self, from: Scalar, to: Scalar, to_name: &str, a: &str) -> String;
    /// A plain load from an element that atomics also work on.
    fn atomic_load(&self, element: &str) -> String;
    /// A plain store to an element that atomics also work on.
    fn atomic_store(&self, element: &str, value: &str) -> String;
    /// An atomic.
    fn atomic(&self, op: AtomicOp, element: &str, value: &str) -> String;
    /// Compare and exchange, as the old value.
    fn compare_exchange(&self, element: &str, expected: &str, value: &str) -> String;
    /// A barrier.
    fn barrier(&self, fence: Fence) -> &'static str;
}

/// The kernel in the dialect's language.
pub fn print(kernel: &Kernel, dialect: &dyn Dialect) -> Result<String, KernelError> {
    verify(kernel)?;
    let usage = Usage::of(kernel);
    let out = dialect.head(kernel, &usage);
    let mut printer = Printer { kernel, dialect, usage, constants: constants(kernel), out, depth: 1 };
    for variable in &kernel.variables {
        let ty = printer.scalar(variable.ty)?;
        printer.line(&dialect.variable(ty, &identifier(&variable.name)));
    }
    printer.block(&kernel.body)?;
    printer.out.push_str("}\n");
    Ok(printer.out)
}

/// A name of the kernel as an identifier of the language: the suffix keeps it off reserved words.
pub fn identifier(name: &str) -> String {
    format!("{name}_")
}

struct Printer<'a> {
    kernel: &'a Kernel,
    dialect: &'a dyn Dialect,
    usage: Usage,
    constants: HashMap<Value, Literal>,
    out: String,
    depth: usize,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(&"  ".repeat(self.depth));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn block(&mut self, block: &Block) -> Result<(), KernelError> {
        block.iter().try_for_each(|statement| self.statement(statement))
    }

    /// A block one level in, and its closing brace.
    fn inner(&mut self, block: &Block) -> Result<(), KernelError> {
        self.depth += 1;
        self.block(block)?;
        self.depth -= 1;
        self.line("}");
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), KernelError> {
        let dialect = self.dialect;
        match *statement {
            Statement::Let(_, Expr::Constant(_)) => {}
            Statement::Let(value, ref expr) => {
                let expression = self.expression(expr)?;
                self.define(value, &expression)?;
            }
            Statement::Set(id, value) => {
                let name = identifier(&self.kernel.variables[id.index()].name);
                self.line(&format!("{name} = {};", self.value(value)));
            }
            Statement::Store(place, index, value) => {
                let (element, value) = (self.element(place, index), self.value(value));
                match self.usage.is_atomic(place) {
                    true => self.line(&dialect.atomic_store(&element, &value)),
                    false => self.line(&format!("{element} = {value};")),
                }
            }
            Statement::Atomic { result, op, place, index, value } => {
                let atomic = dialect.atomic(op, &self.element(place, index), &self.value(value));
                self.define(result, &atomic)?;
            }
            Statement::CompareExchange { result, place, index, expected, value } => {
                let (element, expected) = (self.element(place, index), self.value(expected));
                let exchange = dialect.compare_exchange(&element, &expected, &self.value(value));
                self.define(result, &exchange)?;
            }
            Statement::If(condition, ref then, ref otherwise) => {
                self.line(&format!("if ({}) {{", self.value(condition)));
                self.inner(then)?;
                if !otherwise.is_empty() {
                    self.line("else {");
                    self.inner(otherwise)?;
                }
            }
            Statement::For { counter, start, end, step, ref body } => {
                let (start, end, step) = (self.value(start), self.value(end), self.value(step));
                self.line(&dialect.count(&self.value(counter), &start, &end, &step));
                self.inner(body)?;
            }
            Statement::While { ref header, condition, ref body } => {
                self.line("while (true) {");
                self.depth += 1;
                self.block(header)?;
                let condition = self.value(condition);
                self.line(&format!("if (!({condition})) {{ break; }}"));
                self.depth -= 1;
                self.inner(body)?;
            }
            Statement::Barrier(fence) => self.line(dialect.barrier(fence)),
        }
        Ok(())
    }

    fn define(&mut self, value: Value, expression: &str) -> Result<(), KernelError> {
        let ty = self.scalar(self.ty(value))?;
        let line = self.dialect.define(ty, &self.value(value), expression);
        self.line(&line);
        Ok(())
    }

    fn expression(&self, expr: &Expr) -> Result<String, KernelError> {
        let dialect = self.dialect;
        Ok(match *expr {
            Expr::Constant(literal) => dialect.literal(literal),
            Expr::Parameter(id) => dialect.parameter(&self.kernel.parameters[id.index()]),
            Expr::Builtin(builtin) => dialect.builtin(builtin),
            Expr::Get(id) => identifier(&self.kernel.variables[id.index()].name),
            Expr::Load(place, index) => match self.usage.is_atomic(place) {
                true => dialect.atomic_load(&self.element(place, index)),
                false => self.element(place, index),
            },
            Expr::Unary(op, a) => {
                let text = dialect.unary(op, self.ty(a), &self.value(a));
                text.ok_or_else(|| self.unsupported(op.name(), self.ty(a)))?
            }
            Expr::Binary(op, a, b) => {
                let second = match (op, self.constants.get(&b)) {
                    // A shift amount need not have the type of what is shifted.
                    (BinaryOp::Shl | BinaryOp::Shr, Some(&literal)) => {
                        dialect.literal(Literal { ty: Scalar::U32, ..literal })
                    }
                    _ => self.value(b),
                };
                let text = dialect.binary(op, self.ty(a), &self.value(a), &second);
                text.ok_or_else(|| self.unsupported(op.name(), self.ty(a)))?
            }
            Expr::Select(c, a, b) => dialect.select(&self.value(c), &self.value(a), &self.value(b)),
            Expr::Cast(to, a) => dialect.cast(self.scalar(to)?, &self.value(a)),
            Expr::Bitcast(to, a) => dialect.bitcast(self.ty(a), to, self.scalar(to)?, &self.value(a)),
        })
    }

    fn value(&self, value: Value) -> String {
        match self.constants.get(&value) {
            Some(&literal) => self.dialect.literal(literal),
            None => format!("v{}", value.0),
        }
    }

    fn element(&self, place: Place, index: Value) -> String {
        let name = match place {
            Place::Buffer(id) => &self.kernel.buffers[id.index()].name,
            Place::Array(id) => &self.kernel.arrays[id.index()].name,
        };
        format!("{}[{}]", identifier(name), self.value(index))
    }

    fn ty(&self, value: Value) -> Scalar {
        self.kernel.type_of(value).expect("a verified kernel types its values")
    }

    fn scalar(&self, ty: Scalar) -> Result<&'static str, KernelError> {
        self.dialect.scalar(ty).ok_or_else(|| self.unsupported("a value", ty))
    }

    fn unsupported(&self, what: &str, ty: Scalar) -> KernelError {
        KernelError::Unsupported {
            kernel: self.kernel.name.clone(),
            what: format!("{what} of {}", ty.name()),
            target: self.dialect.name().into(),
            hint: "legalise the kernel for the language before printing".into(),
        }
    }
}
