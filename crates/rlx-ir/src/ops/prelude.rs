//! The names that op files start from, so that each op names only what is particular to it.

pub(super) use super::*;
pub(super) use crate::accuracy::Accuracy;
pub(super) use crate::attr::Real;
pub(super) use crate::body::Body;
pub(super) use crate::dim::Dim;
pub(super) use crate::dtype::{DType, DTypeClass};
pub(super) use crate::graph::{Graph, Value};
pub(super) use crate::literal::{Literal, element_count};
pub(super) use crate::number::{Number, wrap};
pub(super) use crate::op::{
    AccuracyRule, Backward, Batch, Batched, Derivatives, Evaluated, Fault, Forward, Inferred, Jvp, Meaning,
    OpSpec, Sample, Samples, Violation, Vjp,
};
pub(super) use crate::scalar::{ScalarOp, ScalarProgram, ScalarValue};
pub(super) use crate::shape::{Shape, TensorType};
pub(super) use crate::value_range::{ValueRange, read_values};
pub(super) use crate::{attr_enum, op, require};
pub(super) use std::sync::Arc;
