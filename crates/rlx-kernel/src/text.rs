//! The text form of a kernel, for reading and for snapshot tests. It is printed, never parsed.
//!
//! ```text
//! kernel scale workgroup(64, 1, 1) {
//!   buffer x: f32 read
//!   buffer y: f32 read_write
//!   parameter n: u32
//!   %0: u32 = group_id.0
//!   %2: u32 = mul %0, 64
//!   ...
//!   if %5 {
//!     %6: f32 = load x[%4]
//!     store y[%4] = %6
//!   }
//! }
//! ```
//!
//! Constants stand where they are used; their definitions are not printed.

use crate::ir::*;
use std::collections::HashMap;
use std::fmt::{self, Display, Write};

impl Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.workgroup;
        writeln!(f, "kernel {} workgroup({x}, {y}, {z}) {{", self.name)?;
        for buffer in &self.buffers {
            let access = if buffer.access == Access::Read { "read" } else { "read_write" };
            writeln!(f, "  buffer {}: {} {access}", buffer.name, buffer.element.name())?;
        }
        for array in &self.arrays {
            writeln!(f, "  workgroup {}: {}[{}]", array.name, array.element.name(), array.length)?;
        }
        for parameter in &self.parameters {
            writeln!(f, "  parameter {}: {}", parameter.name, parameter.ty.name())?;
        }
        for variable in &self.variables {
            writeln!(f, "  variable {}: {}", variable.name, variable.ty.name())?;
        }
        let mut out = String::new();
        Printer::new(self).block(&self.body, 1, &mut out)?;
        write!(f, "{out}}}")
    }
}

/// The first line of a statement, as the text form prints it.
pub fn statement_line(kernel: &Kernel, statement: &Statement) -> String {
    Printer::new(kernel).head(statement)
}

/// The constants of a kernel, by value.
pub(crate) fn constants(kernel: &Kernel) -> HashMap<Value, Literal> {
    let mut constants = HashMap::new();
    kernel.visit(&mut |statement| {
        if let Statement::Let(value, Expr::Constant(literal)) = statement {
            constants.insert(*value, *literal);
        }
    });
    constants
}

struct Printer<'a> {
    kernel: &'a Kernel,
    constants: HashMap<Value, Literal>,
}

impl<'a> Printer<'a> {
    fn new(kernel: &'a Kernel) -> Printer<'a> {
        Printer { kernel, constants: constants(kernel) }
    }

    fn block(&self, statements: &Block, depth: usize, out: &mut String) -> fmt::Result {
        let indent = "  ".repeat(depth);
        for statement in statements {
            if matches!(statement, Statement::Let(_, Expr::Constant(_))) {
                continue;
            }
            writeln!(out, "{indent}{}", self.head(statement))?;
            match statement {
                Statement::If(_, then, otherwise) => {
                    self.block(then, depth + 1, out)?;
                    if !otherwise.is_empty() {
                        writeln!(out, "{indent}}} else {{")?;
                        self.block(otherwise, depth + 1, out)?;
                    }
                    writeln!(out, "{indent}}}")?;
                }
                Statement::For { body, .. } => {
                    self.block(body, depth + 1, out)?;
                    writeln!(out, "{indent}}}")?;
                }
                Statement::While { header, condition, body } => {
                    self.block(header, depth + 1, out)?;
                    writeln!(out, "{indent}}} while {} {{", self.value(*condition))?;
                    self.block(body, depth + 1, out)?;
                    writeln!(out, "{indent}}}")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn head(&self, statement: &Statement) -> String {
        let v = |value: &Value| self.value(*value);
        match statement {
            Statement::Let(value, expr) => format!("{} = {}", self.define(*value), self.expression(expr)),
            Statement::Set(id, value) => format!("set {} = {}", self.variable(*id), v(value)),
            Statement::Store(place, index, value) => {
                format!("store {}[{}] = {}", self.place(*place), v(index), v(value))
            }
            Statement::Atomic { result, op, place, index, value } => {
                let (define, place) = (self.define(*result), self.place(*place));
                format!("{define} = atomic {} {place}[{}], {}", op.name(), v(index), v(value))
            }
            Statement::CompareExchange { result, place, index, expected, value } => {
                let (define, place) = (self.define(*result), self.place(*place));
                format!("{define} = compare_exchange {place}[{}], {}, {}", v(index), v(expected), v(value))
            }
            Statement::If(condition, ..) => format!("if {} {{", v(condition)),
            Statement::For { counter, start, end, step, .. } => {
                format!("for {} in {}..{} by {} {{", self.define(*counter), v(start), v(end), v(step))
            }
            Statement::While { .. } => "loop {".into(),
            Statement::Barrier(Fence::Arrays) => "barrier arrays".into(),
            Statement::Barrier(Fence::Everything) => "barrier everything".into(),
        }
    }

    fn expression(&self, expr: &Expr) -> String {
        let v = |value: Value| self.value(value);
        match *expr {
            Expr::Constant(literal) => constant(literal),
            Expr::Parameter(id) => {
                let parameter = self.kernel.parameters.get(id.index());
                format!("parameter {}", parameter.map_or("unknown", |parameter| &parameter.name))
            }
            Expr::Builtin(Builtin::LocalId(axis)) => format!("local_id.{axis}"),
            Expr::Builtin(Builtin::GroupId(axis)) => format!("group_id.{axis}"),
            Expr::Builtin(Builtin::GroupCount(axis)) => format!("group_count.{axis}"),
            Expr::Get(id) => format!("get {}", self.variable(id)),
            Expr::Load(place, index) => format!("load {}[{}]", self.place(place), v(index)),
            Expr::Unary(op, a) => format!("{} {}", op.name(), v(a)),
            Expr::Binary(op, a, b) => format!("{} {}, {}", op.name(), v(a), v(b)),
            Expr::Select(c, a, b) => format!("select {}, {}, {}", v(c), v(a), v(b)),
            Expr::Cast(ty, a) => format!("cast {} {}", ty.name(), v(a)),
            Expr::Bitcast(ty, a) => format!("bitcast {} {}", ty.name(), v(a)),
        }
    }

    fn value(&self, value: Value) -> String {
        self.constants.get(&value).map_or_else(|| format!("%{}", value.0), |&literal| constant(literal))
    }

    fn define(&self, value: Value) -> String {
        format!("%{}: {}", value.0, self.kernel.type_of(value).map_or("unknown", Scalar::name))
    }

    fn place(&self, place: Place) -> &str {
        let name = match place {
            Place::Buffer(id) => self.kernel.buffers.get(id.index()).map(|buffer| &buffer.name),
            Place::Array(id) => self.kernel.arrays.get(id.index()).map(|array| &array.name),
        };
        name.map_or("unknown", |name| name)
    }

    fn variable(&self, id: VariableId) -> &str {
        self.kernel.variables.get(id.index()).map_or("unknown", |variable| &variable.name)
    }
}

/// A constant: bool, 32-bit integers and finite `f32` as numbers, everything else as bits.
fn constant(literal: Literal) -> String {
    let bits = literal.bits;
    match literal.ty {
        Scalar::Bool => (bits != 0).to_string(),
        Scalar::F32 if f32::from_bits(bits as u32).is_finite() => {
            format!("{:?}", f32::from_bits(bits as u32))
        }
        Scalar::I32 => (bits as u32 as i32).to_string(),
        Scalar::U32 => (bits as u32).to_string(),
        ty => format!("{}({bits:#x})", ty.name()),
    }
}
