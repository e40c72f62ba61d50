//! Arithmetic, comparisons and logic, element by element, over the NumPy broadcast of the operands.
//!
//! Before version 7 the operands broadcast in a narrower way, which attributes ask for: see [`pair`].

use super::extents::agreed;
use super::{Rule, rule};
use crate::context::Context;
use crate::host::Strings;
use crate::node::{Node, Outcome, Stop};
use crate::value::{Content, Imported, Tensor};
use rlx_ir::ops::{Activation, ActivationKind, Binary, BinaryKind as K, Compare, CompareKind as C};
use rlx_ir::{DType, Dim, Literal, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("Add", &[1, 6, 7, 13, 14], |cx, node| binary(cx, node, K::Add)),
    rule("Sub", &[1, 6, 7, 13, 14], |cx, node| binary(cx, node, K::Sub)),
    rule("Mul", &[1, 6, 7, 13, 14], |cx, node| binary(cx, node, K::Mul)),
    rule("Div", &[1, 6, 7, 13, 14], |cx, node| binary(cx, node, K::Div)),
    rule("And", &[1, 7], |cx, node| binary(cx, node, K::And)),
    rule("Or", &[1, 7], |cx, node| binary(cx, node, K::Or)),
    rule("Xor", &[1, 7], |cx, node| binary(cx, node, K::Xor)),
    rule("BitwiseAnd", &[18], |cx, node| binary(cx, node, K::BitAnd)),
    rule("BitwiseOr", &[18], |cx, node| binary(cx, node, K::BitOr)),
    rule("BitwiseXor", &[18], |cx, node| binary(cx, node, K::BitXor)),
    rule("BitShift", &[11, 28], bit_shift),
    rule("Mod", &[10, 13, 28], modulo),
    rule("Pow", &[1, 7, 12, 13, 15], pow),
    rule("Min", &[1, 6, 8, 12, 13], |cx, node| variadic(cx, node, K::Min)),
    rule("Max", &[1, 6, 8, 12, 13], |cx, node| variadic(cx, node, K::Max)),
    rule("Sum", &[1, 6, 8, 13], |cx, node| variadic(cx, node, K::Add)),
    rule("Mean", &[1, 6, 8, 13], mean),
    rule("Equal", &[1, 7, 11, 13, 19], equal),
    rule("Less", &[1, 7, 9, 13], |cx, node| compare(cx, node, C::Lt)),
    rule("LessOrEqual", &[12, 16], |cx, node| compare(cx, node, C::Le)),
    rule("Greater", &[1, 7, 9, 13], |cx, node| compare(cx, node, C::Gt)),
    rule("GreaterOrEqual", &[12, 16], |cx, node| compare(cx, node, C::Ge)),
    rule("Where", &[9, 16], choose),
    rule("Clip", &[1, 6, 11, 12, 13], clip),
    rule("IsInf", &[10, 20], is_inf),
    rule("IsNaN", &[9, 13, 20], is_nan),
];

/// The two operands. Before version 7 they have one shape, or, with `broadcast`, the second one lies over a contiguous
/// part of the axes of the first, from `axis` on or at the end, or has one element.
fn pair<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<[Value; 2], Stop<'m>> {
    let (a, b) = (node.value(cx, 0)?, node.value(cx, 1)?);
    if node.version >= 7 {
        let mut operands = [a, b];
        agreed(cx, &mut operands, 0)?;
        return Ok(operands);
    }
    node.without_influence("consumed_inputs");
    let (broadcasts, axis) = (node.flag("broadcast", false)?, node.int("axis")?);
    let (over, shape) = (node.shape(0)?, node.shape(1)?);
    let misfit = || Stop::Invalid(format!("operand 1 of shape {shape} does not lie over {over}"));
    if !broadcasts {
        return if over == shape { Ok([a, b]) } else { Err(misfit()) };
    }
    if shape.num_elements().is(1) {
        return Ok([a, cx.graph().reshape(b, Shape::scalar())]);
    }
    let free = over.rank().checked_sub(shape.rank()).ok_or_else(misfit)?;
    let first = axis.map_or(Ok(free), |axis| node.axis(axis, over.rank()))?;
    let mut dims = shape.dims().to_vec();
    dims.extend(vec![Dim::from(1); free.checked_sub(first).ok_or_else(misfit)?]);
    let shape = Shape::from(dims);
    if shape.broadcast(over).as_ref() != Some(over) {
        return Err(misfit());
    }
    Ok([a, cx.graph().reshape(b, shape)])
}

pub(super) fn binary<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: K) -> Outcome<'m> {
    let operands = pair(cx, node)?;
    let y = cx.graph().push(Binary { kind }, &operands);
    Ok(vec![cx.tensor(y)?])
}

fn compare<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: C) -> Outcome<'m> {
    let operands = pair(cx, node)?;
    let y = cx.graph().push(Compare { kind }, &operands);
    Ok(vec![cx.tensor(y)?])
}

fn combined<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: K) -> Result<(Value, usize), Stop<'m>> {
    if node.version < 6 {
        node.without_influence("consumed_inputs");
    }
    let mut values = node.values(cx)?;
    agreed(cx, &mut values, 0)?;
    let graph = cx.graph();
    let y = values.iter().copied().reduce(|a, b| graph.push(Binary { kind }, &[a, b]));
    Ok((y.ok_or_else(|| Stop::Invalid("it has no operands".into()))?, values.len()))
}

fn variadic<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: K) -> Outcome<'m> {
    let (y, _) = combined(cx, node, kind)?;
    Ok(vec![cx.tensor(y)?])
}

fn mean<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (sum, count) = combined(cx, node, K::Add)?;
    let count = cx.graph().scalar(node.dtype(0)?, count as f64);
    let y = cx.graph().div(sum, count);
    Ok(vec![cx.tensor(y)?])
}

fn bit_shift<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let direction = node.string_or("direction", "")?;
    let kind = match direction.as_str() {
        "LEFT" => K::Shl,
        "RIGHT" => K::Shr,
        _ => return Err(Stop::Invalid(format!("its direction is {direction:?}, expected LEFT or RIGHT"))),
    };
    binary(cx, node, kind)
}

fn modulo<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    if node.flag("fmod", false)? {
        return binary(cx, node, K::Rem);
    }
    let dtype = node.dtype(0)?;
    let [a, b] = pair(cx, node)?;
    let graph = cx.graph();
    let mut y = graph.push(Binary { kind: K::Mod }, &[a, b]);
    if dtype.is_float() {
        // A zero has the sign of the divisor.
        let [zero, negative_zero] = [0.0, -0.0].map(|value| graph.scalar(dtype, value));
        let is_negative = graph.compare_lt(b, zero);
        let signed = graph.where_(is_negative, negative_zero, zero);
        let is_zero = graph.compare_eq(y, zero);
        y = graph.where_(is_zero, signed, y);
    }
    Ok(vec![cx.tensor(y)?])
}

/// The dtype in which a power is computed: the base's, where the exponents are numbers of it.
fn power_dtype(base: DType, exponents: &Tensor) -> DType {
    let exponent = exponents.dtype;
    let is_exact = |literal: &Literal| {
        let mut numbers = literal.numbers().into_iter();
        numbers.all(|number| number.cast(base).as_f64() == number.as_f64())
    };
    match &exponents.content {
        _ if base == exponent => base,
        Content::Literal(literal) if base.is_float() && is_exact(literal) => base,
        _ if base.is_int() && exponent.is_int() => DType::I64,
        _ => DType::F64,
    }
}

fn pow<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let base = node.dtype(0)?;
    let dtype = power_dtype(base, node.tensor(1)?);
    let operands = pair(cx, node)?;
    let graph = cx.graph();
    let [a, b] = operands.map(|operand| graph.cast_to(operand, dtype));
    let y = graph.pow(a, b);
    let y = graph.cast_to(y, base);
    Ok(vec![cx.tensor(y)?])
}

/// The largest finite number of a float dtype.
fn largest(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        // The upper half of the bits of the largest `f32`.
        DType::BF16 => f64::from(f32::from_bits(0x7F7F_0000)),
        _ => f64::from(f32::MAX),
    }
}

/// A bound that is not given is the largest (lowest) finite number, so that infinities become finite; there was no such
/// default before version 6.
fn clip<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, dtype) = (node.value(cx, 0)?, node.dtype(0)?);
    let largest = if node.version < 11 { f64::from(f32::MAX) } else { largest(dtype) };
    let mut bounds = [None, None];
    for (index, (name, default)) in [("min", -largest), ("max", largest)].into_iter().enumerate() {
        let given = if node.version < 11 {
            node.float(name)?.map(|bound| cx.graph().scalar(dtype, f64::from(bound)))
        } else {
            // Exporters make vectors of one element, too.
            let bound = node.optional(cx, index + 1)?;
            bound.map(|bound| cx.graph().reshape(bound, Shape::scalar()))
        };
        let has_default = given.is_none() && node.version >= 6 && dtype.is_float();
        bounds[index] = if has_default { Some(cx.graph().scalar(dtype, default)) } else { given };
    }
    if node.version < 6 {
        node.without_influence("consumed_inputs");
    }
    let y = cx.graph().clamp(x, bounds[0], bounds[1]);
    Ok(vec![cx.tensor(y)?])
}

/// Operand 0 in a dtype that is compared with: small floats are widened.
fn comparable<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<(Value, DType), Stop<'m>> {
    let x = node.value(cx, 0)?;
    let x = cx.graph().accumulation_cast(x);
    Ok((x, cx.ty(x)?.dtype))
}

fn is_inf<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, dtype) = comparable(cx, node)?;
    let signs = [("detect_negative", f64::NEG_INFINITY), ("detect_positive", f64::INFINITY)];
    let mut found = vec![];
    for (name, infinity) in signs {
        if node.flag(name, true)? {
            let infinity = cx.graph().scalar(dtype, infinity);
            found.push(cx.graph().compare_eq(x, infinity));
        }
    }
    let y = match found[..] {
        [one] => one,
        [a, b] => cx.graph().or(a, b),
        _ => cx.graph().full(DType::Bool, node.shape(0)?.clone(), 0.0),
    };
    Ok(vec![cx.tensor(y)?])
}

fn is_nan<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, _) = comparable(cx, node)?;
    let y = cx.graph().compare_ne(x, x);
    Ok(vec![cx.tensor(y)?])
}

fn equal<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (Some(Imported::Strings(a)), Some(Imported::Strings(b))) = (node.input(0), node.input(1)) else {
        return compare(cx, node, C::Eq);
    };
    let over = Overlay::new(&[a.dims(), b.dims()])?;
    let equal = |at| a.values()[over.position(0, at)] == b.values()[over.position(1, at)];
    let values: Vec<i128> = (0..over.len()).map(|at| i128::from(equal(at))).collect();
    let y = Literal::ints(DType::Bool, &over.dims, &values);
    Ok(vec![Tensor::literal(y.map_err(|error| Stop::Invalid(error.to_string()))?).into()])
}

fn choose<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    if let (Some(Imported::Strings(a)), Some(Imported::Strings(b))) = (node.input(1), node.input(2)) {
        let condition = node.literal(cx, 0)?;
        let over = Overlay::new(&[condition.dims(), a.dims(), b.dims()])?;
        let holds = condition.to_ints();
        let chosen = |at| match holds[over.position(0, at)] {
            0 => b.values()[over.position(2, at)].clone(),
            _ => a.values()[over.position(1, at)].clone(),
        };
        let values = (0..over.len()).map(chosen).collect();
        return Ok(Strings::new(&over.dims, values).into_iter().map(Into::into).collect());
    }
    let mut operands = [node.value(cx, 0)?, node.value(cx, 1)?, node.value(cx, 2)?];
    agreed(cx, &mut operands, 0)?;
    let [condition, a, b] = operands;
    let y = cx.graph().where_(condition, a, b);
    Ok(vec![cx.tensor(y)?])
}

/// The NumPy broadcast of shapes on the host.
struct Overlay {
    dims: Vec<usize>,
    /// For each shape, how far apart its elements are along each axis of the result.
    strides: Vec<Vec<usize>>,
}

impl Overlay {
    fn new<'m>(shapes: &[&[usize]]) -> Result<Overlay, Stop<'m>> {
        let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
        let mut dims = vec![1; rank];
        for shape in shapes {
            for (own, &dim) in dims[rank - shape.len()..].iter_mut().zip(*shape) {
                match (*own, dim) {
                    (_, 1) => {}
                    (1, _) => *own = dim,
                    (a, b) if a == b => {}
                    _ => return Err(Stop::Invalid(format!("shapes {shapes:?} do not broadcast"))),
                }
            }
        }
        let strides = |shape: &&[usize]| {
            let (mut strides, mut step) = (vec![0; rank], 1);
            for (axis, &dim) in shape.iter().enumerate().rev() {
                strides[rank - shape.len() + axis] = if dim == 1 { 0 } else { step };
                step *= dim;
            }
            strides
        };
        let strides = shapes.iter().map(strides).collect();
        match rlx_ir::literal::element_count(&dims) {
            Some(_) => Ok(Overlay { dims, strides }),
            None => Err(Stop::Invalid(format!("{dims:?} has more elements than memory"))),
        }
    }

    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// The position in shape `index` of what lies under element `at` of the result.
    fn position(&self, index: usize, mut at: usize) -> usize {
        let mut position = 0;
        for (&dim, &stride) in self.dims.iter().zip(&self.strides[index]).rev() {
            position += at % dim * stride;
            at /= dim;
        }
        position
    }
}

/// A function of one operand, which exists for the dtypes that RLX has it for.
pub(super) fn unary<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: ActivationKind) -> Outcome<'m> {
    if node.version < 6 {
        node.without_influence("consumed_inputs");
    }
    let x = node.value(cx, 0)?;
    let y = cx.graph().push(Activation::of(kind), &[x]);
    Ok(vec![cx.tensor(y)?])
}

#[cfg(test)]
mod tests {
    use crate::single::{float, int, run, strings, tensor};
    use rlx_ir::DType::{Bool, F16, F32, I32, I64};

    #[test]
    fn second_operands_lie_where_their_axis_says() {
        let a = tensor(F32, &[2, 3, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let b = tensor(F32, &[2], &[10.0, 20.0]);
        let sum = tensor(F32, &[2, 3, 1], &[10.0, 11.0, 12.0, 23.0, 24.0, 25.0]);
        let inputs = [a, b];
        assert_eq!(run("Add", 6, &[int("broadcast", 1), int("axis", 0)], &inputs), Ok(sum));
        let misfit = run("Add", 6, &[int("broadcast", 1), int("axis", 1)], &inputs);
        assert!(misfit.is_err_and(|error| error.contains("does not lie over")));
        assert!(run("Add", 6, &[], &inputs).is_err_and(|error| error.contains("does not lie over")));
    }

    #[test]
    fn powers_of_mixed_dtypes_are_exact() {
        let bases = tensor(F32, &[3], &[-1.0, -1.0, 3.0]);
        let exponents = tensor(I32, &[3], &[16_777_217.0, 16_777_216.0, 2.0]);
        assert_eq!(run("Pow", 15, &[], &[bases, exponents]), Ok(tensor(F32, &[3], &[-1.0, 1.0, 9.0])));
        let (bases, exponents) = (tensor(I64, &[2], &[3.0, 4.0]), tensor(F32, &[2], &[33.0, 0.5]));
        let powers = tensor(I64, &[2], &[5_559_060_566_555_523.0, 2.0]);
        assert_eq!(run("Pow", 15, &[], &[bases, exponents]), Ok(powers));
    }

    #[test]
    fn bounds_that_are_left_out_are_the_largest_numbers() {
        let x = tensor(F16, &[3], &[f64::INFINITY, f64::NEG_INFINITY, 1.0]);
        assert_eq!(
            run("Clip", 13, &[], std::slice::from_ref(&x)),
            Ok(tensor(F16, &[3], &[65504.0, -65504.0, 1.0]))
        );
        let clipped = tensor(F16, &[3], &[0.5, f64::NEG_INFINITY, 0.5]);
        assert_eq!(run("Clip", 1, &[float("max", 0.5)], &[x]), Ok(clipped));
    }

    #[test]
    fn strings_are_compared_and_chosen() {
        let (a, b) = (strings(&["a", "b"]), strings(&["a", "c"]));
        assert_eq!(run("Equal", 19, &[], &[a.clone(), b.clone()]), Ok(tensor(Bool, &[2], &[1.0, 0.0])));
        let condition = tensor(Bool, &[1], &[0.0]);
        assert_eq!(run("Where", 16, &[], &[condition, a, b.clone()]), Ok(b));
    }
}
