//! The compile cache: what was compiled once in a session is compiled once.
//!
//! The key is a hash of the graph's text and constants, the options, and the
//! capabilities of the device. Only what is equal in all of these is shared, and
//! what is shared is code, never weights or state.

pub(crate) mod folder;

use crate::compiled::Compilation;
use rlx_driver::{DriverError, ExecutableGraph};
use rlx_ir::Graph;
use rlx_opt::{Capabilities, CompileOptions};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Names a compilation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CacheKey([u8; 32]);

impl CacheKey {
    pub(crate) fn new(graph: &Graph, capabilities: &Capabilities, options: &CompileOptions) -> CacheKey {
        let mut constants = BTreeMap::new();
        let text = rlx_ir::text::print_graph_with(graph, &mut constants);
        let mut hash = blake3::Hasher::new();
        // Each part with its length, so that no two lists of parts read the same.
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(env!("CARGO_PKG_VERSION").as_bytes());
        part(rlx_opt::pipeline::STANDARD.as_bytes());
        part(capabilities.name.as_bytes());
        part(capabilities.fingerprint.as_bytes());
        part(format!("{} {options:?}", capabilities.alignment).as_bytes());
        part(text.as_bytes());
        for (key, literal) in &constants {
            part(key.as_bytes());
            part(literal.bytes());
        }
        CacheKey(*hash.finalize().as_bytes())
    }

    /// In hexadecimal digits.
    fn hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

/// How often the cache helped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Compilations found.
    pub hits: u64,
    /// Compilations that were not in memory.
    pub misses: u64,
    /// Of those, the ones whose graph was found in the cache folder.
    pub folder_hits: u64,
    /// Compilations held.
    pub entries: usize,
}

struct Entry {
    /// Never run and never bound: what clones are made from.
    prototype: Box<dyn ExecutableGraph>,
    compilation: Option<Arc<Compilation>>,
    used: u64,
}

/// The compilations of one session; the least recently used goes first.
pub(crate) struct CompileCache {
    entries: HashMap<CacheKey, Entry>,
    capacity: usize,
    clock: u64,
    hits: u64,
    misses: u64,
    pub(crate) folder_hits: u64,
}

type Hit = (Box<dyn ExecutableGraph>, Option<Arc<Compilation>>);

impl CompileCache {
    pub(crate) fn new(capacity: usize) -> CompileCache {
        CompileCache { entries: HashMap::new(), capacity, clock: 0, hits: 0, misses: 0, folder_hits: 0 }
    }

    /// An executable of an earlier compilation.
    pub(crate) fn find(&mut self, key: CacheKey) -> Result<Option<Hit>, DriverError> {
        self.clock += 1;
        let Some(entry) = self.entries.get_mut(&key) else {
            self.misses += 1;
            return Ok(None);
        };
        entry.used = self.clock;
        self.hits += 1;
        Ok(Some((entry.prototype.clone_box()?, entry.compilation.clone())))
    }

    /// Keeps a compilation and gives an executable of it.
    pub(crate) fn keep(
        &mut self,
        key: CacheKey,
        prototype: Box<dyn ExecutableGraph>,
        compilation: Option<Arc<Compilation>>,
    ) -> Result<Box<dyn ExecutableGraph>, DriverError> {
        if self.capacity == 0 {
            return Ok(prototype);
        }
        if self.entries.len() >= self.capacity
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key)
        {
            self.entries.remove(&oldest);
        }
        let executable = prototype.clone_box()?;
        self.entries.insert(key, Entry { prototype, compilation, used: self.clock });
        Ok(executable)
    }

    pub(crate) fn statistics(&self) -> CacheStatistics {
        CacheStatistics {
            hits: self.hits,
            misses: self.misses,
            folder_hits: self.folder_hits,
            entries: self.entries.len(),
        }
    }
}
