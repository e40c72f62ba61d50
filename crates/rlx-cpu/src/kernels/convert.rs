//! Conversion between f32 and the 16-bit floats, rounding to nearest even.

use super::error::check_length;
use super::{Context, KernelError};
use crate::simd::{Kernel, Simd};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Elements of the pieces that threads take.
const PIECE: usize = 64 << 10;

/// A 16-bit float.
pub trait Half: Copy + Send + Sync + Sized {
    /// Widens into a slice of the same length.
    fn widen_slice(from: &[Self], to: &mut [f32]);
    /// Rounds into a slice of the same length.
    fn narrow_slice(from: &[f32], to: &mut [Self]);
}

impl Half for f16 {
    fn widen_slice(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn narrow_slice(from: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(from);
    }
}

impl Half for bf16 {
    #[inline(always)]
    fn widen_slice(from: &[bf16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }

    #[inline(always)]
    fn narrow_slice(from: &[f32], to: &mut [bf16]) {
        for (to, from) in to.iter_mut().zip(from) {
            let bits = from.to_bits();
            let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
            // A NaN keeps its upper bits and becomes quiet.
            let quiet = bits >> 16 | 0x40;
            *to = bf16::from_bits(if from.is_nan() { quiet } else { rounded } as u16);
        }
    }
}

/// `output[i] = input[i]`, exactly.
///
/// # Errors
/// When the lengths differ.
pub fn widen<H: Half>(context: Context<'_>, input: &[H], output: &mut [f32]) -> Result<(), KernelError> {
    check_length("input", input.len(), &[output.len()])?;
    context.pool().run_pieces(output, PIECE, |index, output| {
        let start = index * PIECE;
        context.dispatch(Widen(&input[start..start + output.len()], output));
    });
    Ok(())
}

/// `output[i] = input[i]`, rounded to nearest even.
///
/// # Errors
/// When the lengths differ.
pub fn narrow<H: Half>(context: Context<'_>, input: &[f32], output: &mut [H]) -> Result<(), KernelError> {
    check_length("input", input.len(), &[output.len()])?;
    context.pool().run_pieces(output, PIECE, |index, output| {
        let start = index * PIECE;
        context.dispatch(Narrow(&input[start..start + output.len()], output));
    });
    Ok(())
}

struct Widen<'a, H>(&'a [H], &'a mut [f32]);

impl<H: Half> Kernel for Widen<'_, H> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        H::widen_slice(self.0, self.1);
    }
}

struct Narrow<'a, H>(&'a [f32], &'a mut [H]);

impl<H: Half> Kernel for Narrow<'_, H> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        H::narrow_slice(self.0, self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{Noise, at_every_level};
    use crate::pool::Pool;

    #[test]
    fn conversions_match_the_scalar_ones() {
        let pool = Pool::new(2).expect("threads start");
        let mut noise = Noise::new(17);
        let mut input: Vec<f32> = (0..70_000).map(|_| f32::from_bits(noise.bits() as u32)).collect();
        input.extend([0.0, -0.0, 65_504.0, 65_520.0, 1e-8, 6e-8, f32::MAX, f32::INFINITY]);
        at_every_level(&pool, |context| {
            let mut brains = vec![bf16::ZERO; input.len()];
            let mut halves = vec![f16::ZERO; input.len()];
            narrow(context, &input, &mut brains).expect("the operands are valid");
            narrow(context, &input, &mut halves).expect("the operands are valid");
            let (mut wide, mut wide_halves) = (vec![0.0; input.len()], vec![0.0; input.len()]);
            widen(context, &brains, &mut wide).expect("the operands are valid");
            widen(context, &halves, &mut wide_halves).expect("the operands are valid");
            for (index, &x) in input.iter().enumerate() {
                let (brain, half) = (bf16::from_f32(x), f16::from_f32(x));
                let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(same(brains[index].to_f32(), brain.to_f32()), "bf16 of {x:e}");
                assert!(same(halves[index].to_f32(), half.to_f32()), "f16 of {x:e}");
                assert!(same(wide[index], brain.to_f32()));
                assert!(same(wide_halves[index], half.to_f32()));
            }
            assert!(widen(context, &brains, &mut wide[1..]).is_err());
        });
    }
}
