//! The settings that sentence-transformers keeps beside a model.
//!
//! `modules.json` lists what runs after the encoder, `N_Pooling/config.json` says
//! how positions become one vector, `sentence_bert_config.json` bounds the number
//! of tokens. Without `modules.json` the mean is taken and normalised. Modules
//! and poolings that are not done here are refused by name.

use crate::error::ModelError;
use crate::fields::{Fields, UnknownFields};
use crate::files::{read_json, read_optional};
use serde_json::{Value, json};
use std::path::{Component, Path};

/// How the positions of a sequence become one vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum, divided by the root of their count.
    MeanSqrtLength,
    /// The first position.
    FirstToken,
    /// The greatest value of each feature.
    Max,
}

/// What turns hidden states into sentence embeddings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentenceSettings {
    /// Over positions.
    pub pooling: Pooling,
    /// Is the result divided by its Euclidean norm?
    pub normalise: bool,
    /// Most tokens, special ones included; `None` where no file says.
    pub max_tokens: Option<usize>,
    /// Is text made lower case before it is cut into tokens?
    pub lower_case: bool,
}

impl Default for SentenceSettings {
    /// The normalised mean.
    fn default() -> Self {
        SentenceSettings { pooling: Pooling::Mean, normalise: true, max_tokens: None, lower_case: false }
    }
}

/// The pooling flags that have a meaning here.
const MODES: [(&str, Pooling); 4] = [
    ("pooling_mode_mean_tokens", Pooling::Mean),
    ("pooling_mode_cls_token", Pooling::FirstToken),
    ("pooling_mode_max_tokens", Pooling::Max),
    ("pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrtLength),
];

impl SentenceSettings {
    /// Reads the files in `folder`; `width` is that of the encoder.
    ///
    /// # Errors
    /// Damaged files, and modules or fields that are refused.
    pub fn read(folder: impl AsRef<Path>, width: usize) -> Result<SentenceSettings, ModelError> {
        let folder = folder.as_ref();
        let mut settings = SentenceSettings::default();
        settings.read_modules(folder, width)?;
        let path = folder.join("sentence_bert_config.json");
        if let Some(object) = read_optional(&path)? {
            let mut fields = Fields::new(path.display().to_string(), object);
            settings.max_tokens = fields.count("max_seq_length")?;
            settings.lower_case = fields.flag_or("do_lower_case", false)?;
            fields.finish(UnknownFields::Refuse)?;
        }
        Ok(settings)
    }

    fn read_modules(&mut self, folder: &Path, width: usize) -> Result<(), ModelError> {
        let path = folder.join("modules.json");
        if !path.exists() {
            return Ok(());
        }
        let file = path.display().to_string();
        let refuse = |field: &str, found: String, expected: &str| ModelError::Field {
            file: file.clone(),
            field: field.into(),
            found,
            expected: expected.into(),
        };
        let value = read_json(&path)?;
        let modules = value.as_array().filter(|modules| modules.len() <= 16);
        let modules = modules.ok_or_else(|| ModelError::Json {
            file: file.clone(),
            message: "it is not a list of at most 16 modules".into(),
        })?;
        self.normalise = false;
        let mut steps = vec![];
        for module in modules {
            let kind = module.get("type").and_then(Value::as_str).unwrap_or("absent");
            let kind = kind.rsplit('.').next().unwrap_or(kind);
            let place = module.get("path").and_then(Value::as_str).unwrap_or("");
            steps.push(kind);
            match kind {
                "Transformer" if place.is_empty() => {}
                "Pooling" if is_plain(place) => self.read_pooling(&folder.join(place), width)?,
                "Normalize" => self.normalise = true,
                _ => {
                    let found = format!("{kind} in \"{place}\"");
                    return Err(refuse("type", found, "Transformer, Pooling or Normalize in a folder below"));
                }
            }
        }
        if !matches!(steps[..], ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"]) {
            let expected = "Transformer, Pooling and maybe Normalize, in this order";
            return Err(refuse("type", steps.join(", "), expected));
        }
        Ok(())
    }

    fn read_pooling(&mut self, folder: &Path, width: usize) -> Result<(), ModelError> {
        let path = folder.join("config.json");
        let object = crate::files::read_object(&path)?;
        let mut fields = Fields::new(path.display().to_string(), object);
        fields.only("word_embedding_dimension", &json!(width))?;
        for refused in ["pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"] {
            fields.only(refused, &json!(false))?;
        }
        fields.only("include_prompt", &json!(true))?;
        let mut chosen = vec![];
        for (field, pooling) in MODES {
            // Without any flag the mean is meant.
            if fields.flag_or(field, false)? {
                chosen.push((field, pooling));
            }
        }
        self.pooling = match chosen[..] {
            [] => Pooling::Mean,
            [(_, pooling)] => pooling,
            [_, (field, _), ..] => return Err(fields.refuse(field, "false, since another pooling is on")),
        };
        fields.finish(UnknownFields::Refuse)
    }
}

/// Is `path` one folder name, or a few, all downwards?
fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
