//! Every cell of op, dtype, attributes and arrangement of the operands: through the interpreter, decomposed, and at
//! each instruction set. The counts are printed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_opt::{CompileOptions, KernelDispatch};
use rlx_testkit::cells::{CellPath, count_cells};

#[test]
fn every_cell_agrees_with_the_interpreter() {
    let backends: Vec<(SimdLevel, Option<CpuBackend>)> = SimdLevel::ALL
        .into_iter()
        .map(|level| (level, level.is_available().then(|| CpuBackend::with(1, level).unwrap())))
        .collect();
    let best = CpuBackend::with(1, SimdLevel::detect()).unwrap();
    let plain = CompileOptions::default();
    let decomposed = CompileOptions { dispatch: KernelDispatch::ForceDecomposed, ..plain.clone() };
    let path = |name: String, backend, options: &CompileOptions| CellPath {
        missing: false,
        name,
        backend,
        options: options.clone(),
    };
    let mut paths = vec![
        path("interpreter".into(), None, &plain),
        path("decomposed".into(), Some(&best as _), &decomposed),
    ];
    for (level, backend) in &backends {
        let missing = backend.is_none();
        let backend = backend.as_ref().map(|backend| backend as _);
        paths.push(CellPath { missing, ..path(format!("cpu {level:?}"), backend, &plain) });
    }
    count_cells(&paths).check();
}
