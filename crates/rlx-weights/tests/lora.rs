//! PEFT adapters: what loads, with which scale, and what is refused.

mod common;

use common::{RANK_2, factors, save_adapter, tensor};
use rlx_weights::{LoraAdapter, OpenOptions, WeightError, WeightRegistry, WeightTensor};

fn open(config: &str, tensors: &[WeightTensor]) -> Result<LoraAdapter, WeightError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    save_adapter(folder.path(), config, tensors);
    LoraAdapter::open(folder.path(), &OpenOptions::default())
}

fn config(extra: &str) -> String {
    format!(r#"{{"peft_type": "LORA", "r": 2, "lora_alpha": 8, {extra}}}"#)
}

#[test]
fn scales_follow_alpha_rank_and_patterns() {
    let scales = |extra: &str| -> Vec<(String, f32)> {
        let tensors = [factors("h.0.q", 0.0), factors("h.1.q", 0.0)].concat();
        let adapter = open(&config(extra), &tensors).expect(extra);
        adapter.pairs().iter().map(|pair| (pair.target().to_owned(), pair.scale())).collect()
    };
    let expect = |first, second| vec![("h.0.q".to_owned(), first), ("h.1.q".to_owned(), second)];
    assert_eq!(scales(r#""bias": "none""#), expect(4.0, 4.0));
    assert_eq!(scales(r#""use_rslora": true"#), expect(8.0 / 2f32.sqrt(), 8.0 / 2f32.sqrt()));
    assert_eq!(scales(r#""alpha_pattern": {"1.q": 2}"#), expect(4.0, 1.0));
    assert_eq!(scales(r#""alpha_pattern": {".q": 2, "q": 6}"#), expect(3.0, 3.0));
}

#[test]
fn embeddings_and_convolutions_load_and_ranks_may_differ_by_module() {
    let tensors = [
        tensor("base_model.model.embed.lora_embedding_A", &[2, 10], 0.0),
        tensor("base_model.model.embed.lora_embedding_B", &[3, 2], 0.0),
        tensor("base_model.model.conv.lora_A.weight", &[5, 4, 3, 3], 0.0),
        tensor("base_model.model.conv.lora_B.weight", &[6, 5, 1, 1], 0.0),
    ];
    let adapter = open(&config(r#""rank_pattern": {"conv": 5}"#), &tensors).expect("two modules");
    let ranks: Vec<(&str, usize)> = adapter.pairs().iter().map(|pair| (pair.target(), pair.rank())).collect();
    assert_eq!(ranks, [("conv", 5), ("embed", 2)]);
}

#[test]
fn what_would_change_the_result_is_refused() {
    for extra in [
        r#""use_dora": true"#,
        r#""bias": "all""#,
        r#""modules_to_save": ["lm_head"]"#,
        r#""init_lora_weights": "pissa_niter_16""#,
        r#""layer_replication": [[0, 2]]"#,
        r#""alpha_pattern": {"h\\.[01]\\.q": 2}"#,
    ] {
        let refused = open(&config(extra), &factors("h.0.q", 0.0));
        assert!(matches!(refused, Err(WeightError::AdapterConfig { .. })), "{extra}: {refused:?}");
    }
    for (text, field) in [("{}", "peft_type"), (r#"{"peft_type": "LORA", "lora_alpha": 8}"#, "r")] {
        let refused = open(text, &factors("h.0.q", 0.0));
        assert!(
            matches!(&refused, Err(WeightError::AdapterConfig { field: f, .. }) if f == field),
            "{refused:?}"
        );
    }
    let [a, b] = factors("h", 0.0);
    let magnitude = tensor("base_model.model.h.lora_magnitude_vector", &[3], 0.0);
    let wrong_rank = tensor("base_model.model.h.lora_B.weight", &[3, 5], 0.0);
    let unwrapped = a.renamed("h.lora_A.weight");
    for tensors in [
        vec![a.clone()],
        vec![b.clone()],
        vec![a.clone(), b.clone(), magnitude],
        vec![a, wrong_rank],
        vec![unwrapped, b],
    ] {
        let refused = open(RANK_2, &tensors);
        assert!(matches!(refused, Err(WeightError::AdapterTensor { .. })), "{tensors:?}: {refused:?}");
    }
}

#[test]
fn adapters_attach_swap_and_detach_as_wholes() {
    let registry = WeightRegistry::new();
    let base = registry.register(tensor("h.weight", &[3, 4], 0.0)).expect("a new name");
    let adapter = |first| open(RANK_2, &factors("h", first)).expect("a plain adapter");
    let first = registry.attach_adapter("one", &adapter(1.0)).expect("a new adapter");
    registry.attach_adapter("two", &adapter(2.0)).expect("a new adapter");
    assert_eq!(registry.lora_adapter_names(), ["one", "two"]);
    assert_eq!(registry.lora_adapter_handles("one").expect("attached"), first);
    assert_eq!((first[0].rank, first[0].scale, registry.len()), (2, 4.0, 5));
    assert_eq!(registry.total_bytes(), 4 * (12 + 2 * (8 + 6)));

    registry.pin(first[0].b).expect("attached");
    assert!(matches!(registry.swap_adapter("one", &adapter(3.0)), Err(WeightError::InUse { .. })));
    assert!(matches!(registry.detach_adapter("one"), Err(WeightError::InUse { .. })));
    assert_eq!(registry.lora_adapter_handles("one").expect("still attached"), first);
    registry.release(first[0].b).expect("pinned");

    let old = registry.get(first[0].a).expect("attached");
    let second = registry.swap_adapter("one", &adapter(3.0)).expect("nothing pinned");
    assert!(matches!(registry.get(first[0].a), Err(WeightError::StaleHandle { .. })));
    let new = registry.get(second[0].a).expect("attached");
    assert_eq!(old.tensor().name(), "lora.one.h.A");
    assert_ne!(old.tensor().view(), new.tensor().view());

    registry.detach_adapter("one").expect("nothing pinned");
    registry.detach_adapter("two").expect("nothing pinned");
    assert_eq!((registry.len(), registry.total_bytes()), (1, 48));
    assert_eq!(registry.get(base).expect("untouched").tensor().name(), "h.weight");
}

#[test]
fn an_adapter_for_another_model_changes_nothing() {
    let registry = WeightRegistry::new();
    registry.register(tensor("g.weight", &[3, 4], 0.0)).expect("a new name");
    registry.register(tensor("h.weight", &[3, 5], 0.0)).expect("a new name");
    let adapter = open(RANK_2, &[factors("g", 0.0), factors("h", 0.0)].concat()).expect("a plain adapter");
    assert!(matches!(registry.attach_adapter("x", &adapter), Err(WeightError::AdapterTensor { .. })));
    assert_eq!((registry.len(), registry.lora_adapter_names().len()), (2, 0));
}
