//! What the lowering has kernels for, as answers to the passes.
//!
//! A backend makes its capabilities of these; `long` and `double` say whether its language has 64-bit integers and
//! `f64`.

use super::register;
use crate::ir::Scalar;
use rlx_ir::{DType, Op, ScalarOp};
use rlx_opt::{Attachment, Claim, OpView};

/// Types that a target has beyond 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    /// 64-bit integers.
    pub long: bool,
    /// `f64`.
    pub double: bool,
}

fn computes(dtype: DType, wide: Wide) -> Claim {
    let has = match register(dtype) {
        None => false,
        Some(Scalar::F64) => wide.double,
        Some(Scalar::I64 | Scalar::U64) => wide.long,
        Some(_) => true,
    };
    Claim::when(has, || match dtype.is_storage_only() {
        true => "kernels do not read storage-only dtypes here".into(),
        false => format!("kernels do not compute {dtype} here"),
    })
}

/// Is there a kernel for this op?
pub fn claim(view: &OpView<'_>, wide: Wide) -> Claim {
    let dtypes = view.operands.iter().map(|ty| ty.dtype).chain(view.results.iter().map(|ty| ty.dtype));
    if let Some(no) = dtypes.map(|dtype| computes(dtype, wide)).find(|claim| !claim.is_native()) {
        return no;
    }
    let has = matches!(
        view.op,
        Op::Reduce(_)
            | Op::ArgReduce(_)
            | Op::MatMul(_)
            | Op::Conv(_)
            | Op::Pool(_)
            | Op::Gather(_)
            | Op::GatherNd(_)
            | Op::ScatterNd(_)
            | Op::TopK(_)
    );
    let name = view.op.def().name;
    // The executor goes through branches and loops; what is in their bodies is asked for by itself.
    let has = has || view.op.as_cumulative().is_some() || view.op.is_control_flow();
    Claim::when(has, || format!("there is no kernel for {name}"))
}

/// Can regions compute this primitive on this dtype?
pub fn scalar(_: ScalarOp, dtype: DType, wide: Wide) -> Claim {
    computes(dtype, wide)
}

/// May this region be attached to this anchor? Folds read each element once, so they take any region before them;
/// anchors that store each result once take any region after them.
pub fn accept(attachment: &Attachment<'_>) -> Claim {
    let op = attachment.anchor.op;
    let taken = match attachment.before {
        Some(_) => matches!(op, Op::Reduce(_) | Op::ArgReduce(_)),
        None => matches!(op, Op::Reduce(_) | Op::ArgReduce(_) | Op::MatMul(_) | Op::Conv(_) | Op::Gather(_)),
    };
    Claim::when(taken, || format!("{} does not take regions there", op.def().name))
}
