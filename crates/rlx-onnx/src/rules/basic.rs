//! Constants and identities.

use super::{Rule, rule};
use crate::context::Context;
use crate::host::Strings;
use crate::node::{Node, Outcome, Stop};
use crate::proto::attribute_proto::AttributeType;
use crate::tensor::{Read, read_sparse};
use crate::value::Tensor;
use rlx_ir::{DType, Literal};

pub(super) const RULES: &[Rule] = &[
    rule("Constant", &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], constant),
    rule("Identity", &[1, 13, 14, 16, 19, 21, 23, 24, 25], identity),
];

fn identity<'m>(_: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    match node.input(0) {
        Some(value) => Ok(vec![value.clone()]),
        None => Err(Stop::Invalid("operand 0 is missing".into())),
    }
}

fn constant<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    let literal = |result: Result<Literal, rlx_ir::LiteralError>| {
        result
            .map(|literal| vec![Tensor::literal(literal).into()])
            .map_err(|error| Stop::Invalid(error.to_string()))
    };
    let strings = |dims: &[usize], values: Vec<String>| {
        Strings::new(dims, values).into_iter().map(Into::into).collect()
    };
    if let Some(value) = node.constant(cx, "value")? {
        return Ok(vec![match value {
            Read::Numbers(tensor) => Tensor::literal(tensor.literal().map_err(Stop::Invalid)?).into(),
            Read::Strings(strings) => strings.into(),
        }]);
    }
    if let Some(value) = node.int("value_int")? {
        return literal(Literal::ints(DType::I64, &[], &[value.into()]));
    }
    if let Some(values) = node.ints("value_ints")? {
        let values: Vec<i128> = values.into_iter().map(i128::from).collect();
        return literal(Literal::ints(DType::I64, &[values.len()], &values));
    }
    if let Some(value) = node.float("value_float")? {
        return literal(Literal::floats(DType::F32, &[], &[value.into()]));
    }
    if let Some(values) = node.floats("value_floats")? {
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        return literal(Literal::floats(DType::F32, &[values.len()], &values));
    }
    if let Some(value) = node.string("value_string")? {
        return Ok(strings(&[], vec![value]));
    }
    if let Some(values) = node.strings("value_strings")? {
        return Ok(strings(&[values.len()], values));
    }
    let sparse = node
        .raw("sparse_value", AttributeType::SparseTensor)?
        .and_then(|attribute| attribute.sparse_tensor.as_ref());
    match sparse {
        Some(sparse) => Ok(vec![Tensor::literal(read_sparse(sparse).map_err(Stop::Invalid)?).into()]),
        None => Err(Stop::Invalid("it has no value".into())),
    }
}
