//! `attention_backward`: all derivatives of `attention` in one pass.

use super::attention::backward;
use crate::ops::prelude::*;

op! {
    /// The derivatives of `attention` by its operands, from its result `y`, its log-sum-exp `lse`, and the
    /// derivatives `dy` (and `dlse`, 0 if not given) by them.
    ///
    /// With `p` the weights `exp(score - lse)` and `D = sum(dy y) - dlse` per row: `dv = p^T dy`,
    /// `ds = p (dy v^T - D)` for the scores after the mask, and from there back through softcap and scale to
    /// `dq` and `dk`. With `mask_gradient` a result `dmask`, `ds` summed to the added mask; with `sinks` a
    /// result `dsinks`. The weights are computed again: no operand has the extent of the score matrix but an
    /// added mask.
    ///
    /// (C1) `q`, `k`, `v`, `mask`, `kv_lengths` and `sinks` are what `attention` takes with these attributes.
    /// (C2) `y` and `dy` have the type of its first result, `lse` and `dlse` that of its second.
    /// (C3) `mask_gradient` is set with a float mask only.
    attention_backward: AttentionBackward(q, k, v, y, lse, dy)[dlse, mask, kv_lengths, sinks] -> [dq, dk, dv, dmask, dsinks] {
        /// Order of the axes.
        layout: AttentionLayout,
        /// Query heads.
        num_heads: usize,
        /// Key and value heads.
        num_kv_heads: usize,
        /// Factor of the scores; none means `1 / sqrt(D)`.
        scale: Option<Real>,
        /// Bound of the scores, before the mask.
        softcap: Option<Real>,
        /// Which keys a query sees.
        mask_kind: MaskKind,
        /// Keys that a sliding window sees.
        window: usize,
        /// Where the queries stand among the keys.
        alignment: Alignment,
        /// Is the result `dmask` there?
        mask_gradient: bool,
    }
}

impl OpSpec for AttentionBackward {
    const MEANING: Meaning<Self> = Meaning::composite(|op: &Self, g, operands| {
        let given = |name| op.operand_index(name).map(|index| operands[index]);
        let forward = AttentionOperands {
            mask: given("mask"),
            kv_lengths: given("kv_lengths"),
            sinks: given("sinks"),
            ..AttentionOperands::new(operands[0], operands[1], operands[2])
        };
        let known = [operands[3], operands[4], operands[5]];
        backward(&op.forward(), g, forward, known, (given("dlse"), op.mask_gradient))
    })
    .checked(Self::ranges);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 512 };
    // The log-sum-exp is filled so that the weights stay below one.
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 2, 3, 4], f32[2, 2, 5, 4], f32[2, 2, 5, 2], f32[2, 2, 3, 2], f32[2, 2, 3] in [3, 5), f32[2, \
         2, 3, 2] {layout = bhsd, num_heads = 2, num_kv_heads = 2, scale = none, softcap = none, \
         mask_kind = none, window = 0, alignment = end, mask_gradient = false}",
        "f32[2, 4, 3, 4], f32[2, 2, 5, 4], f32[2, 2, 5, 2], f32[2, 4, 3, 2], f32[2, 4, 3] in [3, 5), f32[2, \
         4, 3, 2] {num_heads = 4, mask_kind = causal}",
        "bf16[2, 3, 4, 4], bf16[2, 5, 2, 4], bf16[2, 5, 2, 2], bf16[2, 3, 4, 2], f32[2, 4, 3] in [3, 5), \
         bf16[2, 3, 4, 2] {layout = bshd, num_heads = 4, mask_kind = causal}",
        "f64[2, 3, 8], f64[2, 5, 8], f64[2, 5, 4], f64[2, 3, 4], f64[2, 2, 3] in [3, 5), f64[2, 3, 4], \
         f64[2, 2, 3] {layout = packed, scale = 0.7, softcap = 1.5, dlse = true}",
        "f32[2, 2, 3, 4], f32[2, 2, 5, 4], f32[2, 2, 5, 2], f32[2, 2, 3, 2], f32[2, 2, 3] in [3, 5), f32[2, \
         2, 3, 2], f32[2, 1, 3, 5] {mask_kind = bias, mask_gradient = true, mask = true}",
        "f16[2, 2, 3, 4], f16[2, 2, 5, 4], f16[2, 2, 5, 2], f16[2, 2, 3, 2], f32[2, 2, 3] in [3, 5), f16[2, \
         2, 3, 2], f16[5] {mask_kind = bias, mask_gradient = true, mask = true}",
        "f32[2, 2, 3, 4], f32[2, 2, 5, 4], f32[2, 2, 5, 2], f32[2, 2, 3, 2], f32[2, 2, 3] in [3, 5), f32[2, \
         2, 3, 2], bool[3, 5] {mask_kind = custom, mask = true}",
        "f32[2, 3, 16], f32[2, 5, 8], f32[2, 5, 4], f32[2, 3, 8], f32[2, 4, 3] in [3, 5), f32[2, 3, 8], \
         f32[2, 4, 3], i32[2] in [0, 6), f32[4] {layout = packed, num_heads = 4, mask_kind = causal, \
         dlse = true, kv_lengths = true, sinks = true}",
        "f32[0, 2, 3, 4], f32[0, 2, 5, 4], f32[0, 2, 5, 2], f32[0, 2, 3, 2], f32[0, 2, 3] in [3, 5), f32[0, \
         2, 3, 2]",
        "f32[2, 2, 3, 4], f32[2, 2, 0, 4], f32[2, 2, 0, 2], f32[2, 2, 3, 2], f32[2, 2, 3] in [3, 5), f32[2, \
         2, 3, 2]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let results = self.forward().infer(&self.forward_types(operands))?;
        let pairs = [("y", operands[3], 0), ("dy", operands[5], 0), ("lse", operands[4], 1)];
        let pairs = pairs.into_iter().chain(given("dlse").map(|dlse| ("dlse", dlse, 1)));
        for (name, found, index) in pairs {
            let expected = &results[index];
            require!("C2", found == expected, "{name} is {found}, expected {expected}");
        }
        let mut derivatives: Vec<TensorType> = operands[..3].iter().map(|ty| (*ty).clone()).collect();
        if self.mask_gradient {
            let mask = given("mask").filter(|mask| mask.dtype.is_float());
            let Some(mask) = mask else {
                let message = "mask_gradient needs a float mask".into();
                return Err(Violation { constraint: "C3", message });
            };
            derivatives.push(mask.clone());
        }
        derivatives.extend(given("sinks").cloned());
        Ok(derivatives)
    }
}

impl AttentionBackward {
    /// The op whose derivatives these are.
    fn forward(&self) -> Attention {
        Attention {
            layout: self.layout,
            num_heads: self.num_heads,
            num_kv_heads: self.num_kv_heads,
            scale: self.scale,
            softcap: self.softcap,
            mask_kind: self.mask_kind,
            window: self.window,
            alignment: self.alignment,
            with_lse: true,
            mask: self.mask,
            kv_lengths: self.kv_lengths,
            block_table: false,
            sinks: self.sinks,
        }
    }

    /// Types of what the forward op takes, among those of all operands.
    fn forward_types<'a>(&self, operands: &[&'a TensorType]) -> Vec<&'a TensorType> {
        let given = ["mask", "kv_lengths", "sinks"].into_iter().filter_map(|name| self.operand_index(name));
        operands[..3].iter().copied().chain(given.map(|index| operands[index])).collect()
    }

    /// The range of `kv_lengths`, the only one of the forward op without a block table.
    fn ranges(&self, operands: &[&TensorType]) -> Vec<ValueRange> {
        let Some(operand) = self.operand_index("kv_lengths") else { return vec![] };
        let ranges = self.forward().ranges(&self.forward_types(operands)).into_iter();
        ranges.map(|range| ValueRange { operand, ..range }).collect()
    }
}
