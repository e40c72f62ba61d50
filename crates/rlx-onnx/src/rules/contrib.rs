//! Ops of ONNX Runtime (`com.microsoft`) that its optimiser fuses of several: activations with biases, products,
//! normalisations of sums, embeddings.

use super::elementwise::unary;
use super::linear::{product, scaled};
use super::norm::{epsilon_or, statistics};
use super::{Rule, contrib_rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::ops::{ActivationKind as K, ReduceKind};
use rlx_ir::{DType, Dim, Value};

pub(super) const RULES: &[Rule] = &[
    contrib_rule("Gelu", |cx, node| unary(cx, node, K::Gelu)),
    contrib_rule("BiasGelu", |cx, node| biased(cx, node, K::Gelu)),
    contrib_rule("FastGelu", |cx, node| biased(cx, node, K::GeluApprox)),
    contrib_rule("QuickGelu", quick_gelu),
    contrib_rule("FusedMatMul", fused_matmul),
    contrib_rule("SkipLayerNormalization", |cx, node| skip_normalization(cx, node, Norm::Layer)),
    contrib_rule("SkipSimplifiedLayerNormalization", |cx, node| skip_normalization(cx, node, Norm::Rms)),
    contrib_rule("EmbedLayerNormalization", embed_normalization),
];

/// What these ops take for `epsilon` where they have none.
const EPSILON: f32 = 1e-12;

#[derive(Clone, Copy, PartialEq)]
enum Norm {
    Layer,
    Rms,
}

/// A function of operand 0 with operand 1, where there is one, added.
fn biased<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: K) -> Outcome<'m> {
    let mut x = node.value(cx, 0)?;
    if let Some(bias) = node.optional(cx, 1)? {
        x = cx.graph().add(x, bias);
    }
    let sum = cx.tensor(x)?;
    unary(cx, &node.with_inputs(vec![Some(sum)]), kind)
}

/// `x sigmoid(alpha x)`.
fn quick_gelu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, dtype) = (node.value(cx, 0)?, node.dtype(0)?);
    let alpha = node.float_or("alpha", 1.702)?;
    let x = cx.graph().accumulation_cast(x);
    let steep = scaled(cx, x, alpha)?;
    let graph = cx.graph();
    let gate = graph.sigmoid(steep);
    let y = graph.mul(x, gate);
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// `alpha A B`, either factor transposed.
fn fused_matmul<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut factors = vec![];
    for (index, name) in [(0, "transA"), (1, "transB")] {
        let batch = name.replace("trans", "transBatch");
        if node.flag(&batch, false)? {
            return Err(Stop::Refused(format!("its {batch} is set")));
        }
        let (x, rank) = (node.value(cx, index)?, node.rank(index)?);
        // A vector has nothing to transpose.
        let turns = node.flag(name, false)? && rank > 1;
        factors.push(if turns { cx.graph().swap_axes(x, -1, -2) } else { x });
    }
    let y = product(cx, factors[0], factors[1])?;
    let y = scaled(cx, y, node.float_or("alpha", 1.0)?)?;
    Ok(vec![cx.tensor(y)?])
}

/// `x` normalised over its last axis.
fn normalised<'m>(
    cx: &mut Context<'m>,
    (x, norm): (Value, Norm),
    gamma: Value,
    beta: Option<Value>,
    eps: f64,
) -> Result<Value, Stop<'m>> {
    let axes = vec![cx.ty(x)?.rank().saturating_sub(1)];
    let graph = cx.graph();
    let y = match norm {
        Norm::Layer => graph.layer_norm(x, Some(gamma), beta, axes, eps),
        Norm::Rms => graph.rms_norm(x, Some(gamma), beta, axes, eps, false),
    };
    cx.check()?;
    Ok(y)
}

/// The sum of operands 0 and 1 and of a bias, normalised; the sum is the fourth result.
fn skip_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>, norm: Norm) -> Outcome<'m> {
    let eps = epsilon_or(node, EPSILON)?;
    let (x, skip, gamma) = (node.value(cx, 0)?, node.value(cx, 1)?, node.value(cx, 2)?);
    let (beta, bias) = match norm {
        Norm::Layer => (node.optional(cx, 3)?, node.optional(cx, 4)?),
        Norm::Rms => (None, node.optional(cx, 3)?),
    };
    let mut sum = cx.graph().add(x, skip);
    if let Some(bias) = bias {
        sum = cx.graph().add(sum, bias);
    }
    let y = normalised(cx, (sum, norm), gamma, beta, eps)?;
    let results = match (node.wants(1) || node.wants(2), norm) {
        (true, Norm::Rms) => return Err(Stop::Refused("its statistics are asked for".into())),
        (true, Norm::Layer) => {
            let axes = vec![cx.ty(sum)?.rank().saturating_sub(1)];
            let [mean, inverse] = statistics(cx, sum, axes, eps, DType::F32)?;
            vec![cx.tensor(y)?, mean, inverse, cx.tensor(sum)?]
        }
        // Nothing reads the two in the middle.
        (false, _) => cx.tensors([y, y, y, sum])?,
    };
    Ok(results)
}

/// The sum of the embeddings of words, positions and segments, normalised; how many words the mask leaves; the sum.
fn embed_normalization<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (eps, mask_type) = (epsilon_or(node, EPSILON)?, node.int_or("mask_index_type", 1)?);
    if mask_type == 2 && node.wants(1) {
        return Err(Stop::Refused("its mask_index_type is 2".into()));
    }
    let dims = node.shape(0)?.dims().to_vec();
    let [batch, count] = &dims[..] else {
        return Err(Stop::Invalid(format!("its words have rank {}, expected 2", dims.len())));
    };
    let words = node.value(cx, 0)?;
    let (table, places) = (node.value(cx, 2)?, node.value(cx, 3)?);
    let words = cx.graph().gather(table, words, 0usize);
    let positions = match node.optional(cx, 8)? {
        Some(positions) => cx.graph().gather(places, positions, 0usize),
        None => cx.graph().narrow(places, 0usize, 0, count.clone()),
    };
    let mut sum = cx.graph().add(words, positions);
    if let (Some(segments), Some(table)) = (node.optional(cx, 1)?, node.optional(cx, 4)?) {
        let segments = cx.graph().gather(table, segments, 0usize);
        sum = cx.graph().add(sum, segments);
    }
    let (gamma, beta) = (node.value(cx, 5)?, node.value(cx, 6)?);
    let y = normalised(cx, (sum, Norm::Layer), gamma, Some(beta), eps)?;
    let left = match node.optional(cx, 7)? {
        Some(mask) => {
            let one = cx.graph().scalar(DType::I32, 1.0);
            let mask = cx.graph().cast_to(mask, DType::I32);
            let counts = cx.graph().compare_eq(mask, one);
            let counts = cx.graph().cast_to(counts, DType::I32);
            cx.graph().reduce(counts, ReduceKind::Sum, [1], false)
        }
        None => {
            let zero = cx.graph().scalar(DType::I32, 0.0);
            cx.graph().expand(zero, vec![Dim::clone(batch)])
        }
    };
    cx.tensors([y, left, sum])
}
