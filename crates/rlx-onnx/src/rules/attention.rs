//! Attention, its variants, and the rotation of positions.

use super::windows::fixed;
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::materialise;
use crate::node::{Node, Outcome, Stop};
use crate::tensor;
use crate::value::Imported;
use rlx_ir::attr::Real;
use rlx_ir::ops::{Alignment, Attention, AttentionOperands, MaskKind, PadMode, ReduceKind, RopeStyle};
use rlx_ir::{DType, Dim, Graph, Value};

pub(super) const RULES: &[Rule] = &[
    rule("Attention", &[23, 24, 25], attention),
    rule("RotaryEmbedding", &[23], rotary_embedding),
    Rule { domain: "ai.onnx.preview", op: "FlexAttention", versions: &[1], import: flex_attention },
];

/// Queries, keys and values as [batch, heads, sequence, head extent], in one dtype.
pub(super) struct Heads {
    pub q: Value,
    pub k: Value,
    pub v: Value,
    pub query_heads: usize,
    pub key_heads: usize,
    pub batch: Dim,
    pub queries: Dim,
    pub keys: Dim,
    pub scale: f64,
}

/// How many keys stand before the first query.
pub(super) enum Offset {
    None,
    Past(Dim),
    /// As many as the keys that count, an integer per batch, exceed the queries.
    Counted(Value),
}

/// Which keys a query sees around its own position, and what is added to the scores.
pub(super) struct Visibility {
    pub offset: Offset,
    pub left: Option<usize>,
    pub right: Option<usize>,
    pub mask: Option<Value>,
}

fn head_count<'m>(node: &Node<'m>, name: &str) -> Result<usize, Stop<'m>> {
    let count = node.int(name)?.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    count.ok_or_else(|| Stop::Invalid(format!("operands of rank 3 need {name}")))
}

/// [batch, sequence, heads x extent] as [batch, heads, sequence, extent].
pub(super) fn split_heads(graph: &mut Graph, x: Value, dims: &[Dim], heads: usize) -> Value {
    let heads = Dim::from(heads);
    let extent = dims[2].floor_div(&heads);
    let x = graph.reshape(x, vec![dims[0].clone(), dims[1].clone(), heads, extent]);
    graph.swap_axes(x, 1, 2)
}

/// The first three operands as heads; whether they were packed.
fn read_heads<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<(Heads, bool), Stop<'m>> {
    let is_packed = node.rank(0)? == 3;
    for index in 0..3 {
        let rank = node.rank(index)?;
        if rank != if is_packed { 3 } else { 4 } {
            return Err(Stop::Invalid(format!("operand {index} is of rank {rank}, the others are not")));
        }
    }
    let mut heads = vec![];
    let dtype = node.dtype(0)?;
    let counts = if is_packed {
        [head_count(node, "q_num_heads")?, head_count(node, "kv_num_heads")?]
    } else {
        node.without_influence("q_num_heads");
        node.without_influence("kv_num_heads");
        let count = |index: usize| fixed(&node.shape(index)?[1], "the number of heads");
        [count(0)?, count(1)?]
    };
    for index in 0..3 {
        let dims = node.shape(index)?.dims().to_vec();
        let x = node.value(cx, index)?;
        let count = counts[index.min(1)];
        heads.push(if is_packed { split_heads(cx.graph(), x, &dims, count) } else { x });
    }
    let (q, k, v) = (heads[0], heads[1], cx.graph().cast_to(heads[2], dtype));
    let (query, key) = (cx.ty(q)?.shape, cx.ty(k)?.shape);
    let scale = match node.float("scale")? {
        Some(scale) => f64::from(scale),
        None => 1.0 / (fixed(&query[3], "the extent of a head")? as f64).sqrt(),
    };
    let [query_heads, key_heads] = counts;
    if key_heads == 0 || query_heads % key_heads != 0 {
        return Err(Stop::Invalid(format!("{query_heads} query heads share {key_heads} key heads")));
    }
    let (batch, queries, keys) = (query[0].clone(), query[2].clone(), key[2].clone());
    Ok((Heads { q, k, v, query_heads, key_heads, batch, queries, keys, scale }, is_packed))
}

/// A bound of a window: none where it is negative.
fn bound<'m>(node: &Node<'m>, name: &str) -> Result<Option<usize>, Stop<'m>> {
    match node.int_or(name, -1)? {
        -1 => Ok(None),
        bound => match usize::try_from(bound) {
            Ok(bound) => Ok(Some(bound)),
            Err(_) => Err(Stop::Invalid(format!("{name} is {bound}"))),
        },
    }
}

/// The mask, as wide as there are keys, boolean or in the dtype of the queries.
fn read_mask<'m>(cx: &mut Context<'m>, node: &Node<'m>, keys: &Dim) -> Result<Option<Value>, Stop<'m>> {
    let Some(mask) = node.optional(cx, 3)? else { return Ok(None) };
    let dims = node.shape(3)?.dims().to_vec();
    let (found, dtype) = (node.dtype(3)?, node.dtype(0)?);
    let graph = cx.graph();
    let mask = if found == DType::Bool { mask } else { graph.cast_to(mask, dtype) };
    let Some(width) = dims.last() else { return Ok(Some(mask)) };
    let missing = keys.clone() - width.clone();
    if missing.is(0) {
        return Ok(Some(mask));
    }
    let filler = match found {
        DType::Bool => graph.scalar(DType::Bool, 0.0),
        _ => graph.scalar(dtype, f64::NEG_INFINITY),
    };
    let mut high = vec![Dim::from(0); dims.len()];
    high[dims.len() - 1] = missing;
    Ok(Some(graph.pad(mask, Some(filler), vec![Dim::from(0); dims.len()], high, PadMode::Constant)))
}

fn attention<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (mut heads, is_packed) = read_heads(cx, node)?;
    let (mut left, mut right) = (None, None);
    if node.version >= 25 {
        (left, right) = (bound(node, "left_window_size")?, bound(node, "right_window_size")?);
    }
    if node.flag("is_causal", false)? {
        right = Some(0);
    }
    let softcap = Some(f64::from(node.float_or("softcap", 0.0)?)).filter(|&softcap| softcap > 0.0);
    let precision = softmax_precision(node, DType::F32)?;
    let mode = node.int_or("qk_matmul_output_mode", 0)?;
    let (past_key, past_value) = (node.optional(cx, 4)?, node.optional(cx, 5)?);
    let mut offset = Offset::None;
    let mut present_value = None;
    match (past_key, past_value) {
        (Some(key), Some(value)) => {
            // The values keep a dtype of their own in the cache.
            let own = node.dtype(2)?;
            let new = cx.graph().cast_to(heads.v, own);
            heads.k = cx.graph().concat(&[key, heads.k], 2usize);
            let all = cx.graph().concat(&[value, new], 2usize);
            present_value = Some(all);
            heads.v = cx.graph().cast_to(all, node.dtype(0)?);
            let past = cx.ty(key)?.shape[2].clone();
            heads.keys = past.clone() + heads.keys;
            offset = Offset::Past(past);
        }
        (None, None) => {}
        _ => return Err(Stop::Invalid("past_key and past_value go together".into())),
    }
    if let Some(counts) = node.optional(cx, 6)? {
        if let Offset::Past(_) = offset {
            return Err(Stop::Invalid("nonpad_kv_seqlen does not go with past_key".into()));
        }
        offset = Offset::Counted(counts);
    }
    let mask = read_mask(cx, node, &heads.keys)?;
    let seen = Visibility { offset, left, right, mask };
    let dtype = node.dtype(0)?;
    let is_wide = precision == DType::F64 && dtype != DType::F64;
    let (y, scores) = if node.wants(3) || is_wide {
        let (y, scores) = composed(cx, &heads, &seen, (softcap, precision, mode))?;
        (y, Some(scores))
    } else {
        (direct(cx, &heads, &seen, softcap)?, None)
    };
    let y = if is_packed { join_heads(cx, y)? } else { y };
    let own = node.dtype(2)?;
    let value = present_value.unwrap_or(heads.v);
    let value = cx.graph().cast_to(value, own);
    let mut results = vec![cx.tensor(y)?, cx.tensor(heads.k)?, cx.tensor(value)?];
    if let Some(scores) = scores {
        results.push(cx.tensor(scores)?);
    }
    Ok(results)
}

/// [batch, heads, sequence, extent] as [batch, sequence, heads x extent].
pub(super) fn join_heads<'m>(cx: &mut Context<'m>, y: Value) -> Result<Value, Stop<'m>> {
    let dims = cx.ty(y)?.shape.into_dims();
    let graph = cx.graph();
    let y = graph.swap_axes(y, 1, 2);
    Ok(graph.reshape(y, vec![dims[0].clone(), dims[2].clone(), dims[1].clone() * dims[3].clone()]))
}

/// The dtype that the softmax is at least computed in.
fn softmax_precision<'m>(node: &Node<'m>, default: DType) -> Result<DType, Stop<'m>> {
    let Some(code) = node.int("softmax_precision")? else { return Ok(default) };
    let dtype = i32::try_from(code).ok().and_then(|code| tensor::dtype(code).ok());
    let legal = [DType::F32, DType::F16, DType::F64, DType::BF16];
    let dtype = dtype.filter(|dtype| legal.contains(dtype));
    dtype.ok_or_else(|| Stop::Invalid(format!("softmax_precision is {code}")))
}

/// The attention op of the graph.
pub(super) fn direct<'m>(
    cx: &mut Context<'m>,
    heads: &Heads,
    seen: &Visibility,
    softcap: Option<f64>,
) -> Result<Value, Stop<'m>> {
    let mut op = Attention {
        scale: Some(Real(heads.scale)),
        softcap: softcap.map(Real),
        ..Attention::heads(heads.query_heads, heads.key_heads)
    };
    let mut mask = seen.mask;
    op.alignment = match &seen.offset {
        Offset::None => Alignment::Start,
        Offset::Past(_) | Offset::Counted(_) => Alignment::End,
    };
    let is_at_end = match &seen.offset {
        Offset::Past(past) => (past.clone() + heads.queries.clone() - heads.keys.clone()).is(0),
        _ => true,
    };
    match (seen.left, seen.right) {
        (None, None) => {}
        (None, Some(0)) if is_at_end => op.mask_kind = MaskKind::Causal,
        (Some(left), Some(0)) if is_at_end => op = op.sliding_window(left.saturating_add(1)),
        _ => {
            let allowed = around(cx, heads, seen)?;
            mask = Some(match mask {
                None => allowed,
                Some(mask) if cx.ty(mask)?.dtype == DType::Bool => cx.graph().and(mask, allowed),
                Some(mask) => {
                    let dtype = cx.ty(mask)?.dtype;
                    let low = cx.graph().scalar(dtype, f64::NEG_INFINITY);
                    cx.graph().where_(allowed, mask, low)
                }
            });
        }
    }
    if let (MaskKind::None, Some(mask)) = (op.mask_kind, mask) {
        let is_boolean = cx.ty(mask)?.dtype == DType::Bool;
        op.mask_kind = if is_boolean { MaskKind::Custom } else { MaskKind::Bias };
    }
    let kv_lengths = match seen.offset {
        Offset::Counted(counts) => Some(counts),
        _ => None,
    };
    let operands =
        AttentionOperands { mask, kv_lengths, ..AttentionOperands::new(heads.q, heads.k, heads.v) };
    let results = cx.graph().attend(op, operands);
    Ok(results.first().copied().unwrap_or(Value::POISON))
}

/// Which keys lie in the window around each query: [queries, keys], or [batch, 1, queries, keys].
fn around<'m>(cx: &mut Context<'m>, heads: &Heads, seen: &Visibility) -> Result<Value, Stop<'m>> {
    let graph = cx.graph();
    let dims = vec![heads.queries.clone(), heads.keys.clone()];
    let query = graph.iota(DType::I64, dims.clone(), 0usize);
    let key = graph.iota(DType::I64, dims.clone(), 1usize);
    let position = match &seen.offset {
        Offset::None => query,
        Offset::Past(past) => {
            let past = materialise(graph, std::slice::from_ref(past), 0)?;
            graph.add(query, past)
        }
        Offset::Counted(counts) => {
            let counts = graph.cast_to(*counts, DType::I64);
            let counts = graph.reshape(counts, [heads.batch.clone(), 1.into(), 1.into(), 1.into()].to_vec());
            let queries = materialise(graph, std::slice::from_ref(&heads.queries), 0)?;
            let offset = graph.sub(counts, queries);
            graph.add(query, offset)
        }
    };
    let distance = graph.sub(key, position);
    let truth = graph.scalar(DType::Bool, 1.0);
    let mut allowed = graph.expand(truth, dims);
    if let Some(left) = seen.left {
        let left = graph.scalar(DType::I64, -(left as f64));
        let within = graph.compare_ge(distance, left);
        allowed = graph.and(allowed, within);
    }
    if let Some(right) = seen.right {
        let right = graph.scalar(DType::I64, right as f64);
        let within = graph.compare_le(distance, right);
        allowed = graph.and(allowed, within);
    }
    if let Offset::Counted(counts) = seen.offset {
        let counts = graph.cast_to(counts, DType::I64);
        let counts = graph.reshape(counts, [heads.batch.clone(), 1.into(), 1.into(), 1.into()].to_vec());
        let counted = graph.compare_lt(key, counts);
        allowed = graph.and(allowed, counted);
    }
    Ok(allowed)
}

/// The products of queries and keys: [batch, query heads, queries, keys].
fn products(graph: &mut Graph, heads: &Heads, dtype: DType) -> Value {
    let shared = Dim::from(heads.query_heads / heads.key_heads);
    let q = graph.cast_to(heads.q, dtype);
    let scale = graph.scalar(dtype, heads.scale);
    let q = graph.mul(q, scale);
    let kv = Dim::from(heads.key_heads);
    let extent = Dim::from(-1);
    let q = graph.view(q, vec![heads.batch.clone(), kv, shared, heads.queries.clone(), extent]);
    let k = graph.cast_to(heads.k, dtype);
    let k = graph.unsqueeze(k, 2);
    let scores = graph.matmul(q, k, false, true);
    let dims = vec![heads.batch.clone(), heads.query_heads.into(), heads.queries.clone(), heads.keys.clone()];
    graph.reshape(scores, dims)
}

/// What the probabilities weigh: [batch, query heads, queries, extent].
fn weighted(graph: &mut Graph, heads: &Heads, probabilities: Value, dtype: DType) -> Value {
    let shared = Dim::from(heads.query_heads / heads.key_heads);
    let kv = Dim::from(heads.key_heads);
    let dims = vec![heads.batch.clone(), kv, shared, heads.queries.clone(), heads.keys.clone()];
    let grouped = graph.reshape(probabilities, dims);
    let v = graph.cast_to(heads.v, dtype);
    let v = graph.unsqueeze(v, 2);
    let y = graph.mm(grouped, v);
    let dims = vec![heads.batch.clone(), heads.query_heads.into(), heads.queries.clone(), Dim::from(-1)];
    graph.view(y, dims)
}

/// Attention step by step, with the scores after one of the steps.
fn composed<'m>(
    cx: &mut Context<'m>,
    heads: &Heads,
    seen: &Visibility,
    (softcap, precision, mode): (Option<f64>, DType, i64),
) -> Result<(Value, Value), Stop<'m>> {
    let dtype = cx.ty(heads.q)?.dtype;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let allowed = around(cx, heads, seen)?;
    let mask = match seen.mask {
        Some(mask) => Some((mask, cx.ty(mask)?.dtype)),
        None => None,
    };
    let graph = cx.graph();
    let raw = products(graph, heads, wide);
    let capped = match softcap {
        None => raw,
        Some(softcap) => {
            let softcap = graph.scalar(wide, softcap);
            let ratio = graph.div(raw, softcap);
            let bounded = graph.tanh(ratio);
            graph.mul(bounded, softcap)
        }
    };
    let (zero, low) = (graph.scalar(wide, 0.0), graph.scalar(wide, f64::NEG_INFINITY));
    let bias = match mask {
        None => graph.where_(allowed, zero, low),
        Some((mask, DType::Bool)) => {
            let both = graph.and(allowed, mask);
            graph.where_(both, zero, low)
        }
        Some((mask, _)) => {
            let mask = graph.cast_to(mask, wide);
            graph.where_(allowed, mask, low)
        }
    };
    let biased = graph.add(capped, bias);
    let at_least = if precision == DType::F64 { DType::F64 } else { wide };
    let exact = graph.cast_to(biased, at_least);
    let probabilities = graph.softmax(exact, 3usize);
    let probabilities = graph.cast_to(probabilities, wide);
    // A query that sees nothing weighs nothing.
    let rank = graph.try_ty(bias).map_or(1, |ty| ty.rank());
    let highest = graph.reduce(bias, ReduceKind::Max, [rank - 1], true);
    let is_blind = graph.compare_eq(highest, low);
    let probabilities = graph.where_(is_blind, zero, probabilities);
    let scores = match mode {
        0 => raw,
        1 => capped,
        2 => biased,
        3 => probabilities,
        other => return Err(Stop::Invalid(format!("qk_matmul_output_mode is {other}"))),
    };
    let y = weighted(graph, heads, probabilities, wide);
    Ok((graph.cast_to(y, dtype), graph.cast_to(scores, dtype)))
}

/// A value through a subgraph of one operand and one result, both of its type.
fn modified<'m>(cx: &mut Context<'m>, node: &Node<'m>, name: &str, value: Value) -> Result<Value, Stop<'m>> {
    if !node.has(name) {
        return Ok(value);
    }
    let operand = cx.tensor(value)?;
    let results = cx.walk(node.graph(name)?, vec![Some(operand)])?;
    let [Imported::Tensor(result)] = &results[..] else {
        return Err(Stop::Invalid(format!("{name} gives {} results, expected one tensor", results.len())));
    };
    let found = cx.value(result)?;
    let (expected, ty) = (cx.ty(value)?, cx.ty(found)?);
    if expected == ty {
        Ok(found)
    } else {
        Err(Stop::Invalid(format!("{name} gives {ty}, expected {expected}")))
    }
}

fn flex_attention<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (heads, is_packed) = read_heads(cx, node)?;
    if is_packed {
        return Err(Stop::Invalid("its operands must be of rank 4".into()));
    }
    let dtype = node.dtype(0)?;
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let precision = softmax_precision(node, wide)?;
    let graph = cx.graph();
    let raw = products(graph, &heads, wide);
    let scores = graph.cast_to(raw, precision);
    let scores = modified(cx, node, "score_mod", scores)?;
    let probabilities = cx.graph().softmax(scores, 3usize);
    let probabilities = modified(cx, node, "prob_mod", probabilities)?;
    let graph = cx.graph();
    let probabilities = graph.cast_to(probabilities, wide);
    let y = weighted(graph, &heads, probabilities, wide);
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

fn rotary_embedding<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dims = node.shape(0)?.dims().to_vec();
    let heads = node.int_or("num_heads", 0)?;
    let (axis, extent) = match dims.len() {
        4 => (2usize, dims[3].clone()),
        3 if heads > 0 => (1, dims[2].floor_div(&Dim::from(heads))),
        _ => return Err(Stop::Invalid("its operand must be of rank 4, or of rank 3 with num_heads".into())),
    };
    let head_dim = fixed(&extent, "the extent of a head")?;
    let turned = usize::try_from(node.int_or("rotary_embedding_dim", 0)?).unwrap_or(0);
    let turned = if turned == 0 { head_dim } else { turned };
    let is_interleaved = node.flag("interleaved", false)?;
    let x = node.value(cx, 0)?;
    let (mut cos, mut sin) = (node.value(cx, 1)?, node.value(cx, 2)?);
    let mut positions = node.optional(cx, 3)?;
    // One row for the whole batch.
    let is_shared = |dims: &[Dim], rank: usize| dims.len() == rank && dims[0].is(1);
    if let Some(own) = positions {
        let shape = node.shape(3)?;
        if is_shared(shape.dims(), 2) {
            positions = Some(cx.graph().squeeze(own, 0));
        }
    } else if is_shared(node.shape(1)?.dims(), 3) {
        [cos, sin] = [cos, sin].map(|table| cx.graph().squeeze(table, 0));
    }
    let y = rotated(cx, x, [cos, sin], positions, (axis, head_dim, turned), is_interleaved);
    Ok(vec![cx.tensor(y)?])
}

/// `x` with the first `turned` of the `head_dim` numbers of each head rotated by position, which counts along `axis`.
pub(super) fn rotated(
    cx: &mut Context<'_>,
    x: Value,
    [cos, sin]: [Value; 2],
    positions: Option<Value>,
    (axis, head_dim, turned): (usize, usize, usize),
    is_interleaved: bool,
) -> Value {
    let style = if is_interleaved { RopeStyle::Interleaved } else { RopeStyle::HalfSplit };
    cx.graph().rope(x, cos, sin, positions, axis, head_dim, turned, style)
}
