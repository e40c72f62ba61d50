//! As much of the zip format as npz needs: stored and deflated members, 64-bit sizes.
//!
//! The reader trusts only the central directory, checks it against the local
//! records, and refuses encryption, spanned archives, names twice and members
//! that share bytes. Stored members are borrowed; deflated ones are unpacked
//! against a budget, growing with what really comes out, never with what a
//! size field says. The writer streams; it never seeks.
#![forbid(unsafe_code)]

mod read;
mod write;

pub(crate) use read::{members, unpack};
pub(crate) use write::ZipWriter;

use std::ops::Range;

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const LOCATOR64_SIGNATURE: u32 = 0x0706_4b50;
const ZIP64_EXTRA: u16 = 1;
/// In a 32-bit field: the value is in the 64-bit extra record.
const SEE_ZIP64: u32 = u32::MAX;

/// How a member is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// As is.
    Stored,
    /// Deflate.
    Deflated,
}

impl Compression {
    fn code(self) -> u16 {
        match self {
            Compression::Stored => 0,
            Compression::Deflated => 8,
        }
    }
}

/// A file in the archive.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    compression: Compression,
    checksum: u32,
    /// Where its possibly compressed bytes are.
    data: Range<usize>,
    /// Unpacked size that the directory states.
    size: u64,
}
