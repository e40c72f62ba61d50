//! `elementwise_region`: a straight-line program over elements, as one op.

use crate::ops::prelude::*;
use crate::scalar::ScalarKind;

op! {
    /// Runs `program` at every coordinate of `shape`, on the operands broadcast to it; one result per
    /// output of the program. Fusion makes such ops; they may be written by hand.
    ///
    /// (C1) The program is well formed, has an output, and computes in dtypes that are not storage-only.
    /// (C2) Its inputs have the dtypes of the operands, one each.
    /// (C3) Every operand broadcasts to exactly `shape`, whose extents are not negative.
    /// (C4) Its `index` instructions name axes of `shape`.
    elementwise_region: ElementwiseRegion(; inputs*) -> [results] {
        /// What happens to one element.
        program: Arc<ScalarProgram>,
        /// The domain.
        shape: Shape,
    }
}

impl OpSpec for ElementwiseRegion {
    const MEANING: Meaning<Self> = Meaning::scalar(|op, p, args| p.inline(&op.program, args));
    const VJP: Vjp<Self> = Vjp::Scalar;
    const JVP: Jvp<Self> = Jvp::Scalar;
    const BATCH: Batch<Self> = Batch::Broadcast(Self::batched);
    const ACCURACY: AccuracyRule<Self> =
        |op| match op.program.instrs.iter().filter(|instr| !is_exact(instr.kind, instr.dtype)).count() {
            0 => Accuracy::Exact,
            terms => Accuracy::Accumulated { terms: terms.saturating_mul(8) },
        };
    const SAMPLES: Samples<Self> = Samples::Listed(&[
        "f32[2, 3], f32[3] {program = program(f32, f32) \
         { 2 = mul 0 1 : f32, 3 = tanh 2 : f32, 4 = lt 0 1 : bool, return 3 4 }, shape = [2, 3]}",
        "bf16[2, 1], bf16[3] {program = program(bf16, bf16) \
         { 2 = mul 0 1 : bf16, 3 = tanh 2 : bf16, 4 = lt 0 1 : bool, return 3 4 }}",
        "f32[3], f32[1, 1] {shape = [0, 3]}",
        "f64[], f64[] {program = program(f64, f64) \
         { 2 = mul 0 1 : f64, 3 = tanh 2 : f64, 4 = lt 0 1 : bool, return 3 4 }, shape = []}",
        "f32[4] {program = program(f32) { 1 = index 0 : i64, 2 = index 1 : i64, 3 = le 2 1 : bool, \
         4 = real 0.0 : f32, 5 = select 3 0 4 : f32, return 5 }, shape = [3, 4]}",
        "i64[2, 1] {program = program(i64) { return 0 }, shape = [2, 2]}",
    ]);

    fn infer(&self, operands: &[&TensorType]) -> Inferred {
        let program = &*self.program;
        let problem = program.check().err();
        require!("C1", problem.is_none(), "the program is not well formed: {}", problem.unwrap_or_default());
        require!("C1", !program.outputs.is_empty(), "the program has no output");
        let packed = program.instrs.iter().map(|instr| instr.dtype).find(|dtype| dtype.is_storage_only());
        require!("C1", packed.is_none(), "the program computes in {}", packed.unwrap_or(DType::Bool));
        check_addressable("C1", operands)?;
        let dtypes: Vec<DType> = operands.iter().map(|ty| ty.dtype).collect();
        require!(
            "C2",
            dtypes == program.inputs,
            "the program takes {:?}, the operands are {dtypes:?}",
            program.inputs
        );
        for operand in operands {
            let fits = operand.shape.broadcast(&self.shape).as_ref() == Some(&self.shape);
            require!("C3", fits, "{operand} does not broadcast to {}", self.shape);
        }
        for dim in self.shape.dims() {
            check_not_negative("C3", "extent", dim)?;
        }
        for instr in &program.instrs {
            if let ScalarKind::Index(axis) = instr.kind {
                let inside = usize::try_from(axis).is_ok_and(|axis| axis < self.shape.rank());
                require!("C4", inside, "index {axis} is out of range for rank {}", self.shape.rank());
            }
        }
        Ok(program
            .output_dtypes()
            .into_iter()
            .map(|dtype| TensorType::new(dtype, self.shape.clone()))
            .collect())
    }
}

/// Can a kernel be asked for the same bits? Integer arithmetic and whatever picks or compares.
fn is_exact(kind: ScalarKind, dtype: DType) -> bool {
    use ScalarOp as S;
    let ScalarKind::Op(op) = kind else { return true };
    let picks = matches!(op, S::Neg | S::Abs | S::Sign | S::Max | S::Min | S::Select | S::Cast | S::Bitcast)
        || matches!(op, S::Floor | S::Ceil | S::Trunc | S::Round | S::Not)
        || matches!(op, S::Real | S::Imag | S::Complex);
    picks || op.is_compare() || !(dtype.is_float() || dtype.is_complex())
}

impl ElementwiseRegion {
    /// The region with one more axis in front, over which its program does not count.
    fn batched(&self, size: &Dim) -> ElementwiseRegion {
        let mut program = (*self.program).clone();
        for instr in &mut program.instrs {
            if let ScalarKind::Index(axis) = &mut instr.kind {
                *axis += 1;
            }
        }
        ElementwiseRegion { program: Arc::new(program), shape: self.shape.with_front(size) }
    }
}
