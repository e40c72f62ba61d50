//! The one error type of this crate.
//!
//! Every message names the file or registry entry, says what was found and what
//! was expected, and ends with what to do about it. Files that exist only in
//! memory are called by the label their caller gave.

use crate::weight_registry::WeightHandle;

/// Why a weight file, adapter or registry call was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// The operating system refused.
    #[error("cannot {action} {file}: {source}; check the path and its permissions")]
    Io {
        /// Path.
        file: String,
        /// Verb: open, read, map, write.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path that is neither a regular file nor a folder where one was needed.
    #[error("{file}: found {found}, expected a regular file; give the path of a weight file")]
    NotAFile {
        /// Path.
        file: String,
        /// What is there.
        found: &'static str,
    },
    /// Contents of a format that no reader here knows.
    #[error("{file}: found {found}, expected safetensors, npy or npz; convert the file first")]
    UnknownFormat {
        /// Path.
        file: String,
        /// The format or leading bytes.
        found: String,
    },
    /// The file ends inside something.
    #[error(
        "{file}: {part} is cut short: found {found} bytes, expected {expected}; fetch or copy the file again"
    )]
    Truncated {
        /// Path or label.
        file: String,
        /// What is incomplete.
        part: &'static str,
        /// Bytes present.
        found: u64,
        /// Bytes needed.
        expected: u64,
    },
    /// A length field or file beyond what this crate accepts.
    #[error(
        "{file}: {part} takes {found} bytes, expected at most {limit}; the file is damaged or of another format"
    )]
    TooLong {
        /// Path or label.
        file: String,
        /// What is too long.
        part: &'static str,
        /// Its length.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Syntax or structure that the format does not allow.
    #[error("{file}: malformed {part}: {detail}; the file is damaged, write it again")]
    Malformed {
        /// Path or label.
        file: String,
        /// Which part.
        part: &'static str,
        /// What was found and expected.
        detail: String,
    },
    /// An element type that the reader or writer has no counterpart for.
    #[error("{file}: tensor `{tensor}`: found dtype {found}, expected one of {expected}; convert the tensor")]
    UnsupportedDtype {
        /// Path or label.
        file: String,
        /// Tensor.
        tensor: String,
        /// Its dtype, as the file or `DType` spells it.
        found: String,
        /// The supported ones.
        expected: &'static str,
    },
    /// More bytes than the address space holds.
    #[error("{file}: tensor `{tensor}`: {ty} does not fit the address space; the shape is damaged")]
    ShapeTooLarge {
        /// Path or label.
        file: String,
        /// Tensor.
        tensor: String,
        /// Dtype and dims.
        ty: String,
    },
    /// A sub-byte or block-quantised tensor that ends inside a byte or block.
    #[error(
        "{file}: tensor `{tensor}`: {ty} ends inside a byte or block; expected whole ones, pad the tensor"
    )]
    PartialBlock {
        /// Path or label.
        file: String,
        /// Tensor.
        tensor: String,
        /// Dtype and dims.
        ty: String,
    },
    /// Byte range beyond the file.
    #[error(
        "{file}: tensor `{tensor}`: found bytes {begin}..{end}, expected a range inside 0..{available}; the file is cut short or its header is damaged"
    )]
    OutOfFile {
        /// Path or label.
        file: String,
        /// Tensor.
        tensor: String,
        /// First byte.
        begin: u64,
        /// One past the last byte.
        end: u64,
        /// Bytes that hold data.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error(
        "{file}: tensor `{tensor}` starts at byte {begin}, inside `{other}` which ends at {end}; expected ranges that do not overlap, write the file again"
    )]
    Overlap {
        /// Path or label.
        file: String,
        /// The later tensor.
        tensor: String,
        /// The tensor it reaches into.
        other: String,
        /// Where the later one starts.
        begin: u64,
        /// Where the earlier one ends.
        end: u64,
    },
    /// Bytes between tensors that belong to none.
    #[error(
        "{file}: tensor `{tensor}` starts at byte {found}, expected {expected}: the bytes between belong to no tensor; write the file again"
    )]
    Gap {
        /// Path or label.
        file: String,
        /// The tensor after the gap.
        tensor: String,
        /// Where it starts.
        found: u64,
        /// Where the one before ends.
        expected: u64,
    },
    /// Dtype and dims disagree with the byte count.
    #[error(
        "{file}: tensor `{tensor}`: found {found} bytes, expected {expected} for {ty}; the dtype or shape is wrong"
    )]
    SizeMismatch {
        /// Path or label.
        file: String,
        /// Tensor.
        tensor: String,
        /// Dtype and dims.
        ty: String,
        /// Bytes given.
        found: u64,
        /// Bytes needed.
        expected: u64,
    },
    /// Bytes after the last tensor.
    #[error(
        "{file}: found {found} bytes, expected {expected}: the rest belongs to no tensor; write the file again"
    )]
    TrailingBytes {
        /// Path or label.
        file: String,
        /// Bytes present.
        found: u64,
        /// Bytes that the contents account for.
        expected: u64,
    },
    /// A name twice, in one file or in two shards.
    #[error(
        "{file}: tensor `{tensor}` was already found in {other}; expected each name once, drop one of them"
    )]
    DuplicateTensor {
        /// Where the second one is.
        file: String,
        /// Tensor.
        tensor: String,
        /// Where the first one is.
        other: String,
    },
    /// A `bool` byte other than 0 or 1.
    #[error(
        "{file}: tensor `{tensor}`: found the byte {found} at element {index}, expected 0 or 1 for bool; store it as u8"
    )]
    NotBool {
        /// Path or label.
        file: String,
        /// Tensor.
        tensor: String,
        /// Flat element index.
        index: usize,
        /// The byte.
        found: u8,
    },
    /// No tensor of that name.
    #[error("{file}: no tensor `{tensor}`; {}", did_you_mean(.nearest))]
    UnknownTensor {
        /// Where it was looked for.
        file: String,
        /// The name asked for.
        tensor: String,
        /// The closest name there.
        nearest: Option<String>,
    },
    /// A shard index that points where it must not.
    #[error(
        "{file}: shard `{shard}` {reason}; expected a file inside the folder of the index, move it there or allow links to anywhere"
    )]
    UnsafePath {
        /// The index.
        file: String,
        /// The path in it.
        shard: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A shard named in the index is not there.
    #[error("{file}: shard `{shard}` with tensor `{tensor}` is missing; fetch all shards of the model")]
    MissingShard {
        /// The index.
        file: String,
        /// The path in it.
        shard: String,
        /// A tensor that it should hold.
        tensor: String,
    },
    /// A shard lacks a tensor that the index puts there.
    #[error(
        "{file}: tensor `{tensor}` is not in shard `{shard}` where the index puts it; index and shards are of different versions, fetch both again"
    )]
    MissingInShard {
        /// The index.
        file: String,
        /// The shard.
        shard: String,
        /// The tensor.
        tensor: String,
    },
    /// A folder without weights.
    #[error(
        "{folder}: found no weight file, expected model.safetensors, model.safetensors.index.json or one *.safetensors; check the folder"
    )]
    NoWeights {
        /// The folder.
        folder: String,
    },
    /// A folder where more than one file could be meant.
    #[error(
        "{folder}: found {found}, expected one weight file or an index; name the file instead of the folder"
    )]
    SeveralWeights {
        /// The folder.
        folder: String,
        /// The candidates.
        found: String,
    },
    /// An archive that unpacks to more than allowed.
    #[error(
        "{file}: member `{tensor}` would unpack to {found} bytes, expected at most {limit} in all; raise the archive limit if the file is trusted"
    )]
    OverBudget {
        /// Path or label.
        file: String,
        /// Archive member.
        tensor: String,
        /// Its unpacked size.
        found: u64,
        /// What is left of the limit.
        limit: u64,
    },
    /// Archive contents whose checksum differs.
    #[error(
        "{file}: member `{tensor}`: found checksum {found:08x}, expected {expected:08x}; the file is damaged, fetch it again"
    )]
    Checksum {
        /// Path or label.
        file: String,
        /// Archive member.
        tensor: String,
        /// CRC-32 of the contents.
        found: u32,
        /// CRC-32 in the archive.
        expected: u32,
    },
    /// A name that a format keeps for itself.
    #[error("tensor name `{name}` is reserved by the format; rename the tensor")]
    ReservedName {
        /// The name.
        name: String,
    },

    /// No registry entry of that name.
    #[error("no weight `{name}` is registered; {}", did_you_mean(.nearest))]
    UnknownWeight {
        /// The name asked for.
        name: String,
        /// The closest registered name.
        nearest: Option<String>,
    },
    /// A handle whose entry was unregistered.
    #[error("{handle} is no longer registered; look the weight up again by name")]
    StaleHandle {
        /// The handle.
        handle: WeightHandle,
    },
    /// A taken name with other contents.
    #[error(
        "weight `{name}` is already registered with {what} {expected}, found {found}; unregister it first or choose another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// What differs: kind, dtype, shape, content.
        what: &'static str,
        /// The new one's.
        found: String,
        /// The registered one's.
        expected: String,
    },
    /// An alias that would lead back to itself.
    #[error(
        "alias `{name}` -> `{target}` would lead back to `{name}`; expected a chain that ends at a tensor"
    )]
    AliasCycle {
        /// The alias.
        name: String,
        /// Where it should point.
        target: String,
    },
    /// An entry that cannot go yet.
    #[error(
        "weight `{name}` is in use (pins: {pins}, aliases: {aliases}), expected neither; release and unregister those first"
    )]
    InUse {
        /// The entry.
        name: String,
        /// Pins held.
        pins: u64,
        /// Aliases that point at it.
        aliases: u64,
    },
    /// A release without a pin.
    #[error("weight `{name}` is not pinned, expected a pin to release; pair every release with one pin")]
    NotPinned {
        /// The entry.
        name: String,
    },
    /// An adapter's tensor was to be unregistered by itself.
    #[error("weight `{name}` belongs to adapter `{adapter}`; detach the adapter instead")]
    PartOfAdapter {
        /// The entry.
        name: String,
        /// Its adapter.
        adapter: String,
    },

    /// An adapter configuration that asks for what is not supported.
    #[error("{file}: `{field}` is {found}, expected {expected}; merge or convert the adapter")]
    AdapterConfig {
        /// Path.
        file: String,
        /// JSON field.
        field: String,
        /// Its value.
        found: String,
        /// What is supported.
        expected: &'static str,
    },
    /// An adapter tensor that does not fit its partner, configuration or base weight.
    #[error(
        "{file}: tensor `{tensor}`: found {found}, expected {expected}; the adapter is for another model"
    )]
    AdapterTensor {
        /// Path, or the adapter's name in the registry.
        file: String,
        /// Tensor.
        tensor: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// An adapter name that is attached already.
    #[error("adapter `{name}` is already attached; swap it instead, or detach it first")]
    AdapterAttached {
        /// The adapter.
        name: String,
    },
    /// No adapter of that name.
    #[error("no adapter `{name}` is attached; {}", did_you_mean(.nearest))]
    UnknownAdapter {
        /// The name asked for.
        name: String,
        /// The closest attached one.
        nearest: Option<String>,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => "list the names to see what is there".into(),
    }
}
