//! Ops of ONNX Runtime (`com.microsoft`) on quantised tensors: ops of ONNX between two steps of quantisation, and
//! products with packed weights.

use super::activation::with_alpha;
use super::elementwise::{binary, unary};
use super::linear::{product, scaled};
use super::pool::{global, one_pool};
use super::quantise::{
    by_columns, by_rows, dequantize_linear, dynamic_quantize_linear, matmul_integer, quantize_linear,
};
use super::reduce::softmax;
use super::{Rule, contrib_rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::tensor::FileTensor;
use crate::value::{Content, Imported};
use rlx_ir::ops::{ActivationKind, BinaryKind, PoolKind};
use rlx_ir::{DType, Value};

pub(super) const RULES: &[Rule] = &[
    contrib_rule("QuantizeLinear", |cx, node| quantize_linear(cx, &node.as_version(13, node.inputs.clone()))),
    contrib_rule("DequantizeLinear", |cx, node| {
        dequantize_linear(cx, &node.as_version(13, node.inputs.clone()))
    }),
    contrib_rule("QLinearAdd", |cx, node| {
        between(cx, node, 2, 14, |cx, node| binary(cx, node, BinaryKind::Add))
    }),
    contrib_rule("QLinearMul", |cx, node| {
        between(cx, node, 2, 14, |cx, node| binary(cx, node, BinaryKind::Mul))
    }),
    contrib_rule("QLinearSigmoid", |cx, node| {
        between(cx, node, 1, 13, |cx, node| unary(cx, node, ActivationKind::Sigmoid))
    }),
    contrib_rule("QLinearLeakyRelu", |cx, node| {
        between(cx, node, 1, 16, |cx, node| with_alpha(cx, node, ActivationKind::LeakyRelu, 0.01))
    }),
    contrib_rule("QLinearGlobalAveragePool", |cx, node| {
        channels_first(node)?;
        between(cx, node, 1, 22, |cx, node| global(cx, node, PoolKind::Mean))
    }),
    contrib_rule("QLinearAveragePool", |cx, node| {
        channels_first(node)?;
        between(cx, node, 1, 11, |cx, node| one_pool(cx, node, PoolKind::Mean))
    }),
    contrib_rule("QLinearSoftmax", |cx, node| {
        let opset = node.int_or("opset", 13)?;
        between(cx, node, 1, if opset < 13 { 11 } else { 13 }, softmax)
    }),
    contrib_rule("QLinearConcat", concat),
    contrib_rule("QGemm", gemm),
    contrib_rule("MatMulIntegerToFloat", integer_to_float),
    contrib_rule("DynamicQuantizeMatMul", dynamic_matmul),
    contrib_rule("MatMulNBits", matmul_bits),
];

fn channels_first<'m>(node: &Node<'m>) -> Result<(), Stop<'m>> {
    match node.flag("channels_last", false)? {
        true => Err(Stop::Refused("its channels_last is set".into())),
        false => Ok(()),
    }
}

/// The one result of a rule.
fn only<'m>(results: Vec<Imported>) -> Result<Imported, Stop<'m>> {
    results.into_iter().next().ok_or_else(|| Stop::Invalid("it has no result".into()))
}

/// A tensor in the graph.
fn value<'m>(cx: &mut Context<'m>, imported: &Imported) -> Result<Value, Stop<'m>> {
    match imported {
        Imported::Tensor(tensor) => cx.value(tensor),
        other => Err(Stop::Invalid(format!("{} is no tensor", other.describe()))),
    }
}

/// Operands `first`, `first + 1` and `first + 2`, which are codes, a scale and a zero point, as floats.
fn floats<'m>(cx: &mut Context<'m>, node: &Node<'m>, first: usize) -> Result<Imported, Stop<'m>> {
    let parts = (first..first + 3).map(|index| node.input(index).cloned()).collect();
    only(dequantize_linear(cx, &node.with_inputs(parts))?)
}

/// `y` as codes, with the scale and zero point that are operands `first` and `first + 1`.
fn codes<'m>(cx: &mut Context<'m>, node: &Node<'m>, y: Imported, first: usize, to: DType) -> Outcome<'m> {
    let mut parts = vec![Some(y)];
    parts.extend((first..first + 2).map(|index| node.input(index).cloned()));
    if parts[2].is_none() {
        let zero = cx.graph().scalar(to, 0.0);
        parts[2] = Some(cx.tensor(zero)?);
    }
    quantize_linear(cx, &node.with_inputs(parts))
}

/// An op of `count` operands on floats, as it is in version `version` of ONNX, between codes.
fn between<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    count: usize,
    version: i64,
    rule: impl FnOnce(&mut Context<'m>, &Node<'m>) -> Outcome<'m>,
) -> Outcome<'m> {
    let operands = (0..count).map(|index| floats(cx, node, 3 * index).map(Some)).collect::<Result<_, _>>()?;
    let y = rule(cx, &node.as_version(version, operands))?;
    codes(cx, node, only(y)?, 3 * count, node.dtype(0)?)
}

/// The scale and zero point of the result come first.
fn concat<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let rank = node.rank(2)?;
    let axis = node.axis(node.int_or("axis", 0)?, rank)?;
    let mut parts = vec![];
    for first in (2..node.inputs.len()).step_by(3) {
        let part = floats(cx, node, first)?;
        parts.push(value(cx, &part)?);
    }
    let y = cx.graph().concat(&parts, axis);
    let y = cx.tensor(y)?;
    codes(cx, node, y, 0, node.dtype(2)?)
}

/// `alpha A B + C`, where `C` is in units of the product of both scales; floats where the result has no scale.
fn gemm<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let alpha = node.float_or("alpha", 1.0)?;
    let turns = [node.flag("transA", false)?, node.flag("transB", false)?];
    let a = floats(cx, node, 0)?;
    let (a, b) = (value(cx, &a)?, scaled_columns(cx, node, 3, turns[1])?);
    let y = cx.graph().matmul(a, b, turns[0], turns[1]);
    let mut y = scaled(cx, y, alpha)?;
    if let Some(c) = node.optional(cx, 6)? {
        let (a, b) = (node.value(cx, 1)?, node.value(cx, 4)?);
        let graph = cx.graph();
        let unit = graph.mul(a, b);
        let c = graph.cast_to(c, DType::F32);
        let c = graph.mul(c, unit);
        let alpha = graph.scalar(DType::F32, alpha.into());
        let c = graph.mul(c, alpha);
        y = graph.add(y, c);
    }
    let y = cx.tensor(y)?;
    if node.input(7).is_none() {
        return Ok(vec![y]);
    }
    codes(cx, node, y, 7, node.dtype(0)?)
}

/// As [`floats`], for a matrix that may have a scale for each of its columns; for each of its rows where it `turns`.
fn scaled_columns<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    first: usize,
    turns: bool,
) -> Result<Value, Stop<'m>> {
    let (x, scale) = (node.value(cx, first)?, node.value(cx, first + 1)?);
    let zero = node.optional(cx, first + 2)?;
    let column = |cx: &mut Context<'m>, value: Value| -> Result<Value, Stop<'m>> {
        let value = by_columns(cx, value)?;
        let is_vector = cx.ty(value)?.rank() == 1;
        Ok(if is_vector && turns { cx.graph().unsqueeze(value, 1) } else { value })
    };
    let scale = column(cx, scale)?;
    let zero = zero.map(|zero| column(cx, zero)).transpose()?;
    Ok(cx.graph().dequantize(x, Some(scale), zero, vec![], DType::F32))
}

/// `A B` of codes, scaled, with a bias: the operands are two matrices, their scales, their zero points and the bias.
fn integer_to_float<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let operands = [0, 1, 4, 5].map(|index| node.input(index).cloned()).to_vec();
    let codes = matmul_integer(cx, &node.with_inputs(operands))?;
    let (a, b) = (node.value(cx, 2)?, node.value(cx, 3)?);
    let (a, b) = (by_rows(cx, a)?, by_columns(cx, b)?);
    let bias = node.optional(cx, 6)?;
    in_floats(cx, only(codes)?, [a, b], bias)
}

fn in_floats<'m>(
    cx: &mut Context<'m>,
    codes: Imported,
    [a, b]: [Value; 2],
    bias: Option<Value>,
) -> Outcome<'m> {
    let codes = value(cx, &codes)?;
    let graph = cx.graph();
    let y = graph.cast_to(codes, DType::F32);
    let unit = graph.mul(a, b);
    let mut y = graph.mul(y, unit);
    if let Some(bias) = bias {
        y = graph.add(y, bias);
    }
    Ok(vec![cx.tensor(y)?])
}

/// As [`integer_to_float`], of floats that are quantised first.
fn dynamic_matmul<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let operand = vec![node.input(0).cloned()];
    let results = dynamic_quantize_linear(cx, &node.with_inputs(operand))?;
    let [codes, scale, zero] = &results[..] else {
        return Err(Stop::Invalid("its operand is no tensor".into()));
    };
    let operands =
        vec![Some(codes.clone()), node.input(1).cloned(), Some(zero.clone()), node.input(3).cloned()];
    let codes = matmul_integer(cx, &node.with_inputs(operands))?;
    let (a, b) = (value(cx, scale)?, node.value(cx, 2)?);
    let b = by_columns(cx, b)?;
    let bias = node.optional(cx, 4)?;
    in_floats(cx, only(codes)?, [a, b], bias)
}

/// The bytes of operand `index` as numbers of `dtype`, of which a byte holds several: those of rows of `width`.
fn unpacked<'m>(
    cx: &mut Context<'m>,
    node: &Node<'m>,
    index: usize,
    dtype: DType,
    [rows, width]: [usize; 2],
) -> Result<Value, Stop<'m>> {
    let bytes = match &node.tensor(index)?.content {
        Content::Weight(weight) => weight.tensor.bytes.clone(),
        Content::Literal(literal) => literal.bytes().to_vec().into(),
        _ => return Err(Stop::Refused(format!("operand {index} is no initialiser"))),
    };
    let dims = vec![rows, width];
    let expected = rows.checked_mul(width).and_then(|count| dtype.byte_size(count));
    if node.dtype(index)? != DType::U8 || expected != Some(bytes.len()) {
        let found = node.tensor(index)?.ty();
        return Err(Stop::Invalid(format!(
            "operand {index} is {found}, expected {rows} rows of {width} {dtype}"
        )));
    }
    let name = node.proto.input.get(index).map_or("", String::as_str);
    let tensor = cx.initialiser(name, FileTensor { dtype, dims, bytes }).map_err(Stop::Invalid)?;
    value(cx, &tensor)
}

/// A product with weights of a few bits, in blocks along the features that have a scale each.
fn matmul_bits<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    node.without_influence("accuracy_level");
    if node.flag("weight_prepacked", false)? || node.input(4).is_some() {
        return Err(Stop::Refused("its weights are packed for one device, or indexed by groups".into()));
    }
    let size = |name: &str| {
        let size = node.int(name)?.and_then(|size| usize::try_from(size).ok()).filter(|&size| size > 0);
        size.ok_or_else(|| Stop::Invalid(format!("it has no {name}")))
    };
    let (features, rows, block) = (size("K")?, size("N")?, size("block_size")?);
    let (bits, blocks) = (node.int_or("bits", 4)?, features.div_ceil(block));
    let codes = match bits {
        2 => DType::U2,
        4 => DType::U4,
        8 => DType::U8,
        bits => return Err(Stop::Refused(format!("its weights have {bits} bits"))),
    };
    let wide = |count: usize| Stop::Invalid(format!("its weights have {count} blocks of {block}"));
    let width = blocks.checked_mul(block).ok_or_else(|| wide(blocks))?;
    let weights = unpacked(cx, node, 1, codes, [rows, width])?;
    let (x, dtype) = (node.value(cx, 0)?, node.dtype(0)?);
    let scales = node.value(cx, 2)?;
    let scales = cx.graph().reshape(scales, [rows, blocks]);
    let zero = match node.optional_tensor(3)? {
        None => {
            let middle = cx.graph().scalar(DType::U8, f64::from(1u32 << (bits - 1)));
            cx.graph().expand(middle, [rows, blocks])
        }
        Some(tensor) if tensor.dtype == DType::U8 => {
            // Rows begin at bytes.
            let each = 8 / bits as usize;
            let zero = unpacked(cx, node, 3, codes, [rows, blocks.next_multiple_of(each)])?;
            cx.graph().narrow(zero, 1usize, 0, blocks)
        }
        Some(_) => return Err(Stop::Refused("its zero points are floats".into())),
    };
    let graph = cx.graph();
    let weights = graph.dequantize(weights, Some(scales), Some(zero), vec![1, block], dtype);
    let weights = if width == features { weights } else { graph.narrow(weights, 1usize, 0, features) };
    let weights = graph.transpose(weights, vec![1, 0]);
    let mut y = product(cx, x, weights)?;
    if let Some(bias) = node.optional(cx, 5)? {
        y = cx.graph().add(y, bias);
    }
    Ok(vec![cx.tensor(y)?])
}

#[cfg(test)]
mod tests {
    use crate::single::{int, run, tensor};
    use rlx_ir::DType::{F32, U8};

    #[test]
    fn packed_weights_that_are_no_initialisers_or_do_not_fit_are_refused() {
        let inputs = [
            tensor(F32, &[1, 16], &[1.0; 16]),
            tensor(U8, &[1, 1, 8], &[0.0; 8]),
            tensor(F32, &[1, 1], &[1.0]),
        ];
        let sizes = |bits| [int("K", 16), int("N", 1), int("block_size", 16), int("bits", bits)];
        let fed = run("com.microsoft::MatMulNBits", 1, &sizes(4), &inputs).expect_err("weights are fed");
        assert!(fed.contains("operand 1 is no initialiser"), "{fed}");
        let odd = run("com.microsoft::MatMulNBits", 1, &sizes(3), &inputs).expect_err("3 bits");
        assert!(odd.contains("its weights have 3 bits"), "{odd}");
        let none = run("com.microsoft::MatMulNBits", 1, &[], &inputs).expect_err("no sizes");
        assert!(none.contains("it has no K"), "{none}");
    }
}
