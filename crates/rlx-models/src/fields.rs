//! Typed access to the fields of a configuration, with none left unread.
//!
//! Every read notes the field as known. What is left over at the end must be on
//! the list of fields that cannot change results, or is refused by name. A field
//! that is `null` counts as absent.

use crate::error::ModelError;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What to do with fields that this library does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnknownFields {
    /// Refuse them by name: they may change results.
    #[default]
    Refuse,
    /// Act as if they were not there.
    Ignore,
}

/// Largest extent or count that any field may give.
const LARGEST: u64 = 1 << 30;

/// Fields of any model that are about training, provenance, the defaults of another
/// library's generation loop or heads that are not built here.
const WITHOUT_EFFECT: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "classifier_dropout",
    "cls_token_id",
    "decoder_start_token_id",
    "directionality",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "min_length",
    "model_max_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// The fields of one file.
pub(crate) struct Fields {
    file: String,
    object: Map<String, Value>,
    known: BTreeSet<&'static str>,
}

impl Fields {
    /// The fields of `object`, which `file` holds.
    pub(crate) fn new(file: impl Into<String>, object: Map<String, Value>) -> Fields {
        Fields { file: file.into(), object, known: BTreeSet::new() }
    }

    fn get(&mut self, field: &'static str) -> Option<&Value> {
        self.known.insert(field);
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// The error for a field whose value is not `expected`.
    pub(crate) fn refuse(&self, field: &str, expected: impl Into<String>) -> ModelError {
        let found = self.object.get(field).map_or_else(|| "absent".into(), brief);
        ModelError::Field { file: self.file.clone(), field: field.into(), found, expected: expected.into() }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        match self.get(field).map(parse) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(self.refuse(field, expected)),
        }
    }

    /// A number of at least 1.
    pub(crate) fn count(&mut self, field: &'static str) -> Result<Option<usize>, ModelError> {
        self.read(field, &format!("a whole number from 1 to {LARGEST}"), |value| {
            value
                .as_u64()
                .filter(|count| (1..=LARGEST).contains(count))
                .and_then(|count| count.try_into().ok())
        })
    }

    /// As [`Fields::count`], with what an absent field means.
    pub(crate) fn count_or(&mut self, field: &'static str, default: usize) -> Result<usize, ModelError> {
        Ok(self.count(field)?.unwrap_or(default))
    }

    /// A finite number above or equal to 0.
    pub(crate) fn real_or(&mut self, field: &'static str, default: f64) -> Result<f64, ModelError> {
        let value = self.read(field, "a finite number of at least 0", |value| {
            value.as_f64().filter(|real| real.is_finite() && *real >= 0.0)
        });
        Ok(value?.unwrap_or(default))
    }

    /// A flag.
    pub(crate) fn flag_or(&mut self, field: &'static str, default: bool) -> Result<bool, ModelError> {
        Ok(self.read(field, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A text.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<Option<String>, ModelError> {
        self.read(field, "a text", |value| value.as_str().map(str::to_string))
    }

    /// One token or a list of tokens; none where the field is absent.
    pub(crate) fn tokens(&mut self, field: &'static str) -> Result<Option<Vec<u32>>, ModelError> {
        let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        self.read(field, "a token or a list of tokens", |value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            one => token(one).map(|token| vec![token]),
        })
    }

    /// Refuses any value of `field` but absence and `accepted`.
    pub(crate) fn only(&mut self, field: &'static str, accepted: &Value) -> Result<(), ModelError> {
        match self.get(field) {
            Some(value) if value != accepted => {
                Err(self.refuse(field, format!("{accepted} (nothing else is done here)")))
            }
            _ => Ok(()),
        }
    }

    /// Notes fields that cannot change results.
    pub(crate) fn ignore(&mut self, fields: &'static [&'static str]) {
        self.known.extend(fields);
    }

    /// Refuses what nobody read.
    pub(crate) fn finish(self, unknown: UnknownFields) -> Result<(), ModelError> {
        let is_known = |name: &str| self.known.contains(name) || WITHOUT_EFFECT.contains(&name);
        let fields: Vec<String> = self.object.keys().filter(|name| !is_known(name)).cloned().collect();
        if fields.is_empty() || unknown == UnknownFields::Ignore {
            return Ok(());
        }
        Err(ModelError::UnknownFields { file: self.file, fields })
    }
}

/// A value in at most one short line.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
