//! RLX: an ML compiler and runtime. This crate is what a user depends on.
//!
//! Write a tensor program as a [`Graph`], compile it in a [`Session`], run it:
//!
//! ```
//! use rlx::{Device, Graph, Session};
//!
//! let mut graph = Graph::new("layer");
//! let x = graph.input_f32("x", [2, 3]);
//! let w = graph.param_f32("w", [3, 2]);
//! let product = graph.mm(x, w);
//! let y = graph.relu(product);
//! graph.output("y", y);
//!
//! let session = Session::new(Device::CPU)?;
//! let mut layer = session.compile(graph.finish()?)?;
//! layer.set_param("w", &[1.0, 0.0, 0.0, 1.0, 1.0, -1.0])?;
//! let results = layer.run(&[("x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])])?;
//! assert_eq!(results[0], [4.0, 0.0, 10.0, 0.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The crates behind it are here under their own names: [`ir`] says what a
//! program is and means, [`autodiff`] its derivatives, [`opt`] the compile pipeline, [`driver`] what a
//! device is, [`weights`] the weight files, [`models`] the model families, [`onnx`] the
//! importer of ONNX files, [`train`] training.
//! This crate itself holds no code.
#![forbid(unsafe_code)]

pub use rlx_autodiff as autodiff;
pub use rlx_driver as driver;
pub use rlx_ir as ir;
pub use rlx_models as models;
pub use rlx_onnx as onnx;
pub use rlx_opt as opt;
pub use rlx_runtime as runtime;
pub use rlx_train as train;
pub use rlx_weights as weights;

pub use rlx_ir::hir::{HirModule, HirValue};
pub use rlx_ir::lir::BindingManifest;
pub use rlx_ir::mir::MirModule;
pub use rlx_ir::{
    Bindings, DType, Dim, Graph, GraphModule, IrError, Literal, Op, OpKind, Shape, SymbolBounds, TensorType,
    Value,
};
pub use rlx_runtime::{
    Checks, CompileOptions, CompiledGraph, Device, DeviceInfo, DeviceKind, KernelDispatch, MemoryUse,
    Outputs, PrecisionPolicy, RawOutput, RuntimeError, Session, SessionOptions, TensorRef, devices,
};
pub use rlx_weights::{BytesWeightLoader, MappedWeights, WeightLoader, WeightRegistry};

/// The code block of the page about ONNX is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/onnx.md")]
struct OnnxPage;
