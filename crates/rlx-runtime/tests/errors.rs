//! Every variant of `RuntimeError`, with the message that a user sees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
#[path = "../../rlx-testkit/shared/error_cases.rs"]
mod shared;

use rlx_ir::{DType, Graph, Literal};
use rlx_runtime::{CompiledGraph, Device, RuntimeError, Session, SessionOptions};
use rlx_weights::{BytesWeightLoader, WeightRegistry};

fn compiled(budget: Option<u64>) -> CompiledGraph {
    let mut graph = Graph::new("g");
    let x = graph.input_f32("x", [2]);
    let w = graph.param_f32("w", [2]);
    let y = graph.mul(x, w);
    graph.output("y", y);
    let options = SessionOptions { memory_budget: budget, threads: Some(1), ..SessionOptions::default() };
    Session::with(Device::CPU, options).unwrap().compile(graph.finish().unwrap()).unwrap()
}

fn weights(name: &str, extent: usize) -> BytesWeightLoader {
    BytesWeightLoader::from_pairs([(
        name,
        Literal::floats(DType::F32, &[extent], &vec![1.0; extent]).expect("one value per element"),
    )])
    .unwrap()
}

error_cases! { RuntimeError in "../src/error.rs":
    a_device_that_is_not_here: Driver, Session::new("cpu:3".parse().unwrap()).map(drop).unwrap_err()
        => "device cpu:3 is not available: 1 of kind cpu can be opened";
    a_weight_that_nobody_registered: Weight,
        RuntimeError::from(WeightRegistry::new().lookup("w").map(drop).unwrap_err())
        => "no weight `w` is registered; list the names to see what is there";
    weights_that_do_not_fit: Weights, compiled(None).bind_weights(&weights("W", 3)).map(drop).unwrap_err()
        => "memory does not fit the graph:\nparam \"w\": is missing; expected f32[2]; did you mean \"W\"?";
    an_option_of_another_device: Option,
        RuntimeError::Option { option: "threads", reason: "cuda:0 has no thread count; it is an option of the cpu".into() }
        => "option threads: cuda:0 has no thread count; it is an option of the cpu";
    a_cache_that_cannot_be_written: Cache,
        RuntimeError::Cache { path: "cache".into(), action: "write", source: std::io::Error::other("disk full") }
        => "compile cache cache: cannot write: disk full";
}
