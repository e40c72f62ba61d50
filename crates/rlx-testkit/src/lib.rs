//! Test support for RLX: filetests, and one way to say what did not run.
//!
//! Invariants: nothing here knows a backend; a test that cannot run says so through [`not_run`].
//!
//! No crate that ships depends on this one.
#![deny(unsafe_code)]

pub mod backend_suite;
pub mod cells;
pub mod decoder;
pub mod feeds;
pub mod filetest;
mod fuzz;
#[allow(unsafe_code)]
mod limited;
pub mod near;
mod not_run;
pub mod products;
mod random_graph;
pub mod small_floats;
pub mod value_cases;

pub use filetest::{filetest_main, is_blessing};
pub use fuzz::{Fuzz, Ran};
pub use limited::Limited;
pub use not_run::{minilm, not_run, onnx_conformance};
pub use random_graph::{RandomGraph, random_graph, random_graph_with};

/// The code blocks of the first tour are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/first-tour.md")]
struct FirstTour;
