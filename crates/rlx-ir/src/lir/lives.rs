//! When each buffer of a step tree is touched.
//!
//! Steps are numbered from 1 in the order of a walk; 0 is before the first. What is touched both inside and outside a
//! loop lives throughout the loop, since the next iteration may need it; so does what the loop reads before it writes,
//! and what its iterations write a part of each. What is left is private to an iteration. The two sides of a branch
//! stand one after the other, so what only one of them touches may share memory with what only the other touches.

use super::{BufferId, Repeat, Step, View};
use crate::dim::{Dim, Symbol};
use std::collections::{HashMap, HashSet};

/// First and last step that touches each buffer, and the number of steps.
pub struct Lives {
    /// First and last step per buffer.
    pub touched: HashMap<BufferId, (usize, usize)>,
    /// Number of the last step.
    pub end: usize,
}

/// A loop, its first and last step, and the buffers of which an iteration may write a part.
struct Span {
    start: usize,
    end: usize,
    counter: Option<Symbol>,
    parts: HashSet<BufferId>,
}

/// Is `symbol` in `dim`?
pub(super) fn mentions(dim: &Dim, symbol: &Symbol) -> bool {
    let mut found = false;
    dim.visit_symbols(&mut |other| found |= other == symbol);
    found
}

impl Lives {
    /// Walks `steps`.
    pub fn of(steps: &[Step]) -> Lives {
        let mut walk = Walk::default();
        walk.steps(steps);
        // Inner loops come first, so that what they hold on to is seen by the loops around them.
        for span in &walk.done {
            for (buffer, life) in &mut walk.touched {
                let meets = life.0 <= span.end && life.1 >= span.start;
                let inside = life.0 >= span.start && life.1 <= span.end;
                let private = inside && walk.made.contains(buffer) && !span.parts.contains(buffer);
                if meets && !private {
                    *life = (life.0.min(span.start), life.1.max(span.end));
                }
            }
        }
        Lives { touched: walk.touched, end: walk.end }
    }
}

#[derive(Default)]
struct Walk {
    touched: HashMap<BufferId, (usize, usize)>,
    end: usize,
    /// Buffers whose first touch is a write.
    made: HashSet<BufferId>,
    open: Vec<Span>,
    done: Vec<Span>,
}

impl Walk {
    fn touch(&mut self, buffer: BufferId) {
        let now = self.end;
        let life = self.touched.entry(buffer).or_insert((now, now));
        life.1 = life.1.max(now);
    }

    fn write(&mut self, view: &View) {
        if !self.touched.contains_key(&view.buffer) {
            self.made.insert(view.buffer);
        }
        for span in &mut self.open {
            if span.counter.as_ref().is_some_and(|counter| mentions(&view.layout.offset, counter)) {
                span.parts.insert(view.buffer);
            }
        }
        self.touch(view.buffer);
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.end += 1;
            match step {
                Step::Kernel(step) => {
                    step.read_buffers().into_iter().for_each(|buffer| self.touch(buffer));
                    step.outputs.iter().for_each(|view| self.write(view));
                }
                Step::Pack(pack) => {
                    self.touch(pack.source.buffer);
                    self.touch(pack.target);
                }
                Step::Branch(branch) => {
                    self.touch(branch.predicate.buffer);
                    self.steps(&branch.then);
                    self.steps(&branch.otherwise);
                }
                Step::Loop(looped) => {
                    let counter = match &looped.repeat {
                        Repeat::Times { counter, .. } => Some(counter.clone()),
                        Repeat::While { .. } => None,
                    };
                    self.open.push(Span { start: self.end, end: 0, counter, parts: HashSet::new() });
                    if let Repeat::While { condition, predicate, .. } = &looped.repeat {
                        self.steps(condition);
                        self.end += 1;
                        self.touch(predicate.buffer);
                    }
                    self.steps(&looped.body);
                    self.end += 1;
                    let span = self.open.pop().expect("pushed above");
                    self.done.push(Span { end: self.end, ..span });
                }
            }
        }
    }
}
