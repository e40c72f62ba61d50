//! From a scalar program to block code.
//!
//! What happens on the way: an activation that has a kernel of its own is found
//! by its definition and becomes one instruction; a product that only a sum
//! uses becomes a multiply-add; a widening cast within a class disappears.
//! Slots are then given out: inputs first, constants and coordinates keep
//! theirs, temporaries share.

use super::{Class, Code, Constant, Instr, Named, Tape, class_of};
use rlx_ir::ops::{Activation, ActivationKind};
use rlx_ir::{DType, Op, ScalarKind, ScalarOp, ScalarProgram};
use std::collections::BTreeSet;

/// What a value of the program is by now.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    Input,
    Code(Code),
    Constant(ScalarKind),
    Index(usize),
    /// The same elements as another value.
    Same(usize),
    /// Nothing uses it.
    Dead,
}

struct Value {
    meaning: Meaning,
    args: Vec<usize>,
    dtype: DType,
}

struct Values {
    values: Vec<Value>,
    outputs: Vec<usize>,
}

/// Compiles `program`.
///
/// # Errors
/// A dtype that regions cannot compute with.
pub(super) fn compile(program: &ScalarProgram) -> Result<Tape, String> {
    let mut values = Values::of(program);
    if let Some(value) = values.values.iter().find(|value| class_of(value.dtype).is_none()) {
        return Err(format!("regions do not compute {}", value.dtype));
    }
    values.name_activations(program);
    values.drop_widening();
    values.bury();
    values.fuse_products();
    Ok(values.assign(program.inputs.len()))
}

impl Values {
    fn of(program: &ScalarProgram) -> Values {
        let inputs = program.inputs.iter();
        let inputs = inputs.map(|&dtype| Value { meaning: Meaning::Input, args: vec![], dtype });
        let instrs = program.instrs.iter().map(|instr| Value {
            meaning: match instr.kind {
                ScalarKind::Op(op) => Meaning::Code(Code::Op(op)),
                ScalarKind::Index(axis) => Meaning::Index(axis as usize),
                constant => Meaning::Constant(constant),
            },
            args: instr.args.iter().map(|&arg| arg as usize).collect(),
            dtype: instr.dtype,
        });
        let outputs = program.outputs.iter().map(|&output| output as usize).collect();
        Values { values: inputs.chain(instrs).collect(), outputs }
    }

    fn class(&self, value: usize) -> Class {
        class_of(self.values[value].dtype).expect("every dtype was checked to have a class")
    }

    /// Replaces what spells out an activation by one instruction.
    fn name_activations(&mut self, program: &ScalarProgram) {
        let first = program.inputs.len();
        for value in (first..self.values.len()).rev() {
            if self.class(value) != Class::F32 {
                continue;
            }
            let dtype = self.values[value].dtype;
            for (kind, named) in Named::KINDS {
                let pattern = pattern(kind, dtype);
                let mut operand = None;
                if matches(&pattern, pattern.outputs[0] as usize, program, value, &mut operand)
                    && let Some(operand) = operand
                {
                    self.values[value].meaning = Meaning::Code(Code::Named(named));
                    self.values[value].args = vec![operand];
                    break;
                }
            }
        }
    }

    /// Casts that change no register: from a narrower float to `f32`. One whose bits are read stays, because it says
    /// how many they are.
    fn drop_widening(&mut self) {
        let bitcast = Meaning::Code(Code::Op(ScalarOp::Bitcast));
        let read = self.values.iter().filter(|value| value.meaning == bitcast);
        let read: BTreeSet<usize> = read.flat_map(|value| value.args.iter().copied()).collect();
        for value in 0..self.values.len() {
            let resolved: Vec<usize> = self.values[value].args.iter().map(|&arg| self.resolve(arg)).collect();
            self.values[value].args = resolved;
            if self.values[value].meaning == Meaning::Code(Code::Op(ScalarOp::Cast)) && !read.contains(&value)
            {
                let arg = self.values[value].args[0];
                let (from, to) = (self.values[arg].dtype, self.values[value].dtype);
                if from == to || (to == DType::F32 && self.class(arg) == Class::F32) {
                    self.values[value].meaning = Meaning::Same(arg);
                    self.values[value].args = vec![];
                }
            }
        }
    }

    fn resolve(&self, value: usize) -> usize {
        match self.values[value].meaning {
            Meaning::Same(other) => other,
            _ => value,
        }
    }

    fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        for value in &self.values {
            value.args.iter().for_each(|&arg| uses[arg] += 1);
        }
        self.outputs.iter().for_each(|&output| uses[self.resolve(output)] += 1);
        uses
    }

    /// Marks what nothing uses as dead.
    fn bury(&mut self) {
        let mut uses = self.uses();
        for value in (0..self.values.len()).rev() {
            let is_input = self.values[value].meaning == Meaning::Input;
            if uses[value] == 0 && !is_input && !matches!(self.values[value].meaning, Meaning::Same(_)) {
                self.values[value].meaning = Meaning::Dead;
                for arg in std::mem::take(&mut self.values[value].args) {
                    uses[arg] -= 1;
                }
            }
        }
    }

    /// `a b + c` in one instruction where nothing else uses the product.
    fn fuse_products(&mut self) {
        let uses = self.uses();
        for value in 0..self.values.len() {
            let is_sum = self.values[value].meaning == Meaning::Code(Code::Op(ScalarOp::Add));
            if !is_sum || self.class(value) != Class::F32 {
                continue;
            }
            let args = self.values[value].args.clone();
            let product = args.iter().position(|&arg| {
                uses[arg] == 1 && self.values[arg].meaning == Meaning::Code(Code::Op(ScalarOp::Mul))
            });
            if let Some(index) = product {
                let mut operands = std::mem::take(&mut self.values[args[index]].args);
                self.values[args[index]].meaning = Meaning::Dead;
                operands.push(args[1 - index]);
                self.values[value].meaning = Meaning::Code(Code::MulAdd);
                self.values[value].args = operands;
            }
        }
    }

    /// Gives out slots and writes the instructions.
    fn assign(&self, inputs: usize) -> Tape {
        let mut last_use = vec![0usize; self.values.len()];
        for (position, value) in self.values.iter().enumerate() {
            value.args.iter().for_each(|&arg| last_use[arg] = position);
        }
        let outputs: Vec<usize> = self.outputs.iter().map(|&output| self.resolve(output)).collect();
        outputs.iter().for_each(|&output| last_use[output] = usize::MAX);
        let mut slots = Slots { slot: (0..inputs).collect(), classes: vec![], free: vec![] };
        slots.classes.extend((0..inputs).map(|input| self.class(input)));
        let mut tape = Tape::default();
        for (position, value) in self.values.iter().enumerate().skip(inputs) {
            match value.meaning {
                Meaning::Code(code) => {
                    let target = slots.temporary(self.class(position));
                    // What an instruction does not take is its first operand again.
                    let mut args = [slots.slot[value.args[0]]; 3];
                    for (to, &arg) in args.iter_mut().zip(&value.args) {
                        *to = slots.slot[arg];
                    }
                    // The first operand of a selection is its condition.
                    let typed = value.args.get(usize::from(code == Code::Op(ScalarOp::Select)));
                    let from = typed.map_or(value.dtype, |&arg| self.values[arg].dtype);
                    let sole = outputs.iter().filter(|&&output| output == position).count() == 1
                        && !self.values.iter().any(|other| other.args.contains(&position));
                    let output = outputs.iter().position(|&output| output == position).filter(|_| sole);
                    tape.instrs.push(Instr { code, from, to: value.dtype, args, target, output });
                    let mut dead: Vec<usize> = value.args.clone();
                    dead.sort_unstable();
                    dead.dedup();
                    for arg in dead {
                        let computed = matches!(self.values[arg].meaning, Meaning::Code(_));
                        if computed && last_use[arg] == position {
                            slots.free.push(slots.slot[arg]);
                        }
                    }
                    slots.slot.push(target);
                }
                Meaning::Constant(kind) => {
                    let slot = slots.fresh(self.class(position));
                    tape.constants.push(Constant { kind, dtype: value.dtype, slot });
                    slots.slot.push(slot);
                }
                Meaning::Index(axis) => {
                    let slot = slots.fresh(Class::I64);
                    tape.indices.push((axis, slot));
                    slots.slot.push(slot);
                }
                // Never asked for: `resolve` looks through these.
                Meaning::Same(_) | Meaning::Dead | Meaning::Input => slots.slot.push(usize::MAX),
            }
        }
        let dtype = |index: usize| self.values[self.outputs[index]].dtype;
        tape.outputs =
            outputs.iter().enumerate().map(|(index, &output)| (slots.slot[output], dtype(index))).collect();
        tape.classes = slots.classes;
        tape.inputs = inputs;
        tape.find_filled();
        tape
    }
}

struct Slots {
    /// Slot of each value so far.
    slot: Vec<usize>,
    classes: Vec<Class>,
    free: Vec<usize>,
}

impl Slots {
    fn fresh(&mut self, class: Class) -> usize {
        self.classes.push(class);
        self.classes.len() - 1
    }

    fn temporary(&mut self, class: Class) -> usize {
        match self.free.iter().position(|&slot| self.classes[slot] == class) {
            Some(index) => self.free.swap_remove(index),
            None => self.fresh(class),
        }
    }
}

/// The definition of an activation on `dtype`.
fn pattern(kind: ActivationKind, dtype: DType) -> ScalarProgram {
    let op = Op::from(Activation::of(kind));
    let mut program = ScalarProgram::new(vec![dtype]);
    if let Some(rule) = &op.meaning().scalar {
        let x = program.input(0);
        program.outputs = rule(&mut program, &[x]).into_iter().map(|value| value.0).collect();
    }
    program
}

/// Is value `at` of `program` computed as value `of` of `pattern`, from one operand?
fn matches(
    pattern: &ScalarProgram,
    of: usize,
    program: &ScalarProgram,
    at: usize,
    operand: &mut Option<usize>,
) -> bool {
    let Some(wanted) = of.checked_sub(pattern.inputs.len()).map(|index| &pattern.instrs[index]) else {
        return *operand.get_or_insert(at) == at;
    };
    let Some(found) = at.checked_sub(program.inputs.len()).map(|index| &program.instrs[index]) else {
        return false;
    };
    wanted.kind == found.kind
        && wanted.dtype == found.dtype
        && wanted.args.len() == found.args.len()
        && wanted
            .args
            .iter()
            .zip(&found.args)
            .all(|(&of, &at)| matches(pattern, of as usize, program, at as usize, operand))
}
