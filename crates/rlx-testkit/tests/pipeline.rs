//! Tests of what surrounds the passes: reports, traces, refusals, options, the bisector.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::interpret::evaluate;
use rlx_ir::ops::BinaryKind;
use rlx_ir::text::parse_graph;
use rlx_ir::{Accuracy, DType, Graph, NodeId, Op, OpKind};
use rlx_opt::bisect::{bisect, same_results};
use rlx_opt::{
    Capabilities, Checks, Claim, CompileOptions, DispatchCounts, KernelDispatch, OptError, Pass, PassContext,
    Pipeline, PipelineTrace, PrecisionPolicy, Rewriter, Rewritten, compile,
    prepare_graph_for_backend_with_report, rewrite_for_backend,
};
use rlx_testkit::random_graph;

const MODEL: &str = r#"rlx 1
graph "model" {
  %x = input {name = "x"} : f32[3, 4]
  %w = param {name = "w"} : f32[4, 4]
  %b = param {name = "b"} : f32[4]
  %one = constant {value = f32[]:[1.0]}
  %same = binary %x, %one {kind = mul}
  %m = matmul %same, %w {transpose_a = false, transpose_b = false}
  %s = binary %m, %b {kind = add}
  %g = activation %s {kind = gelu, parameter = none}
  %unused = activation %g {kind = exp, parameter = none}
  %y = softmax %g {axis = 1}
  output "y" = %y
}
"#;

fn model() -> Graph {
    parse_graph(MODEL).unwrap()
}

fn attaching() -> Capabilities {
    Capabilities { accept: |_| Claim::Native, ..Capabilities::reference() }
}

#[test]
fn every_node_is_accounted_for() {
    for seed in 0..40 {
        let random = random_graph(seed);
        let nodes = random.graph.nodes().len();
        let compiled = compile(random.graph, &attaching(), &CompileOptions::default()).unwrap();
        let total =
            |counts: &DispatchCounts| counts.native + counts.decomposed + counts.rewritten + counts.missing;
        assert_eq!(compiled.report.dispatch().kinds.values().map(total).sum::<usize>(), nodes, "seed {seed}");
        for node in 0..nodes {
            let why = compiled.report.why(NodeId(node as u32));
            assert!(why.len() >= 2, "seed {seed}: {why:?}");
        }
    }
}

#[test]
fn reports_say_what_was_done() {
    let compiled = compile(model(), &attaching(), &CompileOptions::default()).unwrap();
    let dispatch = compiled.report.dispatch();
    let counts = |kind| dispatch.kinds[&kind];
    assert_eq!(counts(OpKind::Softmax), DispatchCounts { decomposed: 1, ..DispatchCounts::default() });
    assert_eq!(counts(OpKind::MatMul), DispatchCounts { native: 1, ..DispatchCounts::default() });
    // The product with one, and the exponential that nothing uses.
    assert_eq!(
        counts(OpKind::Binary),
        DispatchCounts { native: 1, rewritten: 1, ..DispatchCounts::default() }
    );
    assert_eq!(
        counts(OpKind::Activation),
        DispatchCounts { native: 1, rewritten: 1, ..DispatchCounts::default() }
    );
    let product =
        compiled.report.fusions().into_iter().find(|fusion| fusion.nodes.contains(&NodeId(5))).unwrap();
    assert!(product.nodes.contains(&NodeId(6)) && product.nodes.contains(&NodeId(7)), "{product:?}");
    assert!(product.step.is_some());
    let why = compiled.report.why(NodeId(9)).join("\n");
    assert!(why.contains("decompose_unclaimed: softmax: decomposed: composite ops are decomposed"), "{why}");
    assert!(why.contains("softmax/reduce: native"), "{why}");
    let why = compiled.report.why(NodeId(8)).join("\n");
    assert!(why.contains("eliminate_dead_code: nothing stands for it any more"), "{why}");
    let text = compiled.report.to_string();
    assert!(text.contains("compiled 10 nodes for reference"), "{text}");
}

#[test]
fn refusals_name_every_node() {
    let capabilities = Capabilities {
        claim: |view| {
            Claim::when(!matches!(view.op, Op::MatMul(_) | Op::Reduce(_)), || "no kernel here".into())
        },
        ..Capabilities::reference()
    };
    let capabilities = Capabilities {
        scalar: |op, dtype| Claim::when(op != rlx_ir::ScalarOp::Erf, || format!("no {dtype} version")),
        ..capabilities
    };
    let options = CompileOptions { dispatch: KernelDispatch::ForceDecomposed, ..CompileOptions::default() };
    let error = compile(model(), &capabilities, &options).unwrap_err();
    let OptError::Unsupported { nodes, .. } = &error else { panic!("{error}") };
    let found = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(nodes.len(), 4, "{found}");
    for wanted in ["matmul: no kernel here", "erf on f32: no f32 version", "softmax/reduce: no kernel here"] {
        assert!(found.contains(wanted), "{wanted:?} is not in\n{found}");
    }
    let (result, report) = prepare_graph_for_backend_with_report(model(), &capabilities, &options);
    assert!(result.is_err());
    assert_eq!(report.kinds[&OpKind::MatMul].missing, 1);
    assert_eq!(report.kinds[&OpKind::Softmax].missing, 1);
}

#[test]
fn dispatch_options_are_obeyed() {
    let native = Capabilities { claim: |_| Claim::Native, ..Capabilities::reference() };
    let kinds = |options: &CompileOptions, capabilities: &Capabilities| {
        let graph = rewrite_for_backend(model(), capabilities, options)?;
        Ok(graph.nodes().iter().map(|node| node.op.kind()).collect::<Vec<_>>())
    };
    let mut options = CompileOptions::default();
    let found: Result<_, OptError> = kinds(&options, &native);
    assert!(found.unwrap().contains(&OpKind::Softmax));
    options.dispatch_by_kind.insert(OpKind::Softmax, KernelDispatch::ForceDecomposed);
    let found = kinds(&options, &native).unwrap();
    assert!(!found.contains(&OpKind::Softmax) && found.contains(&OpKind::FusedMatMulBiasAct), "{found:?}");
    options.dispatch_by_kind.clear();
    options.dispatch = KernelDispatch::ForceNative;
    let error = kinds(&options, &Capabilities::reference()).unwrap_err();
    assert!(error.to_string().contains("softmax: composite ops are decomposed"), "{error}");
}

#[test]
fn options_that_cannot_be_honoured_are_refused() {
    let options = CompileOptions { checks: Checks::Off, ..CompileOptions::default() };
    let error = compile(model(), &Capabilities::reference(), &options).unwrap_err();
    let expected = "option checks: the kernels of reference check values always; choose on or clamp";
    assert_eq!(error.to_string(), expected);
    let unchecked = Capabilities { checks_values: false, ..Capabilities::reference() };
    let module = compile(model(), &unchecked, &options).unwrap().module;
    assert!(module.io.faults.is_none());
    let options =
        CompileOptions { precision: PrecisionPolicy::Mixed(DType::F32), ..CompileOptions::default() };
    let error = compile(model(), &Capabilities::reference(), &options).unwrap_err();
    assert_eq!(error.to_string(), "option precision: cannot compute in f32; choose f16, bf16");
}

#[test]
fn options_switch_passes_off() {
    let options = CompileOptions {
        fusion: false,
        constant_folding: false,
        dead_code_elimination: false,
        ..CompileOptions::default()
    };
    let compiled = compile(model(), &Capabilities::reference(), &options).unwrap();
    let ran: Vec<_> = compiled.report.passes().iter().map(|summary| summary.pass).collect();
    for pass in
        ["fuse_elementwise", "fuse_named", "fold_constants", "eliminate_dead_code", "assign_precision"]
    {
        assert!(!ran.contains(&pass), "{pass} ran");
    }
}

#[test]
fn precision_policies_change_results_within_their_dtype() {
    let mut graph = Graph::new("precision");
    let x = graph.input_f32("x", [4, 8]);
    let w = graph.param_f32("w", [8, 8]);
    let h = graph.mm(x, w);
    let a = graph.tanh(h);
    let y = graph.mm(a, w);
    graph.output("y", y);
    let graph = graph.finish().unwrap();
    let mut feeds = rlx_ir::interpret::Tensors::new();
    let mut generator = rlx_ir::sample::Generator::new(1);
    for (_, node) in graph.iter().filter(|(_, node)| node.op.leaf_name().is_some()) {
        let literal = rlx_ir::sample::fill_literal(&node.types[0], rlx_ir::op::Fill::Any, &mut generator);
        feeds.insert(node.op.leaf_name().unwrap().into(), literal);
    }
    let result = |precision| {
        let options = CompileOptions { precision, ..CompileOptions::default() };
        let changed = rewrite_for_backend(graph.clone(), &Capabilities::reference(), &options).unwrap();
        evaluate(&changed, &feeds).unwrap().outputs[0].1.clone()
    };
    let exact = result(PrecisionPolicy::Keep);
    let half = [PrecisionPolicy::Always, PrecisionPolicy::Mixed, PrecisionPolicy::MixedConservative];
    let custom = |dtype| PrecisionPolicy::Custom([(OpKind::MatMul, dtype)].into());
    for (dtype, unit) in [(DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8))] {
        for policy in half.iter().map(|policy| policy(dtype)).chain([custom(dtype)]) {
            let found = result(policy.clone());
            assert_eq!(found.ty(), exact.ty(), "{policy:?}");
            let error =
                found.to_f64s().iter().zip(exact.to_f64s()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(error > 0.0 && error < 64.0 * unit, "{policy:?}: off by {error}");
        }
    }
    assert_eq!(result(PrecisionPolicy::Always(DType::F32)), exact);
}

#[test]
fn traces_hold_the_text_around_every_pass() {
    let (trace, compiled) =
        PipelineTrace::of(model(), &attaching(), &CompileOptions::default(), &Pipeline::standard());
    assert!(compiled.is_ok());
    let (before, after) = trace.around("decompose_unclaimed").next().unwrap();
    assert!(before.contains("softmax") && !after.contains("softmax"));
    let text = trace.to_string();
    assert!(text.contains("; fuse_elementwise\nrlx 1\n") && text.contains(": no change"), "{text}");
}

/// Takes the larger for the smaller.
struct WrongPass;

impl Pass for WrongPass {
    fn name(&self) -> &'static str {
        "swap_extremes"
    }

    fn run(&self, graph: Graph, _: &PassContext<'_>) -> Result<Rewritten, OptError> {
        let mut rewriter = Rewriter::new(&graph);
        for (id, node) in graph.iter() {
            let mut changed = node.clone();
            if let Op::Binary(binary) = &mut changed.op
                && binary.kind == BinaryKind::Max
            {
                binary.kind = BinaryKind::Min;
            }
            rewriter.begin([id]);
            let operands = rewriter.operands(node);
            let values = rewriter.push(&changed, &operands)?;
            rewriter.map(id, values);
        }
        rewriter.finish()
    }
}

#[test]
fn the_bisector_finds_the_wrong_pass_and_a_small_graph() {
    let mut passes = Pipeline::standard().passes().to_vec();
    passes.insert(3, &WrongPass);
    let pipeline = Pipeline::of(passes);
    let (capabilities, options) = (Capabilities::reference(), CompileOptions::default());
    let context = PassContext { capabilities: &capabilities, options: &options };
    let mut found = 0;
    for seed in 0..120 {
        let random = random_graph(seed);
        let bisection =
            bisect(&random.graph, &random.feeds, &pipeline, &context, &mut same_results(Accuracy::Exact))
                .unwrap();
        let Some(bisection) = bisection else { continue };
        found += 1;
        assert_eq!((bisection.pass, bisection.position), (Some("swap_extremes"), 3));
        let given = |op: &Op| op.leaf_name().is_some() || op.kind() == OpKind::Constant;
        let computing = bisection.graph.nodes().iter().filter(|node| !given(&node.op)).count();
        assert_eq!(computing, 1, "seed {seed}:\n{}", bisection.text);
        assert!(bisection.text.contains("max"), "{}", bisection.text);
        assert!(bisection.message.contains("expected"), "{}", bisection.message);
        assert_eq!(parse_graph(&bisection.text).unwrap(), bisection.graph);
    }
    assert!(found > 10, "only {found} graphs showed the fault");
}

#[test]
fn the_bisector_finds_nothing_where_all_is_right() {
    let (capabilities, options) = (Capabilities::reference(), CompileOptions::default());
    let context = PassContext { capabilities: &capabilities, options: &options };
    let random = random_graph(3);
    let right = &mut same_results(Accuracy::Exact);
    let found = bisect(&random.graph, &random.feeds, &Pipeline::standard(), &context, right).unwrap();
    assert!(found.is_none(), "{found:?}");
    // Wrong without any pass: what runs the graph is to blame.
    let mut never = |_: &Graph, graph: &Graph, _: &_| match graph.nodes_of(OpKind::Reduce).next() {
        Some(_) => Err("reductions are wrong".to_owned()),
        None => Ok(()),
    };
    let with_reduction =
        (0..40).map(random_graph).find(|random| random.graph.nodes_of(OpKind::Reduce).count() > 2);
    let random = with_reduction.unwrap();
    let found =
        bisect(&random.graph, &random.feeds, &Pipeline::standard(), &context, &mut never).unwrap().unwrap();
    assert_eq!(found.pass, None);
    assert_eq!(found.graph.nodes().len(), 2, "{}", found.text);
}
