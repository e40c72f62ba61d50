//! Ops with attributes and types that nobody means: huge, negative, empty, of the wrong kind. Inference, the
//! verifier, the interpreter, the pipeline and the CPU refuse them or agree with each other; nothing panics,
//! and nothing asks for memory that such a graph does not deserve.
//!
//! One test only: what another one allocated meanwhile would be counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, DriverError, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare, epsilon};
use rlx_ir::attr::Attr;
use rlx_ir::interpret::{MOST_ELEMENTS, Tensors, evaluate};
use rlx_ir::op::{Fill, Sample};
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::text::{parse_graph_using, print_graph};
use rlx_ir::{
    Bindings, CustomRegistry, DType, Dim, Graph, Literal, Op, OpKind, Shape, SymbolBounds, TensorType,
};
use rlx_opt::{Capabilities, CompileOptions, KernelDispatch, OptError};
use rlx_testkit::{Fuzz, Limited};
use std::time::Duration;

/// Most bytes of one allocation: far more than the small tensors of this test need.
const MOST_BYTES: usize = 256 << 20;
/// Most elements of a tensor that is filled and run.
const MOST_RUN: i64 = 1 << 14;

#[global_allocator]
static ALLOCATOR: Limited = Limited::new(MOST_BYTES);

const INTEGERS: [i64; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    -1,
    -2,
    64,
    255,
    65536,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 32,
    1 << 40,
    1 << 47,
    1 << 48,
    (1 << 48) + 1,
    1 << 62,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
];
const REALS: [f64; 12] =
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e308, 1e-308, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 9.3e18];

fn choose<T: Clone>(list: &[T], generator: &mut Generator) -> T {
    list[generator.below(list.len())].clone()
}

/// A small number mostly, a number of the list, or an expression.
fn dim(generator: &mut Generator) -> Dim {
    match generator.below(8) {
        0..=4 => Dim::from(generator.below(5)),
        5 => Dim::from(choose(&INTEGERS, generator)),
        6 => Dim::symbol("S"),
        _ => {
            let (s, k) = (Dim::symbol("S"), Dim::from(choose(&INTEGERS, generator)));
            match generator.below(5) {
                0 => s + k,
                1 => s * k,
                2 => s.floor_div(&k),
                3 => k.modulo(&s),
                _ => s.minimum(&k),
            }
        }
    }
}

fn mutate_list<T>(
    list: &mut Vec<T>,
    generator: &mut Generator,
    mut change: impl FnMut(&mut T, &mut Generator),
) where
    T: Clone,
{
    let at = generator.below(list.len().max(1));
    match generator.below(6) {
        0 if !list.is_empty() => drop(list.remove(at)),
        1 if !list.is_empty() => list.insert(at, list[at].clone()),
        _ if !list.is_empty() => change(&mut list[at], generator),
        _ => {}
    }
}

fn mutate_shape(shape: &mut Shape, generator: &mut Generator) {
    let mut dims = shape.dims().to_vec();
    if generator.below(12) == 0 {
        dims.push(dim(generator));
    }
    mutate_list(&mut dims, generator, |slot, generator| *slot = dim(generator));
    *shape = Shape::from(dims);
}

fn mutate_type(ty: &mut TensorType, generator: &mut Generator) {
    if generator.below(4) == 0 {
        ty.dtype = choose(DType::ALL, generator);
    } else {
        mutate_shape(&mut ty.shape, generator);
    }
}

fn mutate_attr(attr: &mut Attr, generator: &mut Generator) {
    match attr {
        Attr::Dim(slot) => *slot = dim(generator),
        Attr::Real(slot) => *slot = choose(&REALS, generator),
        Attr::Word(word) => {
            let words =
                ["true", "false", "none", "add", "max", "constant", "edge", "bshd", "causal", "nearest"];
            *word = match generator.below(2) {
                0 => choose(DType::ALL, generator).name().to_string(),
                _ => choose(&words, generator).to_string(),
            };
        }
        Attr::Text(text) => text.push('\u{202e}'),
        Attr::List(items) => mutate_list(items, generator, mutate_attr),
        Attr::Type(ty) => mutate_type(ty, generator),
        Attr::Literal(literal) => {
            let mut ty = literal.ty();
            mutate_type(&mut ty, generator);
            if is_small(&ty) {
                *literal = fill_literal(&ty, Fill::Any, generator);
            }
        }
        Attr::Program(program) => mutate_program(std::sync::Arc::make_mut(program), generator),
        Attr::Body(body) => {
            let shared = std::cell::RefCell::new(generator);
            let change = |old: &Dim| {
                let mut generator = shared.borrow_mut();
                if generator.below(6) == 0 { dim(&mut generator) } else { old.clone() }
            };
            *body = Graph::map_dims(body, &change).into();
        }
        Attr::Custom(_) => {}
    }
}

fn mutate_program(program: &mut rlx_ir::ScalarProgram, generator: &mut Generator) {
    mutate_list(&mut program.instrs, generator, |instr, generator| match generator.below(3) {
        0 => instr.dtype = choose(DType::ALL, generator),
        1 => instr.kind = rlx_ir::ScalarKind::Op(choose(rlx_ir::ScalarOp::ALL, generator)),
        _ => mutate_list(&mut instr.args, generator, |arg, generator| *arg = generator.below(9) as u32),
    });
    if generator.below(4) == 0 {
        mutate_list(&mut program.outputs, generator, |output, generator| *output = generator.below(9) as u32);
    }
}

/// A sample with some of its attributes and operand types changed; `None` where the attributes make no op.
fn mutated(samples: &[Sample<Op>], generator: &mut Generator) -> Option<(Op, Vec<TensorType>)> {
    let sample = choose(samples, generator);
    let mut types: Vec<TensorType> = sample.operands.iter().map(|(ty, _)| ty.clone()).collect();
    let mut attrs: Vec<(String, Attr)> =
        sample.op.attrs().into_iter().map(|(name, attr)| (name.to_string(), attr)).collect();
    for _ in 0..1 + generator.below(4) / 2 {
        match generator.below(4) {
            0 | 1 => replace_extent(&mut types, &mut attrs, generator),
            2 if !types.is_empty() => {
                let at = generator.below(types.len());
                mutate_type(&mut types[at], generator);
            }
            _ if !attrs.is_empty() => {
                let at = generator.below(attrs.len());
                mutate_attr(&mut attrs[at].1, generator);
            }
            _ => {}
        }
    }
    // One dtype for all keeps ops that want equal ones alive.
    if generator.below(6) == 0 {
        let dtype = choose(DType::ALL, generator);
        types.iter_mut().for_each(|ty| ty.dtype = dtype);
    }
    let op = sample.op.kind().from_attrs(&attrs).ok()?;
    let ends_soon =
        |extent: &Dim| extent.as_symbol().is_some() || extent.as_static().is_some_and(|extent| extent < 4096);
    op.loop_extent().is_none_or(ends_soon).then_some((op, types))
}

/// One extent becomes another wherever it stands, in types and maybe in attributes.
fn replace_extent(types: &mut [TensorType], attrs: &mut [(String, Attr)], generator: &mut Generator) {
    let extents: Vec<Dim> = types.iter().flat_map(|ty| ty.shape.dims().iter().cloned()).collect();
    let old = extents.get(generator.below(extents.len())).cloned().unwrap_or_default();
    let new = match generator.below(3) {
        0 => Dim::symbol("S"),
        _ => dim(generator),
    };
    let replace = |dim: &Dim| if *dim == old { new.clone() } else { dim.clone() };
    for ty in types {
        ty.shape = Shape::from(ty.shape.dims().iter().map(replace).collect::<Vec<_>>());
    }
    if generator.below(2) == 0 {
        for (_, attr) in attrs {
            if let Attr::List(items) = attr {
                items.iter_mut().for_each(|item| {
                    if let Attr::Dim(dim) = item {
                        *dim = replace(dim);
                    }
                });
            }
        }
    }
}

fn is_small(ty: &TensorType) -> bool {
    ty.shape.as_static().is_some_and(|dims| {
        dims.iter()
            .map(|&extent| extent.max(1) as i64)
            .try_fold(1i64, i64::checked_mul)
            .is_some_and(|volume| volume <= MOST_RUN)
    })
}

/// The type with `S` bound, if it has a value.
fn bound(ty: &TensorType, bindings: &Bindings) -> Option<TensorType> {
    Some(TensorType::new(ty.dtype, ty.shape.eval(bindings).ok()?.as_slice()))
}

/// Values that kernels and checks find hard: often indices out of range.
fn fill(ty: &TensorType, generator: &mut Generator) -> Literal {
    match generator.below(4) {
        0 => fill_literal(ty, Fill::Range(0.0, 2.0), generator),
        1 if ty.dtype.is_int() && !ty.dtype.is_storage_only() => {
            fill_literal(ty, Fill::Range(0.0, 4.0), generator)
        }
        _ => fill_literal(ty, Fill::Any, generator),
    }
}

fn graph_of(op: &Op, types: &[TensorType]) -> Result<Graph, String> {
    let mut graph = Graph::new("hostile");
    graph.bound_symbol("S", SymbolBounds { min: 0, max: None });
    let inputs: Vec<_> =
        types.iter().enumerate().map(|(index, ty)| graph.input(format!("x{index}"), ty.clone())).collect();
    for (index, value) in graph.push_all(op.clone(), &inputs).into_iter().enumerate() {
        graph.output(format!("y{index}"), value);
    }
    graph.finish().map_err(|error| error.to_string())
}

/// Definitions round what they compute on the way: their results are as far apart as some roundings of a product
/// of the largest numbers, which may be operands that cancel. For ops that accumulate, and for 16-bit floats.
fn roundings_agree(found: &Literal, expected: &Literal, feeds: &Tensors, accuracy: Accuracy) -> bool {
    let accumulates = matches!(accuracy, Accuracy::Accumulated { .. }) && expected.dtype().is_float();
    if !(accumulates || matches!(expected.dtype(), DType::F16 | DType::BF16)) {
        return false;
    }
    let unit = epsilon(expected.dtype());
    let numbers = feeds.values().chain([expected]).flat_map(Literal::to_f64s);
    let largest =
        numbers.filter(|number| number.is_finite()).fold(1.0, |most: f64, number| most.max(number.abs()));
    let near = |(a, e): (f64, f64)| {
        a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= 8.0 * unit * largest * largest
    };
    found.to_f64s().into_iter().zip(expected.to_f64s()).all(near)
}

/// Some results change much with the last bits of the operands: a quotient near its pole, a difference of equals. They
/// may be as far apart as neighbours of the operands take them.
fn is_as_sensitive(
    graph: &Graph,
    output: &str,
    found: &Literal,
    expected: &Literal,
    feeds: &Tensors,
) -> bool {
    if !matches!(expected.dtype(), DType::F32 | DType::F64) {
        return false;
    }
    let expected = expected.to_f64s();
    let mut moved = vec![0.0f64; expected.len()];
    for seed in 0..8 {
        let mut generator = Generator::new(seed);
        let mut neighbours = feeds.clone();
        for literal in
            neighbours.values_mut().filter(|literal| matches!(literal.dtype(), DType::F32 | DType::F64))
        {
            let unit = 2.0 * epsilon(literal.dtype());
            let numbers: Vec<f64> =
                literal.to_f64s().iter().map(|x| x * (1.0 + unit * (2.0 * generator.unit() - 1.0))).collect();
            *literal = Literal::floats(literal.dtype(), literal.dims(), &numbers).unwrap();
        }
        let Ok(results) = evaluate(graph, &neighbours) else { return false };
        let Some((_, result)) = results.outputs.iter().find(|(name, _)| name == output) else { return false };
        for ((moved, value), expected) in moved.iter_mut().zip(result.to_f64s()).zip(&expected) {
            *moved = moved.max((value - expected).abs());
        }
    }
    let near = |((a, e), moved): ((f64, &f64), &f64)| {
        a == *e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= 16.0 * moved
    };
    found.to_f64s().into_iter().zip(&expected).zip(&moved).all(near)
}

/// Binds the extents and, where they are small, compares a run with the interpreter. Says whether it ran.
fn run(
    backend: &CpuBackend,
    graph: &Graph,
    options: &CompileOptions,
    s: i64,
    generator: &mut Generator,
) -> Result<bool, String> {
    let compiled = match rlx_opt::compile(graph.clone(), &backend.capabilities(), options) {
        Ok(compiled) => compiled,
        Err(error @ OptError::Broken { .. }) => return Err(error.to_string()),
        Err(_) => return Ok(false),
    };
    let lir = rlx_ir::lir::print_lir(&compiled.module);
    let mut executable = backend.compile_lir(compiled.module).map_err(|error| error.to_string())?;
    let bindings: Bindings = [("S", s)].into_iter().collect();
    let estimate = executable.memory_estimate(&bindings);
    let leaves: Vec<(String, TensorType)> = graph
        .iter()
        .filter_map(|(_, node)| Some((node.op.leaf_name()?.to_string(), node.types[0].clone())))
        .collect();
    let mut feeds = Tensors::new();
    for (name, ty) in &leaves {
        let Some(ty) = bound(ty, &bindings).filter(is_small) else { return Ok(false) };
        feeds.insert(name.clone(), fill(&ty, generator));
    }
    // The interpreter stops at its limit; between this test's and that one it would take too long.
    let results = graph.nodes().iter().flat_map(|node| &node.types);
    let too_long = results.filter_map(|ty| bound(ty, &bindings)).any(|ty| {
        let count = ty.shape.num_elements().as_static().unwrap_or(i64::MAX);
        count > MOST_RUN && count <= MOST_ELEMENTS as i64
    });
    if too_long {
        return Ok(false);
    }
    let expected = evaluate(graph, &feeds);
    if estimate.as_ref().is_ok_and(|memory| memory.total() > (MOST_BYTES / 4) as u64) {
        return Ok(false);
    }
    let inputs: Vec<(&str, TensorRef<'_>)> =
        feeds.iter().map(|(name, literal)| (name.as_str(), literal.into())).collect();
    let found = executable.run_typed(&inputs);
    let accuracy = match graph.nodes().last().map(|node| node.op.accuracy()) {
        Some(Accuracy::Exact | Accuracy::Rounding) => Accuracy::Approx { ulp: 8.0 },
        Some(Accuracy::Approx { ulp }) => Accuracy::Approx { ulp: ulp + 8.0 },
        Some(other) => other,
        None => Accuracy::Exact,
    };
    // Attributes that f32 cannot hold, or next to which operands vanish, change results legally.
    let attrs: Vec<_> = graph.nodes().iter().flat_map(|node| node.op.attrs()).collect();
    let is_ordinary = attrs.iter().all(|(_, attr)| match attr {
        Attr::Real(value) => *value == 0.0 || (1e-30..16.0).contains(&value.abs()),
        _ => true,
    });
    // The derivative of a norm over one element cancels to what its roundings are.
    let is_ordinary = is_ordinary
        && !(s == 1 && graph.nodes().iter().any(|node| node.op.def().name.ends_with("norm_backward")));
    // Scales have neither zero nor sign: what definitions compute on the way has no place among them.
    let is_ordinary = is_ordinary && leaves.iter().all(|(_, ty)| ty.dtype != DType::F8E8M0);
    match (found, expected) {
        (Ok(found), Ok(expected)) => {
            for ((name, found), (_, expected)) in found.iter().zip(&expected.outputs) {
                let numbers = expected.to_f64s();
                if is_ordinary && numbers.iter().all(|value| value.is_nan() || value.abs() < 1e30) {
                    compare(found, expected, accuracy, None)
                        .or_else(|error| {
                            let agree = roundings_agree(found, expected, &feeds, accuracy)
                                || is_as_sensitive(graph, name, found, expected, &feeds);
                            agree.then_some(()).ok_or(error)
                        })
                        .map_err(|error| format!("output {name}: {error}\nfeeds {feeds:?}\n{lir}"))?;
                }
            }
            Ok(true)
        }
        (Err(_), Err(_)) => Ok(false),
        (Ok(_), Err(error)) if error.to_string().contains("not evaluated") => Ok(false),
        (Ok(_), Err(error)) => {
            Err(format!("runs, where the interpreter says: {error}\nfeeds {feeds:?}\n{lir}"))
        }
        // Strides, and what definitions do along the way, may have no value where nothing is computed.
        (Err(DriverError::Lir(_) | DriverError::Plan(_) | DriverError::Dim(_)), Ok(_))
            if s == 0 || feeds.values().any(Literal::is_empty) =>
        {
            Ok(false)
        }
        (Err(error), Ok(_)) => {
            Err(format!("the interpreter runs, the CPU says: {error}\nfeeds {feeds:?}\n{lir}"))
        }
    }
}

fn check(backend: &CpuBackend, samples: &[Sample<Op>], case: u64) -> Result<bool, String> {
    let generator = &mut Generator::new(case);
    let Some((op, types)) = mutated(samples, generator) else { return Ok(false) };
    let label = |error: String| format!("{error}\n{} on {types:?}\n{op:?}", op.def().name);
    if let Err(violation) = op.infer(&types.iter().collect::<Vec<_>>()) {
        return if violation.message.is_empty() {
            Err(label("is refused without a word".into()))
        } else {
            Ok(false)
        };
    }
    let Ok(graph) = graph_of(&op, &types) else { return Ok(false) };
    let text = print_graph(&graph);
    match parse_graph_using(&text, &|_| None, &CustomRegistry::of_samples()) {
        Ok(again) if again == graph => {}
        Ok(_) => return Err(label(format!("parses back as another graph:\n{text}"))),
        Err(error) => return Err(label(format!("does not parse back: {error}\n{text}"))),
    }
    let options = CompileOptions {
        fusion: generator.below(4) > 0,
        dispatch: [KernelDispatch::PreferNative, KernelDispatch::ForceDecomposed][generator.below(2)].clone(),
        ..CompileOptions::default()
    };
    if let Err(error) = rlx_opt::compile(graph.clone(), &Capabilities::reference(), &options) {
        return if error.to_string().is_empty() {
            Err(label("is refused without a word".into()))
        } else {
            Ok(false)
        };
    }
    let symbols = if graph.symbols().is_empty() { vec![1] } else { vec![0, 1, 3, 1 << 40, i64::MAX] };
    let mut ran = false;
    for s in symbols {
        ran |= run(backend, &graph, &options, s, generator)
            .map_err(|error| label(format!("S = {s}: {error}")))?;
    }
    Ok(ran)
}

#[test]
fn hostile_graphs_are_refused_or_run_right_in_little_memory() {
    let backend = CpuBackend::with(2, SimdLevel::detect()).unwrap();
    let samples: Vec<Sample<Op>> = OpKind::ALL.iter().flat_map(|kind| kind.samples()).collect();
    let fuzz = Fuzz {
        fixed: 8_000,
        known: &[
            161_938_635_148_111,
            55_244_528_613_726,
            115_411_822_824_762,
            221_262_462_791_657,
            91_413_557_829_341,
            91_413_557_835_381,
            248_481_286_856_224,
            275_916_563_917_796,
            142_802_077_019_365,
            164_957_876_011_638,
            45_809_820_674_911,
            87_679_325_023_002,
            84_338_485_737_506,
            215_551_029_444_356,
            161_245_458_306_707,
            64_000_251_448_486,
            70_602_097_419_837,
            37_993_921_864_363,
            82_606_136_821_670,
        ],
        fresh: Duration::from_secs(3),
    };
    let ran = fuzz.run(move |case| {
        ALLOCATOR.begin(case);
        let said = check(&backend, &samples, case)?;
        match ALLOCATOR.refused() {
            0 => Ok(said),
            size => Err(format!("asks for {size} bytes")),
        }
    });
    assert!(ran.yes * 20 > ran.cases, "few cases run: {ran:?}");
}
