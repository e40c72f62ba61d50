//! Read-only memory maps of files: the only unsafe code of this crate.
//!
//! The file behind a map must not be changed while the map lives. Truncating
//! it makes a later access raise a signal that no library can turn into an
//! error; open with `FileAccess::Read` where that may happen.

use std::fs::File;
use std::io;
use std::ops::Range;

/// A whole file, mapped read-only.
pub(crate) struct Mapping(memmap2::Mmap);

impl Mapping {
    /// Maps all of `file`.
    pub(crate) fn new(file: &File) -> io::Result<Mapping> {
        // SAFETY: the map is read-only and its bytes are plain data: any byte
        // value is legal wherever they are read. That the file is neither
        // changed nor truncated while mapped is the documented duty of who
        // opens it; the alternative that needs no such promise is reading it.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Mapping(map))
    }

    /// Lets the system take the pages of `range` out of this process; touching
    /// them brings them back from the file. Without effect where there is no such call.
    pub(crate) fn release_pages(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is never written, so its pages hold what the file
            // holds and dropping them changes no byte that a reader can see.
            let released = unsafe { self.0.unchecked_advise_range(advice, range.start, range.len()) };
            // Only advice: where it is refused the pages merely stay.
            drop(released);
        }
        #[cfg(not(unix))]
        drop(range);
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
