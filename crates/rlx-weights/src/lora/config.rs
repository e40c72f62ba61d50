//! `adapter_config.json` of PEFT: which of it is plain LoRA, and what rank and
//! scale it gives each module.
#![forbid(unsafe_code)]

use super::LoraPair;
use crate::error::WeightError;
use crate::tensor::{WeightTensor, type_text};
use serde_json::{Map, Value};

/// Fields that change the result in ways this reader does not model.
const MUST_BE_UNSET: [&str; 7] = [
    "use_dora",
    "use_qalora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
];

/// Initialisations that also change the base weights.
const CHANGES_BASE: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

pub(super) struct Config {
    file: String,
    fields: Map<String, Value>,
}

impl Config {
    pub(super) fn parse(file: &str, text: &[u8]) -> Result<Config, WeightError> {
        let fields = serde_json::from_slice(text).map_err(|error| WeightError::Malformed {
            file: file.into(),
            part: "adapter configuration",
            detail: error.to_string(),
        })?;
        let config = Config { file: file.into(), fields };
        config.refuse_unsupported()?;
        Ok(config)
    }

    fn get(&self, field: &str) -> &Value {
        self.fields.get(field).unwrap_or(&Value::Null)
    }

    fn refused(&self, field: &str, found: &Value, expected: &'static str) -> WeightError {
        let found = match found {
            Value::Null => "missing".into(),
            found => found.to_string().chars().take(80).collect(),
        };
        WeightError::AdapterConfig { file: self.file.clone(), field: field.into(), found, expected }
    }

    fn refuse_unsupported(&self) -> Result<(), WeightError> {
        if self.get("peft_type") != "LORA" {
            return Err(self.refused("peft_type", self.get("peft_type"), "\"LORA\""));
        }
        if !self.get("bias").is_null() && self.get("bias") != "none" {
            return Err(self.refused("bias", self.get("bias"), "\"none\""));
        }
        if let Some(field) = MUST_BE_UNSET.iter().find(|field| is_set(self.get(field))) {
            return Err(self.refused(field, self.get(field), "it unset"));
        }
        let start = self.get("init_lora_weights");
        if start.as_str().is_some_and(|start| CHANGES_BASE.iter().any(|kind| start.starts_with(kind))) {
            return Err(self.refused("init_lora_weights", start, "one that leaves base weights alone"));
        }
        Ok(())
    }

    /// The pair for `module`, checked against its configured rank.
    pub(super) fn pair(
        &self,
        file: &str,
        module: &str,
        a: &WeightTensor,
        b: &WeightTensor,
    ) -> Result<LoraPair, WeightError> {
        let rank = self.for_module("r", "rank_pattern", module)?;
        let rank = rank.as_u64().filter(|&rank| rank > 0);
        let rank = rank.ok_or_else(|| self.refused("r", self.get("r"), "a positive integer"))?;
        let alpha = self.for_module("lora_alpha", "alpha_pattern", module)?.as_f64();
        let alpha = alpha.ok_or_else(|| self.refused("lora_alpha", self.get("lora_alpha"), "a number"))?;
        if a.dims().first().map(|&dim| dim as u64) != Some(rank) {
            return Err(WeightError::AdapterTensor {
                file: file.into(),
                tensor: a.name().into(),
                found: type_text(a.dtype(), a.dims()),
                expected: format!("[{rank}, in] for the configured rank"),
            });
        }
        let stabilised = is_set(self.get("use_rslora"));
        let divisor = if stabilised { (rank as f64).sqrt() } else { rank as f64 };
        LoraPair::from_file(file, module, a.clone(), b.clone(), (alpha / divisor) as f32)
    }

    /// `field`, unless `pattern` has an entry for `module`: a module path, or
    /// what one ends with after a dot. PEFT takes these as regular expressions;
    /// real ones are refused.
    fn for_module(&self, field: &str, pattern: &str, module: &str) -> Result<&Value, WeightError> {
        for (key, value) in self.get(pattern).as_object().into_iter().flatten() {
            if key.contains(|c: char| "\\^$*+?()[]{}|".contains(c)) {
                return Err(self.refused(pattern, &Value::from(key.as_str()), "plain module names"));
            }
            if module.strip_suffix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) {
                return Ok(value);
            }
        }
        Ok(self.get(field))
    }
}

/// Python's truth.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(true) => true,
    }
}
