//! A small decoder with a key-value cache: what a backend must run as a whole.
//!
//! Two layers with norms, attention over a cache of fixed capacity, gelu and tied embeddings; the number of tokens is
//! a symbol. [`check_decoder`] feeds a prompt and then single tokens, and compares logits and states at every step.

use rlx_driver::{Backend, TensorRef};
use rlx_ir::accuracy::{Accuracy, compare};
use rlx_ir::attr::Real;
use rlx_ir::interpret::{Tensors, evaluate};
use rlx_ir::op::Fill;
use rlx_ir::ops::{Alignment, AttentionLayout, MaskKind};
use rlx_ir::sample::{Generator, fill_literal};
use rlx_ir::{DType, Dim, Graph, Literal, Shape, SymbolBounds, TensorType, Value};
use rlx_opt::CompileOptions;

const VOCABULARY: usize = 37;
const WIDTH: usize = 16;
const HEADS: usize = 2;
const HEAD: usize = WIDTH / HEADS;
const CAPACITY: usize = 12;
const LAYERS: usize = 2;

/// The decoder: `tokens[S]` and `position[1]`, both i64, give `logits[S, 37]`.
pub fn decoder() -> Graph {
    let mut g = Graph::new("decoder");
    g.bound_symbol("S", SymbolBounds { min: 1, max: Some(CAPACITY as i64) });
    let count = Dim::symbol("S");
    let tokens = g.input("tokens", TensorType::new(DType::I64, Shape::new([count.clone()])));
    let position = g.input("position", TensorType::new(DType::I64, [1]));
    let table = g.param_f32("embedding", [VOCABULARY, WIDTH]);
    let places = g.param_f32("positions", [CAPACITY, WIDTH]);
    let offsets = g.iota(DType::I64, Shape::new([count.clone()]), 0usize);
    let at = g.add(offsets, position);
    let (word, place) = (g.gather(table, tokens, 0usize), g.gather(places, at, 0usize));
    let mut x = g.add(word, place);
    for layer in 0..LAYERS {
        g.set_path(&format!("layers.{layer}"));
        x = attention(&mut g, layer, x, position, &count);
        let hidden = norm(&mut g, &format!("{layer}.mlp"), x);
        let hidden = linear(&mut g, &format!("{layer}.up"), hidden, WIDTH, 4 * WIDTH);
        let hidden = g.gelu(hidden);
        let hidden = linear(&mut g, &format!("{layer}.down"), hidden, 4 * WIDTH, WIDTH);
        x = g.add(x, hidden);
    }
    let x = norm(&mut g, "last", x);
    let logits = g.matmul(x, table, false, true);
    g.output("logits", logits);
    g
}

fn norm(g: &mut Graph, name: &str, x: Value) -> Value {
    let gamma = g.param_f32(&format!("{name}.gamma"), [WIDTH]);
    let beta = g.param_f32(&format!("{name}.beta"), [WIDTH]);
    g.layer_norm(x, Some(gamma), Some(beta), vec![1usize], Real(1e-5))
}

fn linear(g: &mut Graph, name: &str, x: Value, from: usize, to: usize) -> Value {
    let w = g.param_f32(&format!("{name}.w"), [from, to]);
    let b = g.param_f32(&format!("{name}.b"), [to]);
    let y = g.mm(x, w);
    g.add(y, b)
}

fn attention(g: &mut Graph, layer: usize, x: Value, position: Value, count: &Dim) -> Value {
    let hidden = norm(g, &format!("{layer}.attention"), x);
    let fused = linear(g, &format!("{layer}.qkv"), hidden, WIDTH, 3 * WIDTH);
    let heads = |g: &mut Graph, start: usize| {
        let part = g.narrow_at(fused, 1, start * WIDTH, WIDTH);
        let part = g.view(part, [Dim::from(1), count.clone(), Dim::from(HEADS), Dim::from(HEAD)]);
        g.swap_axes(part, 1, 2)
    };
    let [q, k, v] = [0, 1, 2].map(|part| heads(g, part));
    let cache = |g: &mut Graph, name: &str, update: Value| {
        let name = format!("{name}{layer}");
        let state = g.state(name.as_str(), TensorType::new(DType::F32, [1, HEADS, CAPACITY, HEAD]));
        let state = g.kv_append(state, update, position, 2usize);
        g.update_state(name, state);
        state
    };
    let (keys, values) = (cache(g, "k", k), cache(g, "v", v));
    // The last position, plus one: what the cache holds after this run.
    let taken = g.iota(DType::I64, Shape::new([count.clone()]), 0usize);
    let last = g.narrow_at(taken, 0, count.clone() - Dim::from(1), 1usize);
    let length = g.add(position, last);
    let increment = g.scalar(DType::I64, 1.0);
    let length = g.add(length, increment);
    let mixed = g.attention(
        q,
        keys,
        values,
        None,
        Some(length),
        None,
        None,
        AttentionLayout::Bhsd,
        HEADS,
        HEADS,
        None,
        None,
        MaskKind::Causal,
        0usize,
        Alignment::End,
        false,
    );
    let mixed = g.swap_axes(mixed[0], 1, 2);
    let mixed = g.view(mixed, [count.clone(), Dim::from(WIDTH)]);
    let mixed = linear(g, &format!("{layer}.out"), mixed, WIDTH, WIDTH);
    g.add(x, mixed)
}

/// Runs the decoder on a backend and on the reference interpreter, a prompt and two single tokens.
///
/// # Errors
/// What failed, or the first difference.
pub fn check_decoder(backend: &dyn Backend, options: &CompileOptions) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let graph = decoder().finish().map_err(|error| text(&error))?;
    let mut executable = backend.compile(graph.clone(), options).map_err(|error| text(&error))?;
    let mut feeds = Tensors::new();
    let mut generator = Generator::new(3);
    for entry in &executable.lir().io.params.clone() {
        let literal = fill_literal(&entry.ty, Fill::Range(-0.7, 0.7), &mut generator);
        executable.bind_param(&entry.name, literal.bytes().to_vec().into()).map_err(|error| text(&error))?;
        feeds.insert(entry.name.clone(), literal);
    }
    for entry in &executable.lir().io.states.clone() {
        feeds.insert(entry.name.clone(), fill_literal(&entry.ty, Fill::Range(0.0, 0.0), &mut generator));
    }
    let steps: [(&[i128], i128); 3] = [(&[5, 0, 36, 11, 7], 0), (&[20], 5), (&[3], 6)];
    for (tokens, position) in steps {
        let tokens = Literal::ints(DType::I64, &[tokens.len()], tokens).expect("one value per element");
        let position = Literal::ints(DType::I64, &[1], &[position]).expect("one value per element");
        let inputs = [("tokens", TensorRef::from(&tokens)), ("position", TensorRef::from(&position))];
        let outputs = executable.run_typed(&inputs).map_err(|error| text(&error))?;
        feeds.insert("tokens".into(), tokens.clone());
        feeds.insert("position".into(), position.clone());
        let expected = evaluate(&graph, &feeds).map_err(|error| text(&error))?;
        let accuracy = Accuracy::Accumulated { terms: 64 };
        compare(&outputs[0].1, &expected.outputs[0].1, accuracy, None)?;
        for (name, literal) in expected.states {
            let states = executable.states().ok_or("the backend keeps no states")?;
            let state = states.read_handle(&name).map_err(|error| text(&error))?;
            compare(&state, &literal, accuracy, None).map_err(|error| format!("state {name}: {error}"))?;
            feeds.insert(name, literal);
        }
    }
    Ok(())
}
