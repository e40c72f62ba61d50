//! Test support: programs of nodes of one op.

use crate::host::{HostValue, Strings};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use crate::{ImportOptions, Model, OnnxProgram, tensor};
use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_ir::{DType, Literal};
use rlx_runtime::{Session, SessionOptions};
use std::sync::Arc;

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_string()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub(crate) fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

pub(crate) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec().into()), ..attribute(name, AttributeType::String) }
}

/// The attribute that names a dtype.
pub(crate) fn dtype(name: &str, dtype: DType) -> AttributeProto {
    int(name, tensor::code(dtype).expect("ONNX has it").into())
}

pub(crate) fn tensor(dtype: DType, dims: &[usize], values: &[f64]) -> HostValue {
    Literal::floats(dtype, dims, values).expect("as many values as the dims say").into()
}

pub(crate) fn strings(values: &[&str]) -> HostValue {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    HostValue::Strings(Strings::new(&[values.len()], values).expect("it is a vector"))
}

fn declared(name: &str, value: Option<&HostValue>) -> ValueInfoProto {
    let (code, dims) = match value {
        Some(HostValue::Tensor(literal)) => (tensor::code(literal.dtype()), literal.dims()),
        Some(HostValue::Strings(strings)) => (Some(DataType::String as i32), strings.dims()),
        _ => return ValueInfoProto { name: Some(name.to_string()), ..ValueInfoProto::default() },
    };
    let dim = |&dim: &usize| Dimension {
        value: Some(dimension::Value::DimValue(dim as i64)),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let value = type_proto::Value::TensorType(type_proto::Tensor { elem_type: code, shape: Some(shape) });
    let ty = TypeProto { value: Some(value), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_string()), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// `count` nodes of op `op` of version `version`, all on inputs `x0`, `x1`, ..; each has one result. An op of another
/// domain than ONNX's is called `domain::op`.
pub(crate) fn program(
    (op, version, count): (&str, i64, usize),
    attributes: &[AttributeProto],
    inputs: &[HostValue],
) -> OnnxProgram {
    let names: Vec<String> = (0..inputs.len()).map(|index| format!("x{index}")).collect();
    let (domain, op) = op.split_once("::").unwrap_or(("", op));
    let node = |index: usize| NodeProto {
        domain: Some(domain.to_string()),
        op_type: Some(op.to_string()),
        input: names.clone(),
        output: vec![format!("y{index}")],
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: Some("single".to_string()),
        node: (0..count).map(node).collect(),
        input: names.iter().zip(inputs).map(|(name, value)| declared(name, Some(value))).collect(),
        output: (0..count).map(|index| declared(&format!("y{index}"), None)).collect(),
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto { domain: Some(domain.to_string()), version: Some(version) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let backend = CpuBackend::with(1, SimdLevel::detect()).expect("the processor is known");
    let session = Session::on(Arc::new(backend), SessionOptions::default()).expect("it has a device");
    let model = Model::from_proto(model, "single").expect("the model is well formed");
    OnnxProgram::new(model, &session, ImportOptions::default())
}

/// The result of one node; what went wrong as text.
pub(crate) fn run(
    op: &str,
    version: i64,
    attributes: &[AttributeProto],
    inputs: &[HostValue],
) -> Result<HostValue, String> {
    let mut program = program((op, version, 1), attributes, inputs);
    let names: Vec<String> = (0..inputs.len()).map(|index| format!("x{index}")).collect();
    let feeds: Vec<_> = names.iter().map(String::as_str).zip(inputs.iter().cloned()).collect();
    let mut results = program.run(&feeds).map_err(|error| error.to_string())?;
    results.pop().map(|(_, value)| value).ok_or_else(|| "it has no result".to_string())
}
