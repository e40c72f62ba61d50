//! Attention spelled out: `softmax(scale q k^T + mask) v` over `[B, H, S, D]`.
//!
//! What exporters write differs in where things stand. The scale is a factor of the scores, or its root one of both
//! operands of their product; the keys are transposed by the product or before it, together with other axes or not;
//! scores of half precision may pass through `f32`; rows without a key may be set to zero after the softmax.
//!
//! `attention` gives zeros for a row that sees no key, where softmax gives NaN. Where neither the mask excludes such
//! rows whatever is fed, nor zeros are put there, the NaN is added.

use super::patterns::{is_binary, other_operand};
use super::{Match, Search};
use rlx_ir::attr::Real;
use rlx_ir::ops::{
    Alignment, Attention, AttentionLayout, BinaryKind, CompareKind, MaskKind, ReduceKind, Trilu,
};
use rlx_ir::{DType, Graph, Literal, NodeId, Number, Op, Value};

/// Most nodes that are looked through, one behind the other.
const DEEPEST: usize = 16;

/// Matches at the product with the values.
pub(super) fn attention(search: &Search<'_>, id: NodeId) -> Vec<Match> {
    find(search, id).into_iter().collect()
}

fn find(search: &Search<'_>, id: NodeId) -> Option<Match> {
    let Op::MatMul(product) = search.op(id) else { return None };
    let &[weights, v] = search.operands(id) else { return None };
    if product.transpose_a || product.transpose_b || [v, weights].iter().any(|&x| search.ty(x).rank() != 4) {
        return None;
    }
    let mut path = Path { search, nodes: vec![id], at: weights };
    let emptied = path.emptied()?;
    path.past_cast(Cast::ToHalf)?;
    if !matches!(path.op(), Op::Softmax(softmax) if softmax.axis == 3) {
        return None;
    }
    path.on(search.operands(path.at.node)[0])?;
    path.past_cast(Cast::FromHalf)?;
    let Masked { mask, unseen } = path.mask(emptied)?;
    let mut scale = 1.0;
    path.past_cast(Cast::FromHalf)?;
    while let Some((inner, factor)) = scaled(search, path.at) {
        path.on(inner)?;
        scale *= factor;
        path.past_cast(Cast::FromHalf)?;
    }
    let Op::MatMul(product) = path.op() else { return None };
    let &[q, k] = search.operands(path.at.node) else { return None };
    let is_plain = !product.transpose_a && [q, k].iter().all(|&x| search.ty(x).rank() == 4);
    let keys = if product.transpose_b { [0, 1, 2, 3] } else { [0, 1, 3, 2] };
    path.on(q).filter(|()| is_plain)?;
    let (q, k) = (Source::of(search, q, [0, 1, 2, 3]), Source::of(search, k, keys));
    let [num_heads, num_kv_heads] = [q.heads(search)?, k.heads(search)?];
    let op = Attention {
        layout: AttentionLayout::Bhsd,
        num_heads,
        num_kv_heads,
        scale: Some(Real(scale * q.factor * k.factor)),
        softcap: None,
        mask_kind: if mask.is_some() { MaskKind::Bias } else { MaskKind::None },
        window: 0,
        alignment: Alignment::End,
        with_lse: false,
        mask: mask.is_some(),
        kv_lengths: false,
        block_table: false,
        sinks: false,
    };
    let orders = [&q, &k].map(|source| (!source.is_plain()).then(|| source.order.to_vec()));
    let operands = [q.value, k.value, v].into_iter().chain(mask).collect();
    let mut nodes = path.nodes;
    nodes.sort_unstable();
    let unseen_rows = unseen.then_some(3);
    let (op, results) = (op.into(), vec![Some(id)]);
    Some(Match { op, operands, orders: orders.into(), unseen_rows, results, nodes, place: id })
}

/// `y`, but NaN in the rows in which `mask` is `-inf` throughout: what softmax makes of them.
pub(super) fn with_unseen_rows(graph: &mut Graph, y: Value, mask: Value) -> Value {
    let (of_mask, dtype) = (graph.ty(mask).clone(), graph.ty(y).dtype);
    let rows: Vec<usize> = (0..of_mask.rank()).rev().take(1).collect();
    let highest = graph.reduce(mask, ReduceKind::Max, rows, true);
    let lowest = graph.scalar(of_mask.dtype, f64::NEG_INFINITY);
    let is_unseen = graph.compare_eq(highest, lowest);
    let [nan, zero] = [f64::NAN, 0.0].map(|value| graph.scalar(dtype, value));
    let added = graph.where_(is_unseen, nan, zero);
    graph.add(y, added)
}

/// What is added to the scores.
struct Masked {
    mask: Option<Value>,
    /// May the mask have rows without a key, which softmax makes NaN?
    unseen: bool,
}

/// The way from the last product up to the first one, over nodes that nothing else uses.
struct Path<'a> {
    search: &'a Search<'a>,
    nodes: Vec<NodeId>,
    /// The value that the last of `nodes` reads.
    at: Value,
}

/// Casts between a half-precision dtype and `f32`.
#[derive(Clone, Copy, PartialEq)]
enum Cast {
    ToHalf,
    FromHalf,
}

impl Path<'_> {
    fn op(&self) -> &Op {
        self.search.op(self.at.node)
    }

    /// Goes on to `next`, an operand of the node that stands here.
    fn on(&mut self, next: Value) -> Option<()> {
        let user = *self.nodes.last()?;
        (self.search.uses.only_user(self.at.node) == Some(user)).then_some(())?;
        self.nodes.push(self.at.node);
        self.at = next;
        Some(())
    }

    /// Goes past such a cast, if one stands here: the fused op computes in `f32` between the two.
    fn past_cast(&mut self, wanted: Cast) -> Option<()> {
        if !matches!(self.op(), Op::Cast(_)) {
            return Some(());
        }
        let from = self.search.operands(self.at.node)[0];
        let is_half = |value: Value| matches!(self.search.ty(value).dtype, DType::F16 | DType::BF16);
        let (half, whole) = if wanted == Cast::ToHalf { (self.at, from) } else { (from, self.at) };
        (is_half(half) && self.search.ty(whole).dtype == DType::F32).then_some(())?;
        self.on(from)
    }

    /// Goes past a choice of zeros. The condition, if one stands here.
    fn emptied(&mut self) -> Option<Option<Value>> {
        let &[condition, zeros, weights] = self.search.operands(self.at.node) else { return Some(None) };
        if !matches!(self.op(), Op::Where(_)) || number(self.search, zeros) != Some(0.0) {
            return Some(None);
        }
        (self.search.ty(weights).shape == self.search.ty(self.at).shape).then_some(())?;
        self.on(weights)?;
        Some(Some(condition))
    }

    /// Goes past an added mask. A row without a key is zero in the fused op, and NaN after softmax, unless the condition
    /// `emptied` holds for just these rows.
    fn mask(&mut self, emptied: Option<Value>) -> Option<Masked> {
        if !is_binary(self.op(), BinaryKind::Add) {
            return emptied.is_none().then_some(Masked { mask: None, unseen: false });
        }
        let &[a, b] = self.search.operands(self.at.node) else { return None };
        let (scores, mask) = if leads_to_product(self.search, a) { (a, b) } else { (b, a) };
        let of_mask = self.search.ty(mask);
        let unseen = match emptied {
            Some(condition) => {
                is_without_key(self.search, condition, mask).then_some(())?;
                false
            }
            None => !sees_keys(self.search, mask, DEEPEST),
        };
        // Without any key the product after the softmax is zero.
        let has_keys = |dim| self.search.graph.dim_bounds(dim).0.is_some_and(|low| low > 0);
        let is_told = !unseen || of_mask.shape.dims().last().is_some_and(has_keys);
        (is_told && self.search.ty(scores).shape == self.search.ty(self.at).shape).then_some(())?;
        self.on(scores)?;
        Some(Masked { mask: Some(mask), unseen })
    }
}

/// A value whose axes in the order `order`, times `factor`, are an operand of the first product.
struct Source {
    value: Value,
    order: [usize; 4],
    factor: f64,
}

impl Source {
    /// Where the axes of `value` in the order `order` come from: without factors, and without transposes that undo it.
    fn of(search: &Search<'_>, value: Value, order: [usize; 4]) -> Source {
        let mut found = Source { value, order, factor: 1.0 };
        let (mut at, mut order, mut factor) = (value, order, 1.0);
        for _ in 0..DEEPEST {
            let operand = search.operands(at.node).first().copied();
            match (scaled(search, at), search.op(at.node), operand) {
                (Some((inner, by)), ..) => (at, factor) = (inner, factor * by),
                (None, Op::Transpose(transpose), Some(operand)) => {
                    (at, order) = (operand, order.map(|axis| transpose.permutation[axis]));
                }
                _ => break,
            }
            let next = Source { value: at, order, factor };
            if factor != found.factor || next.is_plain() {
                found = next;
            }
        }
        found
    }

    fn is_plain(&self) -> bool {
        self.order == [0, 1, 2, 3]
    }

    fn heads(&self, search: &Search<'_>) -> Option<usize> {
        usize::try_from(search.ty(self.value).shape[self.order[1]].as_static()?).ok()
    }
}

/// The number that `value` is, where it is a constant of one element.
fn number(search: &Search<'_>, value: Value) -> Option<f64> {
    match search.op(value.node) {
        Op::Constant(constant) if constant.value.len() == 1 => constant.value.number(0).as_f64(),
        _ => None,
    }
}

/// The scaled value and the factor, of a product with or a quotient by a constant.
fn scaled(search: &Search<'_>, value: Value) -> Option<(Value, f64)> {
    let &[a, b] = search.operands(value.node) else { return None };
    let (inner, factor) = if is_binary(search.op(value.node), BinaryKind::Mul) {
        let inner = if number(search, b).is_some() { a } else { b };
        (inner, number(search, other_operand(search, value.node, inner)?)?)
    } else {
        is_binary(search.op(value.node), BinaryKind::Div).then_some(())?;
        (a, 1.0 / number(search, b)?)
    };
    (search.ty(inner) == search.ty(value)).then_some((inner, factor))
}

/// Is `value` a product of matrices, scaled and cast perhaps?
fn leads_to_product(search: &Search<'_>, mut value: Value) -> bool {
    for _ in 0..DEEPEST {
        value = match (search.op(value.node), scaled(search, value)) {
            (Op::MatMul(_), _) => return true,
            (Op::Cast(_), _) => search.operands(value.node)[0],
            (_, Some((inner, _))) => inner,
            _ => return false,
        };
    }
    false
}

fn literal<'a>(search: &'a Search<'_>, value: Value) -> Option<&'a Literal> {
    match search.op(value.node) {
        Op::Constant(constant) if !constant.value.dtype().is_storage_only() => Some(&constant.value),
        _ => None,
    }
}

/// Per row of a mask, whether it has a finite element.
fn rows(mask: &Literal) -> impl Iterator<Item = bool> + '_ {
    let row = mask.dims().last().copied().unwrap_or(1);
    let seen = |index: usize| matches!(mask.number(index), Number::Float(value) if value.is_finite());
    let count = mask.len().checked_div(row).unwrap_or(0);
    (0..count).map(move |at| (at * row..(at + 1) * row).any(seen))
}

/// Has every row of `mask`, along its last axis, a finite element? `depth` nodes are looked through.
fn sees_keys(search: &Search<'_>, mask: Value, depth: usize) -> bool {
    if is_finite(search, mask, depth) {
        return true;
    }
    let shape = &search.ty(mask).shape;
    match (search.op(mask.node), search.operands(mask.node)) {
        (Op::Constant(_), _) => literal(search, mask).is_some_and(|mask| rows(mask).all(|seen| seen)),
        // The first column is zero.
        (Op::Trilu(Trilu { upper: true, diagonal: 1.., row_axis, column_axis }), _) => {
            row_axis < column_axis && column_axis + 1 == shape.rank()
        }
        (Op::Reshape(_) | Op::Expand(_), &[inner]) if depth > 0 => {
            let keeps_rows = search.ty(inner).shape.dims().last() == shape.dims().last();
            keeps_rows && sees_keys(search, inner, depth - 1)
        }
        _ => false,
    }
}

/// Is every element of `value` finite, whatever is fed? `depth` nodes are looked through.
fn is_finite(search: &Search<'_>, value: Value, depth: usize) -> bool {
    let dtype = search.ty(value).dtype;
    if dtype.is_int() || dtype == DType::Bool {
        return true;
    }
    let all = |values: &[Value]| depth > 0 && values.iter().all(|&value| is_finite(search, value, depth - 1));
    let operands = search.operands(value.node);
    match search.op(value.node) {
        Op::Constant(_) => literal(search, value).is_some_and(|literal| {
            (0..literal.len())
                .all(|at| matches!(literal.number(at), Number::Float(value) if value.is_finite()))
        }),
        Op::Where(_) => all(&operands[1..]),
        Op::Cast(_) => holds_all_of(dtype, search.ty(operands[0]).dtype) && all(operands),
        Op::Expand(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Narrow(_)
        | Op::Slice(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Trilu(_) => all(operands),
        _ => false,
    }
}

/// Does a cast to `dtype` keep finite what is finite in `from`?
fn holds_all_of(dtype: DType, from: DType) -> bool {
    match (dtype, from) {
        _ if dtype == from => true,
        (DType::F32 | DType::F64 | DType::BF16, _) if from.is_int() || from == DType::Bool => true,
        (DType::F16, DType::Bool | DType::I8 | DType::U8) => true,
        (DType::F32 | DType::F64, DType::F16 | DType::BF16) | (DType::F64, DType::F32) => true,
        _ => false,
    }
}

/// Does `condition` hold for just those rows of `mask` that are `-inf` throughout?
fn is_without_key(search: &Search<'_>, condition: Value, mask: Value) -> bool {
    if let (Some(condition), Some(mask)) = (literal(search, condition), literal(search, mask)) {
        let (dims, own) = (mask.dims().split_last(), condition.dims().split_last());
        let same_rows = matches!((dims, own), (Some((_, rows)), Some((1, own))) if rows == own);
        return same_rows && condition.to_ints().into_iter().eq(rows(mask).map(|seen| i128::from(!seen)));
    }
    let is_equal =
        matches!(search.op(condition.node), Op::Compare(compare) if compare.kind == CompareKind::Eq);
    let &[a, b] = search.operands(condition.node) else { return false };
    let last = search.ty(mask).rank().checked_sub(1);
    let is_maximum = |value: Value| match search.op(value.node) {
        Op::Reduce(reduce) => {
            let along_rows = Some(&reduce.axes[..]) == last.as_ref().map(std::slice::from_ref);
            reduce.kind == ReduceKind::Max
                && along_rows
                && reduce.keep_dims
                && search.operands(value.node) == [mask]
        }
        _ => false,
    };
    let is_lowest = |value: Value| number(search, value) == Some(f64::NEG_INFINITY);
    is_equal && ((is_maximum(a) && is_lowest(b)) || (is_maximum(b) && is_lowest(a)))
}
