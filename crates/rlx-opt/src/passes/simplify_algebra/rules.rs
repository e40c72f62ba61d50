//! The rules of `simplify_algebra`.
//!
//! A rule sees one node whose operands are simplified already, and returns a
//! value of the same type that is equal for all inputs: infinities, NaN and
//! signed zeros included. A value of another type is not taken, so rules need
//! not check that a broadcast keeps the shape. Rules hold nothing back for
//! speed: what they return is never more work.

use super::{Rule, Site};
use rlx_ir::ops::{
    Activation, ActivationKind, Binary, BinaryKind, Cast, Concat, Constant, Expand, MatMul, Narrow, Reshape,
    Reverse, Transpose,
};
use rlx_ir::{DType, Dim, Literal, Number, Op, OpKind, Value};

macro_rules! rules {
    ($($name:literal: $($kind:ident)|* => $rewrite:ident,)*) => {
        /// Every rule, in the order in which they are tried.
        pub const RULES: &[Rule] =
            &[$(Rule { name: $name, kinds: &[$(OpKind::$kind),*], rewrite: $rewrite }),*];
    };
}

rules! {
    "neutral operand": Binary => neutral_operand,
    "product with minus one": Binary => minus_one,
    "quotient by a power of two": Binary => power_of_two_quotient,
    "square": Binary => square,
    "sum with a negation": Binary => sum_with_negation,
    "equal operands": Binary => equal_operands,
    "function of itself": Activation => function_of_function,
    "known choice": Where => known_choice,
    "cast that loses nothing": Cast => lossless_cast,
    "movement that moves nothing": Transpose | Reshape | Expand | Reverse | Narrow | Pad | Tile | Roll | Concat => idle_movement,
    "movement of movement": Transpose | Reshape | Expand | Reverse | Narrow => movement_of_movement,
    "concat of concat": Concat => concat_of_concat,
    "product with a transpose": MatMul => product_with_transpose,
}

fn binary_kind(site: &Site<'_>) -> Option<BinaryKind> {
    match &site.op {
        Op::Binary(op) => Some(op.kind),
        _ => None,
    }
}

fn activation_kind(op: &Op) -> Option<ActivationKind> {
    match op {
        Op::Activation(op) => Some(op.kind),
        _ => None,
    }
}

/// Is `kind(x, number)` always `x`?
fn is_neutral_right(kind: BinaryKind, number: Number) -> bool {
    use BinaryKind as K;
    match (kind, number) {
        (K::Add, Number::Float(value)) => value == 0.0 && value.is_sign_negative(),
        (K::Sub, Number::Float(value)) => value == 0.0 && value.is_sign_positive(),
        (K::Mul | K::Div | K::Pow, Number::Float(value)) => value == 1.0,
        (K::Add | K::Sub | K::BitOr | K::BitXor | K::Shl | K::Shr | K::Or | K::Xor, Number::Int(value)) => {
            value == 0
        }
        (K::Mul | K::Div | K::Pow | K::And, Number::Int(value)) => value == 1,
        _ => false,
    }
}

/// Is `kind(number, x)` always `x`?
fn is_neutral_left(kind: BinaryKind, number: Number) -> bool {
    use BinaryKind as K;
    let commutes = matches!(kind, K::Add | K::Mul | K::BitOr | K::BitXor | K::Or | K::Xor | K::And);
    commutes && is_neutral_right(kind, number)
}

fn neutral_operand(site: &mut Site<'_>) -> Option<Value> {
    let (kind, a, b) = (binary_kind(site)?, site.operands[0], site.operands[1]);
    if site.number(b).is_some_and(|number| is_neutral_right(kind, number)) {
        return Some(a);
    }
    site.number(a).is_some_and(|number| is_neutral_left(kind, number)).then_some(b)
}

fn minus_one(site: &mut Site<'_>) -> Option<Value> {
    let is_minus_one =
        |site: &Site<'_>, value| matches!(site.number(value), Some(Number::Float(-1.0) | Number::Int(-1)));
    let (a, b) = (site.operands[0], site.operands[1]);
    let x = match binary_kind(site)? {
        BinaryKind::Mul if is_minus_one(site, b) => a,
        BinaryKind::Mul if is_minus_one(site, a) => b,
        BinaryKind::Div if is_minus_one(site, b) && site.ty.dtype.is_float() => a,
        _ => return None,
    };
    site.build(Activation::of(ActivationKind::Neg), &[x])
}

/// A quotient by 2^n is the product with 2^-n: both round the same real number.
fn power_of_two_quotient(site: &mut Site<'_>) -> Option<Value> {
    let (dtype, divisor) = (site.ty.dtype, site.operands[1]);
    let Number::Float(value) = site.number(divisor)? else { return None };
    let significand = value.to_bits() & ((1 << 52) - 1);
    let representable = Number::Float(1.0 / value).cast(dtype) == Number::Float(1.0 / value);
    if binary_kind(site)? != BinaryKind::Div || significand != 0 || !value.is_normal() || !representable {
        return None;
    }
    let dims = site.ty_of(divisor).shape.as_static()?;
    let reciprocal = site.build(
        Constant { value: Literal::floats(dtype, &dims, &[1.0 / value]).expect("one value per element") },
        &[],
    )?;
    site.build(Binary { kind: BinaryKind::Mul }, &[site.operands[0], reciprocal])
}

fn square(site: &mut Site<'_>) -> Option<Value> {
    // The library's f64 power may differ from the product in the last place.
    let narrow = site.ty.dtype != DType::F64;
    let is_two = matches!(site.number(site.operands[1]), Some(Number::Float(2.0) | Number::Int(2)));
    if binary_kind(site)? != BinaryKind::Pow || !narrow || !is_two {
        return None;
    }
    site.build(Binary { kind: BinaryKind::Mul }, &[site.operands[0], site.operands[0]])
}

fn sum_with_negation(site: &mut Site<'_>) -> Option<Value> {
    let negated = |site: &Site<'_>, value| match activation_kind(site.op_of(value)) {
        Some(ActivationKind::Neg) => site.operand_of(value),
        _ => None,
    };
    let (a, b) = (site.operands[0], site.operands[1]);
    let (kind, operands) = match (binary_kind(site)?, negated(site, a), negated(site, b)) {
        (BinaryKind::Add, _, Some(b)) => (BinaryKind::Sub, [a, b]),
        (BinaryKind::Sub, _, Some(b)) => (BinaryKind::Add, [a, b]),
        (BinaryKind::Add, Some(a), None) => (BinaryKind::Sub, [b, a]),
        _ => return None,
    };
    site.build(Binary { kind }, &operands)
}

fn equal_operands(site: &mut Site<'_>) -> Option<Value> {
    use BinaryKind as K;
    let keeps = matches!(binary_kind(site)?, K::Max | K::Min | K::And | K::Or | K::BitAnd | K::BitOr);
    (keeps && site.operands[0] == site.operands[1]).then_some(site.operands[0])
}

fn function_of_function(site: &mut Site<'_>) -> Option<Value> {
    use ActivationKind as K;
    let inner = site.operands[0];
    let (outer, function) = (activation_kind(&site.op)?, activation_kind(site.op_of(inner))?);
    match (outer, function) {
        (K::Neg, K::Neg) | (K::Not, K::Not) => site.operand_of(inner),
        (K::Abs, K::Neg) => {
            let x = site.operand_of(inner)?;
            site.build(Activation::of(K::Abs), &[x])
        }
        (K::Abs | K::Relu | K::Sign, _) if outer == function => Some(inner),
        (K::Floor | K::Ceil | K::Trunc | K::Round, K::Floor | K::Ceil | K::Trunc | K::Round) => Some(inner),
        _ => None,
    }
}

fn known_choice(site: &mut Site<'_>) -> Option<Value> {
    let (condition, yes, no) = (site.operands[0], site.operands[1], site.operands[2]);
    if yes == no {
        return Some(yes);
    }
    match site.number(condition)? {
        Number::Int(0) => Some(no),
        _ => Some(yes),
    }
}

/// Can dtype `to` hold every value of dtype `from`, NaN included?
fn holds(to: DType, from: DType) -> bool {
    // Significant bits, smallest exponent and largest exponent of a float.
    let float = |dtype: DType| match dtype {
        DType::F64 => Some((53, -1074, 1023)),
        DType::F32 => Some((24, -149, 127)),
        DType::F16 => Some((11, -24, 15)),
        DType::BF16 => Some((8, -133, 127)),
        _ => None,
    };
    if to == from {
        return true;
    }
    match (from.int_range(), to.int_range(), float(from), float(to)) {
        (Some((low, high)), Some((to_low, to_high)), _, _) => {
            to != DType::Bool && to_low <= low && high <= to_high
        }
        (Some((low, high)), None, _, Some((bits, _, _))) => high <= 1 << bits && -low <= 1 << bits,
        (None, None, Some(from), Some(to)) => from.0 <= to.0 && to.1 <= from.1 && from.2 <= to.2,
        _ => false,
    }
}

/// Do casts from `from` over `middle` to `to` saturate where a cast from `from` to `to` wraps?
fn saturates(from: DType, middle: DType, to: DType) -> bool {
    let wraps = from.int_range().is_some() && to.int_range().is_some() && to != DType::Bool;
    wraps && middle.int_range().is_none()
}

fn lossless_cast(site: &mut Site<'_>) -> Option<Value> {
    let x = site.operands[0];
    if site.ty_of(x).dtype == site.ty.dtype {
        return Some(x);
    }
    let Op::Cast(inner) = site.op_of(x) else { return None };
    let middle = inner.to;
    let source = site.operand_of(x)?;
    let from = site.ty_of(source).dtype;
    if !holds(middle, from) || (saturates(from, middle, site.ty.dtype) && !holds(site.ty.dtype, from)) {
        return None;
    }
    if site.ty_of(source).dtype == site.ty.dtype {
        return Some(source);
    }
    site.build(Cast { to: site.ty.dtype }, &[source])
}

fn idle_movement(site: &mut Site<'_>) -> Option<Value> {
    let &x = site.operands.first()?;
    let zero = |dims: &[Dim]| dims.iter().all(|dim| dim.is(0));
    let same_type = *site.ty_of(x) == site.ty;
    let idle = match &site.op {
        Op::Transpose(op) => op.permutation.iter().copied().eq(0..op.permutation.len()),
        Op::Reshape(_) | Op::Expand(_) => same_type,
        Op::Narrow(op) => op.start.is(0) && same_type,
        Op::Reverse(op) => op.axes.is_empty(),
        Op::Pad(op) => zero(&op.low) && zero(&op.high),
        Op::Roll(op) => zero(&op.shifts),
        Op::Tile(op) => op.repeats.iter().all(|dim| dim.is(1)),
        Op::Concat(_) => site.operands.len() == 1,
        _ => false,
    };
    idle.then_some(x)
}

fn movement_of_movement(site: &mut Site<'_>) -> Option<Value> {
    let inner = site.operands[0];
    let source = site.operand_of(inner)?;
    let op: Op = match (&site.op, site.op_of(inner)) {
        (Op::Transpose(outer), Op::Transpose(inner)) => {
            let axes = outer.permutation.iter().map(|&axis| inner.permutation[axis]);
            Transpose { permutation: axes.collect() }.into()
        }
        (Op::Reshape(outer), Op::Reshape(_)) => Reshape { shape: outer.shape.clone() }.into(),
        (Op::Expand(outer), Op::Expand(_)) => Expand { shape: outer.shape.clone() }.into(),
        (Op::Reverse(outer), Op::Reverse(inner)) => {
            let mut axes: Vec<usize> =
                outer.axes.iter().filter(|axis| !inner.axes.contains(axis)).copied().collect();
            axes.extend(inner.axes.iter().filter(|axis| !outer.axes.contains(axis)));
            axes.sort_unstable();
            Reverse { axes }.into()
        }
        (Op::Narrow(outer), Op::Narrow(inner)) if outer.axis == inner.axis => {
            let start = inner.start.clone() + outer.start.clone();
            Narrow { axis: outer.axis, start, len: outer.len.clone() }.into()
        }
        (Op::Reshape(_), Op::Transpose(inner)) => {
            let permutation = inner.permutation.clone();
            return transpose_of_last(site, source, &permutation);
        }
        _ => return None,
    };
    site.build(op, &[source])
}

/// A transpose of the last axes between two reshapes that leave these alone.
fn transpose_of_last(site: &mut Site<'_>, flat: Value, permutation: &[usize]) -> Option<Value> {
    let Op::Reshape(_) = site.op_of(flat) else { return None };
    let whole = site.operand_of(flat)?;
    let (dims, flat_dims) = (site.ty_of(whole).shape.dims(), site.ty_of(flat).shape.dims());
    let first = (0..permutation.len()).find(|&axis| permutation[axis] != axis)?;
    let own_first = dims.len().checked_sub(permutation.len() - first)?;
    if dims[own_first..] != flat_dims[first..] {
        return None;
    }
    let moved = permutation[first..].iter().map(|axis| axis - first + own_first);
    let permutation = (0..own_first).chain(moved).collect();
    site.build(Transpose { permutation }, &[whole])
}

fn concat_of_concat(site: &mut Site<'_>) -> Option<Value> {
    let Op::Concat(outer) = &site.op else { return None };
    let axis = outer.axis;
    let mut parts = vec![];
    for &operand in &site.operands {
        match site.op_of(operand) {
            Op::Concat(inner) if inner.axis == axis => parts.extend(site.operands_of(operand)),
            _ => parts.push(operand),
        }
    }
    if parts.len() == site.operands.len() {
        return None;
    }
    site.build(Concat { axis }, &parts)
}

/// A transpose of the last two axes is an attribute of the product.
fn product_with_transpose(site: &mut Site<'_>) -> Option<Value> {
    let Op::MatMul(op) = &site.op else { return None };
    let mut op: MatMul = op.clone();
    let mut operands = site.operands.clone();
    for (operand, transpose) in operands.iter_mut().zip([&mut op.transpose_a, &mut op.transpose_b]) {
        let Op::Transpose(inner) = site.op_of(*operand) else { continue };
        let rank = inner.permutation.len();
        let mut swapped: Vec<usize> = (0..rank).collect();
        swapped.swap(rank - 2, rank - 1);
        if inner.permutation == swapped {
            *operand = site.operand_of(*operand)?;
            *transpose = !*transpose;
        }
    }
    if operands == site.operands {
        return None;
    }
    site.build(op, &operands)
}
