//! The registry's table: slots by handle, handles by name. Locking is the caller's.
//!
//! Methods that change it check nothing that their callers have not checked.
#![forbid(unsafe_code)]

use super::adapters::AttachedAdapter;
use super::packed::PackedForms;
use super::{WeightEntry, WeightHandle, WeightKind};
use crate::error::WeightError;
use crate::tensor::WeightTensor;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, WeightHandle>,
    pub(super) adapters: BTreeMap<String, AttachedAdapter>,
    pub(super) packed: PackedForms,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    live: Option<Live>,
}

/// An entry under its name.
pub(super) struct Live {
    pub(super) name: Arc<str>,
    pub(super) value: Value,
    pub(super) pins: u64,
    /// Entries whose alias target this is.
    pub(super) aliases: u64,
}

#[derive(Clone)]
pub(super) enum Value {
    Tensor(Arc<WeightEntry>),
    Alias(WeightHandle),
}

impl Value {
    pub(super) fn tensor(tensor: WeightTensor, kind: WeightKind) -> Value {
        Value::Tensor(Arc::new(WeightEntry { kind, tensor, content: OnceLock::new() }))
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::Alias(target) => format!("alias of {target}"),
            Value::Tensor(entry) => match &entry.kind {
                WeightKind::Lora { adapter } => format!("tensor of adapter `{adapter}`"),
                WeightKind::Base | WeightKind::Alias { .. } => "tensor".into(),
            },
        }
    }
}

impl Live {
    pub(super) fn tensor(&self) -> Option<&Arc<WeightEntry>> {
        match &self.value {
            Value::Tensor(entry) => Some(entry),
            Value::Alias(_) => None,
        }
    }

    pub(super) fn refuse_in_use(&self) -> Result<(), WeightError> {
        match (self.pins, self.aliases) {
            (0, 0) => Ok(()),
            (pins, aliases) => Err(WeightError::InUse { name: self.name.to_string(), pins, aliases }),
        }
    }
}

impl Table {
    fn slot(&self, handle: WeightHandle) -> Option<&Slot> {
        self.slots.get(handle.slot as usize).filter(|slot| slot.generation == handle.generation)
    }

    pub(super) fn live(&self, handle: WeightHandle) -> Result<&Live, WeightError> {
        self.slot(handle).and_then(|slot| slot.live.as_ref()).ok_or(WeightError::StaleHandle { handle })
    }

    pub(super) fn live_mut(&mut self, handle: WeightHandle) -> Result<&mut Live, WeightError> {
        let slot =
            self.slots.get_mut(handle.slot as usize).filter(|slot| slot.generation == handle.generation);
        slot.and_then(|slot| slot.live.as_mut()).ok_or(WeightError::StaleHandle { handle })
    }

    pub(super) fn live_by_name(&self, name: &str) -> Option<(WeightHandle, &Live)> {
        let &handle = self.by_name.get(name)?;
        Some((handle, self.live(handle).expect("by_name holds live handles only")))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Live> {
        self.slots.iter().filter_map(|slot| slot.live.as_ref())
    }

    /// The tensor at the end of the chain that starts at `handle`. Chains end:
    /// an alias is made only to an entry that exists, under a name that does not.
    pub(super) fn resolve(&self, mut handle: WeightHandle) -> Result<&Arc<WeightEntry>, WeightError> {
        loop {
            match &self.live(handle)?.value {
                Value::Tensor(entry) => return Ok(entry),
                Value::Alias(target) => handle = *target,
            }
        }
    }

    /// Whether the chain that starts at `from` passes through `wanted`.
    pub(super) fn reaches(&self, from: WeightHandle, wanted: WeightHandle) -> bool {
        let mut next = Some(from);
        while let Some(handle) = next {
            if handle == wanted {
                return true;
            }
            next = match self.live(handle).map(|live| &live.value) {
                Ok(Value::Alias(target)) => Some(*target),
                _ => None,
            };
        }
        false
    }

    /// Adds an entry under a free name.
    pub(super) fn insert(&mut self, name: Arc<str>, value: Value) -> WeightHandle {
        if let Value::Alias(target) = value {
            self.live_mut(target).expect("an alias target is checked before").aliases += 1;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("2^32 weights do not fit in memory")
        });
        let place = &mut self.slots[slot as usize];
        let handle = WeightHandle { slot, generation: place.generation };
        place.live = Some(Live { name: name.clone(), value, pins: 0, aliases: 0 });
        self.by_name.insert(name, handle);
        handle
    }

    /// Removes a live entry that nothing uses, with the packed forms only it had.
    pub(super) fn remove(&mut self, handle: WeightHandle) {
        let place = &mut self.slots[handle.slot as usize];
        let live = place.live.take().expect("only live entries are removed");
        // A slot whose generations are used up is never used again.
        if let Some(generation) = place.generation.checked_add(1) {
            place.generation = generation;
            self.free.push(handle.slot);
        }
        self.by_name.remove(&live.name);
        match live.value {
            Value::Alias(target) => {
                self.live_mut(target).expect("a target outlives its aliases").aliases -= 1;
            }
            Value::Tensor(entry) => {
                if let Some(content) = entry.content.get()
                    && !self.entries().any(|live| live.has_content(content))
                {
                    self.packed.forget(content);
                }
            }
        }
    }
}

impl Live {
    fn has_content(&self, content: &super::ContentHash) -> bool {
        self.tensor().is_some_and(|entry| entry.content.get() == Some(content))
    }
}
