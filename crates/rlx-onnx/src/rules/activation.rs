//! Functions of one element: roundings, elementary functions, activations.
//!
//! What is composed of several steps is computed in `f32` where the operand is narrower.

use super::elementwise::unary;
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use rlx_ir::attr::Real;
use rlx_ir::ops::{Activation, ActivationKind as K};
use rlx_ir::{DType, Dim, Graph, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("Not", &[1], |cx, node| unary(cx, node, K::Not)),
    rule("BitwiseNot", &[18], |cx, node| unary(cx, node, K::Not)),
    rule("Neg", &[1, 6, 13], |cx, node| unary(cx, node, K::Neg)),
    rule("Abs", &[1, 6, 13], |cx, node| unary(cx, node, K::Abs)),
    rule("Sign", &[9, 13], |cx, node| unary(cx, node, K::Sign)),
    rule("Floor", &[1, 6, 13], |cx, node| unary(cx, node, K::Floor)),
    rule("Ceil", &[1, 6, 13], |cx, node| unary(cx, node, K::Ceil)),
    rule("Round", &[11, 22], |cx, node| unary(cx, node, K::Round)),
    rule("Sqrt", &[1, 6, 13], |cx, node| unary(cx, node, K::Sqrt)),
    rule("Exp", &[1, 6, 13], |cx, node| unary(cx, node, K::Exp)),
    rule("Log", &[1, 6, 13], |cx, node| unary(cx, node, K::Log)),
    rule("Reciprocal", &[1, 6, 13], |cx, node| unary(cx, node, K::Recip)),
    rule("Erf", &[9, 13], erf),
    rule("Sin", &[7, 22], |cx, node| unary(cx, node, K::Sin)),
    rule("Cos", &[7, 22], |cx, node| unary(cx, node, K::Cos)),
    rule("Tan", &[7, 22], |cx, node| unary(cx, node, K::Tan)),
    rule("Asin", &[7, 22], |cx, node| unary(cx, node, K::Asin)),
    rule("Acos", &[7, 22], |cx, node| unary(cx, node, K::Acos)),
    rule("Atan", &[7, 22], |cx, node| unary(cx, node, K::Atan)),
    rule("Sinh", &[9, 22], |cx, node| unary(cx, node, K::Sinh)),
    rule("Cosh", &[9, 22], |cx, node| unary(cx, node, K::Cosh)),
    rule("Tanh", &[1, 6, 13], |cx, node| unary(cx, node, K::Tanh)),
    rule("Asinh", &[9, 22], |cx, node| unary(cx, node, K::Asinh)),
    rule("Acosh", &[9, 22], |cx, node| unary(cx, node, K::Acosh)),
    rule("Atanh", &[9, 22], |cx, node| unary(cx, node, K::Atanh)),
    rule("Relu", &[1, 6, 13, 14], |cx, node| unary(cx, node, K::Relu)),
    rule("Sigmoid", &[1, 6, 13], |cx, node| unary(cx, node, K::Sigmoid)),
    rule("Softplus", &[1, 22], |cx, node| unary(cx, node, K::Softplus)),
    rule("Softsign", &[1, 22], |cx, node| unary(cx, node, K::Softsign)),
    rule("HardSwish", &[14, 22], |cx, node| unary(cx, node, K::HardSwish)),
    rule("Mish", &[18, 22], |cx, node| unary(cx, node, K::Mish)),
    rule("Gelu", &[20], gelu),
    rule("LeakyRelu", &[1, 6, 16], |cx, node| with_alpha(cx, node, K::LeakyRelu, 0.01)),
    rule("Elu", &[1, 6, 22], |cx, node| with_alpha(cx, node, K::Elu, 1.0)),
    rule("Selu", &[1, 6, 22], selu),
    rule("Celu", &[12, 28], celu),
    rule("ThresholdedRelu", &[10, 22], thresholded_relu),
    rule("HardSigmoid", &[1, 6, 22], hard_sigmoid),
    rule("Shrink", &[9], shrink),
    rule("Swish", &[24], swish),
    rule("SwiGLU", &[28], swiglu),
    rule("PRelu", &[1, 6, 7, 9, 16], prelu),
];

/// Takes integers too in its first version; they are computed as floats and truncated.
fn erf<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (x, dtype) = (node.value(cx, 0)?, node.dtype(0)?);
    let graph = cx.graph();
    let x = if dtype.is_int() { graph.cast(x, DType::F64) } else { x };
    let y = graph.erf(x);
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

fn gelu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let approximate = node.string_or("approximate", "none")?;
    match approximate.as_str() {
        "none" => unary(cx, node, K::Gelu),
        "tanh" => unary(cx, node, K::GeluApprox),
        _ => Err(Stop::Invalid(format!("approximate is {approximate:?}, expected \"none\" or \"tanh\""))),
    }
}

fn elu(graph: &mut Graph, kind: K, alpha: f32, x: Value) -> Value {
    graph.push(Activation { kind, parameter: Some(Real(f64::from(alpha))) }, &[x])
}

pub(super) fn with_alpha<'m>(cx: &mut Context<'m>, node: &Node<'m>, kind: K, default: f32) -> Outcome<'m> {
    let alpha = node.float_or("alpha", default)?;
    composed(cx, node, |graph, x, _| elu(graph, kind, alpha, x))
}

/// A function of operand 0 that `build` makes, given a way to constants of its dtype.
fn composed<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    build: impl FnOnce(&mut Graph, Value, &dyn Fn(&mut Graph, f32) -> Value) -> Value,
) -> Outcome<'m> {
    if node.version < 6 {
        node.without_influence("consumed_inputs");
    }
    let x = node.value(cx, 0)?;
    let dtype = node.dtype(0)?;
    let wide = cx.graph().accumulation_cast(x);
    let computed = cx.ty(wide)?.dtype;
    let graph = cx.graph();
    let y = build(graph, wide, &move |graph, value| graph.scalar(computed, f64::from(value)));
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

fn selu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (alpha, gamma) = if node.version < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (node.float_or("alpha", alpha)?, node.float_or("gamma", gamma)?);
    composed(cx, node, |graph, x, constant| {
        let (y, gamma) = (elu(graph, K::Elu, alpha, x), constant(graph, gamma));
        graph.mul(gamma, y)
    })
}

fn celu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let alpha = node.float_or("alpha", 1.0)?;
    composed(cx, node, |graph, x, constant| {
        let (alpha, zero) = (constant(graph, alpha), constant(graph, 0.0));
        let scaled = graph.div(x, alpha);
        let below = graph.push(Activation::of(K::Expm1), &[scaled]);
        let below = graph.mul(alpha, below);
        let (above, below) = (graph.maximum(x, zero), graph.minimum(below, zero));
        graph.add(above, below)
    })
}

fn thresholded_relu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let alpha = node.float_or("alpha", 1.0)?;
    composed(cx, node, |graph, x, constant| {
        let (alpha, zero) = (constant(graph, alpha), constant(graph, 0.0));
        let passes = graph.compare_gt(x, alpha);
        graph.where_(passes, x, zero)
    })
}

fn hard_sigmoid<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (alpha, beta) = (node.float_or("alpha", 0.2)?, node.float_or("beta", 0.5)?);
    composed(cx, node, |graph, x, constant| {
        let (alpha, beta) = (constant(graph, alpha), constant(graph, beta));
        let y = graph.mul(alpha, x);
        let y = graph.add(y, beta);
        graph.clip(y, 0.0, 1.0)
    })
}

/// Takes integers too, which are compared and moved as numbers.
fn shrink<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let (bias, lambd) = (f64::from(node.float_or("bias", 0.0)?), f64::from(node.float_or("lambd", 0.5)?));
    let (x, dtype) = (node.value(cx, 0)?, node.dtype(0)?);
    let graph = cx.graph();
    let x = if dtype.is_int() { graph.cast(x, DType::F64) } else { graph.accumulation_cast(x) };
    let computed = cx.ty(x)?.dtype;
    let graph = cx.graph();
    let [high, low, bias, zero] = [lambd, -lambd, bias, 0.0].map(|value| graph.scalar(computed, value));
    let (above, below) = (graph.compare_gt(x, high), graph.compare_lt(x, low));
    let (lowered, raised) = (graph.sub(x, bias), graph.add(x, bias));
    let y = graph.where_(above, lowered, zero);
    let y = graph.where_(below, raised, y);
    let y = graph.cast_to(y, dtype);
    Ok(vec![cx.tensor(y)?])
}

fn gate(graph: &mut Graph, x: Value, alpha: Value) -> Value {
    let scaled = graph.mul(alpha, x);
    let gate = graph.sigmoid(scaled);
    graph.mul(x, gate)
}

fn swish<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let alpha = node.float_or("alpha", 1.0)?;
    composed(cx, node, |graph, x, constant| {
        if alpha == 1.0 {
            return graph.silu(x);
        }
        let alpha = constant(graph, alpha);
        gate(graph, x, alpha)
    })
}

fn swiglu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let alpha = node.float_or("alpha", 1.0)?;
    let b = node.value(cx, 1)?;
    composed(cx, node, |graph, x, constant| {
        let b = graph.accumulation_cast(b);
        let alpha = constant(graph, alpha);
        let gated = gate(graph, x, alpha);
        graph.mul(gated, b)
    })
}

/// Before version 7 a slope per channel is a vector.
fn prelu<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let mut slope = node.value(cx, 1)?;
    let (shape, over) = (node.shape(1)?.clone(), node.shape(0)?.clone());
    if node.version < 7 && shape.num_elements().is(1) {
        slope = cx.graph().reshape(slope, Shape::scalar());
    } else if node.version < 7 && shape.rank() == 1 && over.rank() > 2 {
        let mut dims = shape.into_dims();
        dims.extend(vec![Dim::from(1); over.rank() - 2]);
        slope = cx.graph().reshape(slope, Shape::from(dims));
    }
    let (x, dtype) = (node.value(cx, 0)?, node.dtype(0)?);
    if node.version < 6 {
        node.without_influence("consumed_inputs");
    }
    let graph = cx.graph();
    let zero = graph.scalar(dtype, 0.0);
    let (scaled, is_negative) = (graph.mul(slope, x), graph.compare_lt(x, zero));
    let y = graph.where_(is_negative, scaled, x);
    match cx.ty(y)?.shape == over {
        true => Ok(vec![cx.tensor(y)?]),
        false => Err(Stop::Invalid(format!("a slope does not broadcast to {over}"))),
    }
}
