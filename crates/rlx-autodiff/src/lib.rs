//! Derivatives and batching of graphs, by what each op says of itself
//! ([`rlx_ir::derive`]).
//!
//! Every function takes a verified graph and gives a verified graph, so they
//! compose: the gradient of a gradient is the second derivative, [`vmap`] of a
//! [`jvp`] a whole Jacobian. Leaves keep their names, symbolic extents stay
//! symbolic, state updates stay. What is not needed is not built: derivatives
//! of values on which nothing asked for depends, and those that are zero.
//!
//! - [`grad`] and [`value_and_grad`]: of one real output, an output `grad:NAME` for each input or param;
//! - [`vjp`]: the same from given cotangents, inputs `cotangent:OUTPUT`;
//! - [`jvp`]: from inputs `tangent:NAME`, an output `tangent:OUTPUT` for each output;
//! - [`hvp`]: a second derivative times a vector, outputs `hvp:NAME`;
//! - [`vmap`]: a batch of everything;
//! - [`scan_backward`]: the reverse sweep of one scan, appended to its graph;
//! - [`checkpointed`]: [`value_and_grad`] that computes parts of the graph again instead of keeping them.
//!
//! ```
//! use rlx_autodiff::grad;
//! use rlx_ir::interpret::{Tensors, evaluate};
//! use rlx_ir::{DType, Graph, Literal};
//!
//! // y = sum(x x), whose gradient is 2 x.
//! let mut graph = Graph::new("squares");
//! let x = graph.input_f32("x", [3]);
//! let square = graph.mul(x, x);
//! let y = graph.reduce(square, rlx_ir::ops::ReduceKind::Sum, vec![0], false);
//! graph.output("y", y);
//! let graph = graph.finish()?;
//!
//! let gradient = grad(&graph, "y", &["x"])?;
//! let x = Literal::floats(DType::F32, &[3], &[1.0, -2.0, 0.5])?;
//! let found = evaluate(&gradient, &Tensors::from([("x".to_string(), x)]))?;
//! assert_eq!(found.outputs[0].0, "grad:x");
//! assert_eq!(found.outputs[0].1.to_f64s(), [2.0, -4.0, 1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod batch;
mod bodies;
mod error;
mod forward;
mod graphs;
mod reverse;
mod transforms;

pub use batch::{Batching, vmap};
pub use bodies::{ScanGradients, scan_backward};
pub use error::AutodiffError;
pub use transforms::{by_block, checkpointed, grad, hvp, jvp, value_and_grad, vjp};
