//! Generic tests of the graph passes: every pass and every prefix of the
//! pipeline keeps what a graph computes, on the samples of every op and on
//! random graphs. No pass is named here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::accuracy::compare;
use rlx_ir::interpret::{Evaluation, Tensors, evaluate};
use rlx_ir::text::{parse_graph, print_graph};
use rlx_ir::{Accuracy, DType, Graph, Literal, Number, OpKind};
use rlx_opt::passes::simplify_algebra::{RULES, Rule, simplify};
use rlx_opt::{Capabilities, Claim, CompileOptions, PassContext, Pipeline, Remark};
use rlx_testkit::random_graph;

/// Every pass alone, and every prefix of the standard pipeline.
fn pipelines() -> Vec<Pipeline> {
    let standard = Pipeline::standard();
    let single = rlx_opt::passes::ALL.iter().map(|pass| pass.name().parse().unwrap());
    single.chain((2..=standard.passes().len()).map(|count| standard.prefix(count))).collect()
}

/// A target with a kernel for every op, and one that runs primitives only.
fn targets() -> [Capabilities; 2] {
    let native = Capabilities { name: "native", claim: |_| Claim::Native, ..Capabilities::reference() };
    [Capabilities::reference(), native]
}

fn run(pipeline: &Pipeline, graph: &Graph, label: &str) -> Graph {
    run_for(&Capabilities::reference(), pipeline, graph, label)
}

fn run_for(capabilities: &Capabilities, pipeline: &Pipeline, graph: &Graph, label: &str) -> Graph {
    let options = CompileOptions::default();
    let context = PassContext { capabilities, options: &options };
    let result = pipeline.run(graph.clone(), &context, &mut |_, _| {});
    result.unwrap_or_else(|error| panic!("{label}: {pipeline}: {error}\n{}", print_graph(graph)))
}

fn check(before: &Evaluation, graph: &Graph, feeds: &Tensors, accuracy: Accuracy, label: &str) {
    let after =
        evaluate(graph, feeds).unwrap_or_else(|error| panic!("{label}: {error}\n{}", print_graph(graph)));
    assert_eq!(before.outputs.len(), after.outputs.len(), "{label}");
    let states = before.states.iter().zip(&after.states);
    let outputs = before.outputs.iter().zip(&after.outputs);
    let pairs = outputs.map(|(b, a)| ((&b.0, &b.1), (&a.0, &a.1))).chain(states);
    for ((name, expected), (found_name, found)) in pairs {
        assert_eq!(name, found_name, "{label}");
        compare(found, expected, accuracy, None)
            .unwrap_or_else(|error| panic!("{label}: {name:?} {error}\n{}", print_graph(graph)));
    }
}

#[test]
fn passes_keep_the_results_of_every_op_sample() {
    let pipelines = pipelines();
    for &kind in OpKind::ALL {
        for (index, sample) in kind.samples().iter().enumerate() {
            let (graph, feeds) = sample.graph(5);
            let before = evaluate(&graph, &feeds).unwrap();
            // Definitions round at every op.
            let accuracy = match sample.op.accuracy() {
                Accuracy::Rounding => Accuracy::Approx { ulp: 4.0 },
                other => other,
            };
            for (pipeline, target) in
                pipelines.iter().flat_map(|pipeline| targets().map(|target| (pipeline, target)))
            {
                let label = format!("{kind} sample {index}: {} {pipeline}", target.name);
                check(&before, &run_for(&target, pipeline, &graph, &label), &feeds, accuracy, &label);
            }
        }
    }
}

#[test]
fn passes_keep_the_results_of_random_graphs() {
    let pipelines = pipelines();
    for seed in 0..150 {
        let random = random_graph(seed);
        let before = evaluate(&random.graph, &random.feeds).unwrap();
        for (pipeline, target) in
            pipelines.iter().flat_map(|pipeline| targets().map(|target| (pipeline, target)))
        {
            let label = format!("seed {seed}: {} {pipeline}", target.name);
            let after = run_for(&target, pipeline, &random.graph, &label);
            check(&before, &after, &random.feeds, Accuracy::Exact, &label);
        }
    }
}

/// The graph of a filetest of passes.
fn filetest_graph(name: &str) -> Graph {
    let path = format!("{}/../../filetests/passes/{name}.rlx", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    parse_graph(text.split("; expect:").next().unwrap()).unwrap()
}

#[test]
fn fused_attention_computes_what_is_spelled_out() {
    // A row of the bias has no key, and keys of others are not seen.
    let bias = |at: usize| if at < 3 || at == 4 { f64::NEG_INFINITY } else { at as f64 / 4.0 - 1.0 };
    let values = |name: &str, at: usize| match name {
        "bias" => bias(at),
        "padded" => f64::from(at == 1),
        name => ((at * 7 + name.len() * 5) % 11) as f64 / 4.0 - 1.25,
    };
    let sizes = rlx_ir::Bindings::from_iter([("B", 2), ("S", 3)]);
    let count = |graph: &Graph, kind| graph.nodes().iter().filter(|node| node.op.kind() == kind).count();
    for (name, attentions, left) in
        [("fuse_named_attention_spellings", 4, 1), ("fuse_named_attention_fed_mask", 1, 0)]
    {
        let graph = filetest_graph(name);
        let pipeline = "fuse_named, eliminate_dead_code".parse().unwrap();
        let fused = run_for(&targets()[1], &pipeline, &graph, name);
        let found = (count(&fused, OpKind::Attention), count(&fused, OpKind::Softmax));
        assert_eq!(found, (attentions, left), "{name}");
        let mut feeds = Tensors::new();
        for node in graph.nodes() {
            let rlx_ir::Op::Input(input) = &node.op else { continue };
            let dims = node.types[0].shape.dims().iter().map(|dim| dim.extent(&sizes).unwrap());
            let dims: Vec<usize> = dims.collect();
            let numbers: Vec<f64> = (0..dims.iter().product()).map(|at| values(&input.name, at)).collect();
            let literal = match node.types[0].dtype {
                DType::Bool => {
                    let bits: Vec<i128> = numbers.iter().map(|&number| number as i128).collect();
                    Literal::ints(DType::Bool, &dims, &bits)
                }
                dtype => Literal::floats(dtype, &dims, &numbers),
            };
            feeds.insert(input.name.clone(), literal.unwrap());
        }
        let before = evaluate(&graph, &feeds).unwrap();
        check(&before, &fused, &feeds, Accuracy::Residual { factor: 8.0 }, name);
    }
}

#[test]
fn a_cleaned_graph_stays_as_it_is() {
    let standard = Pipeline::standard();
    let fusion = standard.passes().iter().position(|pass| pass.name() == "fuse_elementwise").unwrap();
    let cleaning = standard.prefix(fusion);
    for seed in 0..60 {
        // A predicate that folds late leaves its branch to the second round.
        let once = run(&cleaning, &random_graph(seed).graph, "once");
        let twice = run(&cleaning, &once, "twice");
        let again = run(&cleaning, &twice, "again");
        assert_eq!(print_graph(&twice), print_graph(&again), "seed {seed}");
    }
}

#[test]
fn pipelines_print_and_parse() {
    let standard = Pipeline::standard();
    assert_eq!(standard.to_string(), rlx_opt::pipeline::STANDARD);
    assert_eq!(standard.to_string().parse::<Pipeline>().unwrap().to_string(), standard.to_string());
    let error = "eliminate_dead_code, unroll".parse::<Pipeline>().unwrap_err();
    assert_eq!(error.to_string(), "there is no pass unroll");
}

/// Feeds whose floats hold every kind of special value, more of them with every seed.
fn hostile_feeds(graph: &Graph, seed: u64) -> Tensors {
    let special =
        [0.0, -0.0, 1.0, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3.0e38, 1e-45, -7.0, 0.1];
    let mut feeds = Tensors::new();
    for (_, node) in graph.iter() {
        let Some(name) = node.op.leaf_name() else { continue };
        let ty = &node.types[0];
        let dims: Vec<usize> =
            ty.shape.dims().iter().map(|dim| dim.as_static().map_or(3, |extent| extent as usize)).collect();
        let count = dims.iter().product::<usize>();
        let number = |index: usize| {
            let step = index * 7 + seed as usize;
            if ty.dtype.is_float() {
                Number::Float(special[step % special.len()])
            } else {
                Number::Int([0, 1, -1, 127, -128, 255, 5, 1 << 40][step % 8])
            }
        };
        let literal = Literal::from_numbers(ty.dtype, &dims, (0..count).map(number)).unwrap();
        feeds.insert(name.to_string(), literal);
    }
    feeds
}

/// Bits are compared, but for those of NaNs.
fn same_bits(a: &Literal, b: &Literal) -> bool {
    let bits = |number: Number| match number {
        Number::Float(value) if value.is_nan() => None,
        Number::Float(value) => Some(i128::from(value.to_bits())),
        Number::Int(value) => Some(value),
        Number::Complex(..) => None,
    };
    a.ty() == b.ty() && (0..a.len()).all(|index| bits(a.number(index)) == bits(b.number(index)))
}

/// Blocks of a line `rule: NAME` and the lines of a graph.
const EXAMPLES: &str = include_str!("../../rlx-opt/src/passes/simplify_algebra/rules.rlx");

#[test]
fn every_algebra_rule_applies_to_its_examples_and_keeps_types_and_bits() {
    let blocks: Vec<(&str, &str)> =
        EXAMPLES.split("\n\n").filter_map(|block| block.strip_prefix("rule: ")?.split_once('\n')).collect();
    for (name, _) in &blocks {
        assert!(RULES.iter().any(|rule| rule.name == *name), "there is no rule {name}");
    }
    for rule in RULES {
        let examples = blocks.iter().filter(|(name, _)| *name == rule.name);
        assert!(examples.clone().count() > 0, "{} has no example", rule.name);
        for (_, example) in examples {
            check_example(rule, &format!("rlx 1\ngraph \"example\" {{\n{example}\n}}\n"));
        }
    }
}

fn check_example(rule: &Rule, text: &str) {
    let graph = parse_graph(text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", rule.name));
    let simpler = simplify(&graph, std::slice::from_ref(rule)).unwrap();
    assert!(
        simpler.notes.iter().any(|note| note.remark == Remark::Simplified(rule.name)),
        "{} does not apply\n{text}",
        rule.name
    );
    rlx_ir::verify::verify(&simpler.graph).unwrap();
    let types = |graph: &Graph| {
        graph.outputs().iter().map(|output| graph.ty(output.value).clone()).collect::<Vec<_>>()
    };
    assert_eq!(types(&graph), types(&simpler.graph), "{}", rule.name);
    for seed in 0..11 {
        let feeds = hostile_feeds(&graph, seed);
        let (before, after) = (evaluate(&graph, &feeds).unwrap(), evaluate(&simpler.graph, &feeds).unwrap());
        for ((_, before), (_, after)) in before.outputs.iter().zip(&after.outputs) {
            assert!(same_bits(before, after), "{}: {before:?} became {after:?}\n{text}", rule.name);
        }
    }
}
