//! Solvers and factorisations of dense batches, each matrix by the sequential algorithms of the IR in double
//! precision; threads share the matrices.

use super::view::BoundView;
use super::work::{Call, Work};
use crate::kernels::{KernelError, Plain, cast_bytes, cast_bytes_mut};
use rlx_ir::linear_algebra::{Complex, Field, Flaw, Problem, Sizes};
use rlx_ir::{DType, Number, Op};
use std::sync::{Mutex, PoisonError};

struct MatrixStep {
    problem: Problem,
    sizes: Sizes,
    /// Number of matrices.
    count: usize,
    /// Dtypes of operands and results.
    dtypes: (Vec<DType>, Vec<DType>),
}

/// The kernel for `op`, if its operands lie as it needs them.
pub fn matrix_step(op: &Op, operands: &[BoundView], outputs: &[BoundView]) -> Option<Box<dyn Work>> {
    let dims: Vec<&[usize]> = operands.iter().map(|view| &view.dims[..]).collect();
    let problem = Problem::of(op, &dims)?;
    if !operands.iter().all(BoundView::is_dense) {
        return None;
    }
    let lead = &dims[0][..dims[0].len() - 2];
    let of = |views: &[BoundView]| views.iter().map(|view| view.dtype).collect();
    Some(Box::new(MatrixStep {
        problem,
        sizes: problem.sizes(),
        count: lead.iter().product(),
        dtypes: (of(operands), of(outputs)),
    }))
}

/// Elements of one matrix as numbers.
fn load<F: Field>(dtype: DType, bytes: &[u8], first: usize, to: &mut [F]) -> Result<(), KernelError> {
    let range = first..first + to.len();
    let pairs = 2 * first..2 * (first + to.len());
    match dtype {
        DType::F32 => {
            let from = &cast_bytes::<f32>("operand", bytes)?[range];
            to.iter_mut().zip(from).for_each(|(to, &x)| *to = F::of(f64::from(x)));
        }
        DType::F64 => {
            let from = &cast_bytes::<f64>("operand", bytes)?[range];
            to.iter_mut().zip(from).for_each(|(to, &x)| *to = F::of(x));
        }
        DType::C64 => {
            let from = cast_bytes::<f32>("operand", bytes)?[pairs].chunks_exact(2);
            let number = |pair: &[f32]| Number::Complex(f64::from(pair[0]), f64::from(pair[1]));
            to.iter_mut().zip(from).for_each(|(to, pair)| *to = F::from_number(number(pair)));
        }
        _ => {
            let from = cast_bytes::<f64>("operand", bytes)?[pairs].chunks_exact(2);
            let number = |pair: &[f64]| Number::Complex(pair[0], pair[1]);
            to.iter_mut().zip(from).for_each(|(to, pair)| *to = F::from_number(number(pair)));
        }
    }
    Ok(())
}

/// Numbers as elements of one matrix.
fn store<F: Field>(dtype: DType, from: &[F], bytes: &mut [u8], first: usize) -> Result<(), KernelError> {
    let parts = |x: &F| match x.number() {
        Number::Complex(re, im) => [re, im],
        other => [other.as_f64().unwrap_or(f64::NAN), 0.0],
    };
    let (range, pairs) = (first..first + from.len(), 2 * first..2 * (first + from.len()));
    match dtype {
        DType::F32 => {
            let to = &mut cast_bytes_mut::<f32>("result", bytes)?[range];
            to.iter_mut().zip(from).for_each(|(to, x)| *to = x.re() as f32);
        }
        DType::F64 => {
            let to = &mut cast_bytes_mut::<f64>("result", bytes)?[range];
            to.iter_mut().zip(from).for_each(|(to, x)| *to = x.re());
        }
        DType::C64 => {
            let to = cast_bytes_mut::<f32>("result", bytes)?[pairs].chunks_exact_mut(2);
            to.zip(from).for_each(|(to, x)| to.copy_from_slice(&parts(x).map(|part| part as f32)));
        }
        _ => {
            let to = cast_bytes_mut::<f64>("result", bytes)?[pairs].chunks_exact_mut(2);
            to.zip(from).for_each(|(to, x)| to.copy_from_slice(&parts(x)));
        }
    }
    Ok(())
}

/// The slices of one matrix in its share of scratch: operands, results, scratch.
fn cut<F>(share: &mut [F], sizes: Sizes) -> ([&mut [F]; 2], [&mut [F]; 3], &mut [F]) {
    let [a, b] = sizes.operands;
    let [first, second, third] = sizes.results;
    let (of_a, rest) = share.split_at_mut(a);
    let (of_b, rest) = rest.split_at_mut(b);
    let (of_first, rest) = rest.split_at_mut(first);
    let (of_second, rest) = rest.split_at_mut(second);
    let (of_third, scratch) = rest.split_at_mut(third);
    ([of_a, of_b], [of_first, of_second, of_third], scratch)
}

impl MatrixStep {
    fn is_complex(&self) -> bool {
        self.dtypes.0[0].is_complex()
    }

    fn all<F: Field + Plain>(&self, call: Call<'_, '_>) -> Result<(), String> {
        let failed = |error: KernelError| error.to_string();
        let MatrixStep { problem, sizes, count, .. } = *self;
        let share = sizes.total().max(1);
        let scratch = &mut cast_bytes_mut::<F>("scratch", call.scratch).map_err(failed)?[..count * share];
        // The fault of the first matrix, whatever the threads.
        let fault: Mutex<Option<(usize, Fault)>> = Mutex::new(None);
        call.context.pool().run_pieces(scratch, share, |index, share| {
            let (mut operands, results, scratch) = cut(share, sizes);
            let mut reads = operands.iter_mut().zip(sizes.operands).zip(&self.dtypes.0).zip(call.reads);
            let loaded =
                reads.try_for_each(|(((to, size), &dtype), bytes)| load(dtype, bytes, index * size, to));
            let solved = loaded
                .map_err(Fault::Kernel)
                .and_then(|()| problem.run(operands, results, scratch).map_err(Fault::Flaw));
            if let Err(found) = solved {
                let mut fault = fault.lock().unwrap_or_else(PoisonError::into_inner);
                if fault.as_ref().is_none_or(|(first, _)| index < *first) {
                    *fault = Some((index, found));
                }
            }
        });
        match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((index, Fault::Flaw(flaw))) => return Err(flaw.fault(index)),
            Some((_, Fault::Kernel(error))) => return Err(failed(error)),
            None => {}
        }
        for (index, share) in scratch.chunks_exact_mut(share).enumerate() {
            let (_, results, _) = cut(share, sizes);
            for ((from, &dtype), bytes) in results.iter().zip(&self.dtypes.1).zip(call.writes.iter_mut()) {
                store(dtype, from, bytes, index * from.len()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

enum Fault {
    Flaw(Flaw),
    Kernel(KernelError),
}

impl Work for MatrixStep {
    fn name(&self) -> &'static str {
        "matrices"
    }

    fn scratch(&self) -> usize {
        let width = if self.is_complex() { size_of::<Complex>() } else { size_of::<f64>() };
        self.count * self.sizes.total().max(1) * width
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        if self.is_complex() { self.all::<Complex>(call) } else { self.all::<f64>(call) }
    }
}
