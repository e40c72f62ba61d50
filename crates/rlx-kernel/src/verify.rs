//! The kernel verifier: types, scopes, access and names. It collects every broken rule.
//!
//! It does not look for races, bounds or barrier divergence; those depend on the launch and are the
//! interpreter's to find.

use crate::builder::infer;
use crate::error::KernelError;
use crate::ir::*;
use crate::text::statement_line;
use std::collections::HashSet;

/// Invocations that a workgroup may have on every target.
pub const MAX_INVOCATIONS: u64 = 1024;

/// Checks a kernel; the error lists every broken rule.
pub fn verify(kernel: &Kernel) -> Result<(), KernelError> {
    let mut checker = Checker {
        kernel,
        problems: Vec::new(),
        defined: vec![State::New; kernel.types.len()],
        scope: Vec::new(),
    };
    checker.declarations();
    checker.block(&kernel.body);
    match checker.problems.is_empty() {
        true => Ok(()),
        false => Err(KernelError::Malformed { kernel: kernel.name.clone(), problems: checker.problems }),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Visible,
    Gone,
}

struct Checker<'a> {
    kernel: &'a Kernel,
    problems: Vec<String>,
    /// What has happened to each value so far.
    defined: Vec<State>,
    /// Values in scope, innermost last.
    scope: Vec<Value>,
}

impl<'a> Checker<'a> {
    fn declarations(&mut self) {
        let kernel = self.kernel;
        let size = kernel.workgroup.iter().try_fold(1u64, |n, &extent| n.checked_mul(u64::from(extent)));
        if !size.is_some_and(|n| (1..=MAX_INVOCATIONS).contains(&n)) {
            let [x, y, z] = kernel.workgroup;
            self.problems
                .push(format!("workgroup({x}, {y}, {z}) must have 1 to {MAX_INVOCATIONS} invocations"));
        }
        let mut names = HashSet::new();
        let declared = [&kernel.name].into_iter();
        let declared = declared.chain(kernel.buffers.iter().map(|buffer| &buffer.name));
        let declared = declared.chain(kernel.arrays.iter().map(|array| &array.name));
        let declared = declared.chain(kernel.parameters.iter().map(|parameter| &parameter.name));
        for name in declared.chain(kernel.variables.iter().map(|variable| &variable.name)) {
            let letters = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
            if !letters || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                self.problems
                    .push(format!("`{name}` is not an identifier (letters, digits and _, a letter first)"));
            }
            if !names.insert(name) {
                self.problems.push(format!("`{name}` is declared twice"));
            }
        }
        for array in kernel.arrays.iter().filter(|array| array.length == 0) {
            self.problems.push(format!("workgroup array `{}` has no elements", array.name));
        }
        for parameter in &kernel.parameters {
            if !matches!(parameter.ty, Scalar::U32 | Scalar::I32 | Scalar::F32) {
                let found = parameter.ty.name();
                self.problems
                    .push(format!("parameter `{}` is {found}, expected u32, i32 or f32", parameter.name));
            }
        }
    }

    fn block(&mut self, block: &'a Block) {
        let mark = self.scope.len();
        for statement in block {
            self.statement(statement);
        }
        self.leave(mark);
    }

    /// Ends the scope that began when `mark` values were visible.
    fn leave(&mut self, mark: usize) {
        for value in self.scope.drain(mark..) {
            self.defined[value.index()] = State::Gone;
        }
    }

    fn statement(&mut self, statement: &'a Statement) {
        let mark = self.scope.len();
        let problem = self.check(statement);
        if let Err(problem) = problem {
            let line = statement_line(self.kernel, statement);
            self.problems.push(format!("`{line}`: {problem}"));
        }
        match statement {
            Statement::If(_, then, otherwise) => {
                self.block(then);
                self.block(otherwise);
            }
            Statement::For { body, .. } => {
                self.block(body);
                self.leave(mark);
            }
            Statement::While { header, condition, body } => {
                header.iter().for_each(|statement| self.statement(statement));
                if let Err(problem) = self.used(*condition, Scalar::Bool) {
                    self.problems.push(format!("`loop {{`: {problem}"));
                }
                self.block(body);
                self.leave(mark);
            }
            _ => {}
        }
    }

    /// Checks a statement's own operands and defines its result.
    fn check(&mut self, statement: &Statement) -> Result<(), String> {
        match *statement {
            Statement::Let(value, ref expr) => {
                let operands = expr.operands().into_iter().try_for_each(|value| self.visible(value));
                let ty = operands.and_then(|()| infer(self.kernel, expr));
                self.define(value)?;
                let found = self.kernel.type_of(value);
                match ty? {
                    ty if found == Some(ty) => Ok(()),
                    ty => Err(format!("the value is declared {found:?} and computed as {}", ty.name())),
                }
            }
            Statement::Set(id, value) => match self.kernel.variables.get(id.index()) {
                Some(variable) => self.used(value, variable.ty),
                None => Err(format!("variable {} does not exist", id.0)),
            },
            Statement::Store(place, index, value) => {
                let element = self.writable(place, index)?;
                self.used(value, element)
            }
            Statement::Atomic { result, place, index, value, .. } => {
                self.define(result)?;
                self.atomic(place, index, &[result, value])
            }
            Statement::CompareExchange { result, place, index, expected, value } => {
                self.define(result)?;
                self.atomic(place, index, &[result, expected, value])
            }
            Statement::If(condition, ..) => self.used(condition, Scalar::Bool),
            Statement::For { counter, start, end, step, .. } => {
                let bounds =
                    [start, end, step].into_iter().try_for_each(|value| self.used(value, Scalar::U32));
                self.define(counter)?;
                self.used(counter, Scalar::U32)?;
                bounds
            }
            Statement::While { .. } | Statement::Barrier(_) => Ok(()),
        }
    }

    fn atomic(&mut self, place: Place, index: Value, values: &[Value]) -> Result<(), String> {
        let element = self.writable(place, index)?;
        if !matches!(element, Scalar::U32 | Scalar::I32) {
            return Err(format!("atomic on {}, expected u32 or i32", element.name()));
        }
        values.iter().try_for_each(|&value| self.used(value, element))
    }

    fn writable(&self, place: Place, index: Value) -> Result<Scalar, String> {
        self.used(index, Scalar::U32)?;
        if let Place::Buffer(id) = place {
            let buffer = self.kernel.buffers.get(id.index());
            if let Some(buffer) = buffer.filter(|buffer| buffer.access == Access::Read) {
                return Err(format!("buffer `{}` is read only", buffer.name));
            }
        }
        self.kernel.element_of(place).ok_or_else(|| format!("{place:?} does not exist"))
    }

    fn define(&mut self, value: Value) -> Result<(), String> {
        let Some(defined) = self.defined.get_mut(value.index()) else {
            return Err(format!("value %{} has no type", value.0));
        };
        if *defined != State::New {
            return Err(format!("value %{} is defined twice", value.0));
        }
        *defined = State::Visible;
        self.scope.push(value);
        Ok(())
    }

    fn visible(&self, value: Value) -> Result<(), String> {
        match self.defined.get(value.index()) {
            Some(State::Visible) => Ok(()),
            _ => Err(format!("value %{} is not defined here", value.0)),
        }
    }

    fn used(&self, value: Value, expected: Scalar) -> Result<(), String> {
        self.visible(value)?;
        match self.kernel.type_of(value) {
            Some(ty) if ty == expected => Ok(()),
            Some(ty) => Err(format!("value %{} is {}, expected {}", value.0, ty.name(), expected.name())),
            None => Err(format!("value %{} has no type", value.0)),
        }
    }
}
