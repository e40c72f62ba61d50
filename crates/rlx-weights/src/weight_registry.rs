//! Names, handles, aliases, pins, adapters and packed forms of the weights in use.
//!
//! Invariants: a name has at most one entry; a handle is valid until its entry
//! is unregistered and never means another entry after; every alias chain ends
//! at a tensor; an entry goes only when nothing pins it and no alias points at
//! it. Sizes are counted from the entries that are there, so they cannot drift.
//!
//! Thread-safe: readers share one lock; a writer holds it only to change
//! tables, never while bytes are compared, hashed or packed. Entries are
//! shared: what `get` returned stays readable after it was unregistered.
//! A handle belongs to the registry that made it.
#![forbid(unsafe_code)]

mod adapters;
mod packed;
mod table;

pub use adapters::LoraHandles;
pub use packed::{ContentHash, PackedForm};

use crate::error::WeightError;
use crate::tensor::{WeightTensor, type_text};
use crate::weights::WeightLoader;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use table::{Live, Table, Value};

/// A registered weight. Small, `Copy`, never reused for another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WeightHandle {
    slot: u32,
    generation: u32,
}
impl fmt::Display for WeightHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight #{}.{}", self.slot, self.generation)
    }
}

/// What an entry is there for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WeightKind {
    /// A tensor of a model.
    Base,
    /// Another name for an entry (tied weights).
    Alias {
        /// The entry, itself perhaps an alias.
        target: WeightHandle,
    },
    /// A tensor of an attached LoRA adapter.
    Lora {
        /// Name of the adapter.
        adapter: String,
    },
}

/// A registered tensor.
#[derive(Debug)]
pub struct WeightEntry {
    kind: WeightKind,
    tensor: WeightTensor,
    content: OnceLock<ContentHash>,
}

impl WeightEntry {
    /// What it is there for; never an alias.
    pub fn kind(&self) -> &WeightKind {
        &self.kind
    }

    /// Name, dtype, extents and bytes.
    pub fn tensor(&self) -> &WeightTensor {
        &self.tensor
    }
}

/// Bytes that the registry keeps alive. Each byte of memory counts once, however
/// many entries share it; what a file holds beside the registered tensors does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryUse {
    /// Heap bytes of registered tensors.
    pub owned: u64,
    /// Mapped file bytes of registered tensors.
    pub mapped: u64,
    /// Heap bytes of packed forms.
    pub packed: u64,
}

/// The weights in use, by name and handle.
#[derive(Default)]
pub struct WeightRegistry {
    table: RwLock<Table>,
}

impl WeightRegistry {
    /// An empty registry.
    pub fn new() -> WeightRegistry {
        WeightRegistry::default()
    }

    // A panic cannot leave the table half changed: every change is made of steps
    // that cannot fail, after all checks. So a poisoned lock is still good.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers `tensor` under its name. The same tensor again gives the same handle.
    ///
    /// # Errors
    /// [`WeightError::NameTaken`] by an entry of another kind, dtype, shape or content.
    pub fn register(&self, tensor: WeightTensor) -> Result<WeightHandle, WeightError> {
        loop {
            let taken =
                self.read().live_by_name(tensor.name()).map(|(handle, live)| (handle, live.value.clone()));
            if let Some((handle, value)) = taken {
                // Outside the lock: this may read the whole tensor.
                refuse_different(&tensor, &value)?;
                return Ok(handle);
            }
            let mut table = self.write();
            if table.live_by_name(tensor.name()).is_none() {
                let name = tensor.shared_name().clone();
                return Ok(table.insert(name, Value::tensor(tensor, WeightKind::Base)));
            }
        }
    }

    /// Registers every tensor of `loader`, in its order; bytes are shared, not
    /// copied. On an error, those before stay registered.
    ///
    /// # Errors
    /// As [`WeightRegistry::register`].
    pub fn register_all(&self, loader: &dyn WeightLoader) -> Result<Vec<WeightHandle>, WeightError> {
        loader.tensors().iter().map(|tensor| self.register(tensor.clone())).collect()
    }

    /// The handle of `name`: of the alias, if it is one.
    ///
    /// # Errors
    /// [`WeightError::UnknownWeight`].
    pub fn lookup(&self, name: &str) -> Result<WeightHandle, WeightError> {
        let table = self.read();
        let found = table.live_by_name(name).map(|(handle, _)| handle);
        found.ok_or_else(|| WeightError::UnknownWeight {
            name: name.into(),
            nearest: rlx_ir::nearest_name(name, table.names()).map(str::to_string),
        })
    }

    /// The tensor of `handle`; an alias chain is followed to its end.
    ///
    /// # Errors
    /// [`WeightError::StaleHandle`].
    pub fn get(&self, handle: WeightHandle) -> Result<Arc<WeightEntry>, WeightError> {
        self.read().resolve(handle).cloned()
    }

    /// What `handle` is; unlike [`WeightRegistry::get`] it does not follow aliases.
    ///
    /// # Errors
    /// [`WeightError::StaleHandle`].
    pub fn kind(&self, handle: WeightHandle) -> Result<WeightKind, WeightError> {
        Ok(match &self.read().live(handle)?.value {
            Value::Alias(target) => WeightKind::Alias { target: *target },
            Value::Tensor(entry) => entry.kind.clone(),
        })
    }

    /// Makes `name` another name for `target`. The same alias again gives the same handle.
    ///
    /// # Errors
    /// A taken name, a stale target, or [`WeightError::AliasCycle`].
    pub fn alias(&self, name: &str, target: WeightHandle) -> Result<WeightHandle, WeightError> {
        let mut table = self.write();
        let target_name = table.live(target)?.name.clone();
        if let Some((handle, live)) = table.live_by_name(name) {
            if matches!(live.value, Value::Alias(existing) if existing == target) {
                return Ok(handle);
            }
            let (name, cycle) = (name.into(), table.reaches(target, handle));
            let target = target_name.to_string();
            return Err(if cycle {
                WeightError::AliasCycle { name, target }
            } else {
                let (found, expected) = (format!("alias of `{target}`"), live.value.describe());
                WeightError::NameTaken { name, what: "kind", found, expected }
            });
        }
        Ok(table.insert(name.into(), Value::Alias(target)))
    }

    /// Keeps `handle` registered until it is released. Pins count; an alias is
    /// pinned by itself and so keeps its target.
    ///
    /// # Errors
    /// [`WeightError::StaleHandle`].
    pub fn pin(&self, handle: WeightHandle) -> Result<(), WeightError> {
        let mut table = self.write();
        let pins = &mut table.live_mut(handle)?.pins;
        *pins = pins.checked_add(1).expect("no program can pin 2^64 times");
        Ok(())
    }

    /// Takes one pin back.
    ///
    /// # Errors
    /// [`WeightError::StaleHandle`], [`WeightError::NotPinned`].
    pub fn release(&self, handle: WeightHandle) -> Result<(), WeightError> {
        let mut table = self.write();
        let live = table.live_mut(handle)?;
        live.pins =
            live.pins.checked_sub(1).ok_or_else(|| WeightError::NotPinned { name: live.name.to_string() })?;
        Ok(())
    }

    /// Forgets `handle`; its bytes go when the last user of the entry lets go.
    ///
    /// # Errors
    /// [`WeightError::StaleHandle`]; [`WeightError::InUse`] while pinned or
    /// aliased; [`WeightError::PartOfAdapter`] for a tensor of an adapter.
    pub fn unregister(&self, handle: WeightHandle) -> Result<(), WeightError> {
        let mut table = self.write();
        let live = table.live(handle)?;
        live.refuse_in_use()?;
        if let Value::Tensor(entry) = &live.value
            && let WeightKind::Lora { adapter } = &entry.kind
        {
            let (name, adapter) = (live.name.to_string(), adapter.clone());
            return Err(WeightError::PartOfAdapter { name, adapter });
        }
        table.remove(handle);
        Ok(())
    }

    /// Number of entries: tensors, aliases and adapter tensors.
    pub fn len(&self) -> usize {
        self.read().entries().count()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all registered tensors, shared storage once; packed forms apart.
    pub fn total_bytes(&self) -> u64 {
        let memory = self.memory();
        memory.owned + memory.mapped
    }

    /// Bytes by where they are.
    pub fn memory(&self) -> MemoryUse {
        let table = self.read();
        let covered = |mapped: bool| {
            let tensors = table.entries().filter_map(Live::tensor);
            let ranges = tensors.filter(|entry| entry.tensor.bytes().is_mapped() == mapped);
            union_length(ranges.map(|entry| entry.tensor.bytes().address_range()).collect())
        };
        MemoryUse { owned: covered(false), mapped: covered(true), packed: table.packed.size_bytes() }
    }
}

/// Number of addresses in any of `ranges`.
fn union_length(mut ranges: Vec<Range<usize>>) -> u64 {
    ranges.sort_by_key(|range| range.start);
    let mut covered_to = 0;
    let mut length = 0;
    for range in ranges {
        let begin = range.start.max(covered_to);
        length += range.end.saturating_sub(begin) as u64;
        covered_to = covered_to.max(range.end);
    }
    length
}

/// Refuses `tensor` unless `registered` is the same.
fn refuse_different(tensor: &WeightTensor, registered: &Value) -> Result<(), WeightError> {
    let taken = |what, found: String, expected: String| {
        Err(WeightError::NameTaken { name: tensor.name().into(), what, found, expected })
    };
    let (Value::Tensor(entry), found) = (registered, type_text(tensor.dtype(), tensor.dims())) else {
        return taken("kind", "tensor".into(), registered.describe());
    };
    let there = &entry.tensor;
    if entry.kind != WeightKind::Base {
        return taken("kind", "tensor".into(), registered.describe());
    }
    if tensor.dtype() != there.dtype() || tensor.dims() != there.dims() {
        return taken("type", found, type_text(there.dtype(), there.dims()));
    }
    let same_memory = tensor.bytes().address_range() == there.bytes().address_range();
    if !same_memory && tensor.bytes()[..] != there.bytes()[..] {
        let differing = tensor.bytes().iter().zip(there.bytes().iter()).filter(|(a, b)| a != b).count();
        return taken("content", format!("{differing} bytes that differ"), format!("of {found}"));
    }
    Ok(())
}
