//! Steps with concrete extents, and the reference evaluation as one.

use super::memory::StepSpans;
use super::region::Source;
use super::view::BoundView;
use super::work::{Call, Work};
use rlx_ir::interpret::evaluate_op;
use rlx_ir::{Literal, Op};

/// One step, ready to run.
pub struct BoundStep {
    /// What it touches.
    pub spans: StepSpans,
    /// What it does.
    pub work: Box<dyn Work>,
    /// The node, for errors and times.
    pub origin: String,
}

/// What runs when: a program over numbered steps and counters, one for each loop.
pub enum Instruction {
    /// Runs a step.
    Run(usize),
    /// Goes on at `to` unless the one `bool` holds.
    Unless {
        /// Reads the predicate.
        spans: StepSpans,
        /// Where to go on.
        to: usize,
    },
    /// Goes on at `to`.
    Jump {
        /// Where to go on.
        to: usize,
    },
    /// Sets a counter to 0.
    Enter {
        /// The counter.
        number: usize,
    },
    /// Goes on at `to` when the counter has reached `count`.
    Until {
        /// The counter.
        number: usize,
        /// The number of iterations.
        count: usize,
        /// Where to go on.
        to: usize,
    },
    /// A fault when the counter has reached `limit`.
    Limit {
        /// The counter.
        number: usize,
        /// Most iterations.
        limit: usize,
        /// The loop, for the fault.
        origin: String,
    },
    /// Counts and goes on at `to`.
    Next {
        /// The counter.
        number: usize,
        /// Where to go on.
        to: usize,
    },
}

/// The reference evaluation, on copies; it allocates, and is slow.
pub struct Reference {
    /// The op, its dims evaluated.
    pub op: Op,
    /// Its operands.
    pub operands: Vec<(BoundView, Source)>,
    /// Its results.
    pub outputs: Vec<BoundView>,
}

impl Work for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), String> {
        let mut literals: Vec<Literal> = vec![];
        for (view, source) in &self.operands {
            literals.push(match source {
                Source::Read(slot) => view.read(call.reads[*slot])?,
                Source::Written(output) => view.read(call.writes[*output])?,
                Source::Anchor => return Err("a reference step has no anchor block".into()),
            });
        }
        let operands = literals.iter().collect::<Vec<_>>();
        let results = evaluate_op(&self.op, &operands).map_err(|fault| fault.0)?;
        for ((view, literal), write) in self.outputs.iter().zip(&results).zip(call.writes) {
            view.write(literal, write);
        }
        Ok(())
    }
}
