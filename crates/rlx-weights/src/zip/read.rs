//! Reading an archive: directory, local records, contents.
#![forbid(unsafe_code)]

use super::*;
use crate::bytes::WeightBytes;
use crate::error::WeightError;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};
use std::collections::HashSet;

const END_BYTES: usize = 22;
const LOCATOR64_BYTES: usize = 20;
const LONGEST_COMMENT: usize = 65_535;
const ENCRYPTED: u16 = 1;
/// Deflate never does better than 1032 to 1.
const BEST_DEFLATE_RATIO: u64 = 1032;

/// Little-endian fields, read in sequence.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn at(bytes: &'a [u8], offset: usize) -> Fields<'a> {
        Fields { rest: bytes.get(offset..).unwrap_or_default() }
    }
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }
    fn unsigned(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }
    fn u16(&mut self) -> Option<u16> {
        self.unsigned(2).map(|value| value as u16)
    }
    fn u32(&mut self) -> Option<u32> {
        self.unsigned(4).map(|value| value as u32)
    }
    fn signed_with(&mut self, signature: u32) -> Option<()> {
        (self.u32()? == signature).then_some(())
    }
}

fn malformed(file: &str, detail: String) -> WeightError {
    WeightError::Malformed { file: file.into(), part: "zip archive", detail }
}

/// The members of the archive `bytes`, in directory order.
pub(crate) fn members(file: &str, bytes: &[u8]) -> Result<Vec<Member>, WeightError> {
    let (count, mut directory) = directory_of(bytes).ok_or_else(|| {
        malformed(file, "found no end record with a directory, expected a whole archive".into())
    })?;
    let mut members = Vec::new();
    for index in 0..count {
        let entry = CentralEntry::read(&mut directory)
            .ok_or_else(|| malformed(file, format!("found {index} directory entries, expected {count}")))?;
        members.push(member_of(file, bytes, entry)?);
    }
    refuse_repeats_and_overlaps(file, &members)?;
    Ok(members)
}

/// Number of entries and the central directory.
fn directory_of(bytes: &[u8]) -> Option<(u64, Fields<'_>)> {
    let first = bytes.len().saturating_sub(END_BYTES + LONGEST_COMMENT);
    let last = bytes.len().checked_sub(END_BYTES)?;
    let end = (first..=last).rev().find(|&at| {
        let comment = Fields::at(bytes, at + END_BYTES - 2).u16();
        bytes[at..].starts_with(&END_SIGNATURE.to_le_bytes())
            && comment.map(usize::from) == Some(bytes.len() - at - END_BYTES)
    })?;
    let mut fields = Fields::at(bytes, end + 4);
    let disks = fields.u32()?;
    let (here, count) = (fields.u16()?, fields.u16()?);
    let (size, offset) = (fields.u32()?, fields.u32()?);
    let locator = end.checked_sub(LOCATOR64_BYTES).map(|at| Fields::at(bytes, at));
    let end64 = locator.and_then(|mut fields| {
        fields.signed_with(LOCATOR64_SIGNATURE)?;
        fields.u32()?;
        fields.unsigned(8)
    });
    let (count, size, offset) = match end64 {
        Some(at) => directory64(bytes, usize::try_from(at).ok()?)?,
        None if disks == 0 && here == count => (u64::from(count), u64::from(size), u64::from(offset)),
        None => return None,
    };
    let begin = usize::try_from(offset).ok()?;
    let directory = bytes.get(begin..begin.checked_add(usize::try_from(size).ok()?)?)?;
    Some((count, Fields { rest: directory }))
}

/// Count, size and offset from the 64-bit end record.
fn directory64(bytes: &[u8], at: usize) -> Option<(u64, u64, u64)> {
    let mut fields = Fields::at(bytes, at);
    fields.signed_with(END64_SIGNATURE)?;
    fields.take(12)?;
    let disks = fields.unsigned(8)?;
    let (here, count) = (fields.unsigned(8)?, fields.unsigned(8)?);
    (disks == 0 && here == count).then_some(())?;
    Some((count, fields.unsigned(8)?, fields.unsigned(8)?))
}

/// An entry of the central directory.
struct CentralEntry<'a> {
    flags: u16,
    method: u16,
    checksum: u32,
    packed: u64,
    size: u64,
    offset: u64,
    name: &'a [u8],
}

impl<'a> CentralEntry<'a> {
    fn read(fields: &mut Fields<'a>) -> Option<CentralEntry<'a>> {
        fields.signed_with(CENTRAL_SIGNATURE)?;
        fields.take(4)?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.take(4)?;
        let checksum = fields.u32()?;
        let (packed, size) = (fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        fields.take(8)?;
        let offset = fields.u32()?;
        let name = fields.take(name.into())?;
        let mut wide = zip64_extra(fields.take(extra.into())?);
        fields.take(comment.into())?;
        let mut widen = |narrow: u32| match narrow {
            SEE_ZIP64 => wide.unsigned(8),
            _ => Some(u64::from(narrow)),
        };
        let (size, packed, offset) = (widen(size)?, widen(packed)?, widen(offset)?);
        Some(CentralEntry { flags, method, checksum, packed, size, offset, name })
    }
}

/// The 64-bit sizes among the extra records; empty when there are none.
fn zip64_extra(extra: &[u8]) -> Fields<'_> {
    let mut fields = Fields { rest: extra };
    while let (Some(id), Some(length)) = (fields.u16(), fields.u16()) {
        match fields.take(length.into()) {
            Some(record) if id == ZIP64_EXTRA => return Fields { rest: record },
            Some(_) => {}
            None => break,
        }
    }
    Fields { rest: &[] }
}

/// Checks `entry` against its local record and finds its bytes.
fn member_of(file: &str, bytes: &[u8], entry: CentralEntry<'_>) -> Result<Member, WeightError> {
    let name = match std::str::from_utf8(entry.name) {
        Ok(name) => name.to_owned(),
        Err(_) => return Err(malformed(file, "found a member name that is not UTF-8, expected text".into())),
    };
    let compression = match entry.method {
        _ if entry.flags & ENCRYPTED != 0 => None,
        0 => Some(Compression::Stored),
        8 => Some(Compression::Deflated),
        _ => None,
    };
    let compression = compression.ok_or_else(|| {
        let (method, flags) = (entry.method, entry.flags);
        malformed(
            file,
            format!("member `{name}` has method {method}, flags {flags:#x}; expected stored or deflated"),
        )
    })?;
    let data = local_data(bytes, &entry).ok_or_else(|| {
        malformed(file, format!("member `{name}` has no matching local record, expected one with its data"))
    })?;
    if compression == Compression::Stored && data.len() as u64 != entry.size {
        let (found, expected) = (data.len(), entry.size);
        return Err(malformed(file, format!("member `{name}` stores {found} bytes, expected {expected}")));
    }
    Ok(Member { name, compression, checksum: entry.checksum, data, size: entry.size })
}

/// Where the data of `entry` lies, if a local record of the same name and method precedes it.
fn local_data(bytes: &[u8], entry: &CentralEntry<'_>) -> Option<Range<usize>> {
    let mut fields = Fields::at(bytes, usize::try_from(entry.offset).ok()?);
    fields.signed_with(LOCAL_SIGNATURE)?;
    fields.take(4)?;
    (fields.u16()? == entry.method).then_some(())?;
    fields.take(16)?;
    let (name, extra) = (fields.u16()?, fields.u16()?);
    (fields.take(name.into())? == entry.name).then_some(())?;
    fields.take(extra.into())?;
    let begin = bytes.len() - fields.rest.len();
    fields.take(usize::try_from(entry.packed).ok()?)?;
    Some(begin..bytes.len() - fields.rest.len())
}

/// Shared bytes would let a small archive unpack to much more than it holds.
fn refuse_repeats_and_overlaps(file: &str, members: &[Member]) -> Result<(), WeightError> {
    let mut seen = HashSet::new();
    if let Some(twice) = members.iter().find(|member| !seen.insert(&member.name)) {
        return Err(WeightError::DuplicateTensor {
            file: file.into(),
            tensor: twice.name.clone(),
            other: "the same archive".into(),
        });
    }
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by_key(|member| (member.data.start, member.data.end));
    match order.windows(2).find(|pair| pair[1].data.start < pair[0].data.end) {
        Some(pair) => Err(WeightError::Overlap {
            file: file.into(),
            tensor: pair[1].name.clone(),
            other: pair[0].name.clone(),
            begin: pair[1].data.start as u64,
            end: pair[0].data.end as u64,
        }),
        None => Ok(()),
    }
}

/// The contents of `member`: borrowed when stored, else unpacked, taking its
/// size from `budget`.
pub(crate) fn unpack(
    file: &str,
    archive: &WeightBytes,
    member: &Member,
    budget: &mut u64,
) -> Result<WeightBytes, WeightError> {
    let packed = archive.slice(member.data.clone()).expect("local_data kept the range inside the archive");
    let contents = match member.compression {
        Compression::Stored => packed,
        Compression::Deflated => inflate(file, member, &packed, budget)?,
    };
    let found = crc32fast::hash(&contents);
    if found != member.checksum {
        let (file, tensor) = (file.into(), member.name.clone());
        return Err(WeightError::Checksum { file, tensor, found, expected: member.checksum });
    }
    Ok(contents)
}

fn inflate(file: &str, member: &Member, packed: &[u8], budget: &mut u64) -> Result<WeightBytes, WeightError> {
    let name = &member.name;
    if member.size > *budget {
        let (file, tensor) = (file.into(), name.clone());
        return Err(WeightError::OverBudget { file, tensor, found: member.size, limit: *budget });
    }
    let possible = (packed.len() as u64).saturating_mul(BEST_DEFLATE_RATIO);
    let size = usize::try_from(member.size).ok().filter(|_| member.size <= possible);
    let size = size.ok_or_else(|| {
        malformed(file, format!("member `{name}` states {} bytes, expected at most {possible}", member.size))
    })?;
    let contents = decompress_to_vec_with_limit(packed, size).map_err(|error| {
        malformed(
            file,
            match error.status {
                TINFLStatus::HasMoreOutput => {
                    format!("member `{name}` holds more than the {size} bytes it states")
                }
                _ => format!("member `{name}` is not valid deflate data"),
            },
        )
    })?;
    if contents.len() != size {
        let found = contents.len();
        return Err(malformed(file, format!("member `{name}` holds {found} bytes, expected {size}")));
    }
    *budget -= member.size;
    Ok(contents.into())
}
