//! LoRA adapters in the registry: attached, detached and swapped as wholes,
//! without touching a base weight.
//!
//! The tensors of adapter `NAME` for module `TARGET` are registered as
//! `lora.NAME.TARGET.A` and `.B`. Either all of an adapter is there or nothing.
#![forbid(unsafe_code)]

use super::table::{Table, Value};
use super::{WeightHandle, WeightKind, WeightRegistry};
use crate::error::WeightError;
use crate::lora::{LoraAdapter, LoraPair};
use crate::tensor::WeightTensor;
use std::sync::Arc;

/// One adapted module of an attached adapter: `y += scale * B (A x)`.
#[derive(Clone, PartialEq, Debug)]
pub struct LoraHandles {
    /// Module path, as `layers.0.self_attn.q_proj`.
    pub target: String,
    /// `[rank, in]`.
    pub a: WeightHandle,
    /// `[out, rank]`.
    pub b: WeightHandle,
    /// Number of rows of A and columns of B.
    pub rank: usize,
    /// Factor on the product.
    pub scale: f32,
}

pub(super) type AttachedAdapter = Vec<LoraHandles>;

impl WeightRegistry {
    /// Registers the tensors of `adapter` under `name`.
    ///
    /// # Errors
    /// [`WeightError::AdapterAttached`]; a name that is taken;
    /// [`WeightError::AdapterTensor`] where the weight `TARGET.weight` is
    /// registered and does not fit. Then nothing changes.
    pub fn attach_adapter(&self, name: &str, adapter: &LoraAdapter) -> Result<Vec<LoraHandles>, WeightError> {
        let mut table = self.write();
        if table.adapters.contains_key(name) {
            return Err(WeightError::AdapterAttached { name: name.into() });
        }
        table.refuse_adapter(name, adapter)?;
        Ok(table.insert_adapter(name, adapter))
    }

    /// Unregisters the tensors of adapter `name`.
    ///
    /// # Errors
    /// [`WeightError::UnknownAdapter`]; [`WeightError::InUse`] while one of its
    /// tensors is pinned or aliased. Then nothing changes.
    pub fn detach_adapter(&self, name: &str) -> Result<(), WeightError> {
        let mut table = self.write();
        table.refuse_detaching(name)?;
        table.remove_adapter(name);
        Ok(())
    }

    /// Puts `adapter` in the place of the one attached as `name`, in one step:
    /// no reader finds neither or half. Entries that readers hold stay readable.
    ///
    /// # Errors
    /// As detaching and attaching. Then nothing changes.
    pub fn swap_adapter(&self, name: &str, adapter: &LoraAdapter) -> Result<Vec<LoraHandles>, WeightError> {
        let mut table = self.write();
        table.refuse_detaching(name)?;
        table.refuse_adapter(name, adapter)?;
        table.remove_adapter(name);
        Ok(table.insert_adapter(name, adapter))
    }

    /// Names of the attached adapters, sorted.
    pub fn lora_adapter_names(&self) -> Vec<String> {
        self.read().adapters.keys().cloned().collect()
    }

    /// The adapted modules of adapter `name`, in the adapter's order.
    ///
    /// # Errors
    /// [`WeightError::UnknownAdapter`].
    pub fn lora_adapter_handles(&self, name: &str) -> Result<Vec<LoraHandles>, WeightError> {
        self.read().adapter(name).cloned()
    }
}

impl Table {
    fn adapter(&self, name: &str) -> Result<&AttachedAdapter, WeightError> {
        self.adapters.get(name).ok_or_else(|| WeightError::UnknownAdapter {
            name: name.into(),
            nearest: rlx_ir::nearest_name(name, self.adapters.keys().map(String::as_str)).map(str::to_string),
        })
    }

    fn refuse_detaching(&self, name: &str) -> Result<(), WeightError> {
        let mut handles = self.adapter(name)?.iter().flat_map(|pair| [pair.a, pair.b]);
        handles.try_for_each(|handle| self.live(handle)?.refuse_in_use())
    }

    /// Refuses an adapter whose names are taken by anything but itself, or
    /// whose tensors do not fit the base weights.
    fn refuse_adapter(&self, adapter_name: &str, adapter: &LoraAdapter) -> Result<(), WeightError> {
        for pair in adapter.pairs() {
            for name in entry_names(adapter_name, pair) {
                let owner = WeightKind::Lora { adapter: adapter_name.into() };
                if let Some((_, live)) = self.live_by_name(&name)
                    && live.tensor().is_none_or(|entry| entry.kind != owner)
                {
                    let (found, expected) =
                        (format!("tensor of adapter `{adapter_name}`"), live.value.describe());
                    return Err(WeightError::NameTaken { name, what: "kind", found, expected });
                }
            }
            if let Some((handle, _)) = self.live_by_name(&format!("{}.weight", pair.target())) {
                pair.refuse_misfit(adapter_name, self.resolve(handle)?.tensor())?;
            }
        }
        Ok(())
    }

    fn insert_adapter(&mut self, adapter_name: &str, adapter: &LoraAdapter) -> Vec<LoraHandles> {
        let mut insert = |name: String, tensor: &WeightTensor| {
            let kind = WeightKind::Lora { adapter: adapter_name.into() };
            self.insert(Arc::from(name.as_str()), Value::tensor(tensor.renamed(&name), kind))
        };
        let handles: Vec<LoraHandles> = adapter
            .pairs()
            .iter()
            .map(|pair| {
                let [a, b] = entry_names(adapter_name, pair);
                let (a, b) = (insert(a, pair.a()), insert(b, pair.b()));
                LoraHandles { target: pair.target().into(), a, b, rank: pair.rank(), scale: pair.scale() }
            })
            .collect();
        self.adapters.insert(adapter_name.into(), handles.clone());
        handles
    }

    fn remove_adapter(&mut self, name: &str) {
        let pairs = self.adapters.remove(name).unwrap_or_default();
        pairs.iter().flat_map(|pair| [pair.a, pair.b]).for_each(|handle| self.remove(handle));
    }
}

fn entry_names(adapter: &str, pair: &LoraPair) -> [String; 2] {
    ["A", "B"].map(|side| format!("lora.{adapter}.{}.{side}", pair.target()))
}
