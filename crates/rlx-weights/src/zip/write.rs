//! Writing an archive, member after member, then the directory.
#![forbid(unsafe_code)]

use super::*;
use miniz_oxide::deflate::compress_to_vec;
use std::io::{self, Write};

/// Balanced speed and size.
const DEFLATE_LEVEL: u8 = 6;
/// 1 January 1980, the earliest date of the format: equal contents give equal archives.
const DATE: u16 = 0x21;
const UTF8_NAMES: u16 = 1 << 11;

/// Writes members to `out` and keeps the directory to come.
pub(crate) struct ZipWriter<'a> {
    out: &'a mut dyn Write,
    offset: u64,
    directory: Vec<u8>,
    count: u64,
    /// Sizes and offsets from here on are written as 64-bit ones.
    narrow_limit: u64,
}

impl<'a> ZipWriter<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> ZipWriter<'a> {
        ZipWriter { out, offset: 0, directory: Vec::new(), count: 0, narrow_limit: u64::from(SEE_ZIP64) }
    }

    /// Adds a member whose contents are `parts`, one after the other. Its name
    /// has at most 65,535 bytes.
    pub(crate) fn add(&mut self, name: &str, parts: &[&[u8]], compression: Compression) -> io::Result<()> {
        let name_length = u16::try_from(name.len()).map_err(|_| io::Error::other("member name too long"))?;
        let mut checksum = crc32fast::Hasher::new();
        parts.iter().for_each(|part| checksum.update(part));
        let size = parts.iter().map(|part| part.len() as u64).sum();
        let deflated;
        let deflated_parts;
        let payload = match compression {
            Compression::Stored => parts,
            Compression::Deflated => {
                deflated = compress_to_vec(&parts.concat(), DEFLATE_LEVEL);
                deflated_parts = [&deflated[..]];
                &deflated_parts[..]
            }
        };
        let packed = payload.iter().map(|part| part.len() as u64).sum();
        let (narrow, wide) = self.split([size, packed, self.offset]);
        // The local record has no offset field, so both of its sizes go wide together.
        let local_wide = if wide.is_empty() { vec![] } else { extra_record(&[size, packed]) };
        let [size_field, packed_field] =
            if wide.is_empty() { [narrow[0], narrow[1]] } else { [SEE_ZIP64; 2] };

        let common = |sizes: [u32; 2], extra: usize| {
            let mut fields = Vec::new();
            let words = [if wide.is_empty() { 20 } else { 45 }, UTF8_NAMES, compression.code(), 0, DATE];
            words.iter().for_each(|word: &u16| fields.extend(word.to_le_bytes()));
            let longs = [checksum.clone().finalize(), sizes[1], sizes[0]];
            longs.iter().for_each(|long| fields.extend(long.to_le_bytes()));
            fields.extend(name_length.to_le_bytes());
            fields.extend((extra as u16).to_le_bytes());
            fields
        };
        let local_fields = common([size_field, packed_field], local_wide.len());
        let central_extra = if wide.is_empty() { vec![] } else { extra_record(&wide) };
        let central_fields = common([narrow[0], narrow[1]], central_extra.len());

        self.directory.extend(CENTRAL_SIGNATURE.to_le_bytes());
        self.directory.extend(45u16.to_le_bytes());
        self.directory.extend(central_fields);
        self.directory.extend([0; 10]);
        self.directory.extend(narrow[2].to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.directory.extend(central_extra);
        self.count += 1;

        self.put(&LOCAL_SIGNATURE.to_le_bytes())?;
        self.put(&local_fields)?;
        self.put(name.as_bytes())?;
        self.put(&local_wide)?;
        payload.iter().try_for_each(|part| self.put(part))
    }

    /// Writes the directory and the end records.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let directory = std::mem::take(&mut self.directory);
        let (size, offset) = (directory.len() as u64, self.offset);
        self.put(&directory)?;
        let (narrow, wide) = self.split([size, offset, 0]);
        let count = u16::try_from(self.count).ok().filter(|&count| count != u16::MAX && wide.is_empty());
        if count.is_none() {
            let end64 = self.offset;
            let mut record = Vec::new();
            record.extend(END64_SIGNATURE.to_le_bytes());
            record.extend(44u64.to_le_bytes());
            record.extend([45, 0, 45, 0]);
            record.extend([0; 8]);
            [self.count, self.count, size, offset]
                .iter()
                .for_each(|field| record.extend(field.to_le_bytes()));
            record.extend(LOCATOR64_SIGNATURE.to_le_bytes());
            record.extend([0; 4]);
            record.extend(end64.to_le_bytes());
            record.extend(1u32.to_le_bytes());
            self.put(&record)?;
        }
        let count = count.unwrap_or(u16::MAX).to_le_bytes();
        self.put(&END_SIGNATURE.to_le_bytes())?;
        self.put(&[0; 4])?;
        self.put(&[count, count].concat())?;
        self.put(&[narrow[0].to_le_bytes(), narrow[1].to_le_bytes()].concat())?;
        self.put(&[0; 2])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Values for the 32-bit fields, and those that need 64 bits, in order.
    fn split(&self, values: [u64; 3]) -> ([u32; 3], Vec<u64>) {
        let wide = values.into_iter().filter(|&value| value >= self.narrow_limit).collect();
        let narrow = |value| if value >= self.narrow_limit { SEE_ZIP64 } else { value as u32 };
        (values.map(narrow), wide)
    }
}

fn extra_record(values: &[u64]) -> Vec<u8> {
    let mut record = ZIP64_EXTRA.to_le_bytes().to_vec();
    record.extend((values.len() as u16 * 8).to_le_bytes());
    values.iter().for_each(|value| record.extend(value.to_le_bytes()));
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::WeightBytes;
    use crate::zip::{members, unpack};

    #[test]
    fn archives_read_back_with_narrow_and_wide_records() {
        for narrow_limit in [u64::from(SEE_ZIP64), 60, 0] {
            let mut archive = Vec::new();
            let mut writer = ZipWriter { narrow_limit, ..ZipWriter::new(&mut archive) };
            writer.add("a", &[b"ab", b"c"], Compression::Stored).expect("writing to memory");
            writer.add("b", &[&[7; 5000]], Compression::Deflated).expect("writing to memory");
            writer.finish().expect("writing to memory");
            let archive = WeightBytes::from(archive);
            let members = members("memory", &archive).expect("our own archive");
            let mut budget = 5000;
            let mut contents = |index: usize| unpack("memory", &archive, &members[index], &mut budget);
            assert_eq!(&contents(0).expect("stored")[..], b"abc");
            assert_eq!(&contents(1).expect("deflated")[..], [7; 5000]);
            assert_eq!((members[0].name.as_str(), members.len(), budget), ("a", 2, 0));
        }
    }
}
