//! Attention by a state that every position updates.

use super::windows::fixed;
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::{DType, Dim, Graph, Value};

pub(super) const RULES: &[Rule] = &[rule("LinearAttention", &[27], linear_attention)];

/// How a position updates the state.
#[derive(Clone, Copy, PartialEq, Eq)]
struct UpdateRule {
    is_gated: bool,
    is_delta: bool,
}

fn update_rule<'m>(node: &Node<'m>) -> Result<UpdateRule, Stop<'m>> {
    let (is_gated, is_delta) = match node.string_or("update_rule", "gated_delta")?.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Stop::Invalid(format!("update_rule {other:?} is not known"))),
    };
    Ok(UpdateRule { is_gated, is_delta })
}

fn head_count<'m>(node: &Node<'m>, name: &str) -> Result<usize, Stop<'m>> {
    let count = usize::try_from(node.int_or(name, 0)?).ok().filter(|&count| count > 0);
    count.ok_or_else(|| Stop::Invalid(format!("{name} must be at least 1")))
}

/// [B, T, ..] as [T, B, `dims`..] in `dtype`.
fn by_position(graph: &mut Graph, x: Value, dtype: DType, dims: &[Dim]) -> Value {
    let Some(ty) = graph.try_ty(x).cloned() else { return x };
    let x = graph.cast_to(x, dtype);
    let x = graph.swap_axes(x, 0, 1);
    graph.view(x, [&[ty.shape[1].clone(), ty.shape[0].clone()], dims].concat())
}

fn linear_attention<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let update = update_rule(node)?;
    // A hint of how to compute it.
    node.without_influence("chunk_size");
    let (query_heads, heads) = (head_count(node, "q_num_heads")?, head_count(node, "kv_num_heads")?);
    if query_heads % heads != 0 {
        return Err(Stop::Invalid(format!("{query_heads} query heads share {heads} key heads")));
    }
    let shapes = [node.shape(0)?, node.shape(1)?, node.shape(2)?];
    if shapes.iter().any(|shape| shape.rank() != 3) {
        return Err(Stop::Invalid("its first three operands must be of rank 3".into()));
    }
    let (batch, length) = (shapes[0][0].clone(), shapes[0][1].clone());
    let keys = shapes[0][2].floor_div(&Dim::from(query_heads));
    let values = shapes[2][2].floor_div(&Dim::from(heads));
    let scale = match node.float_or("scale", 0.0)? {
        0.0 => 1.0 / (fixed(&keys, "the extent of a head")? as f64).sqrt(),
        scale => f64::from(scale),
    };
    let dtype = node.dtype(0)?;
    let wide = DType::F32;
    let (one, heads_dim) = (Dim::from(1), Dim::from(heads));
    let operands = [node.value(cx, 0)?, node.value(cx, 1)?, node.value(cx, 2)?];
    let past = node.optional(cx, 3)?;
    let state_dtype = if past.is_some() { node.dtype(3)? } else { dtype };
    let (decay, beta) = (node.optional(cx, 4)?, node.optional(cx, 5)?);
    let missing = |name: &str| Stop::Invalid(format!("its update rule needs {name}"));
    let graph = cx.graph();
    let shared = Dim::from(query_heads / heads);
    let q = by_position(graph, operands[0], wide, &[heads_dim.clone(), shared, keys.clone()]);
    let k = by_position(graph, operands[1], wide, &[heads_dim.clone(), keys.clone(), one.clone()]);
    let v = by_position(graph, operands[2], wide, &[heads_dim.clone(), one.clone(), values.clone()]);
    let mut stacked = vec![q, k, v];
    if update.is_gated {
        let decay = decay.ok_or_else(|| missing("decay"))?;
        let per_head = node.shape(4)?.dims().last().is_some_and(|last| *last == heads_dim);
        let width = if per_head { one.clone() } else { keys.clone() };
        let decay = by_position(graph, decay, wide, &[heads_dim.clone(), width, one.clone()]);
        stacked.push(graph.exp(decay));
    }
    if update.is_delta {
        let beta = beta.ok_or_else(|| missing("beta"))?;
        stacked.push(by_position(graph, beta, wide, &[Dim::from(-1), one.clone(), one]));
    }
    let state = match past {
        Some(past) => graph.cast_to(past, wide),
        None => graph.full(wide, vec![batch.clone(), heads_dim, keys, values.clone()], 0.0),
    };
    let scanned = graph.scan_over(length.clone(), false, [&[state], &[], &stacked], |graph, inputs| {
        step(graph, update, scale, inputs)
    });
    let (last, y) = (scanned[0], scanned[1]);
    // [T, B, heads, shared, values] to [B, T, ..].
    let y = graph.swap_axes(y, 0, 1);
    let y = graph.reshape(y, vec![batch, length, Dim::from(query_heads) * values]);
    let (y, last) = (graph.cast_to(y, dtype), graph.cast_to(last, state_dtype));
    cx.tensors([y, last])
}

/// The state after a position and what the queries read of it. Inputs are the state, the queries, keys and values of
/// the position, then what the rule needs of decay and update rate.
fn step(graph: &mut Graph, update: UpdateRule, scale: f64, inputs: &[Value]) -> Vec<Value> {
    let (mut state, q, k, v) = (inputs[0], inputs[1], inputs[2], inputs[3]);
    let mut rest = inputs[4..].iter().copied();
    if update.is_gated
        && let Some(decay) = rest.next()
    {
        state = graph.mul(state, decay);
    }
    let mut added = v;
    if update.is_delta
        && let Some(beta) = rest.next()
    {
        let known = graph.matmul(k, state, true, false);
        let missing = graph.sub(v, known);
        added = graph.mul(missing, beta);
    }
    let outer = graph.mul(k, added);
    state = graph.add(state, outer);
    let read = graph.mm(q, state);
    let scale = graph.scalar(DType::F32, scale);
    let y = graph.mul(read, scale);
    vec![state, y]
}
