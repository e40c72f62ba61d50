//! Every variant of `WeightError`, provoked, with the message a user sees.
#![cfg(unix)]

mod common;
#[path = "../../rlx-testkit/shared/error_cases.rs"]
#[macro_use]
mod error_cases;

use common::{RANK_2, factors, npy_bytes, safetensors_bytes, save, save_adapter, tensor};
use rlx_ir::DType;
use rlx_weights::npz::Compression;
use rlx_weights::{
    BytesWeightLoader, LoraAdapter, MappedWeights, OpenOptions, TensorRef, WeightBytes, WeightError,
    WeightLoader, WeightRegistry, WeightTensor, npy, npz, safetensors,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn from_header(header: &str, data: usize) -> Result<BytesWeightLoader, WeightError> {
    BytesWeightLoader::from_safetensors(safetensors_bytes(header, &vec![2; data]))
}

fn index(folder: &Path, map: &str) -> Result<MappedWeights, WeightError> {
    let path = folder.join("model.safetensors.index.json");
    fs::write(&path, format!(r#"{{"weight_map": {map}}}"#)).expect("a writable folder");
    MappedWeights::open(path)
}

fn adapter(folder: &Path, config: &str, tensors: &[WeightTensor]) -> Result<LoraAdapter, WeightError> {
    save_adapter(folder, config, tensors);
    LoraAdapter::open(folder, &OpenOptions::default())
}

/// An archive of one array of zeros.
fn archive(compression: Compression) -> Vec<u8> {
    let mut archive = Vec::new();
    let zeros = TensorRef { dtype: DType::U8, dims: &[1000], bytes: &[0; 1000] };
    npz::write("memory", &mut archive, &[("zeros", zeros)], compression).expect("writable");
    archive
}

/// A registry with `w` registered.
fn registry() -> (WeightRegistry, rlx_weights::WeightHandle) {
    let registry = WeightRegistry::new();
    let handle = registry.register(tensor("layers.0.w", &[2], 0.0)).expect("a new name");
    (registry, handle)
}

fn attached(folder: &Path) -> (WeightRegistry, LoraAdapter) {
    let (registry, _) = registry();
    let adapter = adapter(folder, RANK_2, &factors("h", 0.0)).expect("a plain adapter");
    registry.attach_adapter("french", &adapter).expect("a new adapter");
    (registry, adapter)
}

error_cases! { WeightError in "../src/error.rs":
    io: Io, |dir| MappedWeights::open(dir.join("gone.safetensors"))
        => "cannot open DIR/gone.safetensors: No such file or directory (os error 2); check the path and its permissions";
    not_a_file: NotAFile, |dir| MappedWeights::open("/dev/null")
        => "/dev/null: found a device or pipe, expected a regular file; give the path of a weight file";
    unknown_format: UnknownFormat, |dir| {
        fs::write(dir.join("w.gguf"), "GGUF\u{3}").expect("a writable folder");
        MappedWeights::open(dir.join("w.gguf"))
    } => "DIR/w.gguf: found a GGUF file, expected safetensors, npy or npz; convert the file first";
    truncated: Truncated, |dir| BytesWeightLoader::from_npy("w", npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", &[0; 8]))
        => "memory: npy array is cut short: found 73 bytes, expected 77; fetch or copy the file again";
    too_long: TooLong, |dir| BytesWeightLoader::from_safetensors(u64::MAX.to_le_bytes().to_vec())
        => "memory: safetensors header takes 18446744073709551615 bytes, expected at most 100000000; the file is damaged or of another format";
    malformed: Malformed, |dir| from_header(r#"{"w": 1}"#, 0)
        => "memory: malformed safetensors header: invalid type: integer `1`, expected struct TensorInfo at line 1 column 7; the file is damaged, write it again";
    unsupported_dtype: UnsupportedDtype, |dir| npy::read("w.npy", "w", &npy_bytes("{'descr': '<M8[ns]', 'fortran_order': False, 'shape': ()}", &[0; 8]).into())
        => "w.npy: tensor `w`: found dtype <M8[ns], expected one of f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8, b1, c8, c16, V2 (bf16); convert the tensor";
    shape_too_large: ShapeTooLarge, |dir| from_header(r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#, 4)
        => "memory: tensor `w`: f32[4294967296, 4294967296] does not fit the address space; the shape is damaged";
    partial_block: PartialBlock, |dir| from_header(r#"{"w":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, 2)
        => "memory: tensor `w`: f4e2m1[3] ends inside a byte or block; expected whole ones, pad the tensor";
    out_of_file: OutOfFile, |dir| from_header(r#"{"w":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}"#, 4)
        => "memory: tensor `w`: found bytes 0..9, expected a range inside 0..4; the file is cut short or its header is damaged";
    overlap: Overlap, |dir| from_header(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#, 6)
        => "memory: tensor `b` starts at byte 2, inside `a` which ends at 4; expected ranges that do not overlap, write the file again";
    gap: Gap, |dir| from_header(r#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#, 4)
        => "memory: tensor `w` starts at byte 2, expected 0: the bytes between belong to no tensor; write the file again";
    size_mismatch: SizeMismatch, |dir| from_header(r#"{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,4]}}"#, 4)
        => "memory: tensor `w`: found 4 bytes, expected 24 for f32[2, 3]; the dtype or shape is wrong";
    trailing_bytes: TrailingBytes, |dir| from_header(r#"{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, 6)
        => "memory: found 6 bytes, expected 4: the rest belongs to no tensor; write the file again";
    duplicate_tensor: DuplicateTensor, |dir| from_header(r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0)
        => "memory: tensor `w` was already found in the same header; expected each name once, drop one of them";
    not_bool: NotBool, |dir| from_header(r#"{"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#, 2)
        => "memory: tensor `mask`: found the byte 2 at element 0, expected 0 or 1 for bool; store it as u8";
    unknown_tensor: UnknownTensor, |dir| {
        save(dir.join("w.safetensors"), &[tensor("model.norm.weight", &[1], 0.0)]);
        MappedWeights::open(dir.join("w.safetensors")).expect("our own file").tensor_bytes("norm.weight").map(<[u8]>::to_vec)
    } => "DIR/w.safetensors: no tensor `norm.weight`; list the names to see what is there";
    unsafe_path: UnsafePath, |dir| index(dir, r#"{"w": "../secret.safetensors"}"#)
        => "DIR/model.safetensors.index.json: shard `../secret.safetensors` leaves the folder by `..`; expected a file inside the folder of the index, move it there or allow links to anywhere";
    link_out_of_folder: UnsafePath, |dir| {
        fs::create_dir(dir.join("model")).expect("a writable folder");
        save(dir.join("w.safetensors"), &[tensor("w", &[1], 0.0)]);
        symlink("../w.safetensors", dir.join("model/w.safetensors")).expect("links are supported");
        index(&dir.join("model"), r#"{"w": "w.safetensors"}"#)
    } => "DIR/model/model.safetensors.index.json: shard `w.safetensors` is a link out of the folder; expected a file inside the folder of the index, move it there or allow links to anywhere";
    missing_shard: MissingShard, |dir| index(dir, r#"{"w": "model-00002.safetensors"}"#)
        => "DIR/model.safetensors.index.json: shard `model-00002.safetensors` with tensor `w` is missing; fetch all shards of the model";
    missing_in_shard: MissingInShard, |dir| {
        save(dir.join("s.safetensors"), &[tensor("w", &[1], 0.0)]);
        index(dir, r#"{"v": "s.safetensors"}"#)
    } => "DIR/model.safetensors.index.json: tensor `v` is not in shard `s.safetensors` where the index puts it; index and shards are of different versions, fetch both again";
    no_weights: NoWeights, |dir| MappedWeights::open(dir)
        => "DIR: found no weight file, expected model.safetensors, model.safetensors.index.json or one *.safetensors; check the folder";
    several_weights: SeveralWeights, |dir| {
        save(dir.join("a.safetensors"), &[]);
        save(dir.join("b.safetensors"), &[]);
        MappedWeights::open(dir)
    } => "DIR: found a.safetensors, b.safetensors, expected one weight file or an index; name the file instead of the folder";
    over_budget: OverBudget, |dir| BytesWeightLoader::from_npz(archive(Compression::Deflated), 1000)
        => "memory: member `zeros.npy` would unpack to 1128 bytes, expected at most 1000 in all; raise the archive limit if the file is trusted";
    checksum: Checksum, |dir| {
        let mut archive = archive(Compression::Stored);
        archive[500] ^= 1;
        BytesWeightLoader::from_npz(archive, 0)
    } => "memory: member `zeros.npy`: found checksum 1cd55977, expected 45fb7c75; the file is damaged, fetch it again";
    reserved_name: ReservedName, |dir| {
        let w = tensor("__metadata__", &[1], 0.0);
        safetensors::write("memory", &mut Vec::new(), &[(w.name(), w.view())], &[])
    } => "tensor name `__metadata__` is reserved by the format; rename the tensor";

    unknown_weight: UnknownWeight, |dir| registry().0.lookup("layer.0.w")
        => "no weight `layer.0.w` is registered; did you mean `layers.0.w`?";
    stale_handle: StaleHandle, |dir| {
        let (registry, handle) = registry();
        registry.unregister(handle).expect("free");
        registry.get(handle)
    } => "weight #0.0 is no longer registered; look the weight up again by name";
    name_taken: NameTaken, |dir| registry().0.register(tensor("layers.0.w", &[3], 0.0))
        => "weight `layers.0.w` is already registered with type f32[2], found f32[3]; unregister it first or choose another name";
    name_taken_by_other_content: NameTaken, |dir| registry().0.register(tensor("layers.0.w", &[2], 1.0))
        => "weight `layers.0.w` is already registered with content of f32[2], found 4 bytes that differ; unregister it first or choose another name";
    alias_cycle: AliasCycle, |dir| {
        let (registry, handle) = registry();
        let head = registry.alias("head", handle).expect("a new name");
        registry.alias("layers.0.w", head)
    } => "alias `layers.0.w` -> `head` would lead back to `layers.0.w`; expected a chain that ends at a tensor";
    in_use: InUse, |dir| {
        let (registry, handle) = registry();
        registry.pin(handle).expect("live");
        registry.alias("head", handle).expect("a new name");
        registry.unregister(handle)
    } => "weight `layers.0.w` is in use (pins: 1, aliases: 1), expected neither; release and unregister those first";
    not_pinned: NotPinned, |dir| {
        let (registry, handle) = registry();
        registry.release(handle)
    } => "weight `layers.0.w` is not pinned, expected a pin to release; pair every release with one pin";
    part_of_adapter: PartOfAdapter, |dir| {
        let (registry, _) = attached(dir);
        registry.unregister(registry.lora_adapter_handles("french").expect("attached")[0].a)
    } => "weight `lora.french.h.A` belongs to adapter `french`; detach the adapter instead";

    adapter_config: AdapterConfig, |dir| adapter(dir, r#"{"peft_type": "LOHA"}"#, &[])
        => "DIR/adapter_config.json: `peft_type` is \"LOHA\", expected \"LORA\"; merge or convert the adapter";
    adapter_tensor: AdapterTensor, |dir| adapter(dir, RANK_2, &factors("h", 0.0)[..1])
        => "DIR/adapter_model.safetensors: tensor `base_model.model.h.lora_A.weight`: found no partner, expected `base_model.model.h.lora_B.weight` beside it; the adapter is for another model";
    adapter_misfit: AdapterTensor, |dir| {
        let (registry, _) = registry();
        registry.register(tensor("h.weight", &[3, 5], 0.0)).expect("a new name");
        let adapter = adapter(dir, RANK_2, &factors("h", 0.0)).expect("a plain adapter");
        registry.attach_adapter("french", &adapter)
    } => "french: tensor `h`: found an update of [3, 4], expected one of [3, 5] as `h.weight`; the adapter is for another model";
    adapter_attached: AdapterAttached, |dir| {
        let (registry, adapter) = attached(dir);
        registry.attach_adapter("french", &adapter)
    } => "adapter `french` is already attached; swap it instead, or detach it first";
    unknown_adapter: UnknownAdapter, |dir| attached(dir).0.detach_adapter("frnch")
        => "no adapter `frnch` is attached; did you mean `french`?";
}

#[test]
fn damaged_archives_say_what_is_wrong() {
    let message = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut archive = archive(Compression::Stored);
        change(&mut archive);
        npz::read("w.npz", &WeightBytes::from(archive), 0).map(drop).expect_err("damaged").to_string()
    };
    let without_end = message(&|archive| archive.truncate(archive.len() - 1));
    assert_eq!(
        without_end,
        "w.npz: malformed zip archive: found no end record with a directory, expected a whole archive; the file is damaged, write it again"
    );
    let renamed = message(&|archive| archive[30] = b'Z');
    assert_eq!(
        renamed,
        "w.npz: malformed zip archive: member `zeros.npy` has no matching local record, expected one with its data; the file is damaged, write it again"
    );
    let encrypted = message(&|archive| {
        let directory = archive.len() - 22 - 46 - 9;
        archive[directory + 8] |= 1;
    });
    assert_eq!(
        encrypted,
        "w.npz: malformed zip archive: member `zeros.npy` has method 0, flags 0x801; expected stored or deflated; the file is damaged, write it again"
    );
}
