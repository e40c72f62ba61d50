//! Malformed models: made by hand, one fault each, and made from conformance models by seeded mutations.
//!
//! None may panic, hang, ask for memory that it does not deserve, or be taken for something else. What is wrong by
//! hand must be told by an error that names the thing.
//!
//! One test only: what another one allocated meanwhile would be counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use prost::Message;
use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{Literal, TensorType, op::Fill};
use rlx_onnx::proto::tensor_proto::{DataLocation, DataType};
use rlx_onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_shape_proto, type_proto,
};
use rlx_onnx::{HostValue, ImportOptions, Model, OnnxProgram};
use rlx_runtime::{Session, SessionOptions};
use rlx_testkit::{Fuzz, Limited, onnx_conformance};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most bytes of one allocation: the largest model of the corpus has 2 MiB.
const MOST_BYTES: usize = 512 << 20;
/// Most bytes that an executable may take.
const BUDGET: u64 = 256 << 20;
/// Longest time of one model.
const LONGEST: Duration = Duration::from_secs(5);

#[global_allocator]
static ALLOCATOR: Limited = Limited::new(MOST_BYTES);

fn session() -> Session {
    let backend = CpuBackend::with(1, SimdLevel::detect()).expect("one thread can be started");
    let options = SessionOptions { memory_budget: Some(BUDGET), ..SessionOptions::default() };
    Session::on(Arc::new(backend), options).expect("the options fit")
}

// Models by hand.

fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    NodeProto {
        name: Some(format!("the {op}")),
        op_type: Some(op.into()),
        input: strings(inputs),
        output: strings(outputs),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn value(name: &str, code: DataType, dims: &[i64]) -> ValueInfoProto {
    let dim = |&dim: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(dim)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(code as i32),
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..ValueInfoProto::default() }
}

fn floats(name: &str, dims: &[i64], bytes: usize) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(DataType::Float as i32),
        dims: dims.to_vec(),
        raw_data: Some(vec![0; bytes].into()),
        ..TensorProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(DataType::Int64 as i32),
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

/// `y = op(x, ..)` of `x` f32[2, 3], with initialisers.
fn model(nodes: Vec<NodeProto>, initialisers: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        name: Some("malformed".into()),
        node: nodes,
        initializer: initialisers,
        input: vec![value("x", DataType::Float, &[2, 3])],
        output: vec![value("y", DataType::Float, &[2, 3])],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset("", 21)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

fn with(mut model: ModelProto, change: impl FnOnce(&mut ModelProto)) -> ModelProto {
    change(&mut model);
    model
}

fn relu() -> ModelProto {
    model(vec![node("Relu", &["x"], &["y"], vec![])], vec![])
}

fn add(initialiser: TensorProto) -> ModelProto {
    model(vec![node("Add", &["x", "w"], &["y"], vec![])], vec![initialiser])
}

fn external(location: &str, entries: &[(&str, &str)]) -> TensorProto {
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
    let mut all = vec![entry("location", location)];
    all.extend(entries.iter().map(|(key, value)| entry(key, value)));
    TensorProto {
        raw_data: None,
        external_data: all,
        data_location: Some(DataLocation::External as i32),
        ..floats("w", &[3], 0)
    }
}

fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: Some(name.into()),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: nodes,
        opset_import: vec![opset("", 21), opset("own", 1)],
        ..FunctionProto::default()
    }
}

fn call(name: &str, input: &str, output: &str) -> NodeProto {
    NodeProto { domain: Some("own".into()), ..node(name, &[input], &[output], vec![]) }
}

fn functions(functions: Vec<FunctionProto>) -> ModelProto {
    with(model(vec![call("f", "x", "y")], vec![]), |model| {
        model.functions = functions;
        model.opset_import.push(opset("own", 1));
    })
}

/// A graph with one relu, nested in branches `depth` deep.
fn nested(depth: usize) -> GraphProto {
    let inner = match depth {
        0 => node("Relu", &["x"], &["r"], vec![]),
        _ => node(
            "If",
            &["c"],
            &["r"],
            vec![body("then_branch", nested(depth - 1)), body("else_branch", nested(0))],
        ),
    };
    GraphProto {
        node: vec![inner],
        output: vec![value("r", DataType::Float, &[2, 3])],
        ..GraphProto::default()
    }
}

fn graph_of(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

/// Every model with what its error must say.
fn by_hand() -> Vec<(&'static str, ModelProto, &'static str)> {
    let huge = i64::MAX;
    let flag = TensorProto {
        name: Some("c".into()),
        data_type: Some(DataType::Bool as i32),
        raw_data: Some(vec![1].into()),
        ..TensorProto::default()
    };
    let reshape =
        |shape: &[i64]| model(vec![node("Reshape", &["x", "s"], &["y"], vec![])], vec![ints("s", shape)]);
    let looping = |condition: &[&str]| {
        let graph = GraphProto {
            node: vec![node("Identity", &["go"], &["again"], vec![]), node("Relu", &["v"], &["w"], vec![])],
            input: vec![
                value("i", DataType::Int64, &[]),
                value("go", DataType::Bool, &[]),
                value("v", DataType::Float, &[2, 3]),
            ],
            output: vec![value("again", DataType::Bool, &[]), value("w", DataType::Float, &[2, 3])],
            ..GraphProto::default()
        };
        let mut inputs = condition.to_vec();
        inputs.push("x");
        model(
            vec![node("Loop", &inputs, &["y"], vec![body("body", graph)])],
            vec![flag.clone(), ints("n", &[huge])],
        )
    };
    vec![
        ("no graph", with(relu(), |m| m.graph = None), "it has no graph"),
        ("no opset", with(relu(), |m| m.opset_import.clear()), "imports no opset"),
        ("opset of the future", with(relu(), |m| m.opset_import[0].version = Some(10_000)), "opset 10000"),
        ("opset below all", with(relu(), |m| m.opset_import[0].version = Some(-3)), "opset -3"),
        ("unknown op", model(vec![node("Frobnicate", &["x"], &["y"], vec![])], vec![]), "Frobnicate"),
        ("unknown domain", model(vec![call("f", "x", "y")], vec![]), "own"),
        ("missing producer", model(vec![node("Relu", &["nowhere"], &["y"], vec![])], vec![]), "\"nowhere\""),
        (
            "nodes that read each other",
            model(vec![node("Relu", &["z"], &["y"], vec![]), node("Relu", &["y"], &["z"], vec![])], vec![]),
            "\"z\"",
        ),
        ("node that reads itself", model(vec![node("Relu", &["y"], &["y"], vec![])], vec![]), "\"y\""),
        ("output that nothing makes", model(vec![node("Relu", &["x"], &["z"], vec![])], vec![]), "\"y\""),
        (
            "made twice",
            model(vec![node("Relu", &["x"], &["y"], vec![]), node("Abs", &["x"], &["y"], vec![])], vec![]),
            "\"y\"",
        ),
        ("no operands", model(vec![node("Relu", &[], &["y"], vec![])], vec![]), "the Relu"),
        ("operand left out", model(vec![node("Add", &["x", ""], &["y"], vec![])], vec![]), "the Add"),
        ("too many results", model(vec![node("Relu", &["x"], &["z", "y"], vec![])], vec![]), "the Relu"),
        (
            "unknown attribute",
            model(vec![node("Relu", &["x"], &["y"], vec![int("speed", 3)])], vec![]),
            "speed",
        ),
        (
            "attribute twice",
            model(vec![node("Softmax", &["x"], &["y"], vec![int("axis", 0), int("axis", 1)])], vec![]),
            "\"axis\"",
        ),
        (
            "attribute of another type",
            model(
                vec![node("Softmax", &["x"], &["y"], vec![attribute("axis", AttributeType::Floats)])],
                vec![],
            ),
            "\"axis\"",
        ),
        (
            "axis out of range",
            model(vec![node("Softmax", &["x"], &["y"], vec![int("axis", 7)])], vec![]),
            "the Softmax",
        ),
        (
            "axis beyond all",
            model(vec![node("Softmax", &["x"], &["y"], vec![int("axis", i64::MIN)])], vec![]),
            "the Softmax",
        ),
        (
            "two initialisers",
            with(add(floats("w", &[3], 12)), |m| graph_of(m).initializer.push(floats("w", &[3], 12))),
            "\"w\"",
        ),
        ("data too short", add(floats("w", &[3], 11)), "\"w\""),
        ("data too long", add(floats("w", &[3], 16)), "\"w\""),
        ("no data", add(TensorProto { raw_data: None, ..floats("w", &[3], 0) }), "\"w\""),
        ("negative extent", add(floats("w", &[-3], 12)), "\"w\""),
        ("huge extents", add(floats("w", &[huge, huge], 12)), "\"w\""),
        ("extents that overflow", add(floats("w", &[1 << 33, 1 << 31], 12)), "\"w\""),
        ("unknown element type", add(TensorProto { data_type: Some(99), ..floats("w", &[3], 12) }), "\"w\""),
        ("no element type", add(TensorProto { data_type: None, ..floats("w", &[3], 12) }), "\"w\""),
        (
            "bool that is no bool",
            add(TensorProto { data_type: Some(DataType::Bool as i32), ..floats("w", &[4], 4) }),
            "the Add",
        ),
        (
            "operands of two types",
            add(TensorProto { data_type: Some(DataType::Int32 as i32), ..floats("w", &[3], 12) }),
            "the Add",
        ),
        ("shapes that do not fit", add(floats("w", &[5], 20)), "the Add"),
        (
            "string that is no UTF-8",
            add(TensorProto {
                data_type: Some(DataType::String as i32),
                raw_data: None,
                string_data: vec![vec![0xff, 0xfe].into()],
                ..floats("w", &[1], 0)
            }),
            "\"w\"",
        ),
        ("reshape to more elements", reshape(&[7, 9]), "the Reshape"),
        ("reshape to huge extents", reshape(&[huge, huge]), "the Reshape"),
        ("reshape to negative extents", reshape(&[-2, 3]), "the Reshape"),
        ("reshape with two open extents", reshape(&[-1, -1]), "the Reshape"),
        ("external data without a file", add(external("weights.bin", &[])), "weights.bin"),
        ("external data above", add(external("../weights.bin", &[])), "../weights.bin"),
        ("external data elsewhere", add(external("/etc/hostname", &[])), "/etc/hostname"),
        ("external data nowhere", add(external("", &[])), "external data"),
        ("external data that is a folder", add(external(".", &[])), "external data"),
        ("external data through a link", add(external("link.bin", &[])), "link"),
        ("external data with two names", add(external("hard.bin", &[])), "hard"),
        (
            "external data behind the end",
            add(external("good.bin", &[("offset", "4"), ("length", "4096")])),
            "good.bin",
        ),
        ("external data at no number", add(external("good.bin", &[("offset", "-4")])), "offset"),
        (
            "external data that overflows",
            add(external("good.bin", &[("offset", "8"), ("length", "18446744073709551615")])),
            "good.bin",
        ),
        (
            "function that calls itself",
            functions(vec![function("f", vec![call("f", "a", "b")])]),
            "nest deeper",
        ),
        (
            "functions that call each other",
            functions(vec![
                function("f", vec![call("g", "a", "b")]),
                function("g", vec![call("f", "a", "b")]),
            ]),
            "nest deeper",
        ),
        ("function twice", functions(vec![function("f", vec![]), function("f", vec![])]), "\"f\""),
        ("function without its result", functions(vec![function("f", vec![])]), "\"b\""),
        (
            "branches too deep",
            with(model(vec![], vec![flag.clone()]), |m| {
                graph_of(m).node = nested(80).node;
                graph_of(m).node.push(node("Identity", &["r"], &["y"], vec![]));
            }),
            "recursion limit",
        ),
        ("loop that does not end", looping(&["", "c"]), "the Loop"),
        ("loop of 2^63 iterations", looping(&["n", ""]), "the Loop"),
        (
            "body without its input",
            model(
                vec![node("Loop", &["n", "", "x"], &["y"], vec![body("body", GraphProto::default())])],
                vec![ints("n", &[3])],
            ),
            "the Loop",
        ),
        ("no body", model(vec![node("If", &["c"], &["y"], vec![])], vec![flag.clone()]), "the If"),
        (
            "constant of huge extents",
            model(
                vec![node("ConstantOfShape", &["s"], &["y"], vec![])],
                vec![ints("s", &[1 << 40, 1 << 20])],
            ),
            "the ConstantOfShape",
        ),
        (
            "expansion to huge extents",
            model(vec![node("Expand", &["x", "s"], &["y"], vec![])], vec![ints("s", &[1 << 44, 2, 3])]),
            "more than the budget",
        ),
        (
            "tiles without end",
            model(vec![node("Tile", &["x", "s"], &["y"], vec![])], vec![ints("s", &[huge, huge])]),
            "the Tile",
        ),
    ]
}

/// Runs a model on `feeds` or random ones; what it says.
fn run(model: Result<Model, rlx_onnx::OnnxError>, seed: u64) -> Result<(), String> {
    let model = model.map_err(|error| error.to_string())?;
    let inputs = model.inputs().map_err(|error| error.to_string())?;
    let mut generator = Generator::new(seed);
    let mut feeds = vec![];
    for input in &inputs {
        let Some(ty) = model.input_type(input) else { continue };
        let dims: Vec<usize> =
            ty.shape.dims().iter().map(|dim| dim.as_static().unwrap_or(2).clamp(0, 64) as usize).collect();
        if dims.iter().product::<usize>() > 1 << 16 || ty.dtype.is_storage_only() {
            return Err("its inputs are large".into());
        }
        let literal: Literal =
            fill_literal(&TensorType::new(ty.dtype, dims.as_slice()), Fill::Any, &mut generator);
        feeds.push((input.name.as_str(), HostValue::Tensor(literal)));
    }
    let session = session();
    let mut program = OnnxProgram::new(model, &session, ImportOptions::default());
    program.run(&feeds).map(drop).map_err(|error| error.to_string())
}

fn check_by_hand() -> Result<usize, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let outside = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("good.bin"), [0; 12]).unwrap();
    std::fs::write(outside.path().join("secret.bin"), [0; 12]).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outside.path().join("secret.bin"), path("link.bin")).unwrap();
        std::fs::hard_link(outside.path().join("secret.bin"), path("hard.bin")).unwrap();
    }
    let file = path("model.onnx");
    let mut findings = vec![];
    let all = by_hand();
    for (index, (what, model, expected)) in all.iter().enumerate() {
        ALLOCATOR.begin(1 << 40 | index as u64);
        std::fs::write(&file, model.encode_to_vec()).unwrap();
        let begin = Instant::now();
        let said = run(Model::open(&file), 7);
        match said {
            Ok(()) => findings.push(format!("{what}: ran")),
            Err(text) if !text.contains(expected) => {
                findings.push(format!("{what}: {text:?} names no {expected:?}"))
            }
            Err(_) => {}
        }
        if begin.elapsed() > LONGEST || ALLOCATOR.refused() > 0 {
            findings.push(format!("{what}: took {:?}, asked for {}", begin.elapsed(), ALLOCATOR.refused()));
        }
    }
    // The same file is legal when its data is where it says.
    std::fs::write(&file, add(external("good.bin", &[])).encode_to_vec()).unwrap();
    run(Model::open(&file), 7)?;
    if findings.is_empty() { Ok(all.len()) } else { Err(findings.join("\n")) }
}

// Mutations.

fn corpus(root: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for suite in ["node", "simple", "pytorch-operator"] {
        for entry in std::fs::read_dir(root.join(suite)).unwrap() {
            files.push(entry.unwrap().path().join("model.onnx"));
        }
    }
    files.sort();
    files
}

const EXTREMES: [i64; 12] = [0, 1, -1, 2, -2, 7, 255, 1 << 31, 1 << 40, i64::MAX, i64::MIN, -(1 << 33)];

fn pick<'a, T>(list: &'a mut [T], generator: &mut Generator) -> Option<&'a mut T> {
    if list.is_empty() { None } else { Some(&mut list[generator.below(list.len())]) }
}

/// One change of the parts of a model.
fn change(model: &mut ModelProto, generator: &mut Generator) {
    let extreme = EXTREMES[generator.below(EXTREMES.len())];
    let kind = generator.below(14);
    if kind == 0 {
        if let Some(import) = pick(&mut model.opset_import, generator) {
            import.version = Some(1 + generator.below(29) as i64);
        }
        return;
    }
    let Some(graph) = &mut model.graph else { return };
    let names: Vec<String> =
        graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).cloned().collect();
    let name = if names.is_empty() { String::new() } else { names[generator.below(names.len())].clone() };
    let count = graph.node.len();
    let Some(node) = pick(&mut graph.node, generator) else { return };
    match kind {
        1 => drop(pick(&mut node.input, generator).map(|input| *input = name)),
        2 => drop(pick(&mut node.output, generator).map(|output| *output = name)),
        3 => drop(node.input.pop()),
        4 => node.input.push(name),
        5 => drop(pick(&mut node.attribute, generator).map(|attribute| attribute.i = Some(extreme))),
        6 => {
            if let Some(attribute) = pick(&mut node.attribute, generator) {
                match pick(&mut attribute.ints, generator) {
                    Some(value) => *value = extreme,
                    None => attribute.ints.push(extreme),
                }
            }
        }
        7 => drop(node.attribute.pop()),
        8 => {
            node.op_type = Some(
                ["Reshape", "Loop", "Conv", "Gather", "Slice", "Resize", "TopK", "Pad"][generator.below(8)]
                    .into(),
            )
        }
        9 => {
            let position = generator.below(count);
            graph.node.remove(position);
        }
        10 => drop(
            pick(&mut graph.initializer, generator)
                .and_then(|tensor| pick(&mut tensor.dims, generator).map(|dim| *dim = extreme)),
        ),
        11 => drop(
            pick(&mut graph.initializer, generator)
                .map(|tensor| tensor.data_type = Some(generator_code(extreme))),
        ),
        12 => {
            if let Some(tensor) = node.attribute.iter_mut().find_map(|attribute| attribute.t.as_mut()) {
                match pick(&mut tensor.int64_data, generator) {
                    Some(value) => *value = extreme,
                    None => tensor.dims.push(extreme),
                }
            }
        }
        _ => {
            let ty =
                pick(&mut graph.input, generator).and_then(|input| input.r#type.as_mut()?.value.as_mut());
            if let Some(type_proto::Value::TensorType(tensor)) = ty {
                tensor.elem_type = Some(1 + generator.below(20) as i32);
            }
        }
    }
}

fn generator_code(extreme: i64) -> i32 {
    (extreme % 30) as i32
}

/// One change of the bytes.
fn damage(bytes: &mut Vec<u8>, generator: &mut Generator) {
    if bytes.is_empty() {
        return;
    }
    let at = generator.below(bytes.len());
    match generator.below(5) {
        0 => bytes[at] ^= 1 << generator.below(8),
        1 => bytes.truncate(at),
        2 => bytes[at] = 0xff,
        3 => {
            let part: Vec<u8> = bytes[at..(at + 1 + generator.below(16)).min(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        _ => drop(bytes.drain(at..(at + 1 + generator.below(8)).min(bytes.len()))),
    }
}

fn mutated(files: &[PathBuf], case: u64) -> Result<bool, String> {
    ALLOCATOR.begin(case);
    let mut generator = Generator::new(case);
    let file = &files[generator.below(files.len())];
    let mut bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let mut proto = ModelProto::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
    match generator.below(3) {
        0 => (0..=generator.below(3)).for_each(|_| damage(&mut bytes, &mut generator)),
        _ => {
            (0..=generator.below(3)).for_each(|_| change(&mut proto, &mut generator));
            bytes = proto.encode_to_vec();
        }
    }
    let begin = Instant::now();
    let said = run(Model::from_bytes(bytes, "mutated.onnx"), case);
    // On a machine that does other things too, a slow case is no hang: the harness ends one that takes a minute.
    if begin.elapsed() > LONGEST {
        println!("case {case} of {} took {:?}", file.display(), begin.elapsed());
    }
    match ALLOCATOR.refused() {
        0 => Ok(said.is_ok()),
        size => Err(format!("{} asks for {size} bytes; it says {said:?}", file.display())),
    }
}

#[test]
fn malformed_models_are_refused() {
    let by_hand = check_by_hand().unwrap_or_else(|findings| panic!("{findings}"));
    println!("{by_hand} models made by hand are refused");
    let Some(root) = onnx_conformance("mutations of conformance models") else { return };
    let files = corpus(&root);
    let fuzz = Fuzz {
        fixed: 2000,
        known: &[152_538_186_107_426, 205_992_799_343_013, 235_000_616_905_619, 241_287_057_334_481],
        fresh: Duration::from_secs(10),
    };
    let ran = fuzz.run(move |case| mutated(&files, case));
    println!("{} mutated models, {} of them still run", ran.cases, ran.yes);
    // Where nearly all are refused at once, or none, the mutations try nothing.
    let tries_something = ran.yes * 20 > ran.cases && ran.yes * 10 < ran.cases * 9;
    assert!(!ran.whole || tries_something, "{ran:?}");
}
