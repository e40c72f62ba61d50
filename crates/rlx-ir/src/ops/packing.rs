//! Rows brought together in front of a bounded extent: what ops share whose results are as long as data says.

use crate::ops::prelude::*;

/// The rows [n, w] that `keep` [n] marks, each at its `place` [n] (an index dtype) of a result [limit, w] that holds
/// `fill` elsewhere; those whose place is beyond it are left out.
pub(crate) fn pack_rows(
    g: &mut Graph,
    rows: Value,
    keep: Value,
    place: Value,
    limit: &Dim,
    fill: f64,
) -> Value {
    let types = (g.try_ty(rows).cloned(), g.try_ty(place).map(|ty| ty.dtype));
    let (Some(ty), Some(positions)) = types else { return Value::POISON };
    let end = g.extent(positions, limit);
    let inside = g.compare_lt(place, end);
    let inside = g.and(inside, keep);
    // One more row takes what is left out.
    let slot = g.where_(inside, place, end);
    let slot = g.unsqueeze(slot, -1);
    let base = g.full(ty.dtype, vec![limit.clone() + Dim::from(1), ty.shape[1].clone()], fill);
    let packed = g.scatter_nd(base, slot, rows, ScatterKind::None);
    g.narrow(packed, 0usize, 0, limit.clone())
}
