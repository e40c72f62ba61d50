//! `fused_transformer_layer`: a whole encoder layer.

use crate::ops::fused_layers::infer_by_building;
use crate::ops::prelude::*;

attr_enum! {
    /// Where the norms of a [`FusedTransformerLayer`] stand.
    NormPosition {
        /// Before attention and feed-forward, outside the residual path.
        Pre = "pre",
        /// After each residual sum.
        Post = "post",
    }
}

op! {
    /// An encoder layer: attention and feed-forward, each with a residual sum and a layer norm.
    ///
    /// With `norm_position` `post`: `h = norm1(hidden + attention(hidden))`, `y = norm2(h + feed(h))`.
    /// With `pre`: `h = hidden + attention(norm1(hidden))`, `y = h + feed(norm2(h))`.
    /// `attention` is `fused_attention_block`, `feed(x) = kind(x up_weight + up_bias) down_weight + down_bias`,
    /// and the norms are `layer_norm` over the last axis with the parameters of their number.
    /// `hidden` and `y` are [B, S, E]; `up_weight` is [E, F], `down_weight` is [F, E], the norm parameters are [E].
    /// (C1) `hidden` is [B, S, E] of a float dtype.
    /// (C2) Each part satisfies its own constraints: `fused_attention_block`, `fused_matmul_bias_act`,
    /// `layer_norm`, `fused_residual_ln`.
    /// The meaning is that of the parts one after the other.
    fused_transformer_layer: FusedTransformerLayer(hidden, qkv_weight, out_weight, up_weight, down_weight, norm1_gamma, norm2_gamma)[qkv_bias, out_bias, up_bias, down_bias, norm1_beta, norm2_beta, mask, cos, sin] -> y {
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
        /// Where the norms stand.
        norm_position: NormPosition,
        /// Added to the variances.
        eps: Real,
        /// The activation of the feed-forward part.
        kind: ActivationKind,
    }
}

impl OpSpec for FusedTransformerLayer {
    const MEANING: Meaning<Self> = Meaning::composite(Self::decompose);
    const VJP: Vjp<Self> = Vjp::ViaDecomposition;
    const JVP: Jvp<Self> = Jvp::ViaDecomposition;
    const BATCH: Batch<Self> = Batch::ViaDecomposition;
    const ACCURACY: AccuracyRule<Self> = |_| Accuracy::Accumulated { terms: 2048 };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[1, 3, 4], f32[4, 12], f32[4, 4], f32[4, 5], f32[5, 4], f32[4], f32[4], f32[12], f32[4], \
         f32[5], f32[4], f32[4], f32[4] {num_heads = 2, num_kv_heads = 2, scale = none, mask_kind = none, \
         window = 0, rope_style = half_split, transpose_w = false, norm_position = post, eps = 1e-5, \
         kind = gelu, qkv_bias = true, out_bias = true, up_bias = true, down_bias = true, \
         norm1_beta = true, norm2_beta = true}",
        "f32[2, 3, 4], f32[4, 12], f32[4, 4], f32[4, 5], f32[5, 4], f32[4], f32[4], f32[12], f32[4], \
         f32[5], f32[4], f32[4], f32[4] {norm_position = pre}",
        "f64[1, 3, 4], f64[8, 4], f64[4, 4], f64[5, 4], f64[4, 5], f64[4], f64[4], f64[3, 1], f64[3, 1] \
         {num_kv_heads = 1, mask_kind = causal, transpose_w = true, norm_position = pre, kind = silu, \
         qkv_bias = false, out_bias = false, up_bias = false, down_bias = false, norm1_beta = false, \
         norm2_beta = false, cos = true, sin = true}",
        "f32[1, 3, 4], f32[4, 12], f32[4, 4], f32[4, 5], f32[5, 4], f32[4], f32[4], bool[3, 3] \
         {mask_kind = custom, kind = relu, qkv_bias = false, out_bias = false, up_bias = false, \
         down_bias = false, norm1_beta = false, norm2_beta = false, mask = true}",
        "f32[0, 3, 4], f32[4, 12], f32[4, 4], f32[4, 5], f32[5, 4], f32[4], f32[4], f32[12], f32[4], \
         f32[5], f32[4], f32[4], f32[4]",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let hidden = operands[0];
        let float = hidden.dtype.is_float() && !hidden.dtype.is_storage_only();
        require!("C1", float && hidden.rank() == 3, "expected [B, S, E] of a float dtype, found {hidden}");
        infer_by_building("C2", operands, |g, operands| self.decompose(g, operands))
    }
}

impl FusedTransformerLayer {
    fn block(&self) -> FusedAttentionBlock {
        FusedAttentionBlock {
            num_heads: self.num_heads,
            num_kv_heads: self.num_kv_heads,
            scale: self.scale,
            mask_kind: self.mask_kind,
            window: self.window,
            rope_style: self.rope_style,
            transpose_w: self.transpose_w,
            qkv_bias: self.qkv_bias,
            out_bias: self.out_bias,
            mask: self.mask,
            cos: self.cos,
            sin: self.sin,
        }
    }

    fn decompose(&self, g: &mut Graph, operands: &[Value]) -> Vec<Value> {
        let &[hidden, _, _, up_weight, down_weight, norm1_gamma, norm2_gamma, ..] = operands else {
            return vec![];
        };
        let given = |name| self.operand_index(name).map(|index| operands[index]);
        let attention = |g: &mut Graph, x: Value| {
            let optional = ["qkv_bias", "out_bias", "mask", "cos", "sin"].into_iter().filter_map(given);
            g.push(
                self.block(),
                &[x, operands[1], operands[2]].into_iter().chain(optional).collect::<Vec<_>>(),
            )
        };
        let feed = |g: &mut Graph, x: Value| {
            let wide = self.linear(g, x, up_weight, given("up_bias"), Some(self.kind));
            self.linear(g, wide, down_weight, given("down_bias"), None)
        };
        let (beta1, beta2) = (given("norm1_beta"), given("norm2_beta"));
        match self.norm_position {
            NormPosition::Post => {
                let attended = attention(g, hidden);
                let (h, _) = self.residual_norm(g, attended, hidden, norm1_gamma, beta1);
                let fed = feed(g, h);
                vec![self.residual_norm(g, fed, h, norm2_gamma, beta2).0]
            }
            NormPosition::Pre => {
                let norm = LayerNorm { axes: vec![2], eps: self.eps, gamma: true, beta: beta1.is_some() };
                let norm1 = g.push(norm, &[hidden, norm1_gamma].into_iter().chain(beta1).collect::<Vec<_>>());
                let attended = attention(g, norm1);
                let (norm2, h) = self.residual_norm(g, attended, hidden, norm2_gamma, beta2);
                let fed = feed(g, norm2);
                vec![g.add(h, fed)]
            }
        }
    }

    /// The norm of `x + residual`, and the sum.
    fn residual_norm(
        &self,
        g: &mut Graph,
        x: Value,
        residual: Value,
        gamma: Value,
        beta: Option<Value>,
    ) -> (Value, Value) {
        let op =
            FusedResidualLN { axes: vec![2], eps: self.eps, bias: false, gamma: true, beta: beta.is_some() };
        let results = g.push_all(op, &[x, residual, gamma].into_iter().chain(beta).collect::<Vec<_>>());
        let at = |index: usize| results.get(index).copied().unwrap_or(Value::POISON);
        (at(0), at(1))
    }

    fn linear(
        &self,
        g: &mut Graph,
        x: Value,
        w: Value,
        bias: Option<Value>,
        kind: Option<ActivationKind>,
    ) -> Value {
        let op =
            FusedMatMulBiasAct { kind, parameter: None, transpose_w: self.transpose_w, bias: bias.is_some() };
        g.push(op, &[x, w].into_iter().chain(bias).collect::<Vec<_>>())
    }
}
