//! Scalar programs as block code: each instruction runs over a block of
//! elements that stays in L1.
//!
//! A slot holds a block of one of four element classes: `f32` (also for all
//! narrower floats), `f64`, `i32` (integers of at most 32 bits but `u32`, and
//! `bool` as 0 or 1) and `i64` (`i64`, `u64`, `u32`). Narrow integers wrap
//! after every instruction; floats round where the program casts, and at the
//! outputs. Conversion from and to memory happens at the edges.
//!
//! A slot need not be copied into its register: elements that lie in memory as
//! the class has them are read there, one number for the whole block stays one
//! number, and the instruction that makes an output may write straight to it.

mod cast;
mod compile;
mod edge;
mod float;
mod integer;

pub use edge::{Run, load};

use crate::kernels::{Context, Plain, cast_bytes, cast_bytes_mut};
use crate::simd::{Kernel, Simd};
use rlx_ir::number::decode;
use rlx_ir::ops::ActivationKind;
use rlx_ir::{DType, Number, ScalarKind, ScalarOp, ScalarProgram};

/// Elements of a block.
pub const BLOCK: usize = 1024;
/// Bytes of the register of one slot.
pub const REGISTER_BYTES: usize = BLOCK * size_of::<u64>();

/// Element class of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Floats of at most 32 bits.
    F32,
    /// `f64`.
    F64,
    /// Small integers and `bool`.
    I32,
    /// `i64`, `u64`, `u32`.
    I64,
}

/// The class that `dtype` computes in; `None` for what regions cannot do.
pub fn class_of(dtype: DType) -> Option<Class> {
    Some(match dtype {
        DType::F64 => Class::F64,
        DType::I64 | DType::U64 | DType::U32 => Class::I64,
        _ if dtype.is_storage_only() || dtype.is_complex() => return None,
        _ if dtype.is_float() => Class::F32,
        _ => Class::I32,
    })
}

/// Do elements of `dtype` lie in memory as their class has them?
pub fn is_native(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::I32 | DType::I64 | DType::U64)
}

/// An element of a register: of class `F32`, `F64`, `I32` or `I64`.
pub trait Element: Plain + bytemuck::Pod {}

impl Element for f32 {}
impl Element for f64 {}
impl Element for i32 {}
impl Element for i64 {}

/// An activation with a kernel of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Sigmoid,
    Silu,
    Gelu,
    GeluTanh,
}

impl Named {
    /// The definitions that are recognised; a longer one stands before its parts.
    const KINDS: [(ActivationKind, Named); 4] = [
        (ActivationKind::Silu, Named::Silu),
        (ActivationKind::Gelu, Named::Gelu),
        (ActivationKind::GeluApprox, Named::GeluTanh),
        (ActivationKind::Sigmoid, Named::Sigmoid),
    ];
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Code {
    Op(ScalarOp),
    /// `a b + c` of class `F32`, rounded once where the processor can.
    MulAdd,
    /// Of class `F32`.
    Named(Named),
}

#[derive(Clone, Debug)]
struct Instr {
    code: Code,
    from: DType,
    to: DType,
    args: [usize; 3],
    target: usize,
    /// The output that is this value, if nothing else uses it.
    output: Option<usize>,
}

impl Instr {
    fn arity(&self) -> usize {
        match self.code {
            Code::Op(op) => op.arity(),
            Code::MulAdd => 3,
            Code::Named(_) => 1,
        }
    }
}

#[derive(Clone, Debug)]
struct Constant {
    kind: ScalarKind,
    dtype: DType,
    slot: usize,
}

/// A program in block code.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    instrs: Vec<Instr>,
    constants: Vec<Constant>,
    /// Axis and slot of each coordinate.
    pub indices: Vec<(usize, usize)>,
    outputs: Vec<(usize, DType)>,
    classes: Vec<Class>,
    inputs: usize,
    /// Slots that some instruction reads element by element even where they hold one number.
    filled: Vec<bool>,
}

/// A cache line of a register.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u64; 8]);

type Register = Vec<Line>;

/// Where the elements of a slot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In its register.
    Register,
    /// One number, the first element of its register.
    Scalar,
    /// From element `start` of read slice `read` on.
    Memory {
        /// The read slice.
        read: usize,
        /// Its first element.
        start: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    place: Place,
    /// The number that the first so many elements of the register are.
    content: Option<(u64, usize)>,
}

/// The registers of one thread. Any tape may use them; [`File::begin`] first.
#[derive(Default)]
pub struct File {
    registers: Vec<Register>,
    slots: Vec<Slot>,
}

impl File {
    /// Makes room for tapes of so many slots.
    pub fn reserve(&mut self, slots: usize) {
        let missing = slots.saturating_sub(self.registers.len());
        let lines = REGISTER_BYTES / size_of::<Line>();
        self.registers.extend((0..missing).map(|_| vec![Line([0; 8]); lines]));
        self.slots.resize(self.registers.len(), Slot { place: Place::Register, content: None });
    }

    /// Forgets what other tapes left and sets the constants of `tape`.
    pub fn begin(&mut self, tape: &Tape) {
        for slot in &mut self.slots[..tape.classes.len()] {
            *slot = Slot { place: Place::Register, content: None };
        }
        for constant in &tape.constants {
            let number = match constant.kind {
                ScalarKind::Float(bits) => Number::Float(f64::from_bits(bits)),
                ScalarKind::Int(value) => Number::Int(i128::from(value)).cast(constant.dtype),
                _ => continue,
            };
            self.set_scalar(tape, constant.slot, number, BLOCK);
        }
    }

    /// The register of `slot`, to fill with a block.
    pub fn register<T: Element>(&mut self, slot: usize) -> &mut [T] {
        self.slots[slot] = Slot { place: Place::Register, content: None };
        bytemuck::cast_slice_mut(&mut self.registers[slot])
    }

    /// The elements of `slot` are in memory, in the order and dtype of the class.
    pub fn set_memory(&mut self, slot: usize, read: usize, start: usize) {
        self.slots[slot].place = Place::Memory { read, start };
    }

    /// Every element of `slot` is `number`; the block has `len` elements.
    pub fn set_scalar(&mut self, tape: &Tape, slot: usize, number: Number, len: usize) {
        let float = number.as_f64().unwrap_or(f64::NAN);
        let int = if let Number::Int(int) = number { int as i64 } else { 0 };
        match tape.classes[slot] {
            Class::F32 => self.fill(tape, slot, (float as f32, u64::from((float as f32).to_bits())), len),
            Class::F64 => self.fill(tape, slot, (float, float.to_bits()), len),
            Class::I32 => self.fill(tape, slot, (int as i32, int as u64), len),
            Class::I64 => self.fill(tape, slot, (int, int as u64), len),
        }
    }

    fn fill<T: Element>(&mut self, tape: &Tape, slot: usize, (value, bits): (T, u64), len: usize) {
        let len = if tape.filled[slot] { len } else { 1 };
        let state = &mut self.slots[slot];
        state.place = Place::Scalar;
        if state.content.is_some_and(|(old, filled)| old == bits && filled >= len) {
            return;
        }
        state.content = Some((bits, len));
        bytemuck::cast_slice_mut::<Line, T>(&mut self.registers[slot])[..len].fill(value);
    }

    /// What instructions read.
    fn operands<'a>(&'a self, reads: &'a [&'a [u8]], len: usize) -> Operands<'a> {
        Operands { file: self, reads, len }
    }
}

/// The elements of an operand.
#[derive(Clone, Copy, Debug)]
enum Lane<'a, T> {
    Each(&'a [T]),
    All(T),
}

/// What instructions of a block read.
#[derive(Clone, Copy)]
struct Operands<'a> {
    file: &'a File,
    reads: &'a [&'a [u8]],
    len: usize,
}

impl<'a> Operands<'a> {
    fn register<T: Element>(&self, slot: usize) -> &'a [T] {
        &bytemuck::cast_slice(&self.file.registers[slot])[..self.len]
    }

    fn lane<T: Element>(&self, slot: usize) -> Lane<'a, T> {
        match self.file.slots[slot].place {
            Place::Scalar => Lane::All(bytemuck::cast_slice(&self.file.registers[slot])[0]),
            _ => Lane::Each(self.each(slot)),
        }
    }

    /// The elements one by one; of a slot of one number only where the tape has it filled.
    fn each<T: Element>(&self, slot: usize) -> &'a [T] {
        match self.file.slots[slot].place {
            Place::Memory { read, start } => {
                let all = cast_bytes::<T>("operand", self.reads[read]);
                &all.expect("a slot is placed in aligned memory only")[start..start + self.len]
            }
            _ => self.register(slot),
        }
    }
}

/// Where an instruction writes.
enum Target<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    I32(&'a mut [i32]),
    I64(&'a mut [i64]),
}

impl<'a> Target<'a> {
    fn of_register(class: Class, register: &'a mut Register, len: usize) -> Target<'a> {
        match class {
            Class::F32 => Target::F32(&mut bytemuck::cast_slice_mut(register)[..len]),
            Class::F64 => Target::F64(&mut bytemuck::cast_slice_mut(register)[..len]),
            Class::I32 => Target::I32(&mut bytemuck::cast_slice_mut(register)[..len]),
            Class::I64 => Target::I64(&mut bytemuck::cast_slice_mut(register)[..len]),
        }
    }

    fn of_bytes(class: Class, bytes: &'a mut [u8]) -> Target<'a> {
        const ALIGNED: &str = "written buffers are aligned";
        match class {
            Class::F32 => Target::F32(cast_bytes_mut("output", bytes).expect(ALIGNED)),
            Class::F64 => Target::F64(cast_bytes_mut("output", bytes).expect(ALIGNED)),
            Class::I32 => Target::I32(cast_bytes_mut("output", bytes).expect(ALIGNED)),
            Class::I64 => Target::I64(cast_bytes_mut("output", bytes).expect(ALIGNED)),
        }
    }
}

/// Takes the outputs of a block.
pub trait Sink {
    /// Where output `index` lies, if its block is contiguous there and its
    /// elements are as the class has them.
    fn direct(&mut self, index: usize) -> Option<&mut [u8]>;
}

impl Tape {
    /// Compiles `program`.
    ///
    /// # Errors
    /// A dtype that regions cannot compute with.
    pub fn new(program: &ScalarProgram) -> Result<Tape, String> {
        compile::compile(program)
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.classes.len()
    }

    /// Slot and dtype of output `index`.
    pub fn output(&self, index: usize) -> (usize, DType) {
        self.outputs[index]
    }

    /// Sets the number at the start of `bytes` as the whole of `slot`.
    pub fn set_scalar_bytes(&self, file: &mut File, slot: usize, dtype: DType, bytes: &[u8], len: usize) {
        file.set_scalar(self, slot, decode(dtype, bytes), len);
    }

    /// Decides which slots of one number must be filled all the same.
    fn find_filled(&mut self) {
        let mut single = vec![false; self.classes.len()];
        single[..self.inputs].fill(true);
        self.constants.iter().for_each(|constant| single[constant.slot] = true);
        let mut filled = vec![false; self.classes.len()];
        for instr in &self.instrs {
            let args = &instr.args[..instr.arity()];
            if !float::takes_numbers(instr.code, self.classes[instr.target]) {
                args.iter().for_each(|&arg| filled[arg] = true);
            } else if args.iter().all(|&arg| single[arg]) {
                // All of them one number: the last is read element by element.
                filled[args[args.len() - 1]] = true;
            }
        }
        self.outputs.iter().for_each(|&(slot, _)| filled[slot] = true);
        self.filled = filled;
    }

    /// Runs all instructions on blocks of `len` elements.
    pub fn run(
        &self,
        context: Context<'_>,
        file: &mut File,
        reads: &[&[u8]],
        len: usize,
        sink: &mut dyn Sink,
    ) {
        for instr in &self.instrs {
            let class = self.classes[instr.target];
            if let Some(output) = instr.output
                && let Some(bytes) = sink.direct(output)
            {
                run_instr(context, instr, file.operands(reads, len), Target::of_bytes(class, bytes));
                continue;
            }
            // The target is never one of the operands, so it can leave the file meanwhile.
            let mut register = std::mem::take(&mut file.registers[instr.target]);
            let target = Target::of_register(class, &mut register, len);
            run_instr(context, instr, file.operands(reads, len), target);
            file.registers[instr.target] = register;
            file.slots[instr.target] = Slot { place: Place::Register, content: None };
        }
    }

    /// Stores part of the block of output `index`; `reads` are what it was computed from.
    pub fn store(
        &self,
        (context, file, reads): (Context<'_>, &File, &[&[u8]]),
        index: usize,
        bytes: &mut [u8],
        run: Run,
    ) {
        let (slot, dtype) = self.outputs[index];
        edge::store(context, file.operands(reads, run.at + run.len), (slot, dtype), bytes, run);
    }

    /// Was the block of output `index` written by the instruction that makes it, given a sink
    /// that takes it?
    pub fn writes_directly(&self, index: usize) -> bool {
        self.instrs.iter().any(|instr| instr.output == Some(index))
    }
}

/// A loop that the compiler vectorises for the instruction set in force.
struct Vectorised<F>(F);

impl<F: FnOnce()> Kernel for Vectorised<F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        (self.0)();
    }
}

macro_rules! each {
    ($context:expr, $target:expr, [$($name:ident = $source:expr),*] $body:expr) => {{
        let target: &mut [_] = $target;
        let len = target.len();
        $(let $name = &$source[..len];)*
        $context.dispatch($crate::exec::tape::Vectorised(#[inline(always)] || {
            for i in 0..len {
                $(let $name = $name[i];)*
                target[i] = $body;
            }
        }));
    }};
}
use each;

fn run_instr(context: Context<'_>, instr: &Instr, operands: Operands<'_>, target: Target<'_>) {
    let [a, b, c] = instr.args;
    match instr.code {
        Code::Op(ScalarOp::Cast) => return cast::cast(context, instr, operands, target),
        Code::Op(ScalarOp::Bitcast) => return cast::bitcast(instr, operands, target),
        Code::Op(ScalarOp::Select) => {
            let mask = operands.each::<i32>(a);
            return match target {
                Target::F32(t) => select(context, mask, operands.each(b), operands.each(c), t),
                Target::F64(t) => select(context, mask, operands.each(b), operands.each(c), t),
                Target::I32(t) => select(context, mask, operands.each(b), operands.each(c), t),
                Target::I64(t) => select(context, mask, operands.each(b), operands.each(c), t),
            };
        }
        Code::Op(op) if op.is_compare() => {
            if let Target::I32(t) = target {
                compare(context, op, instr, operands, t);
            }
            return;
        }
        _ => {}
    }
    match (target, instr.code) {
        (Target::F32(t), code) => float::float32(context, code, operands, instr.args, t),
        (Target::F64(t), Code::Op(op)) => float::float64(context, op, operands, [a, b], t),
        (Target::I32(t), Code::Op(op)) => {
            integer::int32(context, op, instr.to, [operands.each(a), operands.each(b)], t);
        }
        (Target::I64(t), Code::Op(op)) => {
            integer::int64(context, op, instr.to, [operands.each(a), operands.each(b)], t);
        }
        // Only class `F32` has other instructions.
        _ => {}
    }
}

fn select<T: Element>(context: Context<'_>, mask: &[i32], yes: &[T], no: &[T], t: &mut [T]) {
    each!(context, t, [m = mask, x = yes, y = no] if m != 0 { x } else { y });
}

fn compare(context: Context<'_>, op: ScalarOp, instr: &Instr, operands: Operands<'_>, t: &mut [i32]) {
    let [a, b, _] = instr.args;
    match class_of(instr.from) {
        Some(Class::F32) => compare_as::<f32>(context, op, operands.each(a), operands.each(b), t),
        Some(Class::F64) => compare_as::<f64>(context, op, operands.each(a), operands.each(b), t),
        Some(Class::I32) => compare_as::<i32>(context, op, operands.each(a), operands.each(b), t),
        Some(Class::I64) if instr.from == DType::U64 => {
            let (a, b): (&[i64], &[i64]) = (operands.each(a), operands.each(b));
            compare_as::<u64>(context, op, bytemuck::cast_slice(a), bytemuck::cast_slice(b), t);
        }
        _ => compare_as::<i64>(context, op, operands.each(a), operands.each(b), t),
    }
}

fn compare_as<T: Copy + PartialOrd>(context: Context<'_>, op: ScalarOp, a: &[T], b: &[T], t: &mut [i32]) {
    match op {
        ScalarOp::Eq => each!(context, t, [x = a, y = b] i32::from(x == y)),
        ScalarOp::Ne => each!(context, t, [x = a, y = b] i32::from(x != y)),
        ScalarOp::Lt => each!(context, t, [x = a, y = b] i32::from(x < y)),
        ScalarOp::Le => each!(context, t, [x = a, y = b] i32::from(x <= y)),
        ScalarOp::Gt => each!(context, t, [x = a, y = b] i32::from(x > y)),
        _ => each!(context, t, [x = a, y = b] i32::from(x >= y)),
    }
}
