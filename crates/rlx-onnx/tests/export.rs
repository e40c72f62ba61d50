//! The exporter: every sample of every op is exported, imported again, and gives what the graph gave.
//!
//! `export.txt` lists what is refused, a line per op and reason: it must be exactly that. `BLESS=1` rewrites it.

use rlx_ir::accuracy::compare;
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::ops::{BinaryKind, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Literal, Op, OpKind, TensorType};
use rlx_onnx::{
    ExportOptions, ExternalData, HostValue, ImportOptions, Model, OnnxError, OnnxProgram, export, import,
};
use rlx_runtime::{Device, Session};
use rlx_testkit::near::is_near;
use rlx_weights::{BytesWeightLoader, WeightLoader, WeightTensor};
use std::collections::BTreeSet;

/// The oldest opset that is written, and the newest.
const OPSETS: [i64; 2] = [21, 28];

fn options(opset: i64) -> ExportOptions {
    ExportOptions { opset, ..ExportOptions::default() }
}

/// What `graph` has as params, out of `feeds`.
fn weights(graph: &Graph, feeds: &Tensors) -> BytesWeightLoader {
    let names = graph.nodes_of(OpKind::Param).filter_map(|(_, node)| node.op.leaf_name());
    let tensors = names.map(|name| WeightTensor::from_literal(name, &feeds[name]).expect("whole blocks"));
    BytesWeightLoader::from_tensors(tensors.collect()).expect("names of params are unique")
}

/// The outputs of a model on `feeds`.
fn imported(model: &Model, feeds: &Tensors) -> Result<Vec<(String, Literal)>, OnnxError> {
    let imported = import(model, &ImportOptions::default())?;
    // Small params are constants of the imported graph.
    let inputs = imported.graph.nodes_of(OpKind::Input).filter_map(|(_, node)| node.op.leaf_name());
    let mut given: Tensors =
        inputs.filter_map(|name| Some((name.to_string(), feeds.get(name)?.clone()))).collect();
    for tensor in imported.weights.tensors() {
        let literal = tensor.view().to_literal().expect("checked when the model was read");
        given.insert(tensor.name().to_string(), literal);
    }
    Ok(evaluate(&imported.graph, &given)?.outputs)
}

fn narrowest(graph: &Graph) -> DType {
    let dtypes = graph.nodes().iter().flat_map(|node| &node.types).map(|ty| ty.dtype.real());
    dtypes.filter(|dtype| dtype.is_float()).min_by_key(|dtype| dtype.block_bits()).unwrap_or(DType::F64)
}

fn agree(
    graph: &Graph,
    op: &Op,
    actual: &[(String, Literal)],
    expected: &[(String, Literal)],
) -> Result<(), String> {
    let names =
        |outputs: &[(String, Literal)]| outputs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if names(actual) != names(expected) {
        return Err(format!("outputs {:?}, expected {:?}", names(actual), names(expected)));
    }
    for ((name, actual), (_, expected)) in actual.iter().zip(expected) {
        let is_float = expected.dtype().is_float();
        if let Err(error) = compare(actual, expected, op.accuracy(), None)
            && !(is_float && is_near(actual, expected, narrowest(graph), 16.0))
        {
            return Err(format!("output {name}: {error}"));
        }
    }
    Ok(())
}

/// What became of a sample.
enum Fate {
    Same { decomposed: bool },
    Refused(Vec<String>),
    Failed(String),
}

fn round_trip(graph: &Graph, op: &Op, feeds: &Tensors, opset: i64) -> Fate {
    let expected = match evaluate(graph, feeds) {
        Ok(expected) => expected.outputs,
        Err(error) => return Fate::Failed(error.to_string()),
    };
    let weights = weights(graph, feeds);
    let exported = match export(graph, &weights, &options(opset)) {
        Ok(exported) => exported,
        Err(OnnxError::Export(findings)) => {
            return Fate::Refused(findings.into_iter().map(|finding| finding.message).collect());
        }
        Err(OnnxError::Model { message, .. })
            if message.starts_with("ONNX has no element type") || message.starts_with("element type") =>
        {
            return Fate::Refused(vec![message]);
        }
        Err(error) => return Fate::Failed(error.to_string()),
    };
    if let Some(folder) = std::env::var_os("RLX_TEST_EXPORT_TO") {
        let name = format!("{}-{}-{opset}.onnx", graph.name, next_number());
        exported.save(std::path::Path::new(&folder).join(name)).expect("the folder is there");
    }
    let decomposed = !exported.model.is_empty() && !has_entry(graph, op, opset);
    let model = match Model::from_bytes(exported.model, &graph.name) {
        Ok(model) => model,
        Err(error) => return Fate::Failed(error.to_string()),
    };
    match imported(&model, feeds).map_err(|error| format!("import: {error}")) {
        Ok(actual) => match agree(graph, op, &actual, &expected) {
            Ok(()) => Fate::Same { decomposed },
            Err(error) => Fate::Failed(error),
        },
        Err(error) => Fate::Failed(error),
    }
}

fn next_number() -> usize {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Is the op written as it stands?
fn has_entry(graph: &Graph, op: &Op, opset: i64) -> bool {
    let types: Vec<&TensorType> = graph
        .nodes()
        .iter()
        .filter(|node| node.op.kind() == op.kind())
        .flat_map(|node| node.operands.iter().map(|&operand| graph.ty(operand)))
        .collect();
    rlx_onnx::exports_whole(op, &types, opset)
}

#[test]
fn every_sample_survives_the_round_trip() {
    let (mut written, mut decomposed, mut refused) = (0, 0, 0);
    let mut reasons: BTreeSet<String> = BTreeSet::new();
    let mut failed = vec![];
    for &kind in OpKind::ALL {
        for (index, sample) in kind.samples().iter().enumerate() {
            let (graph, feeds) = sample.graph_with(11, sample.operands.len().min(1));
            for opset in OPSETS {
                match round_trip(&graph, &sample.op, &feeds, opset) {
                    Fate::Same { decomposed: false } => written += 1,
                    Fate::Same { decomposed: true } => decomposed += 1,
                    Fate::Refused(messages) => {
                        refused += 1;
                        reasons.extend(messages.iter().map(|message| format!("{kind}: {message}")));
                    }
                    Fate::Failed(error) => {
                        failed.push(format!("{kind} sample {index} opset {opset} {:?}: {error}", sample.op));
                    }
                }
            }
        }
    }
    println!("{written} written whole, {decomposed} decomposed, {refused} refused, {} failed", failed.len());
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let found: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/export.txt");
    if rlx_testkit::is_blessing() {
        std::fs::write(path, &found).expect("the folder of the tests is there");
    }
    let listed = std::fs::read_to_string(path).expect("the list is part of the repository");
    assert_eq!(found, listed, "what is refused differs from the list; BLESS=1 rewrites it");
    assert!(written > 1000 && decomposed > 100, "only {written} and {decomposed} samples were exported");
}

fn floats(dims: &[usize], seed: f64) -> Literal {
    let count = dims.iter().product::<usize>();
    let values: Vec<f64> = (0..count).map(|at| (at as f64 * 0.37 + seed).sin()).collect();
    Literal::floats(DType::F32, dims, &values).expect("one number per element")
}

/// One model serves several extents.
fn check_symbols(graph: &Graph, feeds: impl Fn(usize) -> Tensors) {
    for opset in OPSETS {
        let weights = BytesWeightLoader::from_tensors(vec![]).expect("nothing is twice");
        let exported = export(graph, &weights, &options(opset)).expect("the graph is exported");
        let model = Model::from_bytes(exported.model, "symbols").expect("it is a model");
        let session = Session::new(Device::CPU).expect("the CPU is always there");
        let mut program = OnnxProgram::new(model, &session, ImportOptions::default());
        for extent in [3, 8] {
            let feeds = feeds(extent);
            let expected = evaluate(graph, &feeds).expect("the graph runs").outputs;
            let given: Vec<(&str, HostValue)> =
                feeds.iter().map(|(name, literal)| (name.as_str(), literal.clone().into())).collect();
            let actual = program.run(&given).expect("the model runs");
            for ((name, actual), (_, expected)) in actual.iter().zip(&expected) {
                let actual = match actual {
                    HostValue::Tensor(actual) => Some(actual),
                    _ => None,
                };
                let actual = actual.expect("the graph gives tensors of numbers");
                assert!(
                    is_near(actual, expected, DType::F32, 8.0),
                    "{name}: {actual:?}, expected {expected:?}"
                );
            }
            assert_eq!(actual.len(), expected.len());
        }
    }
}

#[test]
fn shapes_with_symbols_are_computed_from_inputs() {
    let (n, four) = (Dim::symbol("N"), Dim::from(4));
    let mut graph = Graph::new("symbols");
    let x = graph.input("x", TensorType::new(DType::F32, vec![n.clone(), four.clone()]));
    let flat = graph.reshape(x, vec![n.clone() * four.clone()]);
    let halves = graph.narrow(flat, 0usize, n.clone(), n.clone() * Dim::from(2));
    let pairs = graph.reshape(halves, vec![n.clone(), Dim::from(2)]);
    let one = graph.scalar(DType::F32, 1.5);
    let ones = graph.expand(one, vec![n.clone(), Dim::from(2)]);
    let sum = graph.binary(pairs, ones, BinaryKind::Add);
    let mean = graph.reduce(sum, ReduceKind::Mean, [0], true);
    graph.output("sum", sum);
    graph.output("mean", mean);
    check_symbols(&graph, |extent| [("x".to_string(), floats(&[extent, 4], 0.5))].into_iter().collect());
}

#[test]
fn extents_of_every_form_are_computed() {
    let (n, m) = (Dim::symbol("N"), Dim::symbol("M"));
    let mut graph = Graph::new("forms");
    let x = graph.input("x", TensorType::new(DType::F32, vec![n.clone() + Dim::from(1), m.clone()]));
    let two = Dim::from(2);
    let forms = [
        n.clone() * m.clone() + two.clone(),
        (n.clone() + Dim::from(3)).floor_div(&two),
        (n.clone() + m.clone()).modulo(&two),
        n.minimum(&m),
        n.maximum(&m) - n.clone(),
    ];
    for (index, form) in forms.iter().enumerate() {
        let one = graph.scalar(DType::F32, 1.0);
        let ones = graph.expand(one, vec![form.clone(), Dim::from(1)]);
        let sum = graph.reduce(ones, ReduceKind::Sum, [0, 1], false);
        let scaled = graph.binary(x, sum, BinaryKind::Mul);
        graph.output(format!("y{index}"), scaled);
    }
    check_symbols(&graph, |extent| [("x".to_string(), floats(&[extent, 5], 0.1))].into_iter().collect());
}

#[test]
fn params_lie_in_a_file_beside_the_model() {
    let mut graph = Graph::new("affine");
    let x = graph.input("x", TensorType::new(DType::F32, [2, 30]));
    let w = graph.param("w", TensorType::new(DType::F32, [30, 7]));
    let b = graph.param("b", TensorType::new(DType::F32, [7]));
    let product = graph.matmul(x, w, false, false);
    let sum = graph.binary(product, b, BinaryKind::Add);
    graph.output("y", sum);
    let feeds: Tensors =
        [("x", floats(&[2, 30], 0.0)), ("w", floats(&[30, 7], 1.0)), ("b", floats(&[7], 2.0))]
            .into_iter()
            .map(|(name, literal)| (name.to_string(), literal))
            .collect();
    let weights = weights(&graph, &feeds);
    let external = ExternalData { file: "affine.data".into(), threshold: 8 };
    let options = ExportOptions { external: Some(external), ..ExportOptions::default() };
    let exported = export(&graph, &weights, &options).expect("the graph is exported");
    let parts = &exported.external.as_ref().expect("both params are large").parts;
    assert_eq!(parts.iter().map(|(at, bytes)| (*at, bytes.len())).collect::<Vec<_>>(), [(0, 840), (896, 28)]);
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("affine.onnx");
    exported.save(&path).expect("there is room");
    let expected = evaluate(&graph, &feeds).expect("the graph runs").outputs;
    let model = Model::open(&path).expect("the model is there");
    let mut given = feeds.clone();
    given.retain(|name, _| name == "x");
    let actual = imported(&model, &given).expect("the model runs");
    assert_eq!(actual, expected);
}

#[test]
fn what_onnx_cannot_say_is_refused_by_name() {
    let mut graph = Graph::new("refused");
    let x = graph.input("x", TensorType::new(DType::C64, [4]));
    let y = graph.binary(x, x, BinaryKind::Mul);
    let z = graph.binary(y, x, BinaryKind::Add);
    graph.output("z", z);
    let weights = BytesWeightLoader::from_tensors(vec![]).expect("nothing is twice");
    let error = export(&graph, &weights, &ExportOptions::default()).expect_err("ONNX computes no c64");
    let words = error.to_string();
    assert!(words.contains("mul") && words.contains("add") && words.contains("c64"), "{words}");

    let mut graph = Graph::new("kept");
    let state = graph.state("count", TensorType::new(DType::F32, [1]));
    graph.update_state("count", state);
    graph.output("y", state);
    let error = export(&graph, &weights, &ExportOptions::default()).expect_err("ONNX keeps no states");
    assert!(
        error.to_string().contains("state \"count\": an ONNX model keeps nothing between runs"),
        "{error}"
    );

    let error = export(&graph, &weights, &options(20)).expect_err("this opset is not written");
    assert!(error.to_string().contains("21 to 28"), "{error}");
}
