//! Options of a compilation. Whatever an option says is done or refused.

use rlx_ir::{DType, OpKind};
use std::collections::BTreeMap;

/// In which dtypes the float arithmetic of a graph runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum PrecisionPolicy {
    /// As the graph says.
    #[default]
    Keep,
    /// All float arithmetic in this dtype (`f32`, `f16` or `bf16`).
    Always(DType),
    /// Matmul-like ops in the given half dtype, the rest in `f32`.
    Mixed(DType),
    /// As `Mixed`, but only where operands are weights.
    MixedConservative(DType),
    /// Dtype per op kind; other kinds stay as they are.
    Custom(BTreeMap<OpKind, DType>),
}

/// Which ops run as backend kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum KernelDispatch {
    /// Native wherever the backend claims it.
    #[default]
    PreferNative,
    /// Decompose every op that has a decomposition.
    ForceDecomposed,
    /// Refuse to compile where a composite op is not claimed.
    ForceNative,
}

/// What becomes of values that an op does not take, such as an index out of range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checks {
    /// The run is a fault that names the op and the position.
    #[default]
    On,
    /// No check, and undefined results; refused where kernels check in any case.
    Off,
    /// The nearest legal value is taken; where there is none, as `On`.
    Clamp,
}

/// Everything a caller can choose about a compilation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CompileOptions {
    /// Float dtypes.
    pub precision: PrecisionPolicy,
    /// Native or decomposed.
    pub dispatch: KernelDispatch,
    /// Exceptions to `dispatch`, per op kind.
    pub dispatch_by_kind: BTreeMap<OpKind, KernelDispatch>,
    /// Remove nodes whose results nothing uses?
    pub dead_code_elimination: bool,
    /// Evaluate what depends on constants alone?
    pub constant_folding: bool,
    /// Loops of at most this many steps become their steps, one after the other.
    pub unroll: usize,
    /// Merge elementwise ops into regions and attach them to anchors?
    pub fusion: bool,
    /// May floats keep more precision inside a fused step than their dtype holds?
    pub excess_precision: bool,
    /// Alignment of arena buffers in bytes that the caller relies on: a power of
    /// two, refused where the backend does not give it.
    pub alignment: Option<usize>,
    /// Run-time value checks.
    pub checks: Checks,
    /// Verify after every pass (always on in debug builds)?
    pub verify_each: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        CompileOptions {
            precision: PrecisionPolicy::Keep,
            dispatch: KernelDispatch::PreferNative,
            dispatch_by_kind: BTreeMap::new(),
            dead_code_elimination: true,
            constant_folding: true,
            unroll: 1,
            fusion: true,
            excess_precision: true,
            alignment: None,
            checks: Checks::On,
            verify_each: cfg!(debug_assertions),
        }
    }
}
