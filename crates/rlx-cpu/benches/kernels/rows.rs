//! Norms, softmax and elementary functions: of one transformer layer, and larger than the caches.

use crate::{Bench, best, noise};
use rlx_cpu::kernels::map::{UnaryFunction, map};
use rlx_cpu::kernels::math::functions::{Erf, Exp, Gelu, GeluTanh, Log, Sigmoid, Sin, Tanh};
use rlx_cpu::kernels::reduce::{Reduction, reduce};
use rlx_cpu::kernels::rows::{layer_norm, rms_norm, softmax};

/// The group `rows`.
pub fn run(bench: &Bench<'_>) {
    let context = bench.context;
    let threads = context.pool().threads();
    for [rows, width] in [[128, 384], [1536, 128], [4096, 4096]] {
        let count = rows * width;
        let input = noise(count);
        let mut output = vec![0.0; count];
        let scale = vec![1.0; width];
        let time = best(threads, || {
            softmax(context, width, Some(&input), &mut output).expect("valid");
        });
        bench.report_bytes(&format!("softmax {rows}x{width}"), time, count * 8);
        let time = best(threads, || {
            layer_norm(context, &scale, Some(&scale), 1e-5, Some(&input), &mut output).expect("valid");
        });
        bench.report_bytes(&format!("layer norm {rows}x{width}"), time, count * 8);
        let time = best(threads, || {
            rms_norm(context, &scale, 1e-5, Some(&input), &mut output).expect("valid");
        });
        bench.report_bytes(&format!("rms norm {rows}x{width}"), time, count * 8);
        for (name, shape) in [("rows", [rows, width, 1]), ("columns", [1, rows, width])] {
            let outputs = &mut output[..shape[0] * shape[2]];
            let time = best(threads, || {
                reduce(context, Reduction::Sum, shape, &input, outputs).expect("valid");
            });
            bench.report_bytes(&format!("sum of {name} {rows}x{width}"), time, count * 4);
        }
    }
}

/// The group `math`.
pub fn run_math(bench: &Bench<'_>) {
    function(bench, "exp", Exp);
    function(bench, "log", Log);
    function(bench, "tanh", Tanh);
    function(bench, "erf", Erf);
    function(bench, "sigmoid", Sigmoid);
    function(bench, "sin", Sin);
    function(bench, "gelu", Gelu);
    function(bench, "gelu by tanh", GeluTanh);
}

fn function<F: UnaryFunction>(bench: &Bench<'_>, name: &str, function: F) {
    let context = bench.context;
    let count = 8192;
    let input: Vec<f32> = noise(count).iter().map(|x| x.abs() * 4.0 + 0.1).collect();
    let mut output = vec![0.0; count];
    let time = best(1, || {
        for _ in 0..16 {
            map(context, function, &input, &mut output).expect("valid");
        }
    });
    let each = time.as_secs_f64() * 1e9 / (16 * count) as f64;
    println!("{name:44} {each:9.3} ns an element");
}
