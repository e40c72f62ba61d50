//! Who touched each element last: the memory behind race and unwritten-read reports.

/// Who makes an access: workgroup, invocation in it, and the number of barriers it is past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who {
    /// Linear number of the workgroup.
    pub group: u32,
    /// Linear number of the invocation in its workgroup.
    pub lane: u32,
    /// Barriers passed since the launch began, over all workgroups.
    pub epoch: u32,
}

/// Kind of access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An atomic; two of them never race.
    Atomic,
}

const MANY: u32 = u32::MAX;

/// The accesses of one kind to one element that later accesses may conflict with.
#[derive(Clone, Copy, Debug)]
struct Trace {
    group: u32,
    lane: u32,
    epoch: u32,
}

impl Trace {
    const EMPTY: Trace = Trace { group: 0, lane: 0, epoch: 0 };

    fn conflicts(&self, who: Who) -> bool {
        let ordered_in_group = self.group == who.group && (self.epoch != who.epoch || self.lane == who.lane);
        self.epoch != 0 && !ordered_in_group
    }

    fn note(&mut self, who: Who) {
        if self.epoch != 0 && self.group != who.group {
            // Workgroups are never ordered, so every later access conflicts.
            self.group = MANY;
        } else if self.epoch == who.epoch && self.lane != who.lane {
            self.lane = MANY;
        } else {
            *self = Trace { group: who.group, lane: who.lane, epoch: who.epoch };
        }
    }
}

/// The traces of one buffer or array.
#[derive(Debug)]
pub struct Shadow {
    cells: Vec<[Trace; 3]>,
}

impl Shadow {
    /// No accesses yet.
    pub fn new(length: usize) -> Shadow {
        Shadow { cells: vec![[Trace::EMPTY; 3]; length] }
    }

    /// Forgets all accesses.
    pub fn clear(&mut self) {
        self.cells.fill([Trace::EMPTY; 3]);
    }

    /// True when the element was stored to or atomically changed.
    pub fn is_written(&self, index: usize) -> bool {
        let [_, write, atomic] = &self.cells[index];
        write.epoch != 0 || atomic.epoch != 0
    }

    /// Records an access (epochs start at 1); true when it races with an earlier one.
    pub fn access(&mut self, index: usize, kind: Kind, who: Who) -> bool {
        let cell = &mut self.cells[index];
        let against: &[Kind] = match kind {
            Kind::Read => &[Kind::Write, Kind::Atomic],
            Kind::Write => &[Kind::Read, Kind::Write, Kind::Atomic],
            Kind::Atomic => &[Kind::Read, Kind::Write],
        };
        let race = against.iter().any(|&kind| cell[kind as usize].conflicts(who));
        cell[kind as usize].note(who);
        race
    }
}
