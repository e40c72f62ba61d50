//! Floats that are extents divided by a number: what exporters put between two casts to scale or halve an extent.
//!
//! Taken is what floats compute without rounding as long as extents have fewer than 20 bits: sums and products with
//! binary fractions of few bits, then one division, then a rounding to an integer.

use crate::context::Context;
use crate::dims::{Extents, extents, pairs};
use crate::node::{Node, Stop};
use crate::tensor;
use crate::value::{Content, Imported, Tensor};
use rlx_ir::{DType, Dim, Graph};

/// Expressions, all divided by one positive number.
struct Ratios {
    parts: Extents,
    divisor: i64,
}

/// The floats of an operand.
fn ratios(input: Option<&Imported>) -> Option<Ratios> {
    let Some(Imported::Tensor(tensor)) = input else { return None };
    let (shape, dtype) = (tensor.shape.as_static()?, tensor.dtype);
    match &tensor.content {
        Content::Ratios(dims, divisor) => {
            Some(Ratios { parts: Extents { dims: dims.clone(), shape, dtype }, divisor: *divisor })
        }
        Content::Literal(literal) if matches!(dtype, DType::F32 | DType::F64) && literal.len() <= 64 => {
            const DIVISOR: i64 = 1 << 16;
            let exact = |value: f64| {
                let whole = (value * DIVISOR as f64) as i64;
                // Few bits from the first that is set to the last.
                let has_few = whole == 0 || whole.unsigned_abs() >> whole.trailing_zeros() < 16;
                (has_few && whole as f64 == value * DIVISOR as f64).then(|| Dim::from(whole))
            };
            let dims = literal.to_f64s().into_iter().map(exact).collect::<Option<Vec<_>>>()?;
            Some(Ratios { parts: Extents { dims, shape, dtype }, divisor: DIVISOR }.reduced())
        }
        _ => None,
    }
}

impl Ratios {
    /// Without common factors of 2.
    fn reduced(mut self) -> Ratios {
        let two = Dim::from(2);
        while self.divisor % 2 == 0 && self.parts.dims.iter().all(|dim| dim.modulo(&two).is(0)) {
            self.divisor /= 2;
            self.parts.dims = self.parts.dims.iter().map(|dim| dim.floor_div(&two)).collect();
        }
        self
    }

    fn tensor(self) -> Tensor {
        let Ratios { parts: Extents { dims, shape, dtype }, divisor } = self.reduced();
        Tensor::ratios(dtype, &shape, dims, divisor)
    }
}

/// The result of a node that computes such floats, or integers from them; `None` where it is another one.
pub(crate) fn import<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Option<Tensor>, Stop<'m>> {
    let op = node.proto.op_type();
    let is_symbolic = |input: &Option<Imported>| {
        matches!(input, Some(Imported::Tensor(Tensor { content: Content::Ratios(..), .. })))
    };
    if op == "Cast" {
        return cast(cx, node);
    }
    if !node.inputs.iter().any(is_symbolic) || node.has("broadcast") || node.has("consumed_inputs") {
        return Ok(None);
    }
    let Some(a) = ratios(node.input(0)) else { return Ok(None) };
    let whole = |dims: Vec<Dim>| Tensor::ratios(a.parts.dtype, &a.parts.shape, dims, 1);
    let (divisor, parts) = (Dim::from(a.divisor), &a.parts.dims);
    match op {
        "Floor" => Ok(Some(whole(parts.iter().map(|dim| dim.floor_div(&divisor)).collect()))),
        "Ceil" => Ok(Some(whole(parts.iter().map(|dim| dim.ceil_div(&divisor)).collect()))),
        "Add" | "Sub" | "Mul" | "Div" => {
            Ok(ratios(node.input(1)).and_then(|b| arithmetic(op, &a, &b)).map(Ratios::tensor))
        }
        _ => Ok(None),
    }
}

/// From integers to floats and back.
fn cast<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Result<Option<Tensor>, Stop<'m>> {
    let Some(Imported::Tensor(x)) = node.input(0) else { return Ok(None) };
    // Versions before 6 name the type in a string.
    if !matches!(x.content, Content::Dims(_) | Content::Ratios(..)) || node.version < 6 {
        return Ok(None);
    }
    let to = tensor::dtype(node.int_or("to", 0)? as i32).ok();
    let result = match (&x.content, to) {
        (Content::Dims(_), Some(to @ (DType::F32 | DType::F64))) => {
            extents(node.input(0)).map(|x| Tensor::ratios(to, &x.shape, x.dims, 1))
        }
        (Content::Ratios(dims, divisor), Some(to @ (DType::F32 | DType::F64)))
            if (*divisor as u64).is_power_of_two() =>
        {
            let extents = x.shape.as_static().unwrap_or_default();
            Some(Tensor::ratios(to, &extents, dims.clone(), *divisor))
        }
        (Content::Ratios(dims, divisor), Some(to @ (DType::I64 | DType::I32))) => {
            let extents = x.shape.as_static().unwrap_or_default();
            // Towards zero: downwards, where nothing is negative.
            let is_plain = dims.iter().all(|dim| at_least_zero(cx.graph(), dim));
            let down = |dim: &Dim| dim.floor_div(&Dim::from(*divisor));
            is_plain.then(|| Tensor::expressions(to, &extents, dims.iter().map(down).collect()))
        }
        _ => None,
    };
    if result.is_some() {
        node.without_influence("saturate");
        node.without_influence("round_mode");
    }
    Ok(result)
}

fn at_least_zero(graph: &Graph, dim: &Dim) -> bool {
    graph.dim_bounds(dim).0.is_some_and(|low| low >= 0)
}

fn arithmetic(op: &str, a: &Ratios, b: &Ratios) -> Option<Ratios> {
    // What was divided is a rounded float, unless by a power of 2.
    let is_exact = |x: &Ratios| (x.divisor as u64).is_power_of_two();
    let (pairs, shape) = pairs(&a.parts, &b.parts).filter(|_| is_exact(a) && is_exact(b))?;
    let (mut dims, mut divisor) = (vec![], a.divisor.checked_mul(b.divisor)?);
    for (x, y) in pairs {
        dims.push(match op {
            "Add" => x * Dim::from(b.divisor) + y * Dim::from(a.divisor),
            "Sub" => x * Dim::from(b.divisor) - y * Dim::from(a.divisor),
            "Mul" if x.as_static().is_some() || y.as_static().is_some() => x * y,
            "Div" => {
                // One divisor for all: that of a single number.
                let y = b.parts.dims.first().filter(|_| b.parts.dims.len() == 1)?.as_static()?;
                divisor = a.divisor.checked_mul(y).filter(|&divisor| divisor > 0)?;
                x * Dim::from(b.divisor)
            }
            _ => return None,
        });
    }
    Some(Ratios { parts: Extents { dims, shape, dtype: a.parts.dtype }, divisor })
}
