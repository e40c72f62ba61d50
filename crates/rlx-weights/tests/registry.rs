//! The weight registry: handles, aliases, pins, packed forms, threads.

mod common;

use common::tensor;
use rlx_ir::DType;
use rlx_weights::{WeightBytes, WeightError, WeightKind, WeightRegistry, WeightTensor};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

#[test]
fn the_same_tensor_registers_once_and_another_is_refused() {
    let registry = WeightRegistry::new();
    let handle = registry.register(tensor("w", &[2, 2], 1.0)).expect("a new name");
    assert_eq!(registry.register(tensor("w", &[2, 2], 1.0)).expect("the same"), handle);
    let u32_of_same_bytes =
        WeightTensor::new("w", DType::U32, &[2, 2], tensor("w", &[2, 2], 1.0).bytes().clone());
    for (other, what) in [
        (tensor("w", &[2, 2], 2.0), "content"),
        (tensor("w", &[4], 1.0), "type"),
        (u32_of_same_bytes.expect("4 bytes each"), "type"),
    ] {
        let refused = registry.register(other);
        assert!(matches!(&refused, Err(WeightError::NameTaken { what: w, .. }) if *w == what), "{refused:?}");
    }
    assert_eq!(registry.len(), 1);
}

#[test]
fn alias_chains_resolve_and_keep_their_target() {
    let registry = WeightRegistry::new();
    let embed = registry.register(tensor("embed", &[3], 0.0)).expect("a new name");
    let head = registry.alias("head", embed).expect("a new name");
    let top = registry.alias("top", head).expect("a new name");
    assert_eq!(registry.alias("top", head).expect("the same alias"), top);
    assert_eq!(registry.get(top).expect("resolves").tensor().name(), "embed");
    assert_eq!(registry.kind(top).expect("live"), WeightKind::Alias { target: head });
    assert_eq!((registry.len(), registry.total_bytes()), (3, 12));

    assert!(matches!(registry.alias("head", top), Err(WeightError::AliasCycle { .. })));
    assert!(matches!(registry.alias("embed", embed), Err(WeightError::AliasCycle { .. })));
    assert!(matches!(registry.alias("top", embed), Err(WeightError::NameTaken { .. })));
    assert!(matches!(registry.unregister(head), Err(WeightError::InUse { aliases: 1, pins: 0, .. })));
    for handle in [top, head, embed] {
        registry.unregister(handle).expect("nothing points at it any more");
    }
    assert!(registry.is_empty());
    assert!(matches!(registry.alias("again", embed), Err(WeightError::StaleHandle { .. })));
}

#[test]
fn a_reused_slot_does_not_revive_stale_handles() {
    let registry = WeightRegistry::new();
    let old = registry.register(tensor("w", &[1], 0.0)).expect("a new name");
    registry.pin(old).expect("live");
    assert!(matches!(registry.unregister(old), Err(WeightError::InUse { pins: 1, aliases: 0, .. })));
    registry.release(old).expect("pinned");
    assert!(matches!(registry.release(old), Err(WeightError::NotPinned { .. })));
    registry.unregister(old).expect("free");
    let new = registry.register(tensor("v", &[1], 0.0)).expect("a new name");
    assert_ne!(old, new);
    for result in
        [registry.pin(old), registry.release(old), registry.unregister(old), registry.get(old).map(drop)]
    {
        assert!(matches!(result, Err(WeightError::StaleHandle { handle }) if handle == old));
    }
    assert_eq!(registry.lookup("v").expect("registered"), new);
}

#[test]
fn overlapping_views_of_one_buffer_count_once() {
    let registry = WeightRegistry::new();
    let all = WeightBytes::from(vec![0; 100]);
    for (name, range) in [("a", 0..60), ("b", 40..80), ("c", 40..80), ("d", 50..55), ("e", 90..90)] {
        let bytes = all.slice(range.clone()).expect("inside");
        registry
            .register(WeightTensor::new(name, DType::U8, &[range.len()], bytes).expect("u8"))
            .expect("a new name");
    }
    assert_eq!(registry.total_bytes(), 80);
    registry.unregister(registry.lookup("a").expect("there")).expect("free");
    assert_eq!(registry.total_bytes(), 40);
}

#[test]
fn packed_forms_are_made_once_per_content_and_layout() {
    let registry = WeightRegistry::new();
    let first = registry.register(tensor("a", &[4], 0.0)).expect("a new name");
    let same = registry.register(tensor("b", &[4], 0.0)).expect("a new name");
    let reshaped = registry.register(tensor("c", &[2, 2], 0.0)).expect("a new name");
    let made = AtomicUsize::new(0);
    let pack = |handle, layout| {
        registry.packed::<Vec<u8>, WeightError>(handle, layout, |entry| {
            made.fetch_add(1, Ordering::Relaxed);
            Ok(entry.tensor().bytes().to_vec())
        })
    };
    let form = pack(first, "panels").expect("packs");
    assert!(Arc::ptr_eq(&form, &pack(same, "panels").expect("packs")));
    assert!(
        !Arc::ptr_eq(&form, &pack(reshaped, "panels").expect("packs")),
        "extents are part of the content"
    );
    pack(first, "rows").expect("packs");
    assert_eq!((made.load(Ordering::Relaxed), registry.memory().packed), (3, 48));

    registry.unregister(first).expect("free");
    assert_eq!(registry.memory().packed, 48, "`b` has the same content");
    registry.unregister(same).expect("free");
    assert_eq!(registry.memory().packed, 16);
    assert_eq!(form.len(), 16, "who holds a form keeps it");

    let failed = registry.packed::<Vec<u8>, WeightError>(reshaped, "broken", |_| {
        Err(WeightError::ReservedName { name: "c".into() })
    });
    assert!(failed.is_err());
    assert_eq!(registry.memory().packed, 16);
    assert!(
        registry.packed::<Vec<u8>, WeightError>(reshaped, "broken", |_| Ok(vec![])).is_ok(),
        "a second try"
    );
}

#[test]
fn threads_agree_on_handles_and_pack_once() {
    const THREADS: usize = 8;
    let registry = WeightRegistry::new();
    let (barrier, made) = (Barrier::new(THREADS), AtomicUsize::new(0));
    let work = |thread: usize| {
        barrier.wait();
        let mut handles = Vec::new();
        for round in 0..200 {
            let shared = registry
                .register(tensor(&format!("w{round}"), &[4], round as f64))
                .expect("the same for all");
            let own = registry.register(tensor(&format!("t{thread}"), &[8], 0.0)).expect("a new name");
            registry.pin(shared).expect("live");
            registry
                .packed::<Vec<u8>, WeightError>(shared, "panels", |entry| {
                    made.fetch_add(1, Ordering::Relaxed);
                    Ok(entry.tensor().bytes().to_vec())
                })
                .expect("packs");
            assert!(matches!(registry.unregister(shared), Err(WeightError::InUse { .. })));
            registry.unregister(own).expect("nobody else has it");
            handles.push(shared);
        }
        handles
    };
    let all: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(all.iter().all(|handles| *handles == all[0]));
    assert_eq!((registry.len(), registry.total_bytes()), (200, 200 * 16));
    assert_eq!(made.load(Ordering::Relaxed), 200);
    for handle in &all[0] {
        (0..THREADS).for_each(|_| registry.release(*handle).expect("one pin per thread"));
        registry.unregister(*handle).expect("free");
    }
    assert_eq!((registry.len(), registry.memory().packed), (0, 0));
}

#[test]
fn readers_are_not_held_up_by_a_slow_pack() {
    let registry = WeightRegistry::new();
    let handle = registry.register(tensor("w", &[4], 0.0)).expect("a new name");
    let (inside, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let packed = registry.packed::<Vec<u8>, WeightError>(handle, "slow", |_| {
                inside.wait();
                done.wait();
                Ok(vec![0; 7])
            });
            assert!(packed.is_ok());
        });
        inside.wait();
        // These would never return if packing held a lock.
        assert!(registry.get(handle).is_ok());
        assert_eq!(registry.memory().packed, 0);
        registry.register(tensor("v", &[1], 0.0)).expect("a new name");
        done.wait();
    });
    assert_eq!(registry.memory().packed, 7);
}
