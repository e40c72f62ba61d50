//! Shared, immutable bytes of a weight: part of an owned buffer or of a mapped file.
//!
//! Cloning and slicing never copy. Nothing is said about alignment.
#![forbid(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
use crate::mapping::Mapping;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of shared immutable bytes. Keeps its whole buffer or mapping alive.
#[derive(Clone)]
pub struct WeightBytes {
    storage: Storage,
    range: Range<usize>,
}

#[derive(Clone)]
enum Storage {
    Owned(Arc<dyn AsRef<[u8]> + Send + Sync>),
    #[cfg(not(target_family = "wasm"))]
    Mapped(Arc<Mapping>),
}

impl WeightBytes {
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn mapped(mapping: Mapping) -> WeightBytes {
        let range = 0..mapping.bytes().len();
        WeightBytes { storage: Storage::Mapped(Arc::new(mapping)), range }
    }

    /// The bytes of a file, mapped or read.
    ///
    /// # Errors
    /// A file that cannot be opened, or is none.
    #[cfg(not(target_family = "wasm"))]
    pub fn open(
        path: &std::path::Path,
        access: crate::FileAccess,
    ) -> Result<WeightBytes, crate::WeightError> {
        crate::mapped::open_file(path, access)
    }

    /// The bytes of whatever holds them.
    pub fn from_owner(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> WeightBytes {
        WeightBytes { range: 0..(*owner).as_ref().len(), storage: Storage::Owned(owner) }
    }

    /// Bytes `range` of these, sharing the storage; `None` beyond the end.
    pub fn slice(&self, range: Range<usize>) -> Option<WeightBytes> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(WeightBytes { storage: self.storage.clone(), range })
    }

    /// Whether the bytes are pages of a mapped file, not heap memory.
    pub fn is_mapped(&self) -> bool {
        match &self.storage {
            #[cfg(not(target_family = "wasm"))]
            Storage::Mapped(_) => true,
            Storage::Owned(_) => false,
        }
    }

    /// Lets the system drop the mapped pages from memory, once a packed form has
    /// taken their place; reading them again brings them back from the file.
    /// Owned bytes stay.
    pub fn release_pages(&self) {
        #[cfg(not(target_family = "wasm"))]
        if let Storage::Mapped(mapping) = &self.storage {
            mapping.release_pages(self.range.clone());
        }
    }

    /// Address range, which tells storage apart: two live ranges overlap only
    /// where they are the same memory.
    pub(crate) fn address_range(&self) -> Range<usize> {
        let begin = self.as_ptr().addr();
        begin..begin + self.len()
    }
}

impl Deref for WeightBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.storage {
            Storage::Owned(bytes) => (**bytes).as_ref(),
            #[cfg(not(target_family = "wasm"))]
            Storage::Mapped(mapping) => mapping.bytes(),
        };
        &all[self.range.clone()]
    }
}
impl AsRef<[u8]> for WeightBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
impl From<Vec<u8>> for WeightBytes {
    fn from(bytes: Vec<u8>) -> WeightBytes {
        WeightBytes::from_owner(Arc::new(bytes))
    }
}
impl From<Arc<[u8]>> for WeightBytes {
    fn from(bytes: Arc<[u8]>) -> WeightBytes {
        WeightBytes::from_owner(Arc::new(bytes))
    }
}
impl fmt::Debug for WeightBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_mapped() { "mapped" } else { "owned" };
        write!(f, "WeightBytes({kind}, {} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_storage_and_stay_inside() {
        let all = WeightBytes::from((0..10).collect::<Vec<u8>>());
        let inner = all.slice(2..8).and_then(|part| part.slice(1..3)).expect("inside");
        assert_eq!(&inner[..], [3, 4]);
        assert_eq!(inner.as_ptr(), all[3..].as_ptr());
        assert!(inner.slice(0..3).is_none());
        let (begin, end) = (2, 1);
        assert!(all.slice(begin..end).is_none());
        assert!(all.slice(10..10).is_some_and(|empty| empty.is_empty()));
    }
}
