//! Every variant of the errors of drivers and CPU kernels, most of them provoked on this backend, with the
//! message that a user sees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
#[path = "../../rlx-testkit/shared/error_cases.rs"]
mod shared;

use rlx_cpu::exec::CpuBackend;
use rlx_cpu::simd::SimdLevel;
use rlx_driver::{Backend, Device, DriverError, ExecutableGraph, SharedBytes, TensorRef};
use rlx_ir::text::parse_graph;
use rlx_ir::{Bindings, DType, Graph};
use rlx_opt::CompileOptions;

/// `y[i] = table[rows[i]] + w`, rows from 1 to 8, and `s` counts the sums.
fn graph() -> Graph {
    let text = "rlx 1\ngraph \"g\" {\n symbol N in [1, 8]\n %t = input {name = \"table\"} : f32[3, 2]\n \
                %r = input {name = \"rows\"} : i64[N]\n %w = param {name = \"w\"} : f32[2]\n \
                %s = state {name = \"s\"} : f32[2]\n %g = gather %t, %r {axis = 0} @ \"embed\"\n \
                %y = binary %g, %w {kind = add}\n %n = binary %s, %w {kind = add}\n output \"y\" = %y\n \
                update \"s\" = %n\n}";
    parse_graph(text).unwrap()
}

fn backend() -> CpuBackend {
    CpuBackend::with(1, SimdLevel::Portable).unwrap()
}

fn executable() -> Box<dyn ExecutableGraph> {
    backend().compile(graph(), &CompileOptions::default()).unwrap()
}

fn bound() -> Box<dyn ExecutableGraph> {
    let mut executable = executable();
    executable.bind_param("w", SharedBytes::from(vec![0; 8])).unwrap();
    executable
}

/// Runs with these rows and names.
fn run(executable: &mut dyn ExecutableGraph, names: &[&str], rows: &[i64]) -> DriverError {
    let (dims, table) = ([rows.len()], [0.0; 6]);
    let tensors: Vec<(&str, TensorRef<'_>)> = names
        .iter()
        .map(|name| match *name {
            "table" => (*name, TensorRef::f32(&[3, 2], &table).unwrap()),
            _ => (*name, TensorRef::i64(&dims, rows).unwrap()),
        })
        .collect();
    executable.run_typed(&tensors).map(drop).unwrap_err()
}

const BOTH: &[&str] = &["table", "rows"];

mod driver_error {
    use super::*;

    error_cases! { DriverError in "../../rlx-driver/src/error.rs":
        a_device_that_nobody_makes: NoSuchDevice, "npu:0".parse::<Device>().unwrap_err()
            => "there is no device \"npu:0\"; the kinds are cpu, gpu, cuda, rocm, metal, mlx, tpu, each with an \
                ordinal such as cuda:1";
        a_device_that_is_not_here: Unavailable,
            DriverError::Unavailable { device: "cuda:1".into(), reason: "this build has no backend for it".into() }
            => "device cuda:1 is not available: this build has no backend for it";
        a_graph_that_does_not_compile: Compile, {
            let options = CompileOptions { alignment: Some(3), ..CompileOptions::default() };
            let mut graph = graph();
            graph.name = "other".into();
            DriverError::from(match backend().compile(graph, &options).map(drop).unwrap_err() {
                DriverError::Compile(error) => error,
                other => panic!("{other}"),
            })
        } => "option alignment: 3 is not a power of two of at most 64, which is what cpu aligns to";
        a_module_that_refuses_its_extents: Lir, {
            let text = "rlx 1\ngraph \"g\" {\n %x = input {name = \"x\"} : f32[N]\n \
                        %y = narrow %x {axis = 0, start = 0, len = 4}\n output \"y\" = %y\n}";
            let graph = parse_graph(text).unwrap();
            let executable = backend().compile(graph, &CompileOptions::default()).unwrap();
            let bindings: Bindings = [("N", 3)].into_iter().collect();
            executable.memory_estimate(&bindings).map(drop).unwrap_err();
            let mut executable = executable;
            let x = TensorRef::f32(&[3], &[0.0; 3]).unwrap();
            executable.run_typed(&[("x", x)]).map(drop).unwrap_err()
        } => "the compiled module does not take these extents: %1 narrow: the end 4 is beyond 3 (C2)\n\
              output \"y\" (copy): view of b0 spans 0..=3, outside its buffer of 3 elements";
        an_arena_beyond_memory: Plan, DriverError::from(rlx_ir::lir::PlanError::TooLarge)
            => "the arena does not fit the address space; use smaller extents";
        an_extent_without_value: Dim, DriverError::from(rlx_ir::DimError::Unbound("N".into()))
            => "symbol N is not bound";
        inputs_that_are_wrong: Inputs, run(&mut *bound(), &["table", "table", "row"], &[0])
            => "input \"table\": is given twice\n\
                input \"row\": there is no such input; did you mean \"rows\"?\n\
                input \"rows\": is missing; expected i64[N]";
        weights_that_are_missing: Unbound, run(&mut *executable(), BOTH, &[0])
            => "params are not bound: w; bind them before the first run";
        a_name_that_is_not_there: NoSuchName,
            executable().bind_param("v", SharedBytes::from(vec![0; 8])).unwrap_err()
            => "there is no param \"v\"; the names are: w";
        values_that_do_not_fill_the_extents: Literal, TensorRef::f32(&[3], &[0.0; 2]).map(drop).unwrap_err().into()
            => "f32[3] needs 12 bytes, found 8";
        a_param_of_the_wrong_size: Mismatch, executable().bind_param("w", SharedBytes::from(vec![0; 9])).unwrap_err()
            => "param \"w\": expected f32[2] (8 bytes), found 9 bytes";
        a_conversion_without_meaning: Conversion,
            rlx_driver::host::convert(DType::Q4_0, &[0; 18], DType::F32, &mut [0; 128]).unwrap_err()
            => "cannot convert q4_0 to f32: one of them packs several elements into a byte or block; dequantize it \
                first";
        an_index_out_of_range: Fault, run(&mut *bound(), BOTH, &[0, 3])
            => "%4 gather embed: index 3 at position 1 is outside [0, 3)";
        state_after_a_fault: Poisoned, {
            let mut executable = bound();
            run(&mut *executable, BOTH, &[7]);
            run(&mut *executable, BOTH, &[0])
        } => "state \"s\" was touched by a run that failed; reset it first";
        more_memory_than_allowed: OverBudget, {
            let mut executable = executable();
            executable.set_memory_budget(Some(100));
            run(&mut *executable, BOTH, &[0])
        } => "the graph needs 24784 bytes (weights 8, arena 192, state 8, workspace 24576), more than the budget of 100 bytes; \
              raise the budget, or use smaller extents or weights";
        memory_that_cannot_be_had: OutOfMemory,
            rlx_driver::arena::AlignedBytes::zeroed(usize::MAX / 4, "the arena").map(drop).unwrap_err()
            => "cannot allocate 4611686018427387903 bytes for the arena";
        what_a_driver_says: Device,
            DriverError::Device { device: "cpu".into(), message: "cannot start threads: no".into() }
            => "cpu: cannot start threads: no";
    }
}

mod kernel_error {
    use super::*;
    use rlx_cpu::kernels::gemm::PackedB;
    use rlx_cpu::kernels::map::map;
    use rlx_cpu::kernels::{Context, KernelError, Matrix, MatrixMut, cast_bytes};
    use rlx_cpu::pool::Pool;

    error_cases! { KernelError in "../src/kernels/error.rs":
        an_instruction_set_that_is_missing: LevelMissing, KernelError::LevelMissing { level: SimdLevel::Avx512Brain }
            => "simd level Avx512Brain is not available on this processor; use SimdLevel::detect()";
        a_view_that_leaves_its_slice: OutOfBounds, Matrix::new(&[0f32; 12], 10, [3, 4], [-4, -1]).map(drop).unwrap_err()
            => "view: the view reaches element -1 of a slice of 12";
        extents_that_disagree: Extent, {
            let pool = Pool::inline();
            map(Context::new(&pool), rlx_cpu::kernels::math::functions::Exp, &[0.0; 3], &mut [0.0; 2]).unwrap_err()
        } => "input: length is 3, expected 2";
        a_buffer_that_is_short: BufferTooSmall,
            PackedB::<f32>::from_bytes(SimdLevel::Portable, [1, 1], &[0; 2]).map(drop).unwrap_err()
            => "packed matrix: found 2 bytes, expected at least 32";
        bytes_that_lie_askew: Misaligned, {
            let words = [0u64; 2];
            cast_bytes::<f64>("weights", &bytemuck::cast_slice::<u64, u8>(&words)[1..]).map(drop).unwrap_err()
        } => "weights: the address must be a multiple of 8; allocate it aligned to 64 bytes";
        rows_that_overlap: Overlap, MatrixMut::new(&mut [0f32; 12], [3, 4], 3).map(drop).unwrap_err()
            => "output: a row stride of 3 is less than the 4 columns of a row";
    }
}

#[test]
fn a_faulted_run_leaves_only_written_states_unusable() {
    let mut executable = bound();
    run(&mut *executable, BOTH, &[7]);
    let states = executable.states().unwrap();
    assert!(matches!(states.read_handle("s"), Err(DriverError::Poisoned(name)) if name == "s"));
    states.reset_handle("s").unwrap();
    assert_eq!(states.read_handle("s").unwrap().to_f64s(), [0.0, 0.0]);
    let (table, rows) = ([0.0; 6], [2]);
    let inputs =
        [("table", TensorRef::f32(&[3, 2], &table).unwrap()), ("rows", TensorRef::i64(&[1], &rows).unwrap())];
    assert_eq!(executable.run_typed(&inputs).unwrap()[0].1.dims(), [1, 2]);
}

#[test]
fn tensors_with_the_wrong_number_of_bytes_are_refused() {
    let mut executable = bound();
    let short = TensorRef { dtype: DType::F32, dims: &[3, 2], bytes: &[0; 20] };
    let rows = TensorRef { dtype: DType::I64, dims: &[1], bytes: &[0; 8] };
    let error = executable.run_typed(&[("table", short), ("rows", rows)]).unwrap_err();
    assert_eq!(error.to_string(), "input \"table\": f32[3, 2] takes 24 bytes, found 20 bytes");
    let state = TensorRef { dtype: DType::F32, dims: &[2], bytes: &[0; 9] };
    let error = executable.states().unwrap().bind_handle("s", state).unwrap_err();
    assert_eq!(error.to_string(), "state \"s\": expected 8 bytes, found 9 bytes");
}
