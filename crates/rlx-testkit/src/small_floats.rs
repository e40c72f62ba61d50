//! 8-bit floats on a backend: every code, and rounding between codes.

use rlx_driver::{Backend, TensorRef};
use rlx_ir::interpret::evaluate;
use rlx_ir::{DType, Graph, Literal};
use rlx_opt::CompileOptions;

/// Every code of every 8-bit float becomes its number, and an `f32` becomes the nearest code, as by the interpreter.
///
/// # Errors
/// The first dtype whose casts differ.
pub fn check_small_floats(backend: &dyn Backend) -> Result<(), String> {
    let dtypes = [DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz, DType::F8E8M0];
    dtypes.into_iter().try_for_each(|dtype| {
        let codes = Literal::from_bytes(dtype, &[256], &(0..=255).collect::<Vec<u8>>());
        let numbers = check_cast(backend, &codes.map_err(|error| error.to_string())?, DType::F32)?;
        // Each number, its neighbours, and what lies half way and nearly so to the next.
        let mut values = vec![f32::MIN_POSITIVE, 1e-40, f32::MAX, f32::INFINITY, -0.0, f32::NAN];
        for pair in numbers.windows(2) {
            let middle = pair[0] / 2.0 + pair[1] / 2.0;
            values.extend([pair[0].next_down(), pair[0].next_up()]);
            values.extend([middle.next_down(), middle, middle.next_up()]);
        }
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        check_cast(
            backend,
            &Literal::floats(DType::F32, &[values.len()], &values).expect("one value per element"),
            dtype,
        )
        .map(drop)
    })
}

/// Compares a cast with the interpreter's, where any NaN is any other; what it gives.
fn check_cast(backend: &dyn Backend, from: &Literal, to: DType) -> Result<Vec<f32>, String> {
    let mut g = Graph::new("cast");
    let x = g.input("x", from.ty());
    let y = g.cast_to(x, to);
    g.output("y", y);
    let graph = g.finish().map_err(|error| error.to_string())?;
    let feeds = [("x".to_string(), from.clone())].into();
    let expected = evaluate(&graph, &feeds).map_err(|error| error.to_string())?;
    let expected = expected.outputs[0].1.to_f64s();
    let compiled = backend.compile(graph, &CompileOptions::default());
    let mut executable = compiled.map_err(|error| error.to_string())?;
    let found = executable.run_typed(&[("x", TensorRef::from(from))]).map_err(|error| error.to_string())?;
    for ((found, expected), from) in found[0].1.to_f64s().iter().zip(&expected).zip(from.to_f64s()) {
        let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
        if !same {
            return Err(format!("{from:e} as {to} is {found:e}, expected {expected:e}"));
        }
    }
    Ok(expected.into_iter().map(|value| value as f32).collect())
}
