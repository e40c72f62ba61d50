//! When each buffer of a step tree is touched.
//!
//! Steps are numbered from 1 in the order of a walk; 0 is before the first.
//! A buffer that is touched both inside and outside a loop lives throughout
//! the loop, since the next iteration may need it; one that only the loop
//! touches does too, unless every iteration writes it before reading.

use super::{BufferId, Step};
use std::collections::{HashMap, HashSet};

/// First and last step that touches each buffer, and the number of steps.
pub struct Lives {
    /// First and last step per buffer.
    pub touched: HashMap<BufferId, (usize, usize)>,
    /// Number of the last step.
    pub end: usize,
}

impl Lives {
    /// Walks `steps`.
    pub fn of(steps: &[Step]) -> Lives {
        let mut lives = Lives { touched: HashMap::new(), end: 0 };
        lives.walk(steps);
        lives
    }

    fn touch(&mut self, buffer: BufferId) {
        let now = self.end;
        let life = self.touched.entry(buffer).or_insert((now, now));
        life.0 = life.0.min(now);
        life.1 = life.1.max(now);
    }

    fn walk(&mut self, steps: &[Step]) {
        for step in steps {
            self.end += 1;
            match step {
                Step::Kernel(step) => {
                    step.read_buffers().into_iter().for_each(|buffer| self.touch(buffer));
                    step.outputs.iter().for_each(|view| self.touch(view.buffer));
                }
                Step::Pack(pack) => {
                    self.touch(pack.source.buffer);
                    self.touch(pack.target);
                }
                Step::Branch(branch) => {
                    self.touch(branch.predicate.buffer);
                    self.walk(&branch.then);
                    self.walk(&branch.otherwise);
                }
                Step::Loop(looped) => {
                    let start = self.end;
                    self.walk(&looped.condition);
                    self.end += 1;
                    self.touch(looped.predicate.buffer);
                    self.walk(&looped.body);
                    self.end += 1;
                    let private = written_first(&looped.body);
                    for (buffer, life) in &mut self.touched {
                        let inside = life.1 >= start;
                        let only_inside = life.0 >= start;
                        if inside && !(only_inside && private.contains(buffer)) {
                            *life = (life.0.min(start), self.end);
                        }
                    }
                }
            }
        }
    }
}

/// Buffers that straight-line `steps` write before they read them.
fn written_first(steps: &[Step]) -> HashSet<BufferId> {
    let (mut written, mut read) = (HashSet::new(), HashSet::new());
    for step in steps {
        let Step::Kernel(step) = step else { return HashSet::new() };
        read.extend(step.read_buffers().into_iter().filter(|buffer| !written.contains(buffer)));
        written.extend(step.outputs.iter().map(|view| view.buffer).filter(|buffer| !read.contains(buffer)));
    }
    written
}
