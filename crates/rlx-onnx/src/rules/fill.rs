//! Tensors made of a shape: constants, ranges, triangles.

use super::extents::scalar;
use super::{Rule, rule};
use crate::context::Context;
use crate::dims::{maximum, number};
use crate::host::{Strings, computed};
use crate::node::{Node, Outcome, Stop};
use crate::tensor::{self, Read};
use crate::value::{Content, Imported, Tensor};
use rlx_ir::ops::{Compare, CompareKind};
use rlx_ir::{DType, Dim, Literal, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("ConstantOfShape", &[9, 20, 21, 23, 24, 25], constant_of_shape),
    rule("EyeLike", &[9, 22], eye_like),
    rule("Range", &[11, 27], range),
    rule("Trilu", &[14], trilu),
];

fn constant_of_shape<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dims = node.dims(cx, 0)?;
    let literal = match node.constant(cx, "value")? {
        None => Literal::floats(DType::F32, &[], &[0.0]).map_err(|error| Stop::Invalid(error.to_string()))?,
        Some(Read::Numbers(tensor)) => tensor.literal().map_err(Stop::Invalid)?,
        Some(Read::Strings(strings)) => return same_strings(&strings, &Shape::from(dims)),
    };
    let dtype = literal.dtype();
    if literal.len() != 1 {
        return Err(Stop::Invalid(format!("its value is {}, expected one element", literal.ty())));
    }
    let value = cx.value(&Tensor::literal(literal))?;
    let value = scalar(cx, value)?;
    let y = cx.graph().expand(value, dims);
    Ok(vec![cx.tensor_as(y, dtype)?])
}

fn same_strings<'m>(value: &Strings, shape: &Shape) -> Outcome<'m> {
    let dims = shape.as_static().filter(|dims| dims.iter().product::<usize>() <= 1 << 24);
    let (Some(dims), [text]) = (dims, value.values()) else {
        return Err(Stop::Refused(format!("strings of shape {shape} are not known")));
    };
    let all = Strings::new(&dims, vec![text.clone(); dims.iter().product()]);
    Ok(all.into_iter().map(Imported::from).collect())
}

/// `column - row` at every place of the last two axes.
fn diagonals(cx: &mut Context<'_>, rows: &Dim, columns: &Dim) -> Value {
    let g = cx.graph();
    let shape = vec![rows.clone(), columns.clone()];
    let (row, column) = (g.iota(DType::I64, shape.clone(), 0usize), g.iota(DType::I64, shape, 1usize));
    g.sub(column, row)
}

fn eye_like<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let [rows, columns] = node.shape(0)?.dims() else {
        return Err(Stop::Invalid(format!("its operand has rank {}, expected 2", node.rank(0)?)));
    };
    let dtype = match node.int("dtype")? {
        Some(code) => tensor::dtype(code as i32).map_err(Stop::Invalid)?,
        None => node.dtype(0)?,
    };
    let offset = Literal::scalar_i64(node.int_or("k", 0)?);
    let at = diagonals(cx, rows, columns);
    let g = cx.graph();
    let offset = g.constant(offset);
    let is_one = g.compare_eq(at, offset);
    let y = g.cast_to(is_one, computed(dtype));
    Ok(vec![cx.tensor_as(y, dtype)?])
}

fn trilu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let upper = node.flag("upper", true)?;
    let rank = node.rank(0)?;
    let (Some(row), Some(column)) = (rank.checked_sub(2), rank.checked_sub(1)) else {
        return Err(Stop::Invalid(format!("its operand has rank {rank}, expected 2 or more")));
    };
    let x = node.value(cx, 0)?;
    let known = match node.input(1) {
        None => Some(0),
        Some(Imported::Tensor(tensor)) if matches!(tensor.content, Content::Literal(_)) => {
            Some(node.known_int(cx, 1)?)
        }
        Some(_) => None,
    };
    let y = match known {
        Some(diagonal) => cx.graph().trilu(x, upper, diagonal, row, column),
        None => {
            let (shape, dtype) = (node.shape(0)?.clone(), cx.ty(x)?.dtype);
            let diagonal = node.value(cx, 1)?;
            let diagonal = scalar(cx, diagonal)?;
            let at = diagonals(cx, &shape[row], &shape[column]);
            let kind = if upper { CompareKind::Ge } else { CompareKind::Le };
            let g = cx.graph();
            let stays = g.push(Compare { kind }, &[at, diagonal]);
            let zero = g.scalar(dtype, 0.0);
            g.r#where(stays, x, zero)
        }
    };
    Ok(vec![cx.tensor_as(y, node.dtype(0)?)?])
}

fn range<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let dtype = node.dtype(0)?;
    let stash = node.int_or("stash_type", 1)?;
    if dtype.is_int() {
        return range_of_ints(cx, node, dtype);
    }
    let inner = match dtype {
        DType::F16 | DType::BF16 => tensor::dtype(stash as i32).map_err(Stop::Invalid)?,
        other => other,
    };
    let mut known = [0.0; 3];
    for (index, value) in known.iter_mut().enumerate() {
        let all = node.literal(cx, index)?.to_f64s();
        let [one] = all[..] else {
            return Err(Stop::Invalid(format!("operand {index} has {} elements, expected one", all.len())));
        };
        *value = one;
    }
    let [start, limit, delta] = known;
    // The difference is rounded as the dtype has it.
    let span = if inner == DType::F32 { f64::from(limit as f32 - start as f32) } else { limit - start };
    let count = (span / delta).ceil().max(0.0);
    if !count.is_finite() || count >= (1u64 << 48) as f64 {
        return Err(Stop::Invalid(format!("from {start} to {limit} by {delta} is no range")));
    }
    let mut ends = vec![];
    for index in [0, 2] {
        let end = node.value(cx, index)?;
        let end = scalar(cx, end)?;
        ends.push(cx.graph().cast_to(end, inner));
    }
    let y = steps(cx, &ends, inner, Dim::from(count as i64));
    let y = cx.graph().cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

/// `start + i delta` for the numbers `ends` = [start, delta].
fn steps(cx: &mut Context<'_>, ends: &[Value], dtype: DType, count: Dim) -> Value {
    let g = cx.graph();
    let at = g.iota(dtype, vec![count], 0usize);
    let at = g.mul(at, ends[1]);
    g.add(at, ends[0])
}

fn range_of_ints<'m>(cx: &mut Context<'m>, node: &Node<'m>, dtype: DType) -> Outcome<'m> {
    let (start, limit) = (node.dims(cx, 0)?, node.dims(cx, 1)?);
    let delta = node.known_int(cx, 2)?;
    let ([start], [limit]) = (&start[..], &limit[..]) else {
        return Err(Stop::Invalid("its start and its limit must be one number each".into()));
    };
    let zero = Dim::from(0);
    let span = match delta {
        0 => return Err(Stop::Invalid("its delta is 0".into())),
        1.. => limit.clone() - start.clone(),
        _ => start.clone() - limit.clone(),
    };
    let count = maximum(cx.graph(), &span.ceil_div(&Dim::from(delta.saturating_abs())), &zero);
    let mut ends = vec![];
    for end in [start, &Dim::from(delta)] {
        let end = number(cx.graph(), end)?;
        ends.push(cx.graph().cast_to(end, dtype));
    }
    let y = steps(cx, &ends, dtype, count);
    Ok(vec![cx.tensor(y)?])
}
