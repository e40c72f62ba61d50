//! Opening files, folders and sharded models; what is borrowed and what is refused.
#![cfg(unix)]

mod common;

use common::{save, tensor};
use rlx_weights::output::write_file;
use rlx_weights::{
    BytesWeightLoader, FileAccess, LinkPolicy, MappedWeights, OpenOptions, WeightError, WeightLoader,
    WeightRegistry, WeightTensor,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write_index(folder: &Path, map: &[(&str, &str)]) {
    let pairs: Vec<String> = map.iter().map(|(name, shard)| format!("{name:?}: {shard:?}")).collect();
    let text = format!(r#"{{"metadata": {{"total_size": 1}}, "weight_map": {{{}}}}}"#, pairs.join(", "));
    fs::write(folder.join("model.safetensors.index.json"), text).expect("a writable folder");
}

#[test]
fn mapped_and_read_files_lend_the_same_tensors() {
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let tensors = [tensor("b", &[2, 2], 1.0), tensor("a", &[3], 9.0)];
    save(&path, &tensors);
    for (access, mapped) in [(FileAccess::Map, true), (FileAccess::Read, false)] {
        let loader = MappedWeights::open_with(&path, &OpenOptions { access, ..OpenOptions::default() });
        let loader = loader.expect("our own file");
        assert_eq!(loader.names(), ["a", "b"]);
        for tensor in &tensors {
            assert_eq!(loader.tensor(tensor.name()).expect("there"), tensor.view());
            let bytes = loader.find(tensor.name()).expect("there").bytes();
            assert_eq!(bytes.is_mapped(), mapped);
            assert_eq!(bytes.as_ptr(), loader.tensor_bytes(tensor.name()).expect("there").as_ptr());
        }
    }
}

#[test]
fn bytes_outlive_their_loader_and_the_file() {
    let folder = folder();
    let path = folder.path().join("w.safetensors");
    save(&path, &[tensor("w", &[4], 0.0)]);
    let registry = WeightRegistry::new();
    let handle =
        registry.register_all(&MappedWeights::open(&path).expect("our own file")).expect("new names")[0];
    // Written anew, not over the mapped file.
    save(&path, &[tensor("w", &[4], 5.0)]);
    fs::remove_file(&path).expect("a file that is there");
    let entry = registry.get(handle).expect("registered");
    assert_eq!(entry.tensor().view(), tensor("w", &[4], 0.0).view());
    assert_eq!((registry.memory().mapped, registry.memory().owned), (16, 0));
}

/// Kilobytes of file pages that this process has in memory.
#[cfg(target_os = "linux")]
fn resident_file_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssFile:"))
        .expect("a field of every kernel since 4.5");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
#[cfg(target_os = "linux")]
fn released_pages_leave_memory_and_come_back() {
    const LENGTH: usize = 64 << 20;
    let folder = folder();
    let path = folder.path().join("large.safetensors");
    let large = WeightTensor::new("w", rlx_ir::DType::U8, &[LENGTH], vec![3; LENGTH])
        .expect("as many bytes as elements");
    save(&path, &[large]);
    let loader = MappedWeights::open(&path).expect("our own file");
    let bytes = loader.find("w").expect("there").bytes();
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    assert_eq!(sum(bytes), 3 * LENGTH as u64);
    let touched = resident_file_kilobytes();
    bytes.release_pages();
    let released = resident_file_kilobytes();
    assert!(released + 48 * 1024 < touched, "{touched} kB before, {released} kB after");
    assert_eq!(sum(bytes), 3 * LENGTH as u64);
}

#[test]
fn folders_and_indices_open_all_their_shards() {
    let folder = folder();
    save(folder.path().join("x-00002.safetensors"), &[tensor("a", &[2], 3.0)]);
    save(folder.path().join("x-00001.safetensors"), &[tensor("c", &[1], 1.0), tensor("b", &[2], 1.0)]);
    write_index(
        folder.path(),
        &[("a", "x-00002.safetensors"), ("b", "x-00001.safetensors"), ("c", "./x-00001.safetensors")],
    );
    // Two spellings of one shard are two shards that hold the same names.
    assert!(matches!(MappedWeights::open(folder.path()), Err(WeightError::DuplicateTensor { .. })));
    write_index(folder.path(), &[("a", "x-00002.safetensors"), ("b", "x-00001.safetensors")]);
    for path in [folder.path().to_owned(), folder.path().join("model.safetensors.index.json")] {
        let loader = MappedWeights::open(path).expect("all shards are there");
        assert_eq!(loader.names(), ["b", "c", "a"], "shards by name; `c` is not in the index but in a shard");
        assert_eq!(loader.files().len(), 2);
        assert_eq!(loader.tensor("a").expect("there"), tensor("a", &[2], 3.0).view());
    }
    save(folder.path().join("model.safetensors"), &[tensor("whole", &[1], 0.0)]);
    assert_eq!(MappedWeights::open(folder.path()).expect("one file").names(), ["whole"]);
}

#[test]
fn links_out_of_the_folder_are_followed_only_on_request_or_in_a_hub_cache() {
    let folder = folder();
    let [outside, model] = ["outside.safetensors", "model"].map(|name| folder.path().join(name));
    save(&outside, &[tensor("w", &[1], 7.0)]);
    fs::create_dir(&model).expect("a writable folder");
    symlink(&outside, model.join("model.safetensors")).expect("links are supported");
    assert!(matches!(MappedWeights::open(&model), Err(WeightError::UnsafePath { .. })));
    let anywhere = OpenOptions { links: LinkPolicy::Anywhere, ..OpenOptions::default() };
    assert_eq!(MappedWeights::open_with(&model, &anywhere).expect("allowed").names(), ["w"]);

    let [blobs, revision] = ["hub/blobs", "hub/snapshots/abc"].map(|name| folder.path().join(name));
    fs::create_dir_all(&blobs).expect("a writable folder");
    fs::create_dir_all(&revision).expect("a writable folder");
    save(blobs.join("0123"), &[tensor("w", &[1], 8.0)]);
    symlink("../../blobs/0123", revision.join("model.safetensors")).expect("links are supported");
    assert_eq!(MappedWeights::open(&revision).expect("a hub cache").names(), ["w"]);
}

#[test]
fn indices_that_leave_their_folder_or_disagree_with_shards_are_refused() {
    let folder = folder();
    let model = folder.path().join("model");
    fs::create_dir(&model).expect("a writable folder");
    save(folder.path().join("outside.safetensors"), &[tensor("w", &[1], 0.0)]);
    save(model.join("inside.safetensors"), &[tensor("w", &[1], 0.0)]);
    symlink("../outside.safetensors", model.join("link.safetensors")).expect("links are supported");
    let absolute = folder.path().join("outside.safetensors");
    for shard in [
        "../outside.safetensors",
        "a/../../outside.safetensors",
        "link.safetensors",
        absolute.to_str().expect("text"),
    ] {
        write_index(&model, &[("w", shard)]);
        let result = MappedWeights::open(&model);
        assert!(matches!(result, Err(WeightError::UnsafePath { .. })), "{shard}: {result:?}");
    }
    write_index(&model, &[("w", "inside.safetensors"), ("v", "gone.safetensors")]);
    assert!(
        matches!(MappedWeights::open(&model), Err(WeightError::MissingShard { tensor, .. }) if tensor == "v")
    );
    write_index(&model, &[("w", "inside.safetensors"), ("v", "inside.safetensors")]);
    assert!(
        matches!(MappedWeights::open(&model), Err(WeightError::MissingInShard { tensor, .. }) if tensor == "v")
    );
    write_index(&model, &[("w", "inside.safetensors"), ("w", "link.safetensors")]);
    assert!(matches!(MappedWeights::open(&model), Err(WeightError::DuplicateTensor { .. })));
    write_index(&model, &[("w", ".")]);
    assert!(matches!(MappedWeights::open(&model), Err(WeightError::NotAFile { .. })));
}

#[test]
fn a_failed_write_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("w.safetensors");
    save(&path, &[tensor("w", &[1], 1.0)]);
    let refused = write_file(&path, |_, out| {
        out.write_all(b"half").expect("buffered");
        Err(WeightError::ReservedName { name: "w".into() })
    });
    assert!(matches!(refused, Err(WeightError::ReservedName { .. })));
    assert_eq!(MappedWeights::open(&path).expect("the old file").names(), ["w"]);
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
}

#[test]
fn pairs_share_their_literals_and_keep_their_order() {
    let literal = rlx_ir::Literal::scalar_f32(2.0);
    let loader = BytesWeightLoader::from_pairs([("z", literal.clone()), ("a", literal.clone())]);
    let loader = loader.expect("distinct names");
    assert_eq!(loader.names(), ["z", "a"]);
    assert_eq!(loader.tensor_bytes("a").expect("there").as_ptr(), literal.bytes().as_ptr());
}
