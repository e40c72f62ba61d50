//! Cases that no random sample meets: kinks, NaN, empty tensors, symbols,
//! names, batches of derivatives, parts that are computed again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_autodiff::{
    AutodiffError, Batching, by_block, checkpointed, grad, hvp, jvp, scan_backward, value_and_grad, vjp, vmap,
};
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::ops::{Attention, AttentionOperands, MaskKind, Op, ReduceKind};
use rlx_ir::{DType, Dim, Graph, Literal, OpKind, Shape, TensorType, Value};
use std::collections::BTreeSet;

fn floats(dims: &[usize], values: &[f64]) -> Literal {
    Literal::floats(DType::F64, dims, values).unwrap()
}

/// `y = sum(f(inputs))` over inputs `x0`, `x1`, ..., all f64.
fn summed(shapes: &[&[usize]], f: impl FnOnce(&mut Graph, &[Value]) -> Value) -> Graph {
    let mut graph = Graph::new("case");
    let inputs: Vec<Value> = shapes
        .iter()
        .enumerate()
        .map(|(index, &dims)| graph.input(format!("x{index}"), TensorType::new(DType::F64, dims)))
        .collect();
    let value = f(&mut graph, &inputs);
    let axes: Vec<usize> = (0..graph.ty(value).rank()).collect();
    let y = graph.reduce(value, ReduceKind::Sum, axes, false);
    graph.output("y", y);
    graph.finish().unwrap()
}

/// The gradients of `y` by every input.
fn gradients(graph: &Graph, inputs: &[Literal]) -> Vec<Vec<f64>> {
    let names: Vec<String> = (0..inputs.len()).map(|index| format!("x{index}")).collect();
    let built = grad(graph, "y", &names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let feeds: Tensors = names.into_iter().zip(inputs.iter().cloned()).collect();
    let found = evaluate(&built, &feeds).unwrap().outputs;
    found.into_iter().map(|(_, literal)| literal.to_f64s()).collect()
}

#[test]
fn a_value_used_twice_has_the_sum() {
    let graph = summed(&[&[2]], |g, x| {
        let square = g.mul(x[0], x[0]);
        let sine = g.sub(square, x[0]);
        g.mul(sine, square)
    });
    // (x^2 - x) x^2 has the derivative 4 x^3 - 3 x^2.
    assert_eq!(gradients(&graph, &[floats(&[2], &[2.0, -1.0])]), [[20.0, -7.0]]);
}

#[test]
fn nan_stays_in_values() {
    let graph = summed(&[&[2]], |g, x| g.sub(x[0], x[0]));
    assert_eq!(gradients(&graph, &[floats(&[2], &[f64::NAN, f64::INFINITY])]), [[0.0, 0.0]]);
    // The branch that is not taken has no say, though its derivative is infinite.
    use rlx_ir::{ScalarOp, ScalarProgram};
    let mut program = ScalarProgram::new(vec![DType::F64]);
    let (x, zero) = (program.input(0), program.constant(DType::F64, 0.0));
    let positive = program.binary(ScalarOp::Gt, x, zero);
    let root = program.unary(ScalarOp::Sqrt, x);
    program.outputs = vec![program.select(positive, root, zero).0];
    let region = summed(&[&[2]], |g, x| g.apply_program(&program, x, &Shape::from([2]))[0]);
    assert_eq!(gradients(&region, &[floats(&[2], &[4.0, 0.0])]), [[0.25, 0.0]]);
}

#[test]
fn kinks_are_as_documented() {
    let at =
        |f: fn(&mut Graph, &[Value]) -> Value, x: f64| gradients(&summed(&[&[]], f), &[floats(&[], &[x])]);
    assert_eq!(at(|g, x| g.relu(x[0]), 0.0), [[0.0]]);
    assert_eq!(at(|g, x| g.relu(x[0]), f64::MIN_POSITIVE), [[1.0]]);
    assert_eq!(at(|g, x| g.abs(x[0]), 0.0), [[0.0]]);
    assert_eq!(at(|g, x| g.sigmoid(x[0]), -1e4), [[0.0]]);
    assert_eq!(at(|g, x| g.silu(x[0]), -1e4), [[0.0]]);
    let two = |f: fn(&mut Graph, &[Value]) -> Value, a: f64, b: f64| {
        gradients(&summed(&[&[], &[]], f), &[floats(&[], &[a]), floats(&[], &[b])])
    };
    assert_eq!(two(|g, x| g.maximum(x[0], x[1]), 3.0, 3.0), [[0.5], [0.5]]);
    assert_eq!(two(|g, x| g.minimum(x[0], x[1]), 3.0, 2.0), [[0.0], [1.0]]);
    assert_eq!(two(|g, x| g.pow(x[0], x[1]), 0.0, 0.0), [[0.0], [0.0]]);
    assert_eq!(two(|g, x| g.pow(x[0], x[1]), -2.0, 3.0)[0], [12.0]);
    let graph = summed(&[&[4]], |g, x| g.reduce(x[0], ReduceKind::Max, vec![0], false));
    assert_eq!(gradients(&graph, &[floats(&[4], &[1.0, 5.0, 5.0, 2.0])]), [[0.0, 0.5, 0.5, 0.0]]);
    let graph = summed(&[&[3]], |g, x| g.reduce(x[0], ReduceKind::Prod, vec![0], false));
    assert_eq!(gradients(&graph, &[floats(&[3], &[2.0, 0.0, 3.0])]), [[0.0, 6.0, 0.0]]);
    assert_eq!(gradients(&graph, &[floats(&[3], &[0.0, 0.0, 3.0])]), [[0.0, 0.0, 0.0]]);
    let graph = summed(&[&[4]], |g, x| g.cum_prod(x[0], 0usize, false, false));
    assert_eq!(gradients(&graph, &[floats(&[4], &[2.0, 0.0, 3.0, 5.0])]), [[1.0, 38.0, 0.0, 0.0]]);
}

#[test]
fn one_winner_per_window() {
    use rlx_ir::ops::{Pool, PoolKind};
    let graph = summed(&[&[1, 4]], |g, x| g.push(Pool::tiles(PoolKind::Max, &[2]), &[x[0]]));
    assert_eq!(gradients(&graph, &[floats(&[1, 4], &[7.0, 7.0, 1.0, 2.0])]), [[1.0, 0.0, 0.0, 1.0]]);
}

#[test]
fn rows_that_see_nothing_have_no_gradient() {
    let graph = summed(&[&[1, 1, 3, 2], &[1, 1, 2, 2], &[1, 1, 2, 2]], |g, x| {
        let causal = Attention::heads(1, 1).mask_kind(MaskKind::Causal);
        // Three queries for two keys at the end: the first sees none.
        g.attend(causal, AttentionOperands::new(x[0], x[1], x[2]))[0]
    });
    let values = |count: usize| (0..count).map(|index| index as f64 / 3.0 - 0.5).collect::<Vec<_>>();
    let inputs = [
        floats(&[1, 1, 3, 2], &values(6)),
        floats(&[1, 1, 2, 2], &values(4)),
        floats(&[1, 1, 2, 2], &values(4)),
    ];
    let found = gradients(&graph, &inputs);
    assert!(found.iter().flatten().all(|x| x.is_finite()), "{found:?}");
    assert_eq!(found[0][..2], [0.0, 0.0]);
    assert!(found[2].iter().sum::<f64>() > 3.9, "two rows of two elements weigh four: {:?}", found[2]);
}

#[test]
fn broadcasts_are_summed_both_ways() {
    let graph = summed(&[&[2, 1], &[3]], |g, x| g.mul(x[0], x[1]));
    let inputs = [floats(&[2, 1], &[1.0, 2.0]), floats(&[3], &[1.0, 10.0, 100.0])];
    assert_eq!(gradients(&graph, &inputs), [vec![111.0, 111.0], vec![3.0, 3.0, 3.0]]);
}

#[test]
fn empty_and_single_tensors() {
    let graph = summed(&[&[0, 3], &[3]], |g, x| g.mul(x[0], x[1]));
    let inputs = [floats(&[0, 3], &[]), floats(&[3], &[1.0, 2.0, 3.0])];
    assert_eq!(gradients(&graph, &inputs), [vec![], vec![0.0; 3]]);
    let graph = summed(&[&[1, 1]], |g, x| g.softmax(x[0], 1usize));
    assert_eq!(gradients(&graph, &[floats(&[1, 1], &[3.0])]), [[0.0]]);
}

/// `y = mean((x w)^2)` with symbolic rows, and a weight `w`.
fn symbolic() -> Graph {
    let mut g = Graph::new("symbolic");
    let x = g.input_f32("x", Shape::new([Dim::from("B"), Dim::from(2)]));
    let w = g.param_f32("w", [2, 1]);
    let b = g.param_f32("b", [1]);
    let y = g.mm(x, w);
    let y = g.add(y, b);
    let y = g.mul(y, y);
    let y = g.reduce(y, ReduceKind::Mean, vec![0, 1], false);
    g.output("y", y);
    g.finish().unwrap()
}

#[test]
fn symbols_stay_symbols() {
    let built = value_and_grad(&symbolic(), "y", &["w", "b", "x"]).unwrap();
    let x = Literal::floats(DType::F32, &[2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
    let w = Literal::floats(DType::F32, &[2, 1], &[1.0, -1.0]).unwrap();
    let b = Literal::floats(DType::F32, &[1], &[0.5]).unwrap();
    let feeds = Tensors::from([("x".into(), x), ("w".into(), w), ("b".into(), b)]);
    let found: Vec<Vec<f64>> =
        evaluate(&built, &feeds).unwrap().outputs.iter().map(|(_, literal)| literal.to_f64s()).collect();
    // Both rows give -0.5.
    assert_eq!(found, [vec![0.25], vec![-2.0, -3.0], vec![-1.0], vec![-0.5, 0.5, -0.5, 0.5]]);
    assert_eq!(built.ty(built.outputs()[3].value).shape[0], Dim::from("B"));
}

#[test]
fn only_what_is_asked_for_is_built() {
    let whole = grad(&symbolic(), "y", &["w", "x"]).unwrap();
    let part = grad(&symbolic(), "y", &["b"]).unwrap();
    let products = |graph: &Graph| graph.nodes_of(OpKind::MatMul).count();
    assert_eq!((products(&whole), products(&part)), (3, 1));
}

#[test]
fn an_input_without_influence_has_zeros() {
    let graph = summed(&[&[2], &[2]], |_, x| x[0]);
    assert_eq!(gradients(&graph, &[floats(&[2], &[1.0, 2.0]), floats(&[2], &[3.0, 4.0])])[1], [0.0, 0.0]);
}

#[test]
fn derivatives_compose() {
    // y = sum x^3: gradient 3 x^2, second derivative 6 x, third 6.
    let graph = summed(&[&[2]], |g, x| {
        let square = g.mul(x[0], x[0]);
        g.mul(square, x[0])
    });
    let x = floats(&[2], &[2.0, -1.0]);
    let mut feeds = Tensors::from([("x0".to_string(), x.clone())]);
    feeds.insert("tangent:x0".into(), floats(&[2], &[1.0, 10.0]));
    let found = evaluate(&hvp(&graph, "y", &["x0"]).unwrap(), &feeds).unwrap().outputs;
    assert_eq!(found[1].0, "hvp:x0");
    assert_eq!(found[1].1.to_f64s(), [12.0, -60.0]);
    // The Hessian, as a batch of products with unit vectors.
    let hessian = hvp(&graph, "y", &["x0"]).unwrap();
    let batching = Batching { size: 2.into(), inputs: &[("tangent:x0", 0)], output_axis: 0 };
    let hessian = vmap(&hessian, &batching).unwrap();
    feeds.insert("tangent:x0".into(), floats(&[2, 2], &[1.0, 0.0, 0.0, 1.0]));
    let found = evaluate(&hessian, &feeds).unwrap().outputs;
    assert_eq!(found[1].1.to_f64s(), [12.0, 0.0, 0.0, -6.0]);
    // Thrice backwards.
    let mut graph = graph;
    for _ in 0..2 {
        let gradient = grad(&graph, "y", &["x0"]).unwrap();
        let mut summed = gradient.clone();
        let value = gradient.outputs()[0].value;
        let y = summed.reduce(value, ReduceKind::Sum, vec![0], false);
        summed.set_outputs([("y", y)]);
        graph = summed.finish().unwrap();
    }
    assert_eq!(gradients(&graph, &[x]), [[6.0, 6.0]]);
}

#[test]
fn batches_nest_and_go_to_any_axis() {
    let graph = summed(&[&[2]], |g, x| g.mul(x[0], x[0]));
    let gradient = grad(&graph, "y", &["x0"]).unwrap();
    let inner = Batching { size: 3.into(), inputs: &[("x0", 1)], output_axis: 1 };
    let outer = Batching { size: Dim::from("N"), inputs: &[("x0", 0)], output_axis: 2 };
    let both = vmap(&vmap(&gradient, &inner).unwrap(), &outer).unwrap();
    let output = both.outputs()[0].value;
    assert_eq!(both.ty(output).shape, Shape::new([Dim::from(2), Dim::from(3), Dim::from("N")]));
    let x: Vec<f64> = (0..6).map(f64::from).collect();
    let found = evaluate(&both, &Tensors::from([("x0".into(), floats(&[1, 2, 3], &x))])).unwrap();
    assert_eq!(found.outputs[0].1.to_f64s(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
}

#[test]
fn several_outputs_have_cotangents_of_their_own() {
    let mut g = Graph::new("two");
    let x = g.input("x", TensorType::new(DType::F64, [3]));
    let best = g.top_k(x, 2, 0usize, true, true, DType::I64);
    let square = g.mul(x, x);
    g.output("best", best[0]);
    g.output("square", square);
    let graph = g.finish().unwrap();
    let built = vjp(&graph, &["best", "square"], &["x"]).unwrap();
    let feeds = Tensors::from([
        ("x".into(), floats(&[3], &[1.0, 3.0, 2.0])),
        ("cotangent:best".into(), floats(&[2], &[10.0, 20.0])),
        ("cotangent:square".into(), floats(&[3], &[1.0, 1.0, 1.0])),
    ]);
    assert_eq!(evaluate(&built, &feeds).unwrap().outputs[2].1.to_f64s(), [2.0, 16.0, 24.0]);
}

/// How many different computations a graph holds: equal ops on equal operands count once.
fn different(graph: &Graph, kind: OpKind) -> usize {
    let mut first: Vec<Value> = vec![];
    let mut seen: Vec<(Op, Vec<Value>, Value)> = vec![];
    let mut count = BTreeSet::new();
    for (id, node) in graph.iter() {
        let operands: Vec<Value> = node
            .operands
            .iter()
            .map(|operand| Value { node: first[operand.node.0 as usize].node, ..*operand })
            .collect();
        let known = seen.iter().find(|(op, others, _)| *op == node.op && *others == operands);
        let value = known.map_or(Value::first(id), |(_, _, value)| *value);
        if known.is_none() {
            seen.push((node.op.clone(), operands, value));
        }
        first.push(value);
        if node.op.kind() == kind {
            count.insert(value);
        }
    }
    count.len()
}

#[test]
fn checkpoints_compute_again_and_are_not_merged() {
    let mut g = Graph::new("layers");
    let mut x = g.input("x", TensorType::new(DType::F64, [2, 2]));
    for layer in 0..3 {
        g.set_path(&format!("layers.{layer}"));
        let w = g.param(format!("w{layer}"), TensorType::new(DType::F64, [2, 2]));
        let y = g.mm(x, w);
        x = g.tanh(y);
    }
    let y = g.reduce(x, ReduceKind::Sum, vec![0, 1], false);
    g.output("y", y);
    let graph = g.finish().unwrap();
    let names = ["x", "w0", "w1", "w2"];
    let plain = value_and_grad(&graph, "y", &names).unwrap();
    let lean = checkpointed(&graph, "y", &names, by_block("layers")).unwrap();
    let mut feeds = Tensors::new();
    for (index, name) in names.iter().enumerate() {
        let values: Vec<f64> = (0..4).map(|at| (index as f64 - 1.3) * 0.3 + f64::from(at) * 0.1).collect();
        feeds.insert((*name).into(), floats(&[2, 2], &values));
    }
    assert_eq!(evaluate(&lean, &feeds).unwrap(), evaluate(&plain, &feeds).unwrap());
    // Three forwards, six backwards, and the three products that are computed again.
    assert_eq!(different(&plain, OpKind::MatMul), 9);
    assert_eq!(different(&lean, OpKind::MatMul), 12);
    // A policy that keeps the products: no derivative of a layer reads more than them and what it was given.
    let kept = checkpointed(&graph, "y", &names, |id, node| {
        by_block("layers")(id, node).filter(|_| node.op.kind() != OpKind::MatMul)
    });
    let kept = kept.unwrap();
    assert_eq!((different(&kept, OpKind::MatMul), different(&kept, OpKind::Activation)), (9, 3));
    // What a layer computes is not used by another layer's derivative, but behind a barrier.
    assert!(different(&lean, OpKind::Barrier) >= 3);
}

#[test]
fn errors_name_what_is_wrong() {
    let mut g = Graph::new("errors");
    let x = g.input("x", TensorType::new(DType::F64, [3]));
    let n = g.input("n", TensorType::new(DType::I64, [3]));
    let bits = g.push(rlx_ir::ops::Bitcast { to: DType::F64 }, &[x]);
    let loss = g.reduce(bits, ReduceKind::Sum, vec![0], false);
    g.output("loss", loss);
    g.output("n", n);
    let graph = g.finish().unwrap();
    let message = |error: AutodiffError| error.to_string();
    let of = |output: &str, names: &[&str]| message(grad(&graph, output, names).unwrap_err());
    assert_eq!(of("loss", &["X"]), "the graph has no input or param \"X\"; did you mean \"x\"?");
    assert_eq!(of("lost", &["x"]), "the graph has no output \"lost\"; did you mean \"loss\"?");
    assert_eq!(of("loss", &["x", "x"]), "input or param \"x\" is named twice");
    let no_derivative = "which has no derivative; expected a float or complex dtype";
    assert_eq!(of("loss", &["n"]), format!("input \"n\" is i64[3], {no_derivative}"));
    assert_eq!(of("n", &["x"]), "output \"n\" is i64[3]; a gradient needs one real number, use vjp for more");
    assert_eq!(of("loss", &["x"]), "%2: bitcast has no reverse derivative: bits are not numbers");
    let forward = message(jvp(&graph, &["x"]).unwrap_err());
    assert_eq!(forward, "%2: bitcast has no forward derivative: bits are not numbers");
    let fed = message(vjp(&graph, &["n"], &["x"]).unwrap_err());
    assert_eq!(fed, format!("output \"n\" is i64[3], {no_derivative}"));
    let batching = Batching { size: 2.into(), inputs: &[("x", 2)], output_axis: 0 };
    let batched = message(vmap(&graph, &batching).unwrap_err());
    assert_eq!(batched, "input \"x\" is f64[3]: axis 2 is out of range for its batched form of rank 2");
}

#[test]
fn the_reverse_sweep_of_a_scan_gives_what_vjp_gives() {
    let mut compared = 0;
    let is_wide = |ty: &TensorType| ty.dtype == DType::F64;
    for sample in OpKind::Scan.samples().into_iter().filter(|sample| is_wide(&sample.operands[0].0)) {
        let (graph, mut feeds) = sample.graph(3);
        let graph = graph.finish().expect("samples are valid");
        let (id, node) = graph.nodes_of(OpKind::Scan).last().expect("the sample's op is there");
        let (operands, mut swept) = (node.operands.clone(), graph.clone());
        let mut cotangents = vec![];
        for output in graph.outputs() {
            let ty = graph.ty(output.value).clone();
            let name = format!("cotangent:{}", output.name);
            cotangents.push(is_wide(&ty).then(|| swept.input(name.clone(), ty.clone())));
            if is_wide(&ty) {
                let dims = ty.shape.as_static().expect("samples are static");
                let values: Vec<f64> =
                    (0..dims.iter().product()).map(|index: usize| 0.5 + index as f64).collect();
                feeds.insert(name, floats(&dims, &values));
            }
        }
        let found = scan_backward(&mut swept, id, &cotangents).expect("its body has derivatives");
        let all = [found.carries, found.broadcast, found.stacked].concat();
        assert_eq!(all.len(), operands.len());
        swept.set_outputs(Vec::<(String, Value)>::new());
        let (mut outputs, mut inputs) = (vec![], vec![]);
        for (operand, derivative) in operands.iter().zip(all) {
            assert_eq!(derivative.is_some(), is_wide(graph.ty(*operand)));
            if let Some(derivative) = derivative {
                let name = graph.op(*operand).leaf_name().expect("operands of samples are leaves");
                swept.output(name, derivative);
                inputs.push(name);
            }
        }
        outputs.extend(graph.outputs().iter().filter(|output| is_wide(graph.ty(output.value))));
        let outputs: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let expected = vjp(&graph, &outputs, &inputs).expect("its body has derivatives");
        let expected = evaluate(&expected, &feeds).expect("feeds fit").outputs;
        let swept = swept.finish().expect("the sweep is valid");
        let found = evaluate(&swept, &feeds).expect("feeds fit").outputs;
        for (name, literal) in found {
            let other = expected.iter().find(|(other, _)| *other == format!("grad:{name}"));
            assert_eq!(literal, other.expect("vjp gives it too").1, "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 10, "only {compared} derivatives were compared");
    let (mut graph, _) = OpKind::Cast.samples()[0].graph(3);
    let error = scan_backward(&mut graph, rlx_ir::NodeId(0), &[]).expect_err("there is no scan");
    assert!(error.to_string().contains("it is not a scan"), "{error}");
}
