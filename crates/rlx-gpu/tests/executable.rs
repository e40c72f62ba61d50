//! What an executable promises beside results: faults, poisoned states, clones, slots, feeds, refusals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlx_driver::{Backend, Device, DriverError, ExecutableGraph, HostValues, TensorRef};
use rlx_gpu::GpuBackend;
use rlx_gpu::checked::Checked;
use rlx_ir::{DType, Dim, Graph, Literal, Shape, TensorType};
use rlx_opt::CompileOptions;
use rlx_testkit::feeds::check_feeds;

fn compile(graph: Graph) -> Box<dyn ExecutableGraph> {
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    backend.compile(graph, &CompileOptions::default()).unwrap()
}

/// `y = table[index]`, and `index` is kept in a state.
fn lookup() -> Graph {
    let mut g = Graph::new("lookup");
    let table = g.param_f32("table", [3, 2]);
    let index = g.input("index", TensorType::new(DType::I64, [2]));
    let last = g.state("last", TensorType::new(DType::I64, [2]));
    let rows = g.gather(table, index, 0usize);
    let sum = g.add(last, index);
    g.update_state("last", sum);
    g.output("rows", rows);
    g
}

fn run(executable: &mut dyn ExecutableGraph, index: [i128; 2]) -> Result<Vec<f64>, DriverError> {
    let index = Literal::ints(DType::I64, &[2], &index).expect("one value per element");
    let outputs = executable.run_typed(&[("index", TensorRef::from(&index))])?;
    Ok(outputs[0].1.to_f64s())
}

#[test]
fn an_index_out_of_range_is_a_fault_and_poisons_states() {
    let mut executable = compile(lookup());
    let error = run(&mut *executable, [0, 1]).unwrap_err().to_string();
    assert_eq!(error, "params are not bound: table; bind them before the first run");
    executable.set_param("table", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    assert_eq!(run(&mut *executable, [2, 0]).unwrap(), [5.0, 6.0, 1.0, 2.0]);
    for index in [[0, 3], [0, -1], [0, 1 << 40]] {
        let error = run(&mut *executable, index).unwrap_err().to_string();
        assert!(error.contains("gather") && error.ends_with("first at element 2"), "{error}");
        let error = run(&mut *executable, [0, 1]).unwrap_err();
        assert_eq!(error, DriverError::Poisoned("last".into()));
        executable.states().unwrap().reset_handle("last").unwrap();
    }
    assert_eq!(run(&mut *executable, [1, 1]).unwrap(), [3.0, 4.0, 3.0, 4.0]);
    assert_eq!(executable.states().unwrap().read_handle("last").unwrap().to_ints(), [1, 1]);
}

#[test]
fn clones_share_weights_and_have_their_own_states() {
    let mut first = compile(lookup());
    first.set_param("table", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    run(&mut *first, [2, 1]).unwrap();
    let mut second = first.clone_box().unwrap();
    assert_eq!(run(&mut *second, [1, 0]).unwrap(), [3.0, 4.0, 1.0, 2.0]);
    assert_eq!(second.states().unwrap().read_handle("last").unwrap().to_ints(), [1, 0]);
    assert_eq!(first.states().unwrap().read_handle("last").unwrap().to_ints(), [2, 1]);
}

#[test]
fn bytes_that_do_not_fit_their_type_are_refused() {
    let mut executable = compile(lookup());
    executable.set_param("table", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let short = TensorRef { dtype: DType::I64, dims: &[2], bytes: &[0; 9] };
    let error = executable.states().unwrap().bind_handle("last", short).unwrap_err().to_string();
    assert_eq!(error, "state \"last\": expected 16 bytes, found 9 bytes");
    let error = executable.run_typed(&[("index", short)]).unwrap_err().to_string();
    assert!(error.contains("input \"index\": i64[2] takes 16 bytes, found 9 bytes"), "{error}");
}

#[test]
fn slots_are_where_the_results_are() {
    let mut executable = compile(lookup());
    executable.set_param("table", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let index: Vec<u8> = [1i64, 2].iter().flat_map(|word| word.to_le_bytes()).collect();
    let slot = executable.run_slots(&[&index]).unwrap()[0];
    let bytes = &executable.arena().unwrap()[slot.offset..slot.offset + slot.len];
    let expected: Vec<u8> = [3f32, 4.0, 5.0, 6.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(bytes, expected);
    assert!(executable.run_slots(&[&index[1..]]).is_err());
}

#[test]
fn feeds_are_as_promised() {
    check_feeds(&GpuBackend::new(Checked, Device::GPU, "checked")).unwrap();
}

#[test]
fn a_state_takes_the_extents_of_the_run() {
    let mut g = Graph::new("total");
    let ty = TensorType::new(DType::F32, Shape::new([Dim::symbol("N")]));
    let (x, total) = (g.input("x", ty.clone()), g.state("total", ty));
    let sum = g.add(total, x);
    g.update_state("total", sum);
    g.output("sum", sum);
    let mut executable = compile(g);
    let error = executable.states().unwrap().read_handle("total").unwrap_err().to_string();
    assert!(error.ends_with("run once or bind it first"), "{error}");
    for (count, expected) in [(2usize, 1.0), (2, 2.0), (3, 1.0), (3, 2.0)] {
        let sums = executable.run(&[("x", &[count], &vec![1.0; count])]).unwrap();
        assert_eq!(sums[0], vec![expected; count]);
    }
    let content = Literal::floats(DType::F32, &[4], &[1.0, 2.0, 3.0, 4.0]).expect("one value per element");
    executable.states().unwrap().bind_handle("total", TensorRef::from(&content)).unwrap();
    executable.run(&[("x", &[4], &[0.5; 4])]).unwrap();
    assert_eq!(executable.states().unwrap().read_handle("total").unwrap().to_f64s(), [1.5, 2.5, 3.5, 4.5]);
    executable.states().unwrap().reset_handle("total").unwrap();
    assert_eq!(executable.states().unwrap().read_handle("total").unwrap().to_f64s(), [0.0; 4]);
}

#[test]
fn extents_change_between_runs() {
    let mut g = Graph::new("rows");
    let x = g.input("x", TensorType::new(DType::F32, Shape::new([Dim::symbol("N"), Dim::from(3)])));
    let y = g.reduce(x, rlx_ir::ops::ReduceKind::Sum, vec![0usize], false);
    g.output("y", y);
    let mut executable = compile(g);
    for rows in [1usize, 100, 7, 0] {
        let values: Vec<f32> = (0..rows * 3).map(|value| value as f32).collect();
        let sums = executable.run(&[("x", &[rows, 3], &values)]).unwrap();
        let expected = [0, 1, 2].map(|column| values.iter().skip(column).step_by(3).sum::<f32>());
        assert_eq!(sums[0], expected, "{rows}");
    }
}

#[test]
fn what_has_no_kernel_is_refused_with_every_node() {
    let mut g = Graph::new("double");
    let x = g.input("x", TensorType::new(DType::F64, [2]));
    let y = g.exp(x);
    let z = g.sqrt(y);
    g.output("z", z);
    let backend = GpuBackend::new(Checked, Device::GPU, "checked");
    let error = match backend.compile(g, &CompileOptions::default()) {
        Ok(_) => panic!("f64 is not refused"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("exp on f64") && error.contains("sqrt on f64"), "{error}");
}
