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
use crate::num::Num;

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
            Statement::Atomic { place: Place::Buffer(id), .. }
            | Statement::CompareExchange { place: Place::Buffer(id), .. } => {
                atomic[layout.slots[id.index()]] = true;
            }
            _ => {}
        });
        Ok(Words { buffers: Vec::new(), layout: layout.clone(), atomic })
    }

    /// The binding of a buffer and the word that holds the element `index` (its first word, for 64-bit elements).
    fn word<'b>(&self, id: BufferId, index: Num<'b>) -> (Place, Num<'b>) {
        let (element, binding, base) = self.buffers[id.index()];
        let offset = match element.bytes() {
            8 => index * 2,
            4 => index,
            bytes => index >> if bytes == 1 { 2 } else { 1 },
        };
        (binding, index.b.num(index.b.emit(Expr::Parameter(base))) + offset)
    }

    fn load_word<'b>(&self, binding: Place, index: Num<'b>) -> Num<'b> {
        let b = index.b;
        b.num(match binding {
            Place::Buffer(id) if self.atomic[id.index()] => {
                b.atomic(AtomicOp::Load, binding, index.value, b.u32(0))
            }
            _ => b.load(binding, index.value),
        })
    }

    fn store_word<'b>(&self, binding: Place, index: Num<'b>, value: Num<'b>) {
        match binding {
            Place::Buffer(id) if self.atomic[id.index()] => {
                index.b.atomic(AtomicOp::Exchange, binding, index.value, value.value);
            }
            _ => index.b.store(binding, index.value, value.value),
        }
    }

    fn load<'b>(&self, id: BufferId, index: Num<'b>) -> Num<'b> {
        let element = self.buffers[id.index()].0;
        let (binding, word) = self.word(id, index);
        let bits = self.load_word(binding, word);
        match element.bytes() {
            4 => bits.bitcast(element),
            8 => {
                let high = self.load_word(binding, word + 1);
                let (low, high) = (bits.cast(Scalar::U64), high.cast(Scalar::U64));
                ((high << 32) | low).bitcast(element)
            }
            _ => narrow::from_bits(element, (bits >> shift(element, index)) & mask(element)),
        }
    }

    fn save<'b>(&self, id: BufferId, index: Num<'b>, value: Num<'b>) {
        let element = self.buffers[id.index()].0;
        let (binding, word) = self.word(id, index);
        match element.bytes() {
            4 => self.store_word(binding, word, value.bits()),
            8 => {
                let bits = value.bitcast(Scalar::U64);
                self.store_word(binding, word, bits.cast(Scalar::U32));
                self.store_word(binding, word + 1, (bits >> 32).cast(Scalar::U32));
            }
            _ => {
                let bits = narrow::to_bits(element, value);
                let shift = shift(element, index);
                let keep = !(shift.like(mask(element)) << shift);
                index.b.atomic(AtomicOp::And, binding, word.value, keep.value);
                index.b.atomic(AtomicOp::Or, binding, word.value, (bits << shift).value);
            }
        }
    }
}

/// The bits of a narrow element in the low end of a word.
fn mask(element: Scalar) -> u32 {
    (1 << (8 * element.bytes())) - 1
}

/// The position in its word, in bits, of a narrow element.
fn shift(element: Scalar, index: Num<'_>) -> Num<'_> {
    (index & (4 / element.bytes() - 1)) * (8 * element.bytes())
}

impl Rewrite for Words {
    fn declare(&mut self, old: &Kernel, b: &Builder) -> Result<(), KernelError> {
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
        b: &Builder,
        expr: Expr,
        ty: Scalar,
        operand: Scalar,
    ) -> Result<Value, KernelError> {
        Ok(match expr {
            Expr::Constant(literal) if carrier(ty) != ty => {
                b.literal(carrier(ty), scalar::cast(ty, carrier(ty), literal.bits))
            }
            Expr::Load(Place::Buffer(id), index) => self.load(id, b.num(index)).value,
            Expr::Cast(to, a) if to == operand => a,
            Expr::Cast(to, a) => narrow::cast(to, b.num(a)).value,
            Expr::Bitcast(to, a) if to.bytes() < 4 => {
                narrow::from_bits(to, narrow::to_bits(operand, b.num(a))).value
            }
            Expr::Unary(..) | Expr::Binary(..) if ty != Scalar::Bool => {
                narrow::round(ty, b.num(b.emit(expr))).value
            }
            other => b.emit(other),
        })
    }

    fn store(&mut self, b: &Builder, place: Place, index: Value, value: Value) -> Result<(), KernelError> {
        match place {
            Place::Buffer(id) => self.save(id, b.num(index), b.num(value)),
            Place::Array(_) => b.store(place, index, value),
        }
        Ok(())
    }

    fn atomic(&mut self, b: &Builder, place: Place, index: Value) -> Result<(Place, Value), KernelError> {
        Ok(match place {
            Place::Buffer(id) => {
                let (binding, word) = self.word(id, b.num(index));
                (binding, word.value)
            }
            Place::Array(_) => (place, index),
        })
    }
}
