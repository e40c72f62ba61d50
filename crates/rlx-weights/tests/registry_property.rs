//! Random operation sequences on the weight registry against a plain model.

mod common;

use common::tensor;
use proptest::prelude::*;
use rlx_ir::DType;
use rlx_weights::{
    LoraAdapter, LoraPair, WeightBytes, WeightError, WeightHandle, WeightRegistry, WeightTensor,
};
use std::collections::BTreeMap;

/// Names and handles are chosen among few, so that operations meet.
const NAMES: [&str; 5] = ["a", "b", "c", "lora.x.m.A", "lora.y.m.B"];
const ADAPTERS: [&str; 2] = ["x", "y"];
const BUFFER: usize = 64;

#[derive(Clone, Debug)]
enum Operation {
    Register { name: usize, begin: usize, length: usize },
    Alias { name: usize, handle: usize },
    Pin(usize),
    Release(usize),
    Unregister(usize),
    Pack(usize),
    Attach(usize),
    Detach(usize),
    Swap(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let name = 0..NAMES.len();
    let handle = 0usize..1000;
    prop_oneof![
        4 => (name.clone(), 0usize..4, 0usize..4)
            .prop_map(|(name, begin, length)| Operation::Register { name, begin: begin * 8, length: length * 8 }),
        3 => (name, handle.clone()).prop_map(|(name, handle)| Operation::Alias { name, handle }),
        2 => handle.clone().prop_map(Operation::Pin),
        2 => handle.clone().prop_map(Operation::Release),
        3 => handle.clone().prop_map(Operation::Unregister),
        1 => handle.prop_map(Operation::Pack),
        1 => (0..ADAPTERS.len()).prop_map(Operation::Attach),
        1 => (0..ADAPTERS.len()).prop_map(Operation::Detach),
        1 => (0..ADAPTERS.len()).prop_map(Operation::Swap),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    /// Bytes `begin..begin + length` of the one buffer.
    Tensor {
        begin: usize,
        length: usize,
    },
    Alias(WeightHandle),
    Adapter,
}

/// What the registry should hold: entries by handle, nothing derived.
#[derive(Default)]
struct Model {
    live: BTreeMap<WeightHandle, (String, Value, u64)>,
}

impl Model {
    fn by_name(&self, name: &str) -> Option<(WeightHandle, &Value)> {
        self.live.iter().find(|(_, entry)| entry.0 == name).map(|(handle, entry)| (*handle, &entry.1))
    }
    fn resolve(&self, mut handle: WeightHandle) -> Option<WeightHandle> {
        while let Value::Alias(target) = self.live.get(&handle)?.1 {
            handle = target;
        }
        Some(handle)
    }
    fn in_use(&self, handle: WeightHandle) -> bool {
        let aliased = self.live.values().any(|entry| entry.1 == Value::Alias(handle));
        aliased || self.live.get(&handle).is_some_and(|entry| entry.2 > 0)
    }
    fn adapter(&self, adapter: &str) -> Vec<WeightHandle> {
        let prefix = format!("lora.{adapter}.");
        let own =
            self.live.iter().filter(|(_, entry)| entry.1 == Value::Adapter && entry.0.starts_with(&prefix));
        own.map(|(handle, _)| *handle).collect()
    }
    /// Whether the names that an adapter needs are free or its own.
    fn adapter_fits(&self, adapter: &str) -> bool {
        ["A", "B"].iter().all(|side| {
            self.by_name(&format!("lora.{adapter}.m.{side}"))
                .is_none_or(|(_, value)| *value == Value::Adapter)
        })
    }
    fn total_bytes(&self) -> u64 {
        let mut used = [false; BUFFER];
        let mut adapters = 0;
        for (_, value, _) in self.live.values() {
            match value {
                Value::Tensor { begin, length } => used[*begin..begin + length].fill(true),
                Value::Adapter => adapters += ADAPTER_BYTES / 2,
                Value::Alias(_) => {}
            }
        }
        used.iter().filter(|&&used| used).count() as u64 + adapters
    }
}

/// Bytes of both factors of an adapter here, which are equally large.
const ADAPTER_BYTES: u64 = 2 * 4 * 4;

struct Run {
    registry: WeightRegistry,
    model: Model,
    buffer: WeightBytes,
    /// Every handle ever given, most of them stale after a while.
    handles: Vec<WeightHandle>,
}

impl Run {
    fn pick(&self, index: usize) -> Option<WeightHandle> {
        self.handles.get(index % self.handles.len().max(1)).copied()
    }

    fn insert(&mut self, name: &str, handle: WeightHandle, value: Value) {
        assert!(!self.handles.contains(&handle), "a handle was given twice");
        self.handles.push(handle);
        self.model.live.insert(handle, (name.into(), value, 0));
    }

    fn register(&mut self, name: &str, begin: usize, length: usize) {
        let bytes = self.buffer.slice(begin..begin + length).expect("inside the buffer");
        let tensor = WeightTensor::new(name, DType::U8, &[length], bytes).expect("u8");
        let result = self.registry.register(tensor);
        match self.model.by_name(name) {
            None => self.insert(name, result.expect("the name is free"), Value::Tensor { begin, length }),
            Some((handle, value)) => {
                let (same, value) = (Value::Tensor { begin, length }, value.clone());
                // Empty tensors are equal wherever they are.
                let same = value == same || length == 0 && matches!(value, Value::Tensor { length: 0, .. });
                match result {
                    Ok(found) => assert!(same && found == handle),
                    Err(WeightError::NameTaken { .. }) => assert!(!same),
                    Err(other) => assert!(matches!(other, WeightError::NameTaken { .. }), "{other}"),
                }
            }
        }
    }

    fn alias(&mut self, name: &str, target: WeightHandle) {
        let result = self.registry.alias(name, target);
        if !self.model.live.contains_key(&target) {
            assert!(matches!(result, Err(WeightError::StaleHandle { .. })));
            return;
        }
        match self.model.by_name(name) {
            None => self.insert(name, result.expect("the name is free"), Value::Alias(target)),
            Some((handle, Value::Alias(existing))) if *existing == target => {
                assert_eq!(result.expect("the same alias"), handle);
            }
            Some(_) => {
                assert!(matches!(result, Err(WeightError::NameTaken { .. } | WeightError::AliasCycle { .. })))
            }
        }
    }

    fn pin_or_release(&mut self, handle: WeightHandle, pin: bool) {
        let result = if pin { self.registry.pin(handle) } else { self.registry.release(handle) };
        match self.model.live.get_mut(&handle) {
            None => assert!(matches!(result, Err(WeightError::StaleHandle { .. }))),
            Some((_, _, 0)) if !pin => assert!(matches!(result, Err(WeightError::NotPinned { .. }))),
            Some((_, _, pins)) => {
                *pins = if pin { *pins + 1 } else { *pins - 1 };
                assert!(result.is_ok());
            }
        }
    }

    fn unregister(&mut self, handle: WeightHandle) {
        let result = self.registry.unregister(handle);
        match self.model.live.get(&handle) {
            None => assert!(matches!(result, Err(WeightError::StaleHandle { .. }))),
            Some(_) if self.model.in_use(handle) => assert!(matches!(result, Err(WeightError::InUse { .. }))),
            Some((_, Value::Adapter, _)) => assert!(matches!(result, Err(WeightError::PartOfAdapter { .. }))),
            Some(_) => {
                assert!(result.is_ok());
                self.model.live.remove(&handle);
            }
        }
    }

    fn pack(&mut self, handle: WeightHandle) {
        let result: Result<_, WeightError> =
            self.registry.packed(handle, "copy", |entry| Ok(entry.tensor().bytes().to_vec()));
        match (self.model.resolve(handle), result) {
            (None, result) => assert!(matches!(result, Err(WeightError::StaleHandle { .. }))),
            (Some(root), result) => {
                let form = result.expect("the handle is live");
                assert_eq!(form[..], self.registry.get(root).expect("live").tensor().bytes()[..]);
            }
        }
    }

    fn change_adapter(&mut self, name: &str, detach: bool, attach: bool) {
        let content = LoraAdapter::new(vec![
            LoraPair::new("m", tensor("a", &[2, 2], 1.0), tensor("b", &[2, 2], 2.0), 1.0).expect("rank 2"),
        ]);
        let content = content.expect("one module");
        let there = self.model.adapter(name);
        let busy = detach && there.iter().any(|&handle| self.model.in_use(handle));
        let legal = there.is_empty() != detach && !busy && (!attach || self.model.adapter_fits(name));
        let result = match (detach, attach) {
            (false, _) => self.registry.attach_adapter(name, &content),
            (true, true) => self.registry.swap_adapter(name, &content),
            (true, false) => self.registry.detach_adapter(name).map(|()| vec![]),
        };
        assert_eq!(result.is_ok(), legal, "{result:?}");
        for pair in result.unwrap_or_default() {
            self.insert(&format!("lora.{name}.m.A"), pair.a, Value::Adapter);
            self.insert(&format!("lora.{name}.m.B"), pair.b, Value::Adapter);
        }
        if legal && detach {
            there.iter().for_each(|handle| drop(self.model.live.remove(handle)));
        }
    }

    fn apply(&mut self, operation: &Operation) {
        let picked = match operation {
            Operation::Alias { handle, .. } => self.pick(*handle),
            Operation::Pin(handle) | Operation::Release(handle) => self.pick(*handle),
            Operation::Unregister(handle) | Operation::Pack(handle) => self.pick(*handle),
            _ => None,
        };
        match (operation, picked) {
            (Operation::Register { name, begin, length }, _) => self.register(NAMES[*name], *begin, *length),
            (Operation::Alias { name, .. }, Some(target)) => self.alias(NAMES[*name], target),
            (Operation::Pin(_), Some(handle)) => self.pin_or_release(handle, true),
            (Operation::Release(_), Some(handle)) => self.pin_or_release(handle, false),
            (Operation::Unregister(_), Some(handle)) => self.unregister(handle),
            (Operation::Pack(_), Some(handle)) => self.pack(handle),
            (Operation::Attach(name), _) => self.change_adapter(ADAPTERS[*name], false, true),
            (Operation::Detach(name), _) => self.change_adapter(ADAPTERS[*name], true, false),
            (Operation::Swap(name), _) => self.change_adapter(ADAPTERS[*name], true, true),
            // No handle was ever given yet.
            (_, None) => {}
        }
    }

    fn check(&self) {
        assert_eq!(self.registry.len(), self.model.live.len());
        assert_eq!(self.registry.total_bytes(), self.model.total_bytes());
        let adapters: Vec<&str> =
            ADAPTERS.into_iter().filter(|name| !self.model.adapter(name).is_empty()).collect();
        assert_eq!(self.registry.lora_adapter_names(), adapters);
        for name in NAMES {
            assert_eq!(self.registry.lookup(name).ok(), self.model.by_name(name).map(|(handle, _)| handle));
        }
        for &handle in &self.handles {
            let root = self.model.resolve(handle).map(|root| self.model.live[&root].0.clone());
            let found = self.registry.get(handle).ok().map(|entry| entry.tensor().name().to_owned());
            assert_eq!(found, root);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..80)) {
        let buffer = WeightBytes::from((0..BUFFER as u8).collect::<Vec<u8>>());
        let mut run = Run { registry: WeightRegistry::new(), model: Model::default(), buffer, handles: vec![] };
        for operation in &operations {
            run.apply(operation);
            run.check();
        }
        // With every entry gone nothing may be left over, packed forms included.
        for &handle in &run.handles {
            while run.registry.release(handle).is_ok() {}
        }
        while !run.registry.is_empty() {
            let before = run.registry.len();
            run.handles.iter().for_each(|&handle| drop(run.registry.unregister(handle)));
            ADAPTERS.iter().for_each(|name| drop(run.registry.detach_adapter(name)));
            prop_assert!(run.registry.len() < before);
        }
        prop_assert_eq!(run.registry.memory(), rlx_weights::weight_registry::MemoryUse::default());
    }
}
