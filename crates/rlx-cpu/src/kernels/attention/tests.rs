//! What attention in graphs does not show: rows without keys, NaN, wrong operands.

use super::*;
use crate::kernels::testing::{Noise, Scratch, at_every_level};
use crate::pool::Pool;

/// Self-attention of one batch and two heads on random operands, after `change`: the output and the sums.
fn attend(
    context: Context<'_>,
    [queries, keys, depth]: [usize; 3],
    mask: Mask<'_>,
    missing_scratch: usize,
    change: &dyn Fn(&mut Attention<'_>),
) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
    let shape = Shape { batches: 1, query_heads: 2, key_heads: 2, queries, keys, depth, value_depth: depth };
    let strides = |positions: usize| [2 * positions * depth, positions * depth, depth];
    let mut noise = Noise::new(6);
    let [query, key, value] = [queries, keys, keys].map(|positions| noise.units(2 * positions * depth));
    let (mut output, mut sums) = (vec![0.0; 2 * queries * depth], vec![0.0; 2 * queries]);
    let bytes = scratch_bytes(context.level(), context.pool().threads(), &shape) - missing_scratch;
    let mut scratch = Scratch::new(bytes);
    let mut problem = Attention {
        shape,
        query: Heads { data: &query, strides: strides(queries) },
        key: Heads { data: &key, strides: strides(keys) },
        value: Heads { data: &value, strides: strides(keys) },
        output: HeadsMut { data: &mut output, strides: strides(queries) },
        scale: 0.2,
        softcap: None,
        alignment: Alignment::End,
        before: None,
        after: None,
        mask,
        key_lengths: None,
        log_sum_exp: Some(&mut sums),
        scratch: scratch.bytes(),
    };
    change(&mut problem);
    attention(context, problem).map(|()| (output, sums))
}

#[test]
fn hidden_rows_are_zero_and_nan_shows() {
    let pool = Pool::inline();
    let mut bias = Noise::new(7).units(9 * 40);
    bias[3 * 40..4 * 40].fill(f32::NEG_INFINITY);
    bias[5 * 40 + 7] = f32::NAN;
    at_every_level(&pool, |context| {
        let mask = Mask::Bias { data: &bias, strides: [0, 0, 40, 1] };
        let (output, sums) = attend(context, [9, 40, 16], mask, 0, &|_| {}).expect("the operands are valid");
        for query in 0..9 {
            let row = &output[query * 16..(query + 1) * 16];
            match query {
                3 => {
                    assert!(row.iter().all(|&x| x == 0.0));
                    assert_eq!(sums[query], f32::NEG_INFINITY);
                }
                5 => assert!(row.iter().all(|x| x.is_nan())),
                _ => assert!(row.iter().all(|x| x.is_finite() && *x != 0.0)),
            }
        }
    });
}

#[test]
fn wrong_operands_are_refused() {
    let pool = Pool::inline();
    let attempt = |change: &dyn Fn(&mut Attention<'_>), missing: usize| {
        attend(Context::new(&pool), [4, 6, 8], Mask::None, missing, change).map(|_| ())
    };
    assert!(attempt(&|_| {}, 0).is_ok());
    assert!(matches!(attempt(&|_| {}, 1), Err(KernelError::BufferTooSmall { .. })));
    let overlapping = |a: &mut Attention<'_>| a.output.strides = [64, 4, 8];
    assert!(matches!(attempt(&overlapping, 0), Err(KernelError::Overlap { .. })));
    let far = |a: &mut Attention<'_>| a.key.strides = [usize::MAX, usize::MAX, usize::MAX];
    assert!(matches!(attempt(&far, 0), Err(KernelError::OutOfBounds { .. })));
    let short = |a: &mut Attention<'_>| a.mask = Mask::Keep { data: &[1; 5], strides: [0, 0, 0, 1] };
    assert!(matches!(attempt(&short, 0), Err(KernelError::OutOfBounds { .. })));
    let ungrouped = |a: &mut Attention<'_>| a.shape.query_heads = 3;
    assert!(matches!(attempt(&ungrouped, 0), Err(KernelError::Extent { .. })));
}
