//! From planned buffers to slices: the one place where the executor makes them.
//!
//! A step's spans are checked when the symbols are bound: each lies inside its
//! buffer, no written span overlaps another span of the step, but for an input
//! that is exactly a written view (in-place), which is handed out once, as the
//! output. Buffers do not move while an executable is bound.

use rlx_ir::lir::BufferId;

/// A range of bytes of one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The buffer.
    pub buffer: BufferId,
    /// First byte.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
    /// How it moves with the counters of loops, as a number in [`Moves`].
    pub moves: u32,
}

impl Span {
    fn overlaps(&self, other: &Span) -> bool {
        let apart = self.start >= other.start + other.len || other.start >= self.start + self.len;
        // Spans that move differently may meet sooner or later.
        let meet = self.moves != other.moves || !apart;
        self.buffer == other.buffer && self.len > 0 && other.len > 0 && meet
    }
}

/// By how many bytes spans move when counters of loops grow by one, each way of moving once. Number 0 stands still.
#[derive(Clone, Debug)]
pub struct Moves(Vec<Vec<(usize, isize)>>);

impl Default for Moves {
    fn default() -> Moves {
        Moves(vec![vec![]])
    }
}

impl Moves {
    /// The number of a way to move: counters with the bytes for each.
    pub fn number(&mut self, way: Vec<(usize, isize)>) -> u32 {
        let known = self.0.iter().position(|other| *other == way);
        known.unwrap_or_else(|| {
            self.0.push(way);
            self.0.len() - 1
        }) as u32
    }

    /// The start of `span` when the counters are these; one outside the address space when it is before its buffer.
    fn start(&self, span: &Span, counters: &[usize]) -> usize {
        let way = &self.0[span.moves as usize];
        way.iter().fold(span.start, |start, &(counter, bytes)| {
            start.wrapping_add_signed((counters[counter] as isize).wrapping_mul(bytes))
        })
    }
}

/// What a step touches. Made by [`StepSpans::new`] only, which checks it.
#[derive(Clone, Debug)]
pub struct StepSpans {
    reads: Vec<Span>,
    writes: Vec<Span>,
}

impl StepSpans {
    /// Checks that no write overlaps anything else of the step. Reads that are
    /// a write (in place) must be left out by the caller or be empty.
    ///
    /// # Errors
    /// The first pair that overlaps.
    pub fn new(reads: Vec<Span>, writes: Vec<Span>) -> Result<StepSpans, String> {
        for (index, write) in writes.iter().enumerate() {
            if let Some(read) = reads.iter().find(|read| read.overlaps(write)) {
                return Err(format!("it reads {read:?} while it writes {write:?}"));
            }
            if let Some(other) = writes[index + 1..].iter().find(|other| other.overlaps(write)) {
                return Err(format!("it writes {write:?} and {other:?} at once"));
            }
        }
        Ok(StepSpans { reads, writes })
    }
}

/// Memory that many buffers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The planned arena.
    Arena,
    /// What binding added.
    Workspace,
}

#[derive(Clone, Copy)]
struct Region {
    start: *mut u8,
    len: usize,
}

impl Default for Region {
    fn default() -> Region {
        Region { start: std::ptr::null_mut(), len: 0 }
    }
}

#[derive(Clone, Copy)]
enum Base {
    /// Nobody said where the buffer is.
    Unset,
    /// Memory of its own: address, bytes, writable.
    Own(*mut u8, usize, bool),
    /// A part of shared memory: offset and bytes.
    Part(Shared, usize, usize),
}

/// Base addresses and sizes of all buffers of a bound executable.
#[derive(Default)]
pub struct Memory {
    bases: Vec<Base>,
    regions: [Region; 2],
    reads: Vec<&'static [u8]>,
    writes: Vec<&'static mut [u8]>,
}

// SAFETY: the pointers belong to buffers that the owning executable holds; it
// runs under `&mut self`, so one thread at a time uses them.
unsafe impl Send for Memory {}

impl Memory {
    /// Forgets all buffers and makes room for `count`.
    pub fn reset(&mut self, count: usize) {
        self.bases.clear();
        self.bases.resize(count, Base::Unset);
    }

    /// Reserves room for the largest step, so that runs allocate nothing.
    pub fn reserve(&mut self, steps: &[&StepSpans]) {
        self.reads.reserve(steps.iter().map(|step| step.reads.len()).max().unwrap_or(0));
        self.writes.reserve(steps.iter().map(|step| step.writes.len()).max().unwrap_or(0));
    }

    /// Buffer `id` is `bytes`, read-only.
    pub fn set_read(&mut self, id: BufferId, bytes: &[u8]) {
        self.bases[id.0 as usize] = Base::Own(bytes.as_ptr().cast_mut(), bytes.len(), false);
    }

    /// Buffer `id` is `bytes`, read and written.
    pub fn set_write(&mut self, id: BufferId, bytes: &mut [u8]) {
        self.bases[id.0 as usize] = Base::Own(bytes.as_mut_ptr(), bytes.len(), true);
    }

    /// The shared memory of this run. Its owner may have looked at it since
    /// the last run, so it is named anew for each.
    pub fn set_shared(&mut self, which: Shared, bytes: &mut [u8]) {
        self.regions[which as usize] = Region { start: bytes.as_mut_ptr(), len: bytes.len() };
    }

    /// Buffer `id` is `len` bytes from `start` of shared memory. Parts may
    /// overlap in place when their lives do not; the plan says so.
    pub fn set_part(&mut self, id: BufferId, which: Shared, start: usize, len: usize) {
        self.bases[id.0 as usize] = Base::Part(which, start, len);
    }

    /// Calls `run` with the slices of a step. A span outside its buffer, or a
    /// write to a read-only one, is an error; bases are those of the last `set_*`. Spans move as the counters in `at` say.
    ///
    /// # Safety
    /// Every buffer set since the last [`Memory::reset`] is still alive, has not
    /// moved, and is used by nobody else until the call returns; buffers that
    /// share memory are not both touched by one step.
    pub unsafe fn with<R>(
        &mut self,
        spans: &StepSpans,
        at: (&Moves, &[usize]),
        run: impl FnOnce(&[&[u8]], &mut [&mut [u8]]) -> R,
    ) -> Result<R, String> {
        self.reads.clear();
        self.writes.clear();
        for span in &spans.reads {
            let start = self.start(span, at, false)?;
            // SAFETY: the span lies inside a live buffer, and nothing writes it during the step.
            self.reads.push(unsafe { std::slice::from_raw_parts(start, span.len) });
        }
        for span in &spans.writes {
            let start = self.start(span, at, true)?;
            // SAFETY: the span lies inside a live, writable buffer, and no other span of the step overlaps it.
            self.writes.push(unsafe { std::slice::from_raw_parts_mut(start, span.len) });
        }
        let result = run(&self.reads, &mut self.writes);
        self.reads.clear();
        self.writes.clear();
        Ok(result)
    }

    fn start(&self, span: &Span, at: (&Moves, &[usize]), write: bool) -> Result<*mut u8, String> {
        // Nothing is read from an empty span, wherever it moves.
        let first = if span.len == 0 { 0 } else { at.0.start(span, at.1) };
        let (base, len, writable) = match self.bases[span.buffer.0 as usize] {
            Base::Unset => (std::ptr::null_mut(), 0, false),
            Base::Own(base, len, writable) => (base, len, writable),
            Base::Part(which, start, len) => {
                let region = self.regions[which as usize];
                let inside = start.checked_add(len).is_some_and(|end| end <= region.len);
                (region.start.wrapping_add(start), if inside { len } else { 0 }, true)
            }
        };
        let inside = first.checked_add(span.len).is_some_and(|end| end <= len);
        if !inside || base.is_null() || (write && !writable) {
            return Err(format!("{span:?} is not a part of its buffer of {len} bytes"));
        }
        Ok(base.wrapping_add(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_spans_are_refused() {
        let span = |start, len| Span { buffer: BufferId(0), start, len, moves: 0 };
        assert!(StepSpans::new(vec![span(0, 4)], vec![span(4, 4)]).is_ok());
        assert!(StepSpans::new(vec![span(0, 5)], vec![span(4, 4)]).is_err());
        assert!(StepSpans::new(vec![], vec![span(0, 5), span(4, 4)]).is_err());
    }

    #[test]
    fn slices_are_those_of_the_buffers() {
        let mut arena = vec![0u8; 16];
        let weights = vec![7u8; 4];
        let mut memory = Memory::default();
        memory.reset(2);
        memory.set_part(BufferId(0), Shared::Arena, 8, 8);
        memory.set_shared(Shared::Arena, &mut arena);
        memory.set_read(BufferId(1), &weights);
        let span = |buffer, start, len| Span { buffer: BufferId(buffer), start, len, moves: 0 };
        let moves = Moves::default();
        let still = (&moves, &[][..]);
        let step = StepSpans::new(vec![span(1, 1, 2)], vec![span(0, 2, 2)]).expect("the spans are apart");
        // SAFETY: both buffers live until the end of the test and nobody else uses them.
        unsafe { memory.with(&step, still, |reads, writes| writes[0].copy_from_slice(reads[0])) }
            .expect("the operands are valid");
        let mut moves = Moves::default();
        let moving = Span { moves: moves.number(vec![(0, 2)]), ..span(0, 2, 2) };
        assert_eq!(moves.number(vec![(0, 2)]), moving.moves);
        let step2 = StepSpans::new(vec![span(1, 1, 2)], vec![moving]).expect("the spans are apart");
        // SAFETY: as above.
        unsafe { memory.with(&step2, (&moves, &[2]), |reads, writes| writes[0].copy_from_slice(reads[0])) }
            .expect("the operands are valid");
        // SAFETY: as above.
        assert!(unsafe { memory.with(&step2, (&moves, &[3]), |_, _| ()) }.is_err());
        let outside = StepSpans::new(vec![span(1, 3, 2)], vec![]).expect("the spans are apart");
        // SAFETY: as above.
        assert!(unsafe { memory.with(&outside, still, |_, _| ()) }.is_err());
        let read_only = StepSpans::new(vec![], vec![span(1, 0, 2)]).expect("the spans are apart");
        // SAFETY: as above.
        assert!(unsafe { memory.with(&read_only, still, |_, _| ()) }.is_err());
        assert_eq!(&arena[10..16], &[7, 7, 0, 0, 7, 7]);
    }
}
