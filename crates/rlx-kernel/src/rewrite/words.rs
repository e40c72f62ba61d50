//! Typed buffers onto bindings of 32-bit words, and narrow types into 32-bit carriers.
//!
//! A device binds few, large ranges of memory (an arena, segments of weights), so several buffers of a kernel may lie
//! in one binding. Each buffer gets a parameter `base_<buffer>`, its first word in the binding, after the kernel's
//! own parameters. An element narrower than a word is cut out of its word; storing one clears and sets its bits with
//! two atomics, so that invocations may own neighbouring elements. Then every access to that binding is atomic. A
//! kernel that packs whole words itself (a `u32` buffer) avoids this.
//!
//! Refused: f64, 64-bit integers where the target has none, and atomics on `i32` min and max.

use super::narrow::{self, carrier};
use super::{Rewrite, Target};
use crate::builder::Builder;
use crate::error::KernelError;
use crate::interp::scalar;
use crate::ir::*;

/// Where the buffers of a kernel lie.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Layout {
    /// The binding of each buffer.
    pub slots: Vec<usize>,
    /// The access of each binding.
    pub bindings: Vec<Access>,
}

impl Layout {
    /// Every buffer in a binding of its own.
    pub fn separate(kernel: &Kernel) -> Layout {
        let bindings: Vec<Access> = kernel.buffers.iter().map(|buffer| buffer.access).collect();
        Layout { slots: (0..bindings.len()).collect(), bindings }
    }
}

fn refuse(kernel: &Kernel, target: &Target, what: String, hint: &str) -> KernelError {
    let (kernel, target) = (kernel.name.clone(), target.name.clone());
    KernelError::Unsupported { kernel, what, target, hint: hint.into() }
}

/// Refuses what the target cannot hold, whatever the layout.
pub fn check_types(kernel: &Kernel, target: &Target) -> Result<(), KernelError> {
    let declared = kernel.buffers.iter().map(|buffer| buffer.element);
    let declared = declared.chain(kernel.types.iter().copied());
    for ty in declared.chain(kernel.arrays.iter().map(|array| array.element)) {
        if ty == Scalar::F64 || (ty.bytes() == 8 && !target.integers64) {
            let what = format!("type {}", ty.name());
            return Err(refuse(kernel, target, what, "convert to a 32-bit type before"));
        }
    }
    let mut signed = false;
    kernel.visit(&mut |statement| {
        if let Statement::Atomic { op: AtomicOp::Min | AtomicOp::Max, place: Place::Buffer(id), .. } =
            *statement
        {
            signed |= kernel.buffers[id.index()].element == Scalar::I32;
        }
    });
    match signed {
        true => Err(refuse(kernel, target, "atomic min or max on an i32 buffer".into(), "use a u32 buffer")),
        false => Ok(()),
    }
}

/// The rewrite; see the module's text.
#[derive(Debug)]
pub struct Words {
    /// Element type, binding and base parameter of each old buffer.
    buffers: Vec<(Scalar, Place, ParameterId)>,
    layout: Layout,
    /// Bindings whose every access is atomic.
    atomic: Vec<bool>,
}

impl Words {
    /// Checks that the target can hold the kernel's types and that the layout fits it.
    pub fn new(kernel: &Kernel, target: &Target, layout: &Layout) -> Result<Words, KernelError> {
        check_types(kernel, target)?;
        if layout.slots.len() != kernel.buffers.len() {
            return Err(KernelError::Launch {
                kernel: kernel.name.clone(),
                what: "buffers in the layout".into(),
                found: layout.slots.len() as u64,
                expected: kernel.buffers.len() as u64,
            });
        }
        for (&slot, buffer) in layout.slots.iter().zip(&kernel.buffers) {
            if layout.bindings.get(slot).is_none_or(|&access| access < buffer.access) {
                return Err(refuse(
                    kernel,
                    target,
                    format!("a writable binding for `{}`", buffer.name),
                    "bind it read_write",
                ));
            }
        }
        let mut atomic = vec![false; layout.bindings.len()];
        kernel.visit(&mut |statement| match *statement {
            Statement::Store(Place::Buffer(id), ..) => {
                atomic[layout.slots[id.index()]] |= kernel.buffers[id.index()].element.bytes() < 4;
            }
            Statement::Atomic { place: Place::Buffer(id), .. } => {
                atomic[layout.slots[id.index()]] = true;
            }
            Statement::CompareExchange { place: Place::Buffer(id), .. } => {
                atomic[layout.slots[id.index()]] = true;
            }
            _ => {}
        });
        Ok(Words { buffers: Vec::new(), layout: layout.clone(), atomic })
    }

    /// The binding of a buffer and the word that holds the element `index` (its first word, for 64-bit elements).
    fn word(&self, b: &mut Builder, id: BufferId, index: Value) -> (Place, Value) {
        let (element, binding, base) = self.buffers[id.index()];
        let offset = match element.bytes() {
            8 => {
                let two = b.u32(2);
                b.mul(index, two)
            }
            4 => index,
            bytes => {
                let shift = b.u32(if bytes == 1 { 2 } else { 1 });
                b.binary(BinaryOp::Shr, index, shift)
            }
        };
        let base = b.emit(Expr::Parameter(base));
        (binding, b.add(base, offset))
    }

    /// The position in its word, in bits, of a narrow element.
    fn shift(&self, b: &mut Builder, element: Scalar, index: Value) -> Value {
        let per_word = b.u32(4 / element.bytes() - 1);
        let lane = b.and(index, per_word);
        let width = b.u32(8 * element.bytes());
        b.mul(lane, width)
    }

    fn load_word(&self, b: &mut Builder, binding: Place, index: Value) -> Value {
        match binding {
            Place::Buffer(id) if self.atomic[id.index()] => {
                let zero = b.u32(0);
                b.atomic(AtomicOp::Load, binding, index, zero)
            }
            _ => b.load(binding, index),
        }
    }

    fn store_word(&self, b: &mut Builder, binding: Place, index: Value, value: Value) {
        match binding {
            Place::Buffer(id) if self.atomic[id.index()] => {
                b.atomic(AtomicOp::Exchange, binding, index, value);
            }
            _ => b.store(binding, index, value),
        }
    }

    fn load(&self, b: &mut Builder, id: BufferId, index: Value) -> Value {
        let element = self.buffers[id.index()].0;
        let (binding, word) = self.word(b, id, index);
        let bits = self.load_word(b, binding, word);
        if element.bytes() == 4 {
            return b.bitcast(element, bits);
        }
        if element.bytes() == 8 {
            let one = b.u32(1);
            let next = b.add(word, one);
            let high = self.load_word(b, binding, next);
            let (low, high) = (b.cast(Scalar::U64, bits), b.cast(Scalar::U64, high));
            let width = b.literal(Scalar::U64, 32);
            let high = b.binary(BinaryOp::Shl, high, width);
            let both = b.binary(BinaryOp::Or, high, low);
            return b.bitcast(element, both);
        }
        let shift = self.shift(b, element, index);
        let moved = b.binary(BinaryOp::Shr, bits, shift);
        let mask = b.u32((1 << (8 * element.bytes())) - 1);
        let bits = b.and(moved, mask);
        narrow::from_bits(b, element, bits)
    }

    fn save(&self, b: &mut Builder, id: BufferId, index: Value, value: Value) {
        let element = self.buffers[id.index()].0;
        let (binding, word) = self.word(b, id, index);
        match element.bytes() {
            4 => {
                let bits = b.bitcast(Scalar::U32, value);
                self.store_word(b, binding, word, bits);
            }
            8 => {
                let bits = b.bitcast(Scalar::U64, value);
                let low = b.cast(Scalar::U32, bits);
                self.store_word(b, binding, word, low);
                let width = b.literal(Scalar::U64, 32);
                let high = b.binary(BinaryOp::Shr, bits, width);
                let high = b.cast(Scalar::U32, high);
                let one = b.u32(1);
                let next = b.add(word, one);
                self.store_word(b, binding, next, high);
            }
            _ => {
                let bits = narrow::to_bits(b, element, value);
                let shift = self.shift(b, element, index);
                let mask = b.u32((1 << (8 * element.bytes())) - 1);
                let mask = b.binary(BinaryOp::Shl, mask, shift);
                let keep = b.unary(UnaryOp::Not, mask);
                b.atomic(AtomicOp::And, binding, word, keep);
                let bits = b.binary(BinaryOp::Shl, bits, shift);
                b.atomic(AtomicOp::Or, binding, word, bits);
            }
        }
    }
}

impl Rewrite for Words {
    fn declare(&mut self, old: &Kernel, b: &mut Builder) -> Result<(), KernelError> {
        let bindings = self.layout.bindings.iter().enumerate();
        let bindings: Vec<Place> =
            bindings.map(|(i, &access)| b.buffer(format!("binding{i}"), Scalar::U32, access)).collect();
        for array in &old.arrays {
            b.array(&array.name, carrier(array.element), array.length);
        }
        for parameter in &old.parameters {
            b.declare_parameter(&parameter.name, parameter.ty);
        }
        for (buffer, &slot) in old.buffers.iter().zip(&self.layout.slots) {
            let base = b.declare_parameter(format!("base_{}", buffer.name), Scalar::U32);
            self.buffers.push((buffer.element, bindings[slot], base));
        }
        for variable in &old.variables {
            b.variable(&variable.name, carrier(variable.ty));
        }
        Ok(())
    }

    fn expression(
        &mut self,
        b: &mut Builder,
        expr: Expr,
        ty: Scalar,
        operand: Scalar,
    ) -> Result<Value, KernelError> {
        Ok(match expr {
            Expr::Constant(literal) if carrier(ty) != ty => {
                b.literal(carrier(ty), scalar::cast(ty, carrier(ty), literal.bits))
            }
            Expr::Load(Place::Buffer(id), index) => self.load(b, id, index),
            Expr::Cast(to, a) if to == operand => a,
            Expr::Cast(to, a) => narrow::cast(b, to, a),
            Expr::Bitcast(to, a) if to.bytes() < 4 => {
                let bits = narrow::to_bits(b, operand, a);
                narrow::from_bits(b, to, bits)
            }
            Expr::Unary(..) | Expr::Binary(..) => {
                let result = b.emit(expr);
                if ty == Scalar::Bool { result } else { narrow::round(b, ty, result) }
            }
            other => b.emit(other),
        })
    }

    fn store(
        &mut self,
        b: &mut Builder,
        place: Place,
        index: Value,
        value: Value,
    ) -> Result<(), KernelError> {
        match place {
            Place::Buffer(id) => self.save(b, id, index, value),
            Place::Array(_) => b.store(place, index, value),
        }
        Ok(())
    }

    fn atomic(&mut self, b: &mut Builder, place: Place, index: Value) -> Result<(Place, Value), KernelError> {
        Ok(match place {
            Place::Buffer(id) => self.word(b, id, index),
            Place::Array(_) => (place, index),
        })
    }
}
