//! Between memory and registers: runs of elements, converted to and from their class.

use super::{Class, Element, File, Operands, class_of};
use crate::kernels::convert::Half;
use crate::kernels::{Context, Plain, cast_bytes, cast_bytes_mut};
use half::{bf16, f16};
use rlx_ir::number::{decode, encode};
use rlx_ir::{DType, Number};

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

/// Loads a run of elements of `bytes` into the register of `slot`.
pub fn load(context: Context<'_>, file: &mut File, slot: usize, dtype: DType, bytes: &[u8], run: Run) {
    match dtype {
        DType::F32 => elements::<f32, f32>(file.register(slot), bytes, run, |x| x),
        DType::F16 => halves::<f16>(context, file.register(slot), bytes, run),
        DType::BF16 => halves::<bf16>(context, file.register(slot), bytes, run),
        DType::F64 => elements::<f64, f64>(file.register(slot), bytes, run, |x| x),
        DType::U32 => elements::<u32, i64>(file.register(slot), bytes, run, i64::from),
        DType::I64 | DType::U64 => elements::<i64, i64>(file.register(slot), bytes, run, |x| x),
        DType::I32 => elements::<i32, i32>(file.register(slot), bytes, run, |x| x),
        DType::I16 => elements::<i16, i32>(file.register(slot), bytes, run, i32::from),
        DType::U16 => elements::<u16, i32>(file.register(slot), bytes, run, i32::from),
        DType::I8 => elements::<i8, i32>(file.register(slot), bytes, run, i32::from),
        DType::U8 | DType::Bool => elements::<u8, i32>(file.register(slot), bytes, run, i32::from),
        // Floats of eight bits.
        _ => {
            let register: &mut [f32] = file.register(slot);
            let mut position = run.start as isize;
            for value in &mut register[run.at..run.at + run.len] {
                let number = decode(dtype, &bytes[position as usize..]);
                *value = number.as_f64().unwrap_or(f64::NAN) as f32;
                position += run.stride;
            }
        }
    }
}

fn elements<T: Plain, U: Element>(register: &mut [U], bytes: &[u8], run: Run, convert: impl Fn(T) -> U) {
    let Run { at, start, stride, len } = run;
    let target = &mut register[at..at + len];
    let Ok(source) = cast_bytes::<T>("operand", bytes) else {
        return askew(target, bytes, run, convert);
    };
    match stride {
        1 => target.iter_mut().zip(&source[start..start + len]).for_each(|(t, &x)| *t = convert(x)),
        0 => target.fill(convert(source[start])),
        _ => {
            let mut position = start as isize;
            for t in target {
                *t = convert(source[position as usize]);
                position += stride;
            }
        }
    }
}

/// Elements at addresses that are not multiples of their size.
fn askew<T: Plain, U>(target: &mut [U], bytes: &[u8], run: Run, convert: impl Fn(T) -> U) {
    let width = size_of::<T>();
    let mut position = run.start as isize;
    for t in target {
        // Aligned for any element.
        let mut element = [0u64; 2];
        let from = &bytes[position as usize * width..][..width];
        bytemuck::cast_slice_mut::<u64, u8>(&mut element)[..width].copy_from_slice(from);
        if let Ok([x, ..]) = cast_bytes::<T>("element", bytemuck::cast_slice(&element)) {
            *t = convert(*x);
        }
        position += run.stride;
    }
}

fn halves<H: Half + Plain>(context: Context<'_>, register: &mut [f32], bytes: &[u8], run: Run) {
    let Run { at, start, stride, len } = run;
    if let (1, Ok(source)) = (stride, cast_bytes::<H>("operand", bytes)) {
        let (source, target) = (&source[start..start + len], &mut register[at..at + len]);
        context.dispatch(super::Vectorised(
            #[inline(always)]
            || H::widen_slice(source, target),
        ));
        return;
    }
    elements::<H, f32>(register, bytes, run, |x| {
        let mut wide = [0.0];
        H::widen_slice(&[x], &mut wide);
        wide[0]
    });
}

/// Stores a run of a slot as elements of `dtype`.
pub(super) fn store(
    context: Context<'_>,
    operands: Operands<'_>,
    (slot, dtype): (usize, DType),
    bytes: &mut [u8],
    run: Run,
) {
    match dtype {
        DType::F32 => put::<f32, f32>(operands.each(slot), bytes, run, |x| x),
        DType::F16 => put_halves::<f16>(context, operands.each(slot), bytes, run),
        DType::BF16 => put_halves::<bf16>(context, operands.each(slot), bytes, run),
        DType::F64 => put::<f64, f64>(operands.each(slot), bytes, run, |x| x),
        DType::U32 => put::<i64, u32>(operands.each(slot), bytes, run, |x| x as u32),
        DType::I64 | DType::U64 => put::<i64, i64>(operands.each(slot), bytes, run, |x| x),
        DType::I32 => put::<i32, i32>(operands.each(slot), bytes, run, |x| x),
        DType::I16 | DType::U16 => put::<i32, i16>(operands.each(slot), bytes, run, |x| x as i16),
        _ if class_of(dtype) == Some(Class::I32) => {
            put::<i32, i8>(operands.each(slot), bytes, run, |x| x as i8);
        }
        // Floats of eight bits.
        _ => put::<f32, u8>(operands.each(slot), bytes, run, |x| {
            let mut element = [0u8; 16];
            encode(dtype, Number::Float(f64::from(x)), &mut element);
            element[0]
        }),
    }
}

fn put<U: Element, T: Plain>(register: &[U], bytes: &mut [u8], run: Run, convert: impl Fn(U) -> T) {
    let Run { at, start, stride, len } = run;
    let source = &register[at..at + len];
    // Buffers that are written lie in the arena, the workspace or a state: all are aligned.
    let target = cast_bytes_mut::<T>("output", bytes).expect("written buffers are aligned");
    if stride == 1 {
        let target = &mut target[start..start + len];
        target.iter_mut().zip(source).for_each(|(t, &x)| *t = convert(x));
        return;
    }
    let mut position = start as isize;
    for &x in source {
        target[position as usize] = convert(x);
        position += stride;
    }
}

fn put_halves<H: Half + Plain>(context: Context<'_>, register: &[f32], bytes: &mut [u8], run: Run) {
    let Run { at, start, stride, len } = run;
    if stride == 1 {
        let target = cast_bytes_mut::<H>("output", bytes).expect("written buffers are aligned");
        let (source, target) = (&register[at..at + len], &mut target[start..start + len]);
        context.dispatch(super::Vectorised(
            #[inline(always)]
            || H::narrow_slice(source, target),
        ));
        return;
    }
    put::<f32, H>(register, bytes, run, |x| {
        let mut half = [H::default()];
        H::narrow_slice(&[x], &mut half);
        half[0]
    });
}
