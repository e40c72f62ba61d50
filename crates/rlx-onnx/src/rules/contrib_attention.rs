//! Attention and rotary positions as ONNX Runtime (`com.microsoft`) has them.

use super::attention::{Heads, Offset, Visibility, direct, join_heads, rotated, split_heads};
use super::linear::product;
use super::windows::fixed;
use super::{Rule, contrib_rule};
use crate::context::Context;
use crate::dims::materialise;
use crate::node::{Node, Outcome, Stop};
use crate::value::Content;
use rlx_ir::{DType, Dim, Value};

pub(super) const RULES: &[Rule] = &[
    contrib_rule("Attention", attention),
    contrib_rule("MultiHeadAttention", multi_head_attention),
    contrib_rule("GroupQueryAttention", group_query_attention),
    contrib_rule("RotaryEmbedding", rotary_embedding),
];

/// A number of heads, which must be given.
fn count<'m>(node: &Node<'m>, name: &str) -> Result<usize, Stop<'m>> {
    let count = node.int(name)?.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    count.ok_or_else(|| Stop::Invalid(format!("it has no {name}")))
}

/// The width of operand `index`, a table of cosines.
fn table_width<'m>(node: &Node<'m>, index: usize) -> Result<usize, Stop<'m>> {
    match node.shape(index)?.dims() {
        [_, width] => fixed(width, "the width of its tables"),
        dims => Err(Stop::Invalid(format!("its tables have rank {}, expected 2", dims.len()))),
    }
}

/// Refuses attributes that are set and ask for what is not there.
fn refuse_set<'m>(node: &Node<'m>, names: &[&str]) -> Result<(), Stop<'m>> {
    for name in names {
        if node.flag(name, false)? {
            return Err(Stop::Refused(format!("its {name} is set")));
        }
    }
    Ok(())
}

/// Refuses operands that are given.
fn refuse_given<'m>(node: &Node<'m>, operands: &[(usize, &str)]) -> Result<(), Stop<'m>> {
    match operands.iter().find(|(index, _)| node.input(*index).is_some()) {
        Some((_, name)) => Err(Stop::Refused(format!("it has {name}"))),
        None => Ok(()),
    }
}

/// Attention heads of values of shape [batch, heads, sequence, extent].
fn heads<'m>(cx: &mut Context<'m>, node: &Node<'m>, [q, k, v]: [Value; 3]) -> Result<Heads, Stop<'m>> {
    let (query, key) = (cx.ty(q)?.shape, cx.ty(k)?.shape);
    if query.rank() != 4 || key.rank() != 4 {
        return Err(Stop::Invalid(format!("its queries are {query}, its keys {key}")));
    }
    let extent = fixed(&query[3], "the extent of a head")?;
    // A scale of 0 is none.
    let scale = match node.float_or("scale", 0.0)? {
        0.0 => 1.0 / (extent as f64).sqrt(),
        scale => scale.into(),
    };
    let query_heads = fixed(&query[1], "the number of heads")?;
    let key_heads = fixed(&key[1], "the number of heads")?;
    if key_heads == 0 || query_heads % key_heads != 0 {
        return Err(Stop::Invalid(format!("{query_heads} query heads share {key_heads} key heads")));
    }
    let (batch, queries, keys) = (query[0].clone(), query[2].clone(), key[2].clone());
    Ok(Heads { q, k, v, query_heads, key_heads, batch, queries, keys, scale })
}

/// What operand `index`, a mask of keys, adds to the scores: it says which keys count, or (a vector) how many.
fn padding<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    index: usize,
    keys: &Dim,
) -> Result<Option<Value>, Stop<'m>> {
    let low = node.float_or("mask_filter_value", -10000.0)?;
    let Some(mask) = node.optional(cx, index)? else { return Ok(None) };
    let dims = node.shape(index)?.dims().to_vec();
    let one = Dim::from(1);
    let is_seen = match &dims[..] {
        [batch] => {
            let mask = cx.graph().reshape(mask, vec![batch.clone(), one.clone(), one.clone(), one]);
            let key = cx.graph().iota(DType::I32, vec![keys.clone()], 0usize);
            let mask = cx.graph().cast_to(mask, DType::I32);
            cx.graph().compare_lt(key, mask)
        }
        [_, _] | [_, _, _] => {
            let axes: &[i64] = if dims.len() == 2 { &[1, 1] } else { &[1] };
            let mask = axes.iter().fold(mask, |mask, &axis| cx.graph().unsqueeze(mask, axis));
            let mask = cx.graph().cast_to(mask, DType::I32);
            let zero = cx.graph().scalar(DType::I32, 0.0);
            cx.graph().compare_ne(mask, zero)
        }
        _ => return Err(Stop::Refused(format!("its mask has rank {}", dims.len()))),
    };
    let dtype = node.dtype(0)?;
    let graph = cx.graph();
    let (zero, low) = (graph.scalar(dtype, 0.0), graph.scalar(dtype, low.into()));
    Ok(Some(graph.where_(is_seen, zero, low)))
}

/// The sum of what there is.
fn both<'m>(cx: &mut Context<'m>, a: Option<Value>, b: Option<Value>) -> Option<Value> {
    match (a, b) {
        (Some(a), Some(b)) => Some(cx.graph().add(a, b)),
        (a, b) => a.or(b),
    }
}

/// The result of attention, [batch, sequence, heads x extent], where queries see what stands before them or all.
fn attended<'m>(
    cx: &mut Context<'m>,
    heads: &Heads,
    (past, is_causal): (Option<Dim>, bool),
    mask: Option<Value>,
) -> Result<Value, Stop<'m>> {
    let offset = past.map_or(Offset::None, Offset::Past);
    let seen = Visibility { offset, left: None, right: is_causal.then_some(0), mask };
    let y = direct(cx, heads, &seen, None)?;
    join_heads(cx, y)
}

/// Keys or values behind those of earlier steps, and how many those are.
fn behind<'m>(
    cx: &mut Context<'m>,
    past: Option<Value>,
    new: Value,
) -> Result<(Value, Option<Dim>), Stop<'m>> {
    let Some(past) = past else { return Ok((new, None)) };
    let dims = cx.ty(past)?.shape.into_dims();
    let all = cx.graph().concat(&[past, new], 2usize);
    Ok((all, dims.get(2).cloned()))
}

/// Queries, keys and values are one product of operand 0.
fn attention<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    refuse_set(node, &["do_rotary", "past_present_share_buffer"])?;
    refuse_given(node, &[(6, "past_sequence_length")])?;
    node.without_influence("rotary_embedding_dim");
    let count = count(node, "num_heads")?;
    let (x, weights) = (node.value(cx, 0)?, node.value(cx, 1)?);
    let mut all = product(cx, x, weights)?;
    if let Some(bias) = node.optional(cx, 2)? {
        all = cx.graph().add(all, bias);
    }
    let dims = cx.ty(all)?.shape.into_dims();
    let [_, _, width] = &dims[..] else {
        return Err(Stop::Invalid(format!("its operand has rank {}, expected 3", dims.len())));
    };
    let width = fixed(width, "the width of its weights")?;
    let parts = match node.ints("qkv_hidden_sizes")?.filter(|sizes| !sizes.is_empty()) {
        Some(sizes) => sizes.into_iter().map(|size| usize::try_from(size).unwrap_or(0)).collect(),
        None => vec![width / 3; 3],
    };
    let sum = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(*part));
    if parts.len() != 3 || sum != width || parts.iter().any(|part| part % count != 0) {
        return Err(Stop::Invalid(format!("{parts:?} for {count} heads of weights of width {width}")));
    }
    let mut start = 0;
    let mut split = |cx: &mut Context<'m>, part: usize| {
        let piece = cx.graph().narrow(all, 2usize, start, part);
        start += part;
        let dims = vec![dims[0].clone(), dims[1].clone(), Dim::from(part)];
        split_heads(cx.graph(), piece, &dims, count)
    };
    let (q, k, v) = (split(cx, parts[0]), split(cx, parts[1]), split(cx, parts[2]));
    let past = node.optional(cx, 4)?;
    let half = |cx: &mut Context<'m>, index: usize| {
        past.map(|past| {
            let half = cx.graph().narrow(past, 0usize, index, 1);
            cx.graph().squeeze(half, 0)
        })
    };
    let (past_keys, past_values) = (half(cx, 0), half(cx, 1));
    let (k, past) = behind(cx, past_keys, k)?;
    let (v, _) = behind(cx, past_values, v)?;
    let heads = heads(cx, node, [q, k, v])?;
    let (padding, bias) = (padding(cx, node, 3, &heads.keys)?, node.optional(cx, 5)?);
    let mask = both(cx, padding, bias);
    let y = attended(cx, &heads, (past, node.flag("unidirectional", false)?), mask)?;
    let mut results = vec![cx.tensor(y)?];
    if node.wants(1) {
        let (k, v) = (cx.graph().unsqueeze(k, 0), cx.graph().unsqueeze(v, 0));
        let present = cx.graph().concat(&[k, v], 0usize);
        results.push(cx.tensor(present)?);
    }
    Ok(results)
}

fn multi_head_attention<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    refuse_given(node, &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    let count = count(node, "num_heads")?;
    let mut parts = vec![];
    let mut first = Dim::from(0);
    let bias = node.optional(cx, 3)?;
    for index in 0..3 {
        if node.input(index).is_none() {
            return Err(Stop::Refused("its queries, keys and values are packed".into()));
        }
        let (mut x, dims) = (node.value(cx, index)?, node.shape(index)?.dims().to_vec());
        // Keys and values of rank 4 are heads already.
        if dims.len() == 4 && index > 0 {
            parts.push(x);
            continue;
        }
        let [_, _, width] = &dims[..] else {
            return Err(Stop::Refused(format!("operand {index} has rank {}", dims.len())));
        };
        if let Some(bias) = bias {
            let own = cx.graph().narrow(bias, 0usize, first.clone(), width.clone());
            x = cx.graph().add(x, own);
        }
        first = first + width.clone();
        parts.push(split_heads(cx.graph(), x, &dims, count));
    }
    let (past_keys, past_values) = (node.optional(cx, 6)?, node.optional(cx, 7)?);
    let (k, past) = behind(cx, past_keys, parts[1])?;
    let (v, _) = behind(cx, past_values, parts[2])?;
    let heads = heads(cx, node, [parts[0], k, v])?;
    let (padding, bias) = (padding(cx, node, 4, &heads.keys)?, node.optional(cx, 5)?);
    let mask = both(cx, padding, bias);
    let y = attended(cx, &heads, (past, node.flag("unidirectional", false)?), mask)?;
    cx.tensors([y, k, v])
}

/// Positions of the tokens: [batch, queries], from the number of keys (an integer per batch) that count with them.
fn positions<'m>(cx: &mut Context<'m>, last: Value, batch: &Dim, queries: &Dim) -> Result<Value, Stop<'m>> {
    let column = cx.graph().reshape(last, vec![batch.clone(), 1.into()]);
    let graph = cx.graph();
    let column = graph.cast_to(column, DType::I64);
    let place = graph.iota(DType::I64, vec![queries.clone()], 0usize);
    let sum = graph.add(column, place);
    let behind = materialise(graph, std::slice::from_ref(queries), 0)?;
    let (sum, one) = (graph.sub(sum, behind), graph.scalar(DType::I64, 1.0));
    let first = graph.add(sum, one);
    // A prompt that is padded on the right begins at 0 all the same.
    let lowest = graph.reduce(first, rlx_ir::ops::ReduceKind::Min, [1], true);
    let zero = graph.scalar(DType::I64, 0.0);
    let missing = graph.minimum(lowest, zero);
    Ok(graph.sub(first, missing))
}

fn group_query_attention<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    refuse_set(node, &["smooth_softmax", "qk_output", "sliding_window_cache", "kv_cache_bit_width"])?;
    let others =
        [(11, "head_sink"), (12, "k_scale"), (13, "v_scale"), (14, "q_norm_weight"), (16, "query_seqlens")];
    refuse_given(node, &others)?;
    for name in ["k_quant_type", "v_quant_type", "qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"] {
        node.without_influence(name);
    }
    let (count, shared) = (count(node, "num_heads")?, count(node, "kv_num_heads")?);
    let dims = node.shape(0)?.dims().to_vec();
    let [batch, queries, width] = &dims[..] else {
        return Err(Stop::Invalid(format!("its queries have rank {}, expected 3", dims.len())));
    };
    let packed = node.value(cx, 0)?;
    let width = fixed(width, "the width of its queries")?;
    let split = |cx: &mut Context<'m>, x: Value, (start, width): (usize, usize), heads: usize| {
        let piece = cx.graph().narrow(x, 2usize, start, width);
        split_heads(cx.graph(), piece, &[batch.clone(), queries.clone(), width.into()], heads)
    };
    let [mut q, mut k, v] = match (node.optional(cx, 1)?, node.optional(cx, 2)?) {
        (Some(k), Some(v)) => {
            let own = (width / count).saturating_mul(shared);
            [
                split(cx, packed, (0, width), count),
                split(cx, k, (0, own), shared),
                split(cx, v, (0, own), shared),
            ]
        }
        (None, None) => {
            // No more than the width, whatever the counts.
            let extent = width / count.saturating_add(shared).saturating_add(shared);
            let (own, keys) = (extent.saturating_mul(count), extent.saturating_mul(shared));
            [(0, own, count), (own, keys, shared), (own + keys, keys, shared)]
                .map(|(start, width, heads)| split(cx, packed, (start, width), heads))
        }
        _ => return Err(Stop::Invalid("keys and values go together".into())),
    };
    let last = node.value(cx, 5)?;
    let place = positions(cx, last, batch, queries)?;
    let is_interleaved = node.flag("rotary_interleaved", false)?;
    if node.flag("do_rotary", false)? {
        let (cos, sin) = (node.value(cx, 7)?, node.value(cx, 8)?);
        let place = node.optional(cx, 9)?.unwrap_or(place);
        let extent = fixed(&cx.ty(q)?.shape[3], "the extent of a head")?;
        let half = table_width(node, 7)?;
        for x in [&mut q, &mut k] {
            *x = rotated(cx, *x, [cos, sin], Some(place), (2, extent, 2 * half), is_interleaved);
        }
    }
    let (past_keys, past_values) = (node.optional(cx, 3)?, node.optional(cx, 4)?);
    let (k, past) = behind(cx, past_keys, k)?;
    let (v, _) = behind(cx, past_values, v)?;
    let (k, v) = match &past {
        Some(past) => {
            let total = total(node, past, queries)?;
            (placed(cx, k, place, past, &total)?, placed(cx, v, place, past, &total)?)
        }
        None => (k, v),
    };
    let heads = heads(cx, node, [q, k, v])?;
    let softcap = Some(f64::from(node.float_or("softcap", 0.0)?)).filter(|&softcap| softcap > 0.0);
    let window = node.int_or("local_window_size", -1)?;
    let is_causal = node.flag("causal", true)?;
    let graph = cx.graph();
    // Which keys a query sees: [batch, 1, queries, keys].
    let row = graph.unsqueeze(place, 1);
    let row = graph.unsqueeze(row, 3);
    let key = graph.iota(DType::I64, vec![heads.keys.clone()], 0usize);
    let mut is_seen = if is_causal {
        graph.compare_le(key, row)
    } else {
        let last = graph.reshape(last, vec![batch.clone(), 1.into(), 1.into(), 1.into()]);
        let last = graph.cast_to(last, DType::I64);
        graph.compare_le(key, last)
    };
    if window > 0 {
        let width = graph.scalar(DType::I64, window as f64);
        let first = graph.sub(row, width);
        let is_near = graph.compare_gt(key, first);
        is_seen = graph.and(is_seen, is_near);
    }
    let mask = match node.optional(cx, 10)? {
        None => is_seen,
        Some(bias) => {
            let dtype = cx.ty(bias)?.dtype;
            let low = cx.graph().scalar(dtype, f64::NEG_INFINITY);
            cx.graph().where_(is_seen, bias, low)
        }
    };
    let seen = Visibility { offset: Offset::None, left: None, right: None, mask: Some(mask) };
    let y = direct(cx, &heads, &seen, softcap)?;
    let y = join_heads(cx, y)?;
    cx.tensors([y, k, v])
}

/// How many keys there are with the new ones: as many as the caches have room for, where they have.
fn total<'m>(node: &Node<'m>, past: &Dim, new: &Dim) -> Result<Dim, Stop<'m>> {
    let known = match &node.tensor(6)?.content {
        Content::Dims(dims) => dims.first().cloned(),
        Content::Literal(literal) => literal.to_ints().first().map(|&total| Dim::from(total as i64)),
        Content::Fed(feed) => feed.literal.to_ints().first().map(|&total| Dim::from(total as i64)),
        _ => None,
    };
    let known = known.ok_or(Stop::Value(6))?;
    match (past.as_static(), known.as_static()) {
        (Some(past), Some(total)) => Ok(Dim::from(past.max(total))),
        _ if known == past.clone() + new.clone() => Ok(known),
        _ => Err(Stop::Value(6)),
    }
}

/// Keys or values at their positions: of `all`, the first `past` are those of earlier steps, of which those before
/// the position of the first new one count. Behind the last new one stands 0.
fn placed<'m>(
    cx: &mut Context<'m>,
    all: Value,
    place: Value,
    past: &Dim,
    total: &Dim,
) -> Result<Value, Stop<'m>> {
    let (dims, dtype) = (cx.ty(all)?.shape.into_dims(), cx.ty(all)?.dtype);
    let graph = cx.graph();
    let new_count = materialise(graph, &[dims[2].clone() - past.clone()], 0)?;
    let first = graph.narrow(place, 1usize, 0, 1);
    let key = graph.iota(DType::I64, vec![total.clone()], 0usize);
    let past = materialise(graph, std::slice::from_ref(past), 0)?;
    let count = materialise(graph, std::slice::from_ref(&dims[2]), 0)?;
    let is_old = graph.compare_lt(key, first);
    let behind = graph.sub(past, first);
    let new = graph.add(key, behind);
    let one = graph.scalar(DType::I64, 1.0);
    let end = graph.sub(count, one);
    let new = graph.minimum(new, end);
    let source = graph.where_(is_old, key, new);
    let source = graph.reshape(source, vec![dims[0].clone(), 1.into(), total.clone(), 1.into()]);
    let source = graph.expand(source, vec![dims[0].clone(), dims[1].clone(), total.clone(), dims[3].clone()]);
    let moved = graph.gather_elements(all, source, 2usize);
    let behind = graph.add(first, new_count);
    let is_there = graph.compare_lt(key, behind);
    let is_there = graph.reshape(is_there, vec![dims[0].clone(), 1.into(), total.clone(), 1.into()]);
    let zero = graph.scalar(dtype, 0.0);
    Ok(graph.where_(is_there, moved, zero))
}

fn rotary_embedding<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    refuse_set(node, &["is_packed_batching"])?;
    if node.float_or("scale", 1.0)? != 1.0 {
        return Err(Stop::Refused("it scales".into()));
    }
    let dims = node.shape(0)?.dims().to_vec();
    let half = table_width(node, 2)?;
    let heads = node.int_or("num_heads", 0)?;
    let given = usize::try_from(node.int_or("rotary_embedding_dim", 0)?).unwrap_or(0);
    let turned = if given == 0 { 2 * half } else { given };
    let (axis, extent) = match &dims[..] {
        [_, _, _, extent] => (2usize, fixed(extent, "the extent of a head")?),
        [_, _, width] if heads > 0 => {
            (1, fixed(&width.floor_div(&Dim::from(heads)), "the extent of a head")?)
        }
        [_, _, _] => (1, 2 * half),
        _ => return Err(Stop::Invalid(format!("its operand has rank {}", dims.len()))),
    };
    let (x, cos, sin) = (node.value(cx, 0)?, node.value(cx, 2)?, node.value(cx, 3)?);
    let mut place = node.value(cx, 1)?;
    if node.rank(1)? < 2 {
        // The position of the first token.
        let graph = cx.graph();
        let own = graph.iota(DType::I64, vec![dims[axis].clone()], 0usize);
        let first = graph.reshape(place, vec![Dim::from(1)]);
        let first = graph.cast_to(first, DType::I64);
        place = graph.add(own, first);
    }
    let is_interleaved = node.flag("interleaved", false)?;
    let y = rotated(cx, x, [cos, sin], Some(place), (axis, extent, turned), is_interleaved);
    Ok(vec![cx.tensor(y)?])
}

#[cfg(test)]
mod tests {
    use crate::single::{int, ints, run, tensor};
    use rlx_ir::DType::{F32, I32, I64};

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let x = tensor(F32, &[1, 2, 4], &[0.0; 8]);
        let attention = |attributes: &[_]| {
            let inputs = [x.clone(), tensor(F32, &[4, 12], &[0.0; 48])];
            run("com.microsoft::Attention", 1, attributes, &inputs).expect_err("refused")
        };
        let none = attention(&[]);
        assert!(none.contains("it has no num_heads"), "{none}");
        let huge = attention(&[int("num_heads", 2), ints("qkv_hidden_sizes", &[i64::MAX; 3])]);
        assert!(huge.contains("for 2 heads of weights of width 12"), "{huge}");
        let odd = attention(&[int("num_heads", 3)]);
        assert!(odd.contains("for 3 heads of weights of width 12"), "{odd}");
        let flat = [
            x.clone(),
            tensor(I64, &[1], &[0.0]),
            tensor(F32, &[2], &[0.0; 2]),
            tensor(F32, &[2], &[0.0; 2]),
        ];
        let flat = run("com.microsoft::RotaryEmbedding", 1, &[], &flat).expect_err("tables are vectors");
        assert!(flat.contains("its tables have rank 1"), "{flat}");
        let caches = [tensor(F32, &[1, 1, 3, 4], &[0.0; 12]), tensor(F32, &[1, 1, 3, 4], &[0.0; 12])];
        let counts = [tensor(I32, &[1], &[4.0]), tensor(I32, &[], &[5.0])];
        let inputs = [&[x.clone(), x.clone(), x][..], &caches, &counts].concat();
        let heads = [int("num_heads", 1 << 62), int("kv_num_heads", i64::MAX)];
        assert!(run("com.microsoft::GroupQueryAttention", 1, &heads, &inputs).is_err());
    }
}
