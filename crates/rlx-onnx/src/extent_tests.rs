//! Models whose extents are symbols: one compilation serves every extent.

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use crate::{Extents, HostValue, ImportOptions, Model, OnnxError, OnnxProgram};
use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_ir::{DType, Literal};
use rlx_runtime::{Session, SessionOptions};
use std::sync::Arc;

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> NodeProto {
    let attribute = |&(name, value): &(&str, i64)| AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..AttributeProto::default()
    };
    NodeProto {
        input: inputs.iter().map(|name| name.to_string()).collect(),
        output: vec![output.into()],
        op_type: Some(op.into()),
        attribute: attributes.iter().map(attribute).collect(),
        ..NodeProto::default()
    }
}

/// An int64 initialiser: a vector, or a scalar where there is no extent.
fn ints(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(7),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn declared(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dim = |name: &&str| Dimension {
        value: Some(match name.parse() {
            Ok(extent) => dimension::Value::DimValue(extent),
            Err(_) => dimension::Value::DimParam(name.to_string()),
        }),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// A program of float inputs with the output `y`.
fn program(
    inputs: &[(&str, &[&str])],
    constants: &[TensorProto],
    nodes: &[NodeProto],
) -> Result<OnnxProgram, OnnxError> {
    let graph = GraphProto {
        node: nodes.to_vec(),
        initializer: constants.to_vec(),
        input: inputs.iter().map(|(name, dims)| declared(name, dims)).collect(),
        output: vec![ValueInfoProto { name: Some("y".into()), ..ValueInfoProto::default() }],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(18) };
    let proto = ModelProto { graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    let backend = CpuBackend::with(1, SimdLevel::detect()).expect("a thread");
    let session = Session::on(Arc::new(backend), SessionOptions::default())?;
    Ok(OnnxProgram::new(Model::from_proto(proto, "test")?, &session, ImportOptions::default()))
}

/// Numbers from 0 on.
fn counted(dims: &[usize]) -> HostValue {
    let values: Vec<f64> = (0..dims.iter().product()).map(|value| value as f64).collect();
    Literal::floats(DType::F32, dims, &values).expect("as many as there are").into()
}

fn output(program: &mut OnnxProgram, feeds: &[(&str, HostValue)]) -> Result<Literal, OnnxError> {
    let results = program.run_with(feeds, Extents::Declared)?;
    assert_eq!(program.stages(), 1);
    Ok(tensor(&results[0].1))
}

fn tensor(value: &HostValue) -> Literal {
    let literal = match value {
        HostValue::Tensor(literal) => Some(literal.clone()),
        _ => None,
    };
    literal.expect("its output is a tensor")
}

#[test]
fn heads_are_split_for_every_batch_and_length() -> Result<(), OnnxError> {
    // What exporters write for x.view(batch, -1, 2, width / 2).transpose(1, 2).
    let constants = [
        ints("zero", &[], &[0]),
        ints("two_axis", &[], &[2]),
        ints("two", &[1], &[2]),
        ints("open", &[1], &[-1]),
        ints("axes", &[1], &[0]),
    ];
    let nodes = [
        node("Shape", &["x"], "shape", &[]),
        node("Gather", &["shape", "zero"], "batch", &[("axis", 0)]),
        node("Unsqueeze", &["batch", "axes"], "batch1", &[]),
        node("Gather", &["shape", "two_axis"], "width", &[("axis", 0)]),
        node("Div", &["width", "two"], "half", &[]),
        node("Concat", &["batch1", "open", "two", "half"], "to", &[("axis", 0)]),
        node("Reshape", &["x", "to"], "y", &[]),
    ];
    let mut program = program(&[("x", &["B", "S", "6"])], &constants, &nodes)?;
    for (batch, length) in [(1, 4), (3, 1), (2, 5)] {
        let y = output(&mut program, &[("x", counted(&[batch, length, 6]))])?;
        assert_eq!(y.dims(), [batch, length, 2, 3]);
    }
    Ok(())
}

#[test]
fn extents_are_computed_behind_other_nodes() -> Result<(), OnnxError> {
    // The graph has symbols already where the shape is put together; a constant is folded there, too.
    let constants = [
        ints("one", &[1], &[1]),
        ints("two", &[1], &[2]),
        ints("axis", &[], &[0]),
        TensorProto { data_type: Some(1), float_data: vec![0.5], ..ints("half", &[], &[]) },
    ];
    let nodes = [
        node("Neg", &["x"], "negated", &[]),
        node("Shape", &["negated"], "batch", &[("end", 1)]),
        node("Add", &["one", "one"], "count", &[]),
        node("Concat", &["batch", "count", "two"], "to", &[("axis", 0)]),
        node("Expand", &["half", "to"], "halves", &[]),
        node("Reshape", &["negated", "to"], "y", &[]),
    ];
    let mut program = program(&[("x", &["B", "4"])], &constants, &nodes)?;
    for batch in [2, 1, 5] {
        let y = output(&mut program, &[("x", counted(&[batch, 4]))])?;
        assert_eq!((y.dims(), program.forms()), (&[batch, 2, 2][..], 1));
    }
    Ok(())
}

#[test]
fn places_are_cut_to_half_the_frames() -> Result<(), OnnxError> {
    // What a network of sound does: as many places of a table as a convolution with stride 2 leaves, (S - 1) / 2 + 1.
    let table: Vec<f32> = (0..8).map(|place| place as f32).collect();
    let constants = [
        ints("minus_one", &[], &[-1]),
        ints("two", &[], &[2]),
        ints("one", &[], &[1]),
        ints("flat", &[1], &[-1]),
        ints("zero", &[1], &[0]),
        TensorProto { data_type: Some(1), float_data: table, ..ints("table", &[8], &[]) },
        TensorProto { data_type: Some(1), float_data: vec![1.0], ..ints("kernel", &[1, 1, 1], &[]) },
    ];
    let strides = AttributeProto {
        name: Some("strides".into()),
        r#type: Some(AttributeType::Ints as i32),
        ints: vec![2],
        ..AttributeProto::default()
    };
    let convolution = NodeProto { attribute: vec![strides], ..node("Conv", &["x", "kernel"], "half", &[]) };
    let nodes = [
        node("Shape", &["x"], "frames", &[("start", 2)]),
        node("Add", &["minus_one", "frames"], "before", &[]),
        node("Div", &["before", "two"], "halved", &[]),
        node("Add", &["halved", "one"], "count", &[]),
        node("Reshape", &["count", "flat"], "end", &[]),
        convolution,
        node("Slice", &["table", "zero", "end"], "places", &[]),
        node("Add", &["places", "half"], "y", &[]),
    ];
    let mut program = program(&[("x", &["B", "1", "S"])], &constants, &nodes)?;
    for (frames, expected) in [(5, vec![0.0, 3.0, 6.0]), (1, vec![0.0]), (4, vec![0.0, 3.0])] {
        let y = output(&mut program, &[("x", counted(&[1, 1, frames]))])?;
        assert_eq!((y.to_f64s(), program.forms()), (expected, 1));
    }
    // The table has too few places.
    assert!(program.run(&[("x", counted(&[1, 1, 19]))]).is_err());
    Ok(())
}

#[test]
fn a_form_that_refuses_extents_stands_in_no_way() -> Result<(), OnnxError> {
    let nodes = [node("Add", &["x", "z"], "y", &[])];
    let mut program = program(&[("x", &["A"]), ("z", &["B"])], &[], &nodes)?;
    for round in 0..2 {
        for (form, (a, z, expected)) in
            [(3, 3, vec![0.0, 2.0, 4.0]), (1, 2, vec![0.0, 1.0]), (2, 1, vec![0.0, 1.0]), (0, 0, vec![])]
                .into_iter()
                .enumerate()
        {
            let results = program.run(&[("x", counted(&[a])), ("z", counted(&[z]))])?;
            assert_eq!(tensor(&results[0].1).to_f64s(), expected);
            assert_eq!(program.forms(), if round == 0 { form + 1 } else { 4 });
        }
        let refused = program.run(&[("x", counted(&[2])), ("z", counted(&[3]))]);
        assert!(refused.is_err());
    }
    Ok(())
}

#[test]
fn a_fault_of_the_values_is_the_answer_of_every_form() -> Result<(), OnnxError> {
    let mut program = program(
        &[("x", &["A"])],
        &[],
        &[node("Cast", &["x"], "at", &[("to", 7)]), node("Gather", &["x", "at"], "y", &[])],
    )?;
    program.run(&[("x", counted(&[3]))])?;
    let far = HostValue::from(Literal::floats(DType::F32, &[2], &[0.0, 7.0]).expect("two"));
    let error = program.run(&[("x", far)]).expect_err("an index is out of range").to_string();
    assert!(error.contains("is outside"), "{error}");
    assert_eq!(program.forms(), 1);
    Ok(())
}

#[test]
fn padding_is_computed_from_extents() -> Result<(), OnnxError> {
    // Padding of the last axis to an even extent, as PyTorch's exporter orders pads: pairs from the last axis on.
    let constants = [
        ints("one", &[], &[1]),
        ints("two", &[1], &[2]),
        ints("one_zero", &[1], &[0]),
        ints("two_zeros", &[2], &[0, 0]),
        ints("pairs", &[2], &[-1, 2]),
        ints("flat", &[1], &[-1]),
        ints("last", &[1], &[-1]),
        ints("before", &[1], &[i64::MIN + 1]),
        ints("axis", &[1], &[0]),
    ];
    let nodes = [
        node("Shape", &["x"], "shape", &[]),
        node("Gather", &["shape", "one"], "length", &[("axis", 0)]),
        node("Mod", &["length", "two"], "odd", &[]),
        node("Concat", &["one_zero", "odd", "two_zeros"], "pads", &[("axis", 0)]),
        node("Reshape", &["pads", "pairs"], "paired", &[]),
        node("Slice", &["paired", "last", "before", "axis", "last"], "reversed", &[]),
        node("Transpose", &["reversed"], "ends", &[]),
        node("Reshape", &["ends", "flat"], "ordered", &[]),
        node("Pad", &["x", "ordered"], "y", &[]),
    ];
    let mut program = program(&[("x", &["B", "S"])], &constants, &nodes)?;
    for (batch, length) in [(2, 3), (1, 4), (2, 1)] {
        let y = output(&mut program, &[("x", counted(&[batch, length]))])?;
        assert_eq!(y.dims(), [batch, length + length % 2]);
        assert_eq!(y.to_f64s().iter().sum::<f64>(), (0..batch * length).sum::<usize>() as f64);
    }
    Ok(())
}

#[test]
fn expansion_takes_extents_that_symbols_cannot_compare() -> Result<(), OnnxError> {
    let constants = [ints("open", &[2], &[-1, -1]), ints("ones", &[2], &[1, 1])];
    // Expansion to the shape of z, in which -1 would keep the extent of x.
    let nodes = [
        node("Shape", &["z"], "shape", &[]),
        node("Equal", &["shape", "open"], "keeps", &[]),
        node("Where", &["keeps", "ones", "shape"], "to", &[]),
        node("Expand", &["x", "to"], "y", &[]),
    ];
    let mut program = program(&[("x", &["A"]), ("z", &["B", "C"])], &constants, &nodes)?;
    let mut run = |a: usize, z: [usize; 2]| output(&mut program, &[("x", counted(&[a])), ("z", counted(&z))]);
    for (a, z, dims, values) in [
        (2, [2, 2], [2, 2], vec![0.0, 1.0, 0.0, 1.0]),
        (1, [1, 3], [1, 3], vec![0.0; 3]),
        (3, [2, 1], [2, 3], vec![0.0, 1.0, 2.0, 0.0, 1.0, 2.0]),
        (1, [2, 0], [2, 0], vec![]),
    ] {
        let y = run(a, z)?;
        assert_eq!((y.dims(), y.to_f64s()), (&dims[..], values));
    }
    for (a, z) in [(2, [1, 4]), (4, [1, 2]), (0, [1, 3]), (3, [1, 0])] {
        let error = run(a, z).expect_err("they do not broadcast").to_string();
        assert!(
            error.contains("narrow") || error.contains("negative") || error.contains("beyond"),
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn extents_that_must_be_equal_are_compared_when_they_are_bound() -> Result<(), OnnxError> {
    let nodes = [node("Concat", &["x", "z"], "y", &[("axis", 0)])];
    let mut program = program(&[("x", &["A", "B"]), ("z", &["C", "D"])], &[], &nodes)?;
    let y = output(&mut program, &[("x", counted(&[1, 2])), ("z", counted(&[2, 2]))])?;
    assert_eq!(y.to_f64s(), [0.0, 1.0, 0.0, 1.0, 2.0, 3.0]);
    for (b, d) in [(2, 3), (3, 2), (1, 0)] {
        let refused = output(&mut program, &[("x", counted(&[1, b])), ("z", counted(&[2, d]))]);
        assert!(refused.is_err(), "{b} and {d}");
    }
    Ok(())
}

#[test]
fn the_last_position_is_cut_out_by_its_number() -> Result<(), OnnxError> {
    // x[:, S - 1:], whose start is negative where S is 0.
    let constants = [ints("one", &[1], &[1]), ints("far", &[1], &[i64::MAX])];
    let nodes = [
        node("Shape", &["x"], "length", &[("start", 1), ("end", 2)]),
        node("Sub", &["length", "one"], "last", &[]),
        node("Slice", &["x", "last", "far", "one"], "y", &[]),
    ];
    let mut program = program(&[("x", &["2", "S"])], &constants, &nodes)?;
    for (length, expected) in [(3, vec![2.0, 5.0]), (1, vec![0.0, 1.0]), (0, vec![])] {
        let y = output(&mut program, &[("x", counted(&[2, length]))])?;
        assert_eq!(y.to_f64s(), expected);
    }
    Ok(())
}

#[test]
fn extents_pass_through_floats() -> Result<(), OnnxError> {
    // The first half of each row, as exporters write it that divide in floats.
    let half = TensorProto { data_type: Some(1), float_data: vec![0.5], ..ints("half", &[], &[]) };
    let constants = [ints("zero", &[1], &[0]), ints("one", &[1], &[1]), half];
    let cast = |from: &str, to: &str, code: i64| node("Cast", &[from], to, &[("to", code)]);
    let nodes = [
        node("Shape", &["x"], "length", &[("start", 1), ("end", 2)]),
        cast("length", "float", 1),
        node("Mul", &["float", "half"], "halved", &[]),
        node("Floor", &["halved"], "whole", &[]),
        cast("whole", "end", 7),
        node("Slice", &["x", "zero", "end", "one"], "y", &[]),
    ];
    let mut program = program(&[("x", &["1", "S"])], &constants, &nodes)?;
    for length in [0, 1, 4, 7] {
        let y = output(&mut program, &[("x", counted(&[1, length]))])?;
        assert_eq!(y.dims(), [1, length / 2]);
    }
    Ok(())
}

#[test]
fn stages_of_earlier_runs_are_found_again() -> Result<(), OnnxError> {
    // As many rows as there are numbers other than 0 decide the shape of what comes after.
    let constants = [ints("minus_one", &[1], &[-1])];
    let nodes = [
        node("NonZero", &["x"], "places", &[]),
        node("Shape", &["places"], "count", &[("start", 1)]),
        node("ReduceSum", &["places"], "sum", &[("keepdims", 0)]),
        node("Unsqueeze", &["sum", "zero"], "total", &[]),
        node("Concat", &["count", "total"], "to", &[("axis", 0)]),
        node("Expand", &["minus_one", "to"], "y", &[]),
    ];
    let constants = [&constants[..], &[ints("zero", &[1], &[0])]].concat();
    let mut program = program(&[("x", &["4"])], &constants, &nodes)?;
    let mut kept = vec![];
    for values in [[1.0, 0.0, 1.0, 0.0], [5.0, 0.0, 2.0, 0.0], [0.0, 1.0, 1.0, 1.0], [0.0, 3.0, 3.0, 3.0]] {
        let x = HostValue::from(Literal::floats(DType::F32, &[4], &values).expect("four"));
        let results = program.run(&[("x", x)])?;
        let places: Vec<usize> = (0..4).filter(|&place| values[place] != 0.0).collect();
        assert_eq!(tensor(&results[0].1).dims(), [places.len(), places.iter().sum()]);
        assert!(program.stages() > 1);
        kept.push(program.kept_stages());
    }
    assert!(kept[0] == kept[1] && kept[1] < kept[2] && kept[2] == kept[3], "{kept:?}");
    Ok(())
}
