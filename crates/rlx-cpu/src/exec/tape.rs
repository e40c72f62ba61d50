//! Scalar programs as block code: each instruction runs over a block of
//! elements that stays in L1.
//!
//! Registers are blocks of one of four element classes: `f32` (also for all
//! narrower floats), `f64`, `i32` (integers of at most 32 bits but `u32`, and
//! `bool` as 0 or 1) and `i64` (`i64`, `u64`, `u32`). Narrow integers wrap
//! after every instruction; floats round where the program casts, and at the
//! outputs. Conversion from and to memory happens at the edges.

use crate::kernels::Context;
use crate::kernels::map::{self, Second};
use crate::kernels::math::functions as math;
use crate::simd::{Kernel, Simd};
use rlx_ir::number::{decode, encode};
use rlx_ir::{DType, Number, ScalarKind, ScalarOp, ScalarProgram};

/// Elements of a block.
pub const BLOCK: usize = 1024;

/// Element class of a register.
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

/// One block of one class.
#[derive(Clone, Debug)]
pub enum Register {
    /// Of class `F32`.
    F32(Vec<f32>),
    /// Of class `F64`.
    F64(Vec<f64>),
    /// Of class `I32`.
    I32(Vec<i32>),
    /// Of class `I64`.
    I64(Vec<i64>),
}

impl Register {
    fn new(class: Class) -> Register {
        match class {
            Class::F32 => Register::F32(vec![0.0; BLOCK]),
            Class::F64 => Register::F64(vec![0.0; BLOCK]),
            Class::I32 => Register::I32(vec![0; BLOCK]),
            Class::I64 => Register::I64(vec![0; BLOCK]),
        }
    }
    fn f32s(&self) -> &[f32] {
        if let Register::F32(values) = self { values } else { &[] }
    }
    fn f64s(&self) -> &[f64] {
        if let Register::F64(values) = self { values } else { &[] }
    }
    fn i32s(&self) -> &[i32] {
        if let Register::I32(values) = self { values } else { &[] }
    }
    fn i64s(&self) -> &[i64] {
        if let Register::I64(values) = self { values } else { &[] }
    }
}

#[derive(Clone, Debug)]
struct Instr {
    op: ScalarOp,
    from: DType,
    to: DType,
    args: [usize; 3],
    target: usize,
}

/// A program in block code.
#[derive(Clone, Debug)]
pub struct Tape {
    instrs: Vec<Instr>,
    /// Value, register and class of each constant.
    constants: Vec<(ScalarKind, DType, usize)>,
    /// Axis and register of each coordinate.
    pub indices: Vec<(usize, usize)>,
    outputs: Vec<(usize, DType)>,
    classes: Vec<Class>,
}

impl Tape {
    /// Compiles `program`.
    ///
    /// # Errors
    /// A dtype that regions cannot compute with.
    pub fn new(program: &ScalarProgram) -> Result<Tape, String> {
        let class = |dtype: DType| class_of(dtype).ok_or_else(|| format!("regions do not compute {dtype}"));
        let mut tape = Tape {
            instrs: vec![],
            constants: vec![],
            indices: vec![],
            outputs: vec![],
            classes: program.inputs.iter().map(|&dtype| class(dtype)).collect::<Result<_, _>>()?,
        };
        let dtypes: Vec<DType> =
            program.inputs.iter().copied().chain(program.instrs.iter().map(|instr| instr.dtype)).collect();
        let mut last_use = vec![0usize; dtypes.len()];
        for (position, instr) in program.instrs.iter().enumerate() {
            instr.args.iter().for_each(|&arg| last_use[arg as usize] = position);
        }
        program.outputs.iter().for_each(|&output| last_use[output as usize] = usize::MAX);
        // Inputs keep their registers; constants too, since they are filled once.
        let mut register: Vec<usize> = (0..program.inputs.len()).collect();
        let mut free: Vec<usize> = vec![];
        for (position, instr) in program.instrs.iter().enumerate() {
            let wanted = class(instr.dtype)?;
            let reuse = match instr.kind {
                ScalarKind::Op(_) => free.iter().position(|&candidate| tape.classes[candidate] == wanted),
                _ => None,
            };
            let target = match reuse {
                Some(index) => free.swap_remove(index),
                None => {
                    tape.classes.push(wanted);
                    tape.classes.len() - 1
                }
            };
            register.push(target);
            match instr.kind {
                ScalarKind::Op(op) => {
                    let mut args = [0; 3];
                    for (slot, &arg) in args.iter_mut().zip(&instr.args) {
                        *slot = register[arg as usize];
                    }
                    let from = instr
                        .args
                        .get(usize::from(op == ScalarOp::Select))
                        .map_or(instr.dtype, |&arg| dtypes[arg as usize]);
                    tape.instrs.push(Instr { op, from, to: instr.dtype, args, target });
                    let mut seen = vec![];
                    for &arg in &instr.args {
                        let value = arg as usize;
                        let computed = value >= program.inputs.len()
                            && matches!(program.instrs[value - program.inputs.len()].kind, ScalarKind::Op(_));
                        if computed && last_use[value] == position && !seen.contains(&value) {
                            seen.push(value);
                            free.push(register[value]);
                        }
                    }
                }
                ScalarKind::Index(axis) => tape.indices.push((axis as usize, target)),
                constant => tape.constants.push((constant, instr.dtype, target)),
            }
        }
        tape.outputs = program
            .outputs
            .iter()
            .map(|&output| (register[output as usize], dtypes[output as usize]))
            .collect();
        Ok(tape)
    }

    /// Bytes of one set of registers.
    pub fn register_bytes(&self) -> usize {
        let width = |class: &Class| if matches!(class, Class::F64 | Class::I64) { 8 } else { 4 };
        self.classes.iter().map(width).sum::<usize>() * BLOCK
    }

    /// Fresh registers, constants filled in.
    pub fn registers(&self) -> Vec<Register> {
        let mut registers: Vec<Register> = self.classes.iter().map(|&class| Register::new(class)).collect();
        for &(kind, dtype, target) in &self.constants {
            let number = match kind {
                ScalarKind::Float(bits) => Number::Float(f64::from_bits(bits)),
                ScalarKind::Int(value) => Number::Int(i128::from(value)).cast(dtype),
                _ => continue,
            };
            fill(&mut registers[target], number);
        }
        registers
    }

    /// Runs all instructions on the first `len` elements of the registers.
    pub fn run(&self, context: Context<'_>, registers: &mut [Register], len: usize) {
        for instr in &self.instrs {
            // The target is never one of the operands, so it can leave the file meanwhile.
            let mut target = std::mem::replace(&mut registers[instr.target], Register::I32(vec![]));
            run_instr(context, instr, registers, &mut target, len);
            registers[instr.target] = target;
        }
    }

    /// Register and dtype of output `index`.
    pub fn output(&self, index: usize) -> (usize, DType) {
        self.outputs[index]
    }
}

/// Fills a whole register with one number.
pub fn fill(register: &mut Register, number: Number) {
    let float = number.as_f64().unwrap_or(f64::NAN);
    let int = if let Number::Int(int) = number { int as i64 } else { 0 };
    match register {
        Register::F32(values) => values.fill(float as f32),
        Register::F64(values) => values.fill(float),
        Register::I32(values) => values.fill(int as i32),
        Register::I64(values) => values.fill(int),
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
        let target = $target;
        let len = target.len();
        $(let $name = &$source[..len];)*
        $context.dispatch(Vectorised(#[inline(always)] || {
            for i in 0..len {
                $(let $name = $name[i];)*
                target[i] = $body;
            }
        }));
    }};
}

fn run_instr(context: Context<'_>, instr: &Instr, registers: &[Register], target: &mut Register, len: usize) {
    let [a, b, c] = instr.args.map(|arg| &registers[arg]);
    match instr.op {
        ScalarOp::Cast => return cast(context, instr, a, target, len),
        ScalarOp::Bitcast => return bitcast(instr, a, target, len),
        ScalarOp::Select => {
            return match target {
                Register::F32(t) => {
                    each!(context, &mut t[..len], [m = a.i32s(), x = b.f32s(), y = c.f32s()] if m != 0 { x } else { y })
                }
                Register::F64(t) => {
                    each!(context, &mut t[..len], [m = a.i32s(), x = b.f64s(), y = c.f64s()] if m != 0 { x } else { y })
                }
                Register::I32(t) => {
                    each!(context, &mut t[..len], [m = a.i32s(), x = b.i32s(), y = c.i32s()] if m != 0 { x } else { y })
                }
                Register::I64(t) => {
                    each!(context, &mut t[..len], [m = a.i32s(), x = b.i64s(), y = c.i64s()] if m != 0 { x } else { y })
                }
            };
        }
        op if op.is_compare() => {
            if let Register::I32(t) = target {
                compare(context, instr, a, b, &mut t[..len]);
            }
            return;
        }
        _ => {}
    }
    match target {
        Register::F32(t) => float32(context, instr.op, a.f32s(), b.f32s(), &mut t[..len]),
        Register::F64(t) => float64(instr.op, a.f64s(), b.f64s(), &mut t[..len]),
        Register::I32(t) => int32(context, instr, a.i32s(), b.i32s(), &mut t[..len]),
        Register::I64(t) => int64(context, instr, a.i64s(), b.i64s(), &mut t[..len]),
    }
}

macro_rules! compare_as {
    ($context:expr, $op:expr, $a:expr, $b:expr, $t:expr) => {
        match $op {
            ScalarOp::Eq => each!($context, $t, [x = $a, y = $b] i32::from(x == y)),
            ScalarOp::Ne => each!($context, $t, [x = $a, y = $b] i32::from(x != y)),
            ScalarOp::Lt => each!($context, $t, [x = $a, y = $b] i32::from(x < y)),
            ScalarOp::Le => each!($context, $t, [x = $a, y = $b] i32::from(x <= y)),
            ScalarOp::Gt => each!($context, $t, [x = $a, y = $b] i32::from(x > y)),
            _ => each!($context, $t, [x = $a, y = $b] i32::from(x >= y)),
        }
    };
}

fn compare(context: Context<'_>, instr: &Instr, a: &Register, b: &Register, t: &mut [i32]) {
    match (a, b) {
        (Register::F32(a), Register::F32(b)) => compare_as!(context, instr.op, a, b, t),
        (Register::F64(a), Register::F64(b)) => compare_as!(context, instr.op, a, b, t),
        (Register::I32(a), Register::I32(b)) => compare_as!(context, instr.op, a, b, t),
        (Register::I64(a), Register::I64(b)) if instr.from == DType::U64 => {
            for ((t, &x), &y) in t.iter_mut().zip(a).zip(b) {
                let ordering = (x as u64).cmp(&(y as u64));
                *t = i32::from(match instr.op {
                    ScalarOp::Eq => ordering.is_eq(),
                    ScalarOp::Ne => ordering.is_ne(),
                    ScalarOp::Lt => ordering.is_lt(),
                    ScalarOp::Le => ordering.is_le(),
                    ScalarOp::Gt => ordering.is_gt(),
                    _ => ordering.is_ge(),
                });
            }
        }
        (Register::I64(a), Register::I64(b)) => compare_as!(context, instr.op, a, b, t),
        _ => {}
    }
}

fn float32(context: Context<'_>, op: ScalarOp, a: &[f32], b: &[f32], t: &mut [f32]) {
    use ScalarOp as S;
    let len = t.len();
    macro_rules! unary {
        ($function:expr) => {
            map::map(context, $function, &a[..len], t).expect("operand and target have the block's length")
        };
    }
    macro_rules! binary {
        ($function:expr) => {
            map::zip(context, $function, &a[..len], Second::Slice(&b[..len]), t)
                .expect("operands and target have the block's length")
        };
    }
    match op {
        S::Exp => unary!(math::Exp),
        S::Expm1 => unary!(math::Expm1),
        S::Log => unary!(math::Log),
        S::Log1p => unary!(math::Log1p),
        S::Tanh => unary!(math::Tanh),
        S::Erf => unary!(math::Erf),
        S::Sin => unary!(math::Sin),
        S::Cos => unary!(math::Cos),
        S::Sqrt => unary!(math::Sqrt),
        S::Add => binary!(math::Add),
        S::Sub => binary!(math::Subtract),
        S::Mul => binary!(math::Multiply),
        S::Div => binary!(math::Divide),
        S::Max => binary!(math::Maximum),
        S::Min => binary!(math::Minimum),
        S::Pow => binary!(math::Power),
        S::Neg => each!(context, t, [x = a] - x),
        S::Abs => each!(context, t, [x = a] x.abs()),
        S::Sign => each!(context, t, [x = a] if x == 0.0 || x.is_nan() { x } else { 1f32.copysign(x) }),
        S::Floor => each!(context, t, [x = a] x.floor()),
        S::Ceil => each!(context, t, [x = a] x.ceil()),
        S::Trunc => each!(context, t, [x = a] x.trunc()),
        S::Round => each!(context, t, [x = a] x.round_ties_even()),
        S::Rsqrt => each!(context, t, [x = a] 1.0 / x.sqrt()),
        _ => float32_rare(op, a, b, t),
    }
}

/// The rarer functions, one element at a time through `f64`.
fn float32_rare(op: ScalarOp, a: &[f32], b: &[f32], t: &mut [f32]) {
    use ScalarOp as S;
    macro_rules! wide {
        ($function:expr) => {{
            let function: fn(f64) -> f64 = $function;
            t.iter_mut().zip(a).for_each(|(t, &x)| *t = function(f64::from(x)) as f32)
        }};
    }
    match op {
        S::Rem => t.iter_mut().zip(a).zip(b).for_each(|((t, &x), &y)| *t = x % y),
        S::Atan2 => {
            t.iter_mut().zip(a).zip(b).for_each(|((t, &x), &y)| *t = f64::from(x).atan2(f64::from(y)) as f32)
        }
        S::Tan => wide!(f64::tan),
        S::Asin => wide!(f64::asin),
        S::Acos => wide!(f64::acos),
        S::Atan => wide!(f64::atan),
        S::Sinh => wide!(f64::sinh),
        S::Cosh => wide!(f64::cosh),
        S::Asinh => wide!(f64::asinh),
        S::Acosh => wide!(f64::acosh),
        _ => wide!(f64::atanh),
    }
}

fn float64(op: ScalarOp, a: &[f64], b: &[f64], t: &mut [f64]) {
    use ScalarOp as S;
    macro_rules! each64 {
        (|$x:ident| $body:expr) => {
            t.iter_mut().zip(a).for_each(|(t, &$x)| *t = $body)
        };
        (|$x:ident, $y:ident| $body:expr) => {
            t.iter_mut().zip(a).zip(b).for_each(|((t, &$x), &$y)| *t = $body)
        };
    }
    match op {
        S::Neg => each64!(|x| -x),
        S::Abs => each64!(|x| x.abs()),
        S::Add => each64!(|x, y| x + y),
        S::Sub => each64!(|x, y| x - y),
        S::Mul => each64!(|x, y| x * y),
        S::Div => each64!(|x, y| x / y),
        S::Sqrt => each64!(|x| x.sqrt()),
        // The reference's own scalar arithmetic for the rest.
        _ => {
            let arity = op.arity();
            let mut program = ScalarProgram::new(vec![DType::F64; arity]);
            let args: Vec<_> = (0..arity).map(|index| program.input(index)).collect();
            let result = program.push(ScalarKind::Op(op), &args, DType::F64);
            program.outputs = vec![result.0];
            for (index, t) in t.iter_mut().enumerate() {
                let inputs = [Number::Float(a[index]), Number::Float(b.get(index).copied().unwrap_or(0.0))];
                if let [Number::Float(value)] = program.eval(&inputs[..arity], &[])[..] {
                    *t = value;
                }
            }
        }
    }
}

/// Brings an `i32` back into the range of a narrower dtype.
#[inline(always)]
fn wrap32(dtype: DType, value: i32) -> i32 {
    match dtype {
        DType::I8 => i32::from(value as i8),
        DType::U8 => i32::from(value as u8),
        DType::I16 => i32::from(value as i16),
        DType::U16 => i32::from(value as u16),
        DType::Bool => i32::from(value != 0),
        _ => value,
    }
}

fn int32(context: Context<'_>, instr: &Instr, a: &[i32], b: &[i32], t: &mut [i32]) {
    use ScalarOp as S;
    let dtype = instr.to;
    let len = t.len();
    match instr.op {
        S::Add => each!(context, &mut *t, [x = a, y = b] x.wrapping_add(y)),
        S::Sub => each!(context, &mut *t, [x = a, y = b] x.wrapping_sub(y)),
        S::Mul => each!(context, &mut *t, [x = a, y = b] x.wrapping_mul(y)),
        S::Max => each!(context, &mut *t, [x = a, y = b] x.max(y)),
        S::Min => each!(context, &mut *t, [x = a, y = b] x.min(y)),
        S::And => each!(context, &mut *t, [x = a, y = b] x & y),
        S::Or => each!(context, &mut *t, [x = a, y = b] x | y),
        S::Xor => each!(context, &mut *t, [x = a, y = b] x ^ y),
        S::Not if dtype == DType::Bool => each!(context, &mut *t, [x = a] i32::from(x == 0)),
        S::Not => each!(context, &mut *t, [x = a] !x),
        S::Neg => each!(context, &mut *t, [x = a] x.wrapping_neg()),
        S::Abs => each!(context, &mut *t, [x = a] x.wrapping_abs()),
        S::Floor | S::Ceil | S::Trunc | S::Round => t.copy_from_slice(&a[..len]),
        op => slow_int(
            op,
            dtype,
            len,
            |i| i128::from(a[i]),
            |i| i128::from(b[i]),
            |i, value| t[i] = value as i32,
        ),
    }
    if matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16) {
        t.iter_mut().for_each(|value| *value = wrap32(dtype, *value));
    }
}

fn int64(context: Context<'_>, instr: &Instr, a: &[i64], b: &[i64], t: &mut [i64]) {
    use ScalarOp as S;
    let dtype = instr.to;
    let len = t.len();
    match instr.op {
        S::Add => each!(context, &mut *t, [x = a, y = b] x.wrapping_add(y)),
        S::Sub => each!(context, &mut *t, [x = a, y = b] x.wrapping_sub(y)),
        S::Mul => each!(context, &mut *t, [x = a, y = b] x.wrapping_mul(y)),
        S::And => each!(context, &mut *t, [x = a, y = b] x & y),
        S::Or => each!(context, &mut *t, [x = a, y = b] x | y),
        S::Xor => each!(context, &mut *t, [x = a, y = b] x ^ y),
        S::Not => each!(context, &mut *t, [x = a] !x),
        S::Neg => each!(context, &mut *t, [x = a] x.wrapping_neg()),
        S::Floor | S::Ceil | S::Trunc | S::Round => t.copy_from_slice(&a[..len]),
        op => {
            let wide = |x: i64| if dtype == DType::U64 { i128::from(x as u64) } else { i128::from(x) };
            slow_int(op, dtype, len, |i| wide(a[i]), |i| wide(b[i]), |i, value| t[i] = value as i64);
        }
    }
    if dtype == DType::U32 {
        t.iter_mut().for_each(|value| *value = i64::from(*value as u32));
    }
}

/// The rarer integer primitives, through the reference's arithmetic.
fn slow_int(
    op: ScalarOp,
    dtype: DType,
    len: usize,
    a: impl Fn(usize) -> i128,
    b: impl Fn(usize) -> i128,
    mut store: impl FnMut(usize, i128),
) {
    let mut program = ScalarProgram::new(vec![dtype; op.arity()]);
    let args: Vec<_> = (0..op.arity()).map(|index| program.input(index)).collect();
    let result = program.push(ScalarKind::Op(op), &args, dtype);
    program.outputs = vec![result.0];
    for index in 0..len {
        let mut inputs = vec![Number::Int(a(index))];
        if op.arity() > 1 {
            inputs.push(Number::Int(b(index)));
        }
        if let [Number::Int(value)] = program.eval(&inputs, &[])[..] {
            store(index, value);
        }
    }
}

fn cast(context: Context<'_>, instr: &Instr, a: &Register, target: &mut Register, len: usize) {
    let (from, to) = (instr.from, instr.to);
    let widens = to == DType::F32 && from.is_float();
    match (a, &mut *target) {
        (Register::F32(a), Register::F32(t)) => {
            t[..len].copy_from_slice(&a[..len]);
            if !widens {
                t[..len].iter_mut().for_each(|value| *value = round_to(to, *value));
            }
        }
        (Register::F32(a), Register::F64(t)) => each!(context, &mut t[..len], [x = a] f64::from(x)),
        (Register::F64(a), Register::F32(t)) if to == DType::F32 => {
            each!(context, &mut t[..len], [x = a] x as f32)
        }
        (Register::I32(a), Register::F32(t)) if to == DType::F32 => {
            each!(context, &mut t[..len], [x = a] x as f32)
        }
        (Register::I64(a), Register::F32(t)) if to == DType::F32 && from != DType::U64 => {
            each!(context, &mut t[..len], [x = a] x as f32);
        }
        (Register::I32(a), Register::I64(t)) if to == DType::I64 => {
            each!(context, &mut t[..len], [x = a] i64::from(x))
        }
        (Register::F32(a), Register::I32(t)) if to == DType::I32 => {
            each!(context, &mut t[..len], [x = a] x as i32)
        }
        (Register::F32(a), Register::I64(t)) if to == DType::I64 => {
            each!(context, &mut t[..len], [x = a] x as i64)
        }
        (Register::I64(a), Register::I32(t)) if to == DType::I32 => {
            each!(context, &mut t[..len], [x = a] x as i32)
        }
        (Register::I32(a), Register::I32(t)) => each!(context, &mut t[..len], [x = a] wrap32(to, x)),
        _ => {
            for index in 0..len {
                put(target, index, get(a, from, index).cast(to));
            }
        }
    }
}

fn bitcast(instr: &Instr, a: &Register, target: &mut Register, len: usize) {
    for index in 0..len {
        let mut bytes = [0u8; 16];
        encode(instr.from, get(a, instr.from, index), &mut bytes);
        put(target, index, decode(instr.to, &bytes));
    }
}

fn round_to(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::F16 => half::f16::from_f32(value).to_f32(),
        DType::BF16 => half::bf16::from_f32(value).to_f32(),
        DType::F32 => value,
        _ => Number::Float(f64::from(value)).cast(dtype).as_f64().unwrap_or(f64::NAN) as f32,
    }
}

fn get(register: &Register, dtype: DType, index: usize) -> Number {
    match register {
        Register::F32(values) => Number::Float(f64::from(values[index])),
        Register::F64(values) => Number::Float(values[index]),
        Register::I32(values) => Number::Int(i128::from(values[index])),
        Register::I64(values) if dtype == DType::U64 => Number::Int(i128::from(values[index] as u64)),
        Register::I64(values) => Number::Int(i128::from(values[index])),
    }
}

fn put(register: &mut Register, index: usize, number: Number) {
    let float = number.as_f64().unwrap_or(f64::NAN);
    let int = if let Number::Int(int) = number { int as i64 } else { 0 };
    match register {
        Register::F32(values) => values[index] = float as f32,
        Register::F64(values) => values[index] = float,
        Register::I32(values) => values[index] = int as i32,
        Register::I64(values) => values[index] = int,
    }
}

/// A run of elements: where they stand in a register and where in memory.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// First element of the register.
    pub at: usize,
    /// First element in memory.
    pub start: usize,
    /// Elements in memory from one to the next.
    pub stride: isize,
    /// How many.
    pub len: usize,
}

/// Loads a run of elements of `bytes` into a register.
pub fn load(register: &mut Register, dtype: DType, bytes: &[u8], run: Run) {
    let Run { at, start, stride, len } = run;
    let width = dtype.size_of().unwrap_or(1);
    macro_rules! strided {
        ($values:expr, $element:ty, $convert:expr) => {{
            let convert: fn($element) -> _ = $convert;
            let target = &mut $values[at..at + len];
            if stride == 1 {
                let source = &bytes[start * width..(start + len) * width];
                for (t, s) in target.iter_mut().zip(source.chunks_exact(width)) {
                    *t = convert(read_element!($element, s));
                }
            } else {
                let mut position = start as isize;
                for t in target {
                    *t = convert(read_element!($element, &bytes[position as usize * width..][..width]));
                    position += stride;
                }
            }
        }};
    }
    macro_rules! read_element {
        ($element:ty, $slice:expr) => {{
            let mut raw = [0u8; size_of::<$element>()];
            raw.copy_from_slice($slice);
            <$element>::from_le_bytes(raw)
        }};
    }
    match (register, dtype) {
        (Register::F32(v), DType::F32) => strided!(v, f32, |x| x),
        (Register::F32(v), DType::F16) => strided!(v, u16, |x| half::f16::from_bits(x).to_f32()),
        (Register::F32(v), DType::BF16) => strided!(v, u16, |x| half::bf16::from_bits(x).to_f32()),
        (Register::F64(v), _) => strided!(v, f64, |x| x),
        (Register::I64(v), DType::U32) => strided!(v, u32, i64::from),
        (Register::I64(v), _) => strided!(v, i64, |x| x),
        (Register::I32(v), DType::I32) => strided!(v, i32, |x| x),
        (Register::I32(v), DType::I16) => strided!(v, i16, i32::from),
        (Register::I32(v), DType::U16) => strided!(v, u16, i32::from),
        (Register::I32(v), DType::I8) => strided!(v, i8, i32::from),
        (Register::I32(v), _) => strided!(v, u8, i32::from),
        (register, _) => {
            let mut position = start as isize;
            for index in at..at + len {
                put(register, index, decode(dtype, &bytes[position as usize * width..][..width]));
                position += stride;
            }
        }
    }
}

/// Stores a run of a register as elements of `dtype`.
pub fn store(register: &Register, dtype: DType, bytes: &mut [u8], run: Run) {
    let Run { at, start, stride, len } = run;
    let width = dtype.size_of().unwrap_or(1);
    macro_rules! strided {
        ($values:expr, $convert:expr) => {{
            let source = &$values[at..at + len];
            if stride == 1 {
                let target = &mut bytes[start * width..(start + len) * width];
                for (t, &s) in target.chunks_exact_mut(width).zip(source) {
                    t.copy_from_slice(&$convert(s));
                }
            } else {
                let mut position = start as isize;
                for &s in source {
                    bytes[position as usize * width..][..width].copy_from_slice(&$convert(s));
                    position += stride;
                }
            }
        }};
    }
    match (register, dtype) {
        (Register::F32(v), DType::F32) => strided!(v, f32::to_le_bytes),
        (Register::F32(v), DType::F16) => strided!(v, |x| half::f16::from_f32(x).to_le_bytes()),
        (Register::F32(v), DType::BF16) => strided!(v, |x| half::bf16::from_f32(x).to_le_bytes()),
        (Register::F64(v), _) => strided!(v, f64::to_le_bytes),
        (Register::I64(v), DType::U32) => strided!(v, |x: i64| (x as u32).to_le_bytes()),
        (Register::I64(v), _) => strided!(v, i64::to_le_bytes),
        (Register::I32(v), DType::I32) => strided!(v, i32::to_le_bytes),
        (Register::I32(v), DType::I16 | DType::U16) => strided!(v, |x: i32| (x as i16).to_le_bytes()),
        (Register::I32(v), _) => strided!(v, |x: i32| (x as i8).to_le_bytes()),
        (register, _) => {
            let mut position = start as isize;
            for index in at..at + len {
                let mut element = [0u8; 16];
                let written = encode(dtype, get(register, dtype, index), &mut element);
                bytes[position as usize * width..][..width].copy_from_slice(&element[..written.min(width)]);
                position += stride;
            }
        }
    }
}
