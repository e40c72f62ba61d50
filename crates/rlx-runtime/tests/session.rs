//! Sessions end to end on the CPU: compile, bind, run, cache, budget, refusals.

use rlx_driver::DriverError;
use rlx_ir::{Bindings, DType, Dim, Graph, GraphModule, Literal, SymbolBounds};
use rlx_runtime::{CompileOptions, Device, RuntimeError, Session, SessionOptions, TensorRef, devices};
use rlx_weights::{BytesWeightLoader, WeightLoader, WeightRegistry};

fn floats(dims: &[usize], values: &[f64]) -> Literal {
    Literal::floats(DType::F32, dims, values).expect("one value per element")
}

/// `y = relu(x w + b)`, rows symbolic.
fn layer() -> Graph {
    let mut graph = Graph::new("layer");
    graph.bound_symbol("B", SymbolBounds { min: 1, max: Some(64) });
    let x = graph.input_f32("x", vec![Dim::symbol("B"), Dim::from(3)]);
    let w = graph.param_f32("layer.w", [3, 2]);
    let b = graph.param_f32("layer.b", [2]);
    let product = graph.mm(x, w);
    let sum = graph.add(product, b);
    let y = graph.relu(sum);
    graph.output("y", y);
    graph.finish().unwrap()
}

fn weights() -> BytesWeightLoader {
    BytesWeightLoader::from_pairs([
        ("layer.w", floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("layer.b", floats(&[2], &[-10.0, 0.5])),
    ])
    .unwrap()
}

const X: [f32; 6] = [1.0, 1.0, 1.0, 0.0, -1.0, 2.0];
const Y: [f32; 4] = [0.0, 12.5, 0.0, 8.5];

#[test]
fn a_graph_runs_with_weights_bound_by_name() {
    let session = Session::new(Device::CPU).unwrap();
    let mut compiled = session.compile(layer()).unwrap();
    let bound = compiled.bind_weights(&weights()).unwrap();
    assert_eq!((bound.shared_bytes, bound.converted_bytes), (32, 0));
    assert_eq!(compiled.run(&[("x", &[2, 3], &X)]).unwrap(), [Y.to_vec()]);
    let typed = compiled.run_typed(&[("x", TensorRef::f32(&[2, 3], &X).unwrap())]).unwrap();
    assert_eq!(typed[0].0, "y");
    let raw = compiled.run_raw(&[("x", TensorRef::f32(&[2, 3], &X).unwrap())]).unwrap();
    assert_eq!((raw[0].dims.as_slice(), raw[0].bytes), (&[2, 2][..], typed[0].1.bytes()));
    let bytes: Vec<u8> = X.iter().flat_map(|x| x.to_le_bytes()).collect();
    let slot = compiled.run_slots(&[&bytes]).unwrap()[0];
    assert_eq!(&compiled.arena().unwrap()[slot.offset..slot.offset + slot.len], typed[0].1.bytes());
}

#[test]
fn every_stage_compiles_to_the_same_results() {
    let session = Session::new(Device::CPU).unwrap();
    let mut module = rlx_ir::hir::HirModule::new("m");
    let body = module.body(layer());
    module.block("", body, [("x", rlx_ir::hir::HirValue::input("x"))]);
    module.output("y", rlx_ir::hir::HirValue::block("", "y"));
    let text = rlx_ir::text::print_module(&module);
    let lir = session.compile(layer()).unwrap().lir().clone();
    let stages = [GraphModule::parse(&text).unwrap(), layer().into(), lir.into()];
    for stage in stages {
        let name = stage.stage();
        let mut compiled = session.compile_module(stage).unwrap();
        compiled.bind_weights(&weights()).unwrap();
        assert_eq!(compiled.run(&[("x", &[2, 3], &X)]).unwrap(), [Y.to_vec()], "{name}");
    }
}

#[test]
fn weights_that_do_not_fit_are_all_named_and_none_is_bound() {
    let session = Session::new(Device::CPU).unwrap();
    let mut compiled = session.compile(layer()).unwrap();
    let wrong = BytesWeightLoader::from_pairs([
        ("layer.W", floats(&[3, 2], &[0.0; 6])),
        ("layer.b", floats(&[3], &[0.0; 3])),
    ])
    .unwrap();
    let error = compiled.bind_weights(&wrong).unwrap_err().to_string();
    assert_eq!(
        error,
        "memory does not fit the graph:\n\
         param \"layer.w\": is missing; expected f32[3, 2]; did you mean \"layer.W\"?\n\
         param \"layer.b\": expected f32[2], found f32[3]"
    );
    let error = compiled.run(&[("x", &[2, 3], &X)]).unwrap_err().to_string();
    assert_eq!(error, "params are not bound: layer.w, layer.b; bind them before the first run");
}

#[test]
fn weights_of_another_float_dtype_are_converted_and_counted() {
    let session = Session::new(Device::CPU).unwrap();
    let mut compiled = session.compile(layer()).unwrap();
    let halves = weights();
    let halves = halves.tensors().iter().map(|tensor| {
        let literal = tensor.view().to_literal().unwrap();
        let numbers = (0..literal.len()).map(|index| literal.number(index));
        (tensor.name().to_string(), Literal::from_numbers(DType::F16, literal.dims(), numbers).unwrap())
    });
    let bound = compiled.bind_weights(&BytesWeightLoader::from_pairs(halves).unwrap()).unwrap();
    assert_eq!(bound.converted, ["layer.w", "layer.b"]);
    assert_eq!((bound.shared_bytes, bound.converted_bytes), (0, 32));
    assert_eq!(compiled.run(&[("x", &[2, 3], &X)]).unwrap(), [Y.to_vec()]);
}

#[test]
fn the_registry_binds_and_follows_aliases() {
    let session = Session::new(Device::CPU).unwrap();
    let registry = WeightRegistry::new();
    for tensor in weights().tensors() {
        let stored = registry.register(tensor.renamed(&format!("stored.{}", tensor.name()))).unwrap();
        registry.alias(tensor.name(), stored).unwrap();
    }
    let mut compiled = session.compile(layer()).unwrap();
    compiled.bind_registry(&registry).unwrap();
    assert_eq!(compiled.run(&[("x", &[2, 3], &X)]).unwrap(), [Y.to_vec()]);
}

#[test]
fn clones_share_weights_and_run_apart() {
    let session = Session::new(Device::CPU).unwrap();
    let mut compiled = session.compile(layer()).unwrap();
    compiled.bind_weights(&weights()).unwrap();
    let mut clone = compiled.clone_box().unwrap();
    clone.set_param("layer.b", &[0.0, 0.0]).unwrap();
    assert_eq!(clone.run(&[("x", &[2, 3], &X)]).unwrap(), [vec![9.0, 12.0, 7.0, 8.0]]);
    assert_eq!(compiled.run(&[("x", &[2, 3], &X)]).unwrap(), [Y.to_vec()]);
}

#[test]
fn the_cache_finds_equal_content_and_options_only() {
    let session = Session::new(Device::CPU).unwrap();
    let mut first = session.compile(layer()).unwrap();
    first.bind_weights(&weights()).unwrap();
    let mut second = session.compile(layer()).unwrap();
    assert_eq!((session.cache_statistics().hits, session.cache_statistics().misses), (1, 1));
    assert!(second.run(&[("x", &[2, 3], &X)]).is_err(), "weights are not part of what is cached");
    let options = CompileOptions { fusion: false, ..CompileOptions::default() };
    session.compile_with(layer(), &options).unwrap();
    let mut other = layer();
    other.name = "another".into();
    session.clone().compile(other).unwrap();
    assert_eq!((session.cache_statistics().hits, session.cache_statistics().misses), (1, 3));
    assert_eq!(Session::new(Device::CPU).unwrap().cache_statistics().entries, 0);
}

#[test]
fn constants_are_part_of_the_key() {
    let session = Session::new(Device::CPU).unwrap();
    for values in [vec![1.0; 100], vec![2.0; 100]] {
        let mut graph = Graph::new("c");
        let c = graph.constant(floats(&[100], &values));
        let y = graph.neg(c);
        graph.output("y", y);
        let mut compiled = session.compile(graph.finish().unwrap()).unwrap();
        assert_eq!(compiled.run(&[]).unwrap()[0][99], -values[99] as f32);
    }
    assert_eq!(session.cache_statistics().misses, 2);
}

#[test]
fn the_cache_forgets_what_was_used_least_recently() {
    let options = SessionOptions { cache_entries: 2, ..SessionOptions::default() };
    let session = Session::with(Device::CPU, options).unwrap();
    let named = |name: &str| {
        let mut graph = layer();
        graph.name = name.into();
        graph
    };
    for name in ["a", "b", "a", "c", "a", "b"] {
        session.compile(named(name)).unwrap();
    }
    let statistics = session.cache_statistics();
    assert_eq!((statistics.hits, statistics.misses, statistics.entries), (2, 4, 2));
}

#[test]
fn a_budget_refuses_with_the_numbers() {
    let with = |budget| {
        let options = SessionOptions { memory_budget: Some(budget), ..SessionOptions::default() };
        Session::with(Device::CPU, options).unwrap().compile(layer()).unwrap()
    };
    let error = with(40).bind_weights(&weights()).unwrap_err();
    assert!(matches!(error, RuntimeError::Driver(DriverError::OverBudget { budget: 40, .. })), "{error}");
    let mut bindings = Bindings::new();
    bindings.set("B", 2);
    let needed = with(0).memory_estimate(&bindings).unwrap();
    let mut tight = with(needed.total());
    tight.bind_weights(&weights()).unwrap();
    assert_eq!(tight.run(&[("x", &[2, 3], &X)]).unwrap(), [Y.to_vec()]);
    let error = tight.run(&[("x", &[64, 3], &[0.0; 192])]).unwrap_err().to_string();
    assert!(error.contains(&format!("more than the budget of {} bytes", needed.total())), "{error}");
    let large = [("x", TensorRef::f32(&[64, 3], &[0.0; 192]).unwrap())];
    let error = tight.states().unwrap().run_feed(&large).unwrap_err();
    assert!(matches!(error, DriverError::OverBudget { .. }), "{error}");
}

#[test]
fn devices_are_listed_and_refused_with_reasons() {
    let list = devices();
    let cpu = list.iter().find(|status| status.device == Device::CPU).unwrap();
    assert!(cpu.info.as_ref().is_ok_and(|info| !info.name.is_empty()));
    for status in list.iter().filter(|status| status.info.is_err()) {
        let error = Session::new(status.device).unwrap_err().to_string();
        assert_eq!(Err(error), status.info);
    }
    let error = Session::new("cpu:3".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(error, "device cpu:3 is not available: 1 of kind cpu can be opened");
}

#[test]
fn a_backend_of_the_callers_own_takes_no_thread_count() {
    let backend = || std::sync::Arc::new(rlx_cpu::exec::CpuBackend::new().unwrap());
    let threads = SessionOptions { threads: Some(3), ..SessionOptions::default() };
    let error = Session::on(backend(), threads).unwrap_err().to_string();
    assert!(error.contains("threads") && error.contains("the backend is made already"), "{error}");
    let session = Session::on(backend(), SessionOptions::default()).unwrap();
    let mut compiled = session.compile(layer()).unwrap();
    compiled.bind_weights(&weights()).unwrap();
    assert_eq!(compiled.run(&[("x", &[2, 3], &X)]).unwrap(), [Y.to_vec()]);
}

#[test]
fn bytes_that_do_not_fit_their_type_are_refused_by_name() {
    let mut graph = Graph::new("sum");
    let x = graph.input_f32("x", [2]);
    let w = graph.param_f32("w", [2]);
    let s = graph.state("s", rlx_ir::TensorType::new(DType::F32, [2]));
    let sum = graph.add(x, w);
    let next = graph.add(sum, s);
    graph.update_state("s", next);
    graph.output("y", next);
    let mut compiled = Session::new(Device::CPU).unwrap().compile(graph.finish().unwrap()).unwrap();
    for bytes in [&[0u8; 4][..], &[0; 9]] {
        let wrong = TensorRef { dtype: DType::F32, dims: &[2], bytes };
        let expected = |what: String| format!("{what}: expected 8 bytes, found {} bytes", bytes.len());
        let error = compiled.set_param_typed("w", wrong).unwrap_err().to_string();
        assert_eq!(error, expected("param \"w\"".into()));
        let wide = TensorRef { dtype: DType::F64, dims: &[2], bytes };
        assert!(compiled.set_param_typed("w", wide).unwrap_err().to_string().contains("expected 16 bytes"));
        for (what, name) in [("state", "s"), ("input", "x")] {
            let error = compiled.states().unwrap().bind_handle(name, wrong).unwrap_err().to_string();
            assert_eq!(error, expected(format!("{what} {name:?}")));
        }
        let error = compiled.run_typed(&[("x", wrong)]).unwrap_err().to_string();
        let message = format!("input \"x\": f32[2] takes 8 bytes, found {} bytes", bytes.len());
        assert!(error.contains(&message), "{error}");
    }
    compiled.set_param("w", &[1.0, 2.0]).unwrap();
    assert_eq!(compiled.run(&[("x", &[2], &[3.0, 4.0])]).unwrap(), [vec![4.0, 6.0]]);
}

#[test]
fn the_cache_folder_serves_other_sessions_and_survives_damage() {
    let folder = std::env::temp_dir().join(format!("rlx-compile-cache-{}", std::process::id()));
    let compile = |graph: Graph| {
        let options = SessionOptions { cache_folder: Some(folder.clone()), ..SessionOptions::default() };
        let session = Session::with(Device::CPU, options).unwrap();
        let mut compiled = session.compile(graph).unwrap();
        compiled.bind_weights(&weights()).unwrap();
        let results = compiled.run(&[("x", &[2, 3], &X)]).unwrap();
        (session.cache_statistics().folder_hits, results, compiled.lir().clone().into_inner())
    };
    let (hits, first, module) = compile(layer());
    assert_eq!(hits, 0);
    assert_eq!(compile(layer()), (1, first.clone(), module.clone()));
    let mut other = layer();
    other.name = "another".into();
    assert_eq!(compile(other).0, 0);
    // A flipped byte anywhere is no hit, and the file is written anew.
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(compile(layer()), (0, first.clone(), module.clone()));
    assert_eq!(compile(layer()), (1, first, module));
    std::fs::remove_dir_all(&folder).unwrap();
    // A folder that cannot be had is an error, not a cache that does nothing.
    std::fs::write(&folder, "a file").unwrap();
    let options = SessionOptions { cache_folder: Some(folder.clone()), ..SessionOptions::default() };
    let error = Session::with(Device::CPU, options).unwrap().compile(layer()).unwrap_err();
    std::fs::remove_file(&folder).unwrap();
    assert!(matches!(error, RuntimeError::Cache { .. }), "{error}");
}
