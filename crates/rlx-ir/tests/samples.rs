//! Generic tests: each runs for every sample of every op, with no test written
//! for the op itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_ir::derive::{Judgement, REASONS};
use rlx_ir::interpret::{Tensors, evaluate, evaluate_decomposition, evaluate_op};
use rlx_ir::text::{parse_graph_using, print_graph};
use rlx_ir::{Accuracy, Bindings, CustomRegistry, Dim, Graph, OpKind, Shape, TensorType};

fn for_each_sample(mut visit: impl FnMut(&str, &rlx_ir::op::Sample<rlx_ir::Op>)) {
    for &kind in OpKind::ALL {
        for (index, sample) in kind.samples().iter().enumerate() {
            visit(&format!("{kind} sample {index} {:?}", sample.op), sample);
        }
    }
}

#[test]
fn every_op_but_the_fed_leaves_has_samples() {
    for &kind in OpKind::ALL {
        let fed = matches!(kind, OpKind::Input | OpKind::Param | OpKind::State);
        assert_eq!(kind.samples().is_empty(), fed, "{kind}");
    }
}

#[test]
fn every_op_names_its_constraints_in_its_doc() {
    for &kind in OpKind::ALL {
        assert!(kind.def().doc.len() > 20, "{kind} has no doc");
    }
}

/// A hole has one of the reasons there are, and the reason holds for every sample.
#[test]
fn what_has_no_derivative_has_a_reason_that_holds() {
    for_each_sample(|label, sample| {
        let kind = sample.op.kind();
        let operands: Vec<&TensorType> = sample.operands.iter().map(|(ty, _)| ty).collect();
        let results = sample.op.infer(&operands).unwrap_or_else(|error| panic!("{label}: {error}"));
        let moves = |ty: &TensorType| ty.dtype.is_differentiable();
        let (in_moves, out_moves) = (operands.iter().any(|ty| moves(ty)), results.iter().any(moves));
        let judgements = kind.judgements();
        for (what, judgement) in
            [("vjp", judgements.vjp), ("jvp", judgements.jvp), ("vmap", judgements.batch)]
        {
            let Judgement::No(reason) = judgement else { continue };
            let holds = match REASONS.iter().position(|known| *known == reason) {
                Some(0) => operands.is_empty(),
                Some(1) => !in_moves,
                Some(2) => !out_moves,
                Some(3) => kind.def().family == "quantised",
                Some(4) => kind == OpKind::Bitcast,
                Some(5) => kind == OpKind::NonMaxSuppression && what == "vmap",
                _ => false,
            };
            assert!(holds, "{label} has no {what} because {reason}");
        }
    });
}

#[test]
fn text_round_trips() {
    let registry = CustomRegistry::of_samples();
    for_each_sample(|label, sample| {
        let (graph, _) = sample.graph(1);
        let graph = graph.finish().unwrap_or_else(|error| panic!("{label}: {error}"));
        let text = print_graph(&graph);
        let parsed = parse_graph_using(&text, &|_| None, &registry);
        let parsed = parsed.unwrap_or_else(|error| panic!("{label}: {error}\n{text}"));
        assert_eq!(parsed, graph, "{label}\n{text}");
        assert_eq!(print_graph(&parsed), text, "{label}");
    });
}

#[test]
fn evaluation_gives_the_inferred_types() {
    for_each_sample(|label, sample| {
        let (graph, feeds) = sample.graph(2);
        let evaluation = evaluate(&graph, &feeds).unwrap_or_else(|error| panic!("{label}: {error}"));
        let types: Vec<_> = graph.outputs().iter().map(|output| graph.ty(output.value).clone()).collect();
        let found: Vec<_> = evaluation.outputs.iter().map(|(_, literal)| literal.ty()).collect();
        assert_eq!(found, types, "{label}");
    });
}

#[test]
fn scalar_programs_give_the_inferred_dtypes() {
    let mut elementwise = 0;
    for_each_sample(|label, sample| {
        let (graph, _) = sample.graph(1);
        let (_, node) = graph.nodes_of(sample.op.kind()).last().expect("the sample's op is there");
        let dtypes: Vec<_> = node.operands.iter().map(|&operand| graph.ty(operand).dtype).collect();
        let program = node.op.scalar_program(&dtypes);
        assert_eq!(program.is_some(), node.op.meaning().scalar.is_some(), "{label}");
        let Some(program) = program else { return };
        let results: Vec<_> = node.types.iter().map(|ty| ty.dtype).collect();
        assert_eq!((program.inputs.clone(), program.output_dtypes()), (dtypes, results), "{label}");
        elementwise += 1;
    });
    assert!(elementwise > 5, "{elementwise} elementwise samples");
}

#[test]
fn decomposition_agrees_with_evaluation() {
    for_each_sample(|label, sample| {
        let meaning = sample.op.meaning();
        let (Some(rule), Some(_)) = (&meaning.decompose, &meaning.eval) else { return };
        let literals = sample.literals(3);
        let operands: Vec<_> = literals.iter().collect();
        let direct = evaluate_op(&sample.op, &operands).unwrap_or_else(|fault| panic!("{label}: {fault}"));
        let decomposed = evaluate_decomposition(&sample.op, &**rule, &operands)
            .unwrap_or_else(|fault| panic!("{label}: {fault}"));
        // Decompositions round at every op, so exactness is only asked of exact ops.
        let accuracy = match sample.op.accuracy() {
            Accuracy::Rounding => Accuracy::Approx { ulp: 4.0 },
            other => other,
        };
        assert_eq!(direct.len(), decomposed.len(), "{label}");
        for (d, e) in decomposed.iter().zip(&direct) {
            rlx_ir::accuracy::compare(d, e, accuracy, None)
                .unwrap_or_else(|error| panic!("{label}: {error}"));
        }
    });
}

/// The operand types with a symbol for every extent above 1, the same for the same extent.
fn symbolic_types(sample: &rlx_ir::op::Sample<rlx_ir::Op>) -> (Vec<TensorType>, Bindings) {
    let mut bindings = Bindings::new();
    let mut symbolic = vec![];
    for (ty, _) in &sample.operands {
        let dims = ty.shape.as_static().expect("samples are static");
        let dims: Vec<Dim> = dims
            .iter()
            .map(|&extent| {
                if extent <= 1 {
                    return Dim::from(extent);
                }
                bindings.set(&format!("D{extent}"), extent as i64);
                Dim::symbol(&format!("D{extent}"))
            })
            .collect();
        symbolic.push(TensorType::new(ty.dtype, Shape::from(dims)));
    }
    (symbolic, bindings)
}

#[test]
fn symbolic_inference_agrees_with_concrete_inference() {
    let mut compared = 0;
    for_each_sample(|label, sample| {
        let (symbolic, bindings) = symbolic_types(sample);
        let concrete: Vec<_> = sample.operands.iter().map(|(ty, _)| ty).collect();
        let concrete = sample.op.infer(&concrete).unwrap_or_else(|violation| panic!("{label}: {violation}"));
        // Attributes may fix extents, so a refusal is legal; a different answer is not.
        let Ok(inferred) = sample.op.infer(&symbolic.iter().collect::<Vec<_>>()) else { return };
        compared += 1;
        for (s, c) in inferred.iter().zip(&concrete) {
            let dims = s.shape.eval(&bindings).unwrap_or_else(|error| panic!("{label}: {error}"));
            assert_eq!(TensorType::new(s.dtype, dims.as_slice()), *c, "{label}");
        }
    });
    assert!(compared > 100, "only {compared} samples could be inferred symbolically");
}

/// As the operand types of a sample, but only extents that the op accepts as symbols become one:
/// they are tried one by one.
fn partly_symbolic_types(sample: &rlx_ir::op::Sample<rlx_ir::Op>) -> Vec<TensorType> {
    let mut types: Vec<TensorType> = sample.operands.iter().map(|(ty, _)| ty.clone()).collect();
    let (symbolic, bindings) = symbolic_types(sample);
    for (symbol, extent) in bindings.iter() {
        let replaced: Vec<TensorType> = types
            .iter()
            .zip(&symbolic)
            .map(|(ty, symbolic)| {
                let dims = ty.shape.dims().iter().zip(symbolic.shape.dims());
                let replace = |(dim, symbolic): (&Dim, &Dim)| match symbolic.as_symbol() {
                    Some(name) if name == symbol && dim.is(extent) => symbolic.clone(),
                    _ => dim.clone(),
                };
                TensorType::new(ty.dtype, Shape::from(dims.map(replace).collect::<Vec<_>>()))
            })
            .collect();
        if sample.op.infer(&replaced.iter().collect::<Vec<_>>()).is_ok() {
            types = replaced;
        }
    }
    types
}

#[test]
fn symbolic_decomposition_agrees_with_evaluation() {
    let mut compared = 0;
    for_each_sample(|label, sample| {
        let meaning = sample.op.meaning();
        let Some(rule) = &meaning.decompose else { return };
        let types = partly_symbolic_types(sample);
        if types.iter().all(|ty| ty.shape.as_static().is_some()) {
            return;
        }
        let literals = sample.literals(4);
        let direct = evaluate_op(&sample.op, &literals.iter().collect::<Vec<_>>())
            .unwrap_or_else(|fault| panic!("{label}: {fault}"));
        let (mut graph, mut feeds) = (Graph::new("symbolic"), Tensors::new());
        let mut inputs = vec![];
        for (index, (ty, literal)) in types.into_iter().zip(literals).enumerate() {
            inputs.push(graph.input(format!("x{index}"), ty));
            feeds.insert(format!("x{index}"), literal);
        }
        for (index, value) in rule(&mut graph, &inputs).into_iter().enumerate() {
            graph.output(format!("y{index}"), value);
        }
        let graph = graph.finish().unwrap_or_else(|error| panic!("{label}: {error}"));
        let found = evaluate(&graph, &feeds).unwrap_or_else(|error| panic!("{label}: {error}"));
        let accuracy = match sample.op.accuracy() {
            Accuracy::Rounding => Accuracy::Approx { ulp: 4.0 },
            other => other,
        };
        assert_eq!(found.outputs.len(), direct.len(), "{label}");
        for ((_, found), direct) in found.outputs.iter().zip(&direct) {
            rlx_ir::accuracy::compare(found, direct, accuracy, None)
                .unwrap_or_else(|error| panic!("{label}: {error}"));
        }
        compared += 1;
    });
    assert!(compared > 50, "only {compared} samples decompose symbolically");
}

#[test]
fn wrong_arity_is_refused_by_name() {
    for_each_sample(|label, sample| {
        let mut types: Vec<_> = sample.operands.iter().map(|(ty, _)| ty).collect();
        if sample.op.def().variadic.is_some() {
            return;
        }
        let extra = TensorType::new(rlx_ir::DType::F32, [1usize]);
        types.push(&extra);
        let violation = sample.op.infer(&types).expect_err(label);
        assert_eq!(violation.constraint, "arity", "{label}");
    });
}
