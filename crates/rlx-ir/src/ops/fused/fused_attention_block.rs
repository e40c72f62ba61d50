//! `fused_attention_block`: projections, rotary embedding, attention and output projection.

use crate::ops::fused_layers::infer_by_building;
use crate::ops::prelude::*;

op! {
    /// `y = attention(q, k, v) out_weight + out_bias` with `[q | k | v] = hidden qkv_weight + qkv_bias`.
    ///
    /// `hidden` is [B, S, E]; `qkv_weight` is [E, (Hq + 2 Hkv) D], its columns the query heads, then
    /// the key heads, then the value heads; `out_weight` is [Hq D, E']; `y` is [B, S, E'].
    /// With `cos` and `sin` the first `n_rot` elements of each query and key head are rotated as `rope`
    /// does, `n_rot` being twice the last extent of the tables.
    /// (C1) `hidden` is [B, S, E] of a float dtype.
    /// (C2) `num_heads + 2 num_kv_heads` is positive and divides the columns of `qkv_weight`.
    /// (C3) `cos` and `sin` are given together; then D and the extent of the tables are static.
    /// (C4) Each part satisfies its own constraints: `fused_matmul_bias_act`, `rope`, `attention`.
    /// The meaning is that of the parts one after the other.
    fused_attention_block: FusedAttentionBlock(hidden, qkv_weight, out_weight)[qkv_bias, out_bias, mask, cos, sin] -> y {
        /// Query heads.
        num_heads: usize,
        /// Key and value heads.
        num_kv_heads: usize,
        /// Factor of the scores; none means `1 / sqrt(D)`.
        scale: Option<Real>,
        /// Which keys a query sees.
        mask_kind: MaskKind,
        /// Keys that a sliding window sees.
        window: usize,
        /// Which elements of a head form a rotated pair.
        rope_style: RopeStyle,
        /// Are the weights given as [columns, rows]?
        transpose_w: bool,
    }
}

impl OpSpec for FusedAttentionBlock {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 512 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3, 4], f32[4, 12], f32[4, 4] {num_heads = 2, num_kv_heads = 2, scale = none, \
         mask_kind = none, window = 0, rope_style = half_split, transpose_w = false}",
        "f32[1, 4, 4], f32[4, 8], f32[4, 4], f32[8], f32[4] \
         {num_kv_heads = 1, qkv_bias = true, out_bias = true}",
        "f64[1, 3, 4], f64[4, 16], f64[8, 4], f64[3, 2], f64[3, 2] \
         {num_kv_heads = 1, mask_kind = causal, cos = true, sin = true}",
        "f32[2, 3, 4], f32[9, 4], f32[4, 3], bool[3, 3] \
         {num_heads = 1, num_kv_heads = 1, mask_kind = custom, transpose_w = true, mask = true}",
        "f32[1, 5, 3], f32[3, 12], f32[4, 3] {scale = 0.3, mask_kind = sliding_window, window = 2}",
        "f32[0, 3, 4], f32[4, 12], f32[4, 4]",
        "f32[1, 1, 1], f32[1, 3], f32[1, 1] {num_heads = 1, num_kv_heads = 1}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let (hidden, weight) = (operands[0], operands[1]);
        let float = hidden.dtype.is_float() && !hidden.dtype.is_storage_only();
        require!("C1", float && hidden.rank() == 3, "expected [B, S, E] of a float dtype, found {hidden}");
        require!("C2", weight.rank() == 2, "qkv_weight must have rank 2, found {weight}");
        let heads = self.all_heads();
        require!(
            "C2",
            self.num_heads > 0 && self.num_kv_heads > 0,
            "the numbers of heads must be at least 1"
        );
        let columns = &weight.shape[if self.transpose_w { 0 } else { 1 }];
        require!(
            "C2",
            columns.modulo(&heads).is(0),
            "{columns} columns of qkv_weight do not divide into {heads} heads"
        );
        require!("C3", self.cos == self.sin, "cos and sin are given together or not at all");
        if let Some(index) = self.operand_index("cos") {
            let table = operands[index];
            let pairs = table.shape.dims().last().and_then(Dim::as_static);
            require!("C3", pairs.is_some(), "the last extent of cos must be static, found {table}");
            let head = columns.floor_div(&heads);
            require!("C3", head.as_static().is_some(), "the head extent {head} must be static to be rotated");
        }
        infer_by_building("C4", operands, |g, operands| self.decompose(g, operands))
    }
}

impl FusedAttentionBlock {
    /// A block without biases, mask or rotation.
    pub fn heads(num_heads: usize, num_kv_heads: usize) -> FusedAttentionBlock {
        FusedAttentionBlock {
            num_heads,
            num_kv_heads,
            scale: None,
            mask_kind: MaskKind::None,
            window: 0,
            rope_style: RopeStyle::HalfSplit,
            transpose_w: false,
            qkv_bias: false,
            out_bias: false,
            mask: false,
            cos: false,
            sin: false,
        }
    }

    fn all_heads(&self) -> Dim {
        Dim::from(self.num_heads) + Dim::from(2) * Dim::from(self.num_kv_heads)
    }

    fn attention(&self) -> Attention {
        Attention {
            scale: self.scale,
            mask_kind: self.mask_kind,
            window: self.window,
            ..Attention::heads(self.num_heads, self.num_kv_heads).layout(AttentionLayout::Packed)
        }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let qkv = linear(g, operands[0], operands[1], given("qkv_bias"), self.transpose_w);
        let Some(columns) = g.try_ty(qkv).and_then(|ty| ty.shape.dims().last().cloned()) else {
            return vec![];
        };
        let head = columns.floor_div(&self.all_heads());
        let [queries, keys] =
            [self.num_heads, self.num_kv_heads].map(|heads| Dim::from(heads) * head.clone());
        let parts = g.split(qkv, -1, &[queries, keys.clone(), keys]);
        let &[mut q, mut k, v] = &parts[..] else { return vec![] };
        if let (Some(cos), Some(sin)) = (given("cos"), given("sin")) {
            let Some(rope) = self.rope(g, &head, cos) else { return vec![] };
            q = g.push(rope.clone(), &[q, cos, sin]);
            k = g.push(rope, &[k, cos, sin]);
        }
        let attended = AttentionOperands { mask: given("mask"), ..AttentionOperands::new(q, k, v) };
        let mixed = g.attend(self.attention(), attended).first().copied().unwrap_or(Value::POISON);
        vec![linear(g, mixed, operands[2], given("out_bias"), self.transpose_w)]
    }

    fn rope(&self, g: &Graph, head: &Dim, cos: Value) -> Option<Rope> {
        let pairs = g.try_ty(cos)?.shape.dims().last()?.as_static()?;
        Some(Rope {
            axis: 1,
            head_dim: usize::try_from(head.as_static()?).ok()?,
            n_rot: usize::try_from(pairs.checked_mul(2)?).ok()?,
            style: self.rope_style,
            positions: false,
        })
    }
}

/// `x w + bias`.
fn linear(g: &mut Graph, x: Value, w: Value, bias: Option<Value>, transpose_w: bool) -> Value {
    let op = FusedMatMulBiasAct { kind: None, parameter: None, transpose_w, bias: bias.is_some() };
    g.push(op, &[x, w].into_iter().chain(bias).collect::<Vec<_>>())
}
