//! Packed forms: what a kernel's layout makes of a weight, made once per
//! content and layout and shared by all that ask.
#![forbid(unsafe_code)]

use super::{WeightEntry, WeightHandle, WeightRegistry};
use crate::error::WeightError;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A hash of dtype, extents and bytes that no one can make collide (BLAKE3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash as bytes, stable between runs: usable as the key of a cache on disk.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl WeightEntry {
    /// Hash of dtype, extents and bytes; reads the whole tensor the first time.
    pub fn content_hash(&self) -> ContentHash {
        *self.content.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(self.tensor.dtype().name().as_bytes());
            // A separator no dtype name has; the rank says where the bytes begin.
            hasher.update(&[0]);
            hasher.update(&(self.tensor.dims().len() as u64).to_le_bytes());
            for &dim in self.tensor.dims() {
                hasher.update(&(dim as u64).to_le_bytes());
            }
            hasher.update(self.tensor.bytes());
            ContentHash(*hasher.finalize().as_bytes())
        })
    }
}

/// Something made of a weight's bytes for a kernel to read.
pub trait PackedForm: Any + Send + Sync {
    /// Heap bytes that it keeps alive.
    fn size_bytes(&self) -> u64;
}

impl PackedForm for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.capacity() as u64
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    content: ContentHash,
    layout: String,
    form: TypeId,
}

/// A place for one form. `building` is held while it is made; who only reads never takes it.
#[derive(Default)]
struct Place {
    building: Mutex<()>,
    made: OnceLock<Made>,
}

struct Made {
    form: Arc<dyn Any + Send + Sync>,
    size_bytes: u64,
}

/// All packed forms of a registry.
#[derive(Default)]
pub(super) struct PackedForms(HashMap<Key, Arc<Place>>);

impl PackedForms {
    pub(super) fn size_bytes(&self) -> u64 {
        self.0.values().filter_map(|place| place.made.get()).map(|made| made.size_bytes).sum()
    }

    pub(super) fn forget(&mut self, content: &ContentHash) {
        self.0.retain(|key, _| key.content != *content);
    }
}

impl WeightRegistry {
    /// The form of `handle`'s tensor in `layout`, made by `pack` unless one with
    /// the same content, layout and type is there. Several callers at once make
    /// it once; meanwhile nobody else waits. It stays until the last entry of
    /// this content is unregistered, and beyond that for as long as the result
    /// is held. `pack` must not ask for the form that it makes.
    ///
    /// # Errors
    /// A stale handle, or what `pack` returns; then the next caller tries again.
    pub fn packed<P: PackedForm, E: From<WeightError>>(
        &self,
        handle: WeightHandle,
        layout: &str,
        pack: impl FnOnce(&WeightEntry) -> Result<P, E>,
    ) -> Result<Arc<P>, E> {
        let entry = self.get(handle)?;
        let key = Key { content: entry.content_hash(), layout: layout.into(), form: TypeId::of::<P>() };
        let existing = self.read().packed.0.get(&key).cloned();
        let place = match existing {
            Some(place) => place,
            None => {
                let mut table = self.write();
                // Unregistered meanwhile: a place made now would never be forgotten.
                table.resolve(handle)?;
                table.packed.0.entry(key).or_default().clone()
            }
        };
        let made = match place.made.get() {
            Some(made) => made,
            None => {
                let _building = place.building.lock().unwrap_or_else(PoisonError::into_inner);
                match place.made.get() {
                    Some(made) => made,
                    None => {
                        let form = pack(&entry)?;
                        let size_bytes = form.size_bytes();
                        place.made.get_or_init(|| Made { form: Arc::new(form), size_bytes })
                    }
                }
            }
        };
        Ok(made.form.clone().downcast().expect("the key holds the type of the form"))
    }
}
