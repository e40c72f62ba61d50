//! The buffer plan: sizes and lives at compile time, offsets at binding.
//!
//! Lives count steps in the order of a walk over the tree. Offsets are chosen
//! for concrete sizes, largest slot first, each at the lowest place where no
//! slot with an overlapping life lies: deterministic, and microseconds for the
//! plans of real models.

use super::BufferId;
use crate::dim::{Bindings, Dim, DimError};

/// Where one arena buffer lies and when it is alive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LirBufferSlot {
    /// The buffer.
    pub buffer: BufferId,
    /// Size in bytes.
    pub size: Dim,
    /// First step that touches it.
    pub first: usize,
    /// Last step that touches it.
    pub last: usize,
}

/// A named value that is a view of another buffer and has no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LirViewAlias {
    /// The value, such as `%7`.
    pub name: String,
    /// The buffer it looks at.
    pub root: BufferId,
    /// Distance from the start of the root, in bytes.
    pub byte_offset: Dim,
}

/// Sizes and lives of all arena buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LirBufferPlan {
    /// One slot per arena buffer.
    pub slots: Vec<LirBufferSlot>,
    /// Values without memory of their own.
    pub aliases: Vec<LirViewAlias>,
    /// Alignment of every slot, a power of two.
    pub alignment: usize,
    /// Sum of the sizes of all intermediates had nothing been shared or fused.
    pub unshared: Dim,
}

/// Offsets of all slots for one binding of the symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArenaLayout {
    /// Offset and size in bytes per buffer id; `None` for buffers outside the arena.
    pub places: Vec<Option<(usize, usize)>>,
    /// Bytes of the arena.
    pub size: usize,
}

/// Why a plan has no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A size cannot be computed.
    #[error("the size of buffer b{number} has no value: {1}", number = .0.0)]
    Size(BufferId, DimError),
    /// The arena does not fit the address space.
    #[error("the arena does not fit the address space; use smaller extents")]
    TooLarge,
}

impl LirBufferPlan {
    /// Chooses offsets for concrete extents.
    ///
    /// # Errors
    /// A size that does not evaluate, or an arena beyond the address space.
    pub fn layout(&self, bindings: &Bindings) -> Result<ArenaLayout, PlanError> {
        let mut order: Vec<(usize, &LirBufferSlot)> = vec![];
        for slot in &self.slots {
            let size = slot.size.extent(bindings).map_err(|error| PlanError::Size(slot.buffer, error))?;
            order.push((size, slot));
        }
        order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.first.cmp(&b.1.first)).then(a.1.buffer.cmp(&b.1.buffer)));
        let buffers = self.slots.iter().map(|slot| slot.buffer.0 as usize + 1).max().unwrap_or(0);
        let mut layout = ArenaLayout { places: vec![None; buffers], size: 0 };
        // Placed slots in order of offset.
        let mut placed: Vec<(usize, usize, usize, usize)> = vec![];
        for (size, slot) in order {
            let mut offset = 0usize;
            for &(start, end, first, last) in &placed {
                let lives_meet = slot.first <= last && first <= slot.last;
                if !lives_meet {
                    continue;
                }
                if offset.checked_add(size).is_some_and(|stop| stop <= start) {
                    break;
                }
                offset = offset.max(self.align(end).ok_or(PlanError::TooLarge)?);
            }
            let end = offset
                .checked_add(size)
                .filter(|&end| isize::try_from(end).is_ok())
                .ok_or(PlanError::TooLarge)?;
            layout.size = layout.size.max(end);
            layout.places[slot.buffer.0 as usize] = Some((offset, size));
            if size > 0 {
                let position = placed.partition_point(|&(start, ..)| start <= offset);
                placed.insert(position, (offset, end, slot.first, slot.last));
            }
        }
        layout.size = self.align(layout.size).ok_or(PlanError::TooLarge)?;
        Ok(layout)
    }

    fn align(&self, offset: usize) -> Option<usize> {
        offset.checked_next_multiple_of(self.alignment.max(1))
    }

    /// The first pair of slots that live at once and share memory; `None` in every sound layout.
    pub fn overlap(&self, layout: &ArenaLayout) -> Option<(BufferId, BufferId)> {
        for (index, a) in self.slots.iter().enumerate() {
            for b in &self.slots[index + 1..] {
                let lives_meet = a.first <= b.last && b.first <= a.last;
                let place =
                    |slot: &LirBufferSlot| layout.places.get(slot.buffer.0 as usize).copied().flatten();
                if let (true, Some((start_a, size_a)), Some((start_b, size_b))) =
                    (lives_meet, place(a), place(b))
                    && start_a < start_b + size_b
                    && start_b < start_a + size_a
                {
                    return Some((a.buffer, b.buffer));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Generator;

    fn plan(slots: &[(i64, usize, usize)]) -> LirBufferPlan {
        let slot = |(index, &(size, first, last)): (usize, &(i64, usize, usize))| LirBufferSlot {
            buffer: BufferId(index as u32),
            size: Dim::from(size),
            first,
            last,
        };
        LirBufferPlan {
            slots: slots.iter().enumerate().map(slot).collect(),
            alignment: 64,
            ..Default::default()
        }
    }

    #[test]
    fn dead_slots_are_reused() {
        let layout = plan(&[(100, 0, 1), (100, 1, 2), (100, 2, 3)])
            .layout(&Bindings::new())
            .expect("sizes are static");
        assert_eq!(layout.places, vec![Some((0, 100)), Some((128, 100)), Some((0, 100))]);
        assert_eq!(layout.size, 256);
    }

    #[test]
    fn random_plans_never_overlap() {
        let mut generator = Generator::new(5);
        for _ in 0..300 {
            let slots: Vec<_> = (0..generator.below(40))
                .map(|_| {
                    let first = generator.below(30);
                    (generator.below(2000) as i64, first, first + generator.below(8))
                })
                .collect();
            let plan = plan(&slots);
            let layout = plan.layout(&Bindings::new()).expect("sizes are static");
            assert_eq!(plan.overlap(&layout), None, "{slots:?}");
            assert!(
                layout
                    .places
                    .iter()
                    .flatten()
                    .all(|(offset, size)| offset % 64 == 0 && offset + size <= layout.size)
            );
        }
    }

    #[test]
    fn huge_sizes_are_an_error() {
        assert_eq!(
            plan(&[(i64::MAX, 0, 1), (i64::MAX, 0, 1)]).layout(&Bindings::new()),
            Err(PlanError::TooLarge)
        );
    }
}
