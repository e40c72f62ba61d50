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

/// Every rule, in the order in which they are tried.
pub const RULES: &[Rule] = &[
    Rule {
        name: "neutral operand",
        kinds: &[OpKind::Binary],
        rewrite: neutral_operand,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3]
             %c = constant {value = f32[]:[-0.0]}
             %y = binary %x, %c {kind = add}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %c = constant {value = f32[1]:[0.0]}
             %y = binary %x, %c {kind = sub}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f16[4]
             %c = constant {value = f16[]:[1.0]}
             %y = binary %c, %x {kind = mul}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : i32[4]
             %c = constant {value = i32[]:[0]}
             %y = binary %c, %x {kind = add}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : bool[4]
             %c = constant {value = bool[]:[true]}
             %y = binary %x, %c {kind = and}
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "product with minus one",
        kinds: &[OpKind::Binary],
        rewrite: minus_one,
        examples: &["%x = input {name = \"x\"} : f32[2, 3]
                     %c = constant {value = f32[]:[-1.0]}
                     %y = binary %x, %c {kind = mul}
                     output \"y\" = %y"],
    },
    Rule {
        name: "quotient by a power of two",
        kinds: &[OpKind::Binary],
        rewrite: power_of_two_quotient,
        examples: &["%x = input {name = \"x\"} : f32[2, 3]
                     %c = constant {value = f32[]:[8.0]}
                     %y = binary %x, %c {kind = div}
                     output \"y\" = %y"],
    },
    Rule {
        name: "square",
        kinds: &[OpKind::Binary],
        rewrite: square,
        examples: &["%x = input {name = \"x\"} : f32[2, 3]
                     %c = constant {value = f32[]:[2.0]}
                     %y = binary %x, %c {kind = pow}
                     output \"y\" = %y"],
    },
    Rule {
        name: "sum with a negation",
        kinds: &[OpKind::Binary],
        rewrite: sum_with_negation,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3]
             %z = input {name = \"z\"} : f32[3]
             %n = activation %z {kind = neg, parameter = none}
             %y = binary %x, %n {kind = add}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %z = input {name = \"z\"} : f32[3]
             %n = activation %z {kind = neg, parameter = none}
             %y = binary %x, %n {kind = sub}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : i8[3]
             %z = input {name = \"z\"} : i8[3]
             %n = activation %x {kind = neg, parameter = none}
             %y = binary %n, %z {kind = add}
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "equal operands",
        kinds: &[OpKind::Binary],
        rewrite: equal_operands,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3]
             %y = binary %x, %x {kind = max}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : bool[2]
             %y = binary %x, %x {kind = or}
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "function of itself",
        kinds: &[OpKind::Activation],
        rewrite: function_of_function,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3]
             %a = activation %x {kind = neg, parameter = none}
             %y = activation %a {kind = neg, parameter = none}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %a = activation %x {kind = neg, parameter = none}
             %y = activation %a {kind = abs, parameter = none}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %a = activation %x {kind = relu, parameter = none}
             %y = activation %a {kind = relu, parameter = none}
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "known choice",
        kinds: &[OpKind::Where],
        rewrite: known_choice,
        examples: &[
            "%c = constant {value = bool[]:[false]}
             %x = input {name = \"x\"} : f32[2, 3]
             %z = input {name = \"z\"} : f32[2, 3]
             %y = where %c, %x, %z
             output \"y\" = %y",
            "%c = input {name = \"c\"} : bool[3]
             %x = input {name = \"x\"} : f32[2, 3]
             %y = where %c, %x, %x
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "cast that loses nothing",
        kinds: &[OpKind::Cast],
        rewrite: lossless_cast,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3]
             %y = cast %x {to = f32}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f16[2, 3]
             %a = cast %x {to = f32}
             %y = cast %a {to = f16}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : u8[4]
             %a = cast %x {to = f16}
             %y = cast %a {to = i64}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : i8[4]
             %a = cast %x {to = i32}
             %y = cast %a {to = u8}
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "movement that moves nothing",
        kinds: &[
            OpKind::Transpose,
            OpKind::Reshape,
            OpKind::Expand,
            OpKind::Reverse,
            OpKind::Narrow,
            OpKind::Pad,
            OpKind::Tile,
            OpKind::Roll,
            OpKind::Concat,
        ],
        rewrite: idle_movement,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3]
             %y = transpose %x {permutation = [0, 1]}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[S, 3]
             %y = narrow %x {axis = 0, start = 0, len = S}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %y = pad %x {low = [0, 0], high = [0, 0], mode = edge}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %y = concat %x {axis = 1}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %y = reverse %x {axes = []}
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "movement of movement",
        kinds: &[OpKind::Transpose, OpKind::Reshape, OpKind::Expand, OpKind::Reverse, OpKind::Narrow],
        rewrite: movement_of_movement,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3, 4]
             %a = transpose %x {permutation = [1, 2, 0]}
             %y = transpose %a {permutation = [1, 2, 0]}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %a = reshape %x {shape = [6]}
             %y = reshape %a {shape = [3, 2]}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[3]
             %a = expand %x {shape = [1, 3]}
             %y = expand %a {shape = [2, 2, 3]}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[2, 3]
             %a = reverse %x {axes = [0]}
             %y = reverse %a {axes = [0, 1]}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[9]
             %a = narrow %x {axis = 0, start = 1, len = 7}
             %y = narrow %a {axis = 0, start = 2, len = 3}
             output \"y\" = %y",
        ],
    },
    Rule {
        name: "concat of concat",
        kinds: &[OpKind::Concat],
        rewrite: concat_of_concat,
        examples: &["%x = input {name = \"x\"} : f32[2, 3]
                     %z = input {name = \"z\"} : f32[2, 1]
                     %a = concat %x, %z {axis = 1}
                     %y = concat %z, %a {axis = 1}
                     output \"y\" = %y"],
    },
    Rule {
        name: "product with a transpose",
        kinds: &[OpKind::MatMul],
        rewrite: product_with_transpose,
        examples: &[
            "%x = input {name = \"x\"} : f32[2, 3]
             %w = input {name = \"w\"} : f32[4, 3]
             %t = transpose %w {permutation = [1, 0]}
             %y = matmul %x, %t {transpose_a = false, transpose_b = false}
             output \"y\" = %y",
            "%x = input {name = \"x\"} : f32[5, 2, 3]
             %w = input {name = \"w\"} : f32[3, 4]
             %t = transpose %x {permutation = [0, 2, 1]}
             %y = matmul %t, %w {transpose_a = true, transpose_b = false}
             output \"y\" = %y",
        ],
    },
];

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
        _ => return None,
    };
    site.build(op, &[source])
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
