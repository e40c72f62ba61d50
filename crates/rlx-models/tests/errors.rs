//! Every variant of `ModelError`, provoked, with the message a user sees; and damaged files of every kind,
//! none of which may panic.

mod common;
#[path = "../../rlx-testkit/shared/error_cases.rs"]
#[macro_use]
mod error_cases;

use common::{cpu, data};
use rlx_driver::DriverError;
use rlx_ir::{DType, Diagnostic, IrError};
use rlx_models::bert::{self, BertOutputs};
use rlx_models::gpt2::{self, Gpt2Options};
use rlx_models::{
    BertConfig, Encoding, GenerateOptions, Generator, Gpt2Config, ModelError, SentenceSettings, TextEmbedder,
    TextTokenizer, UnknownFields,
};
use rlx_runtime::{Device, Session, SessionOptions};
use rlx_weights::{MappedWeights, TensorRef, WeightLoader, safetensors};
use serde_json::{Value, json};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Sets fields of `DIR/config.json`, which starts as that of the test data `name`.
fn config(folder: &Path, name: &str, changes: Value) {
    let mut config = common::json(data(name).join("config.json"));
    let object = config.as_object_mut().expect("an object");
    for (field, value) in changes.as_object().expect("an object") {
        object.insert(field.clone(), value.clone());
    }
    fs::write(folder.join("config.json"), config.to_string()).expect("a writable folder");
}

fn bert(folder: &Path, changes: Value) -> Result<(), ModelError> {
    config(folder, "tiny_bert_odd", changes);
    fs::copy(data("tiny_bert_odd/model.safetensors"), folder.join("model.safetensors")).expect("writable");
    build_bert(folder)
}

fn build_bert(folder: &Path) -> Result<(), ModelError> {
    let config = BertConfig::read(folder, UnknownFields::Refuse)?;
    let weights = bert::open_weights(folder)?;
    bert::module(&config, &weights, BertOutputs::default()).map(drop)
}

fn gpt2(folder: &Path, changes: Value) -> Result<(), ModelError> {
    config(folder, "tiny_gpt2_untied", changes);
    fs::copy(data("tiny_gpt2_untied/model.safetensors"), folder.join("model.safetensors")).expect("writable");
    let config = Gpt2Config::read(folder, UnknownFields::Refuse)?;
    let weights = gpt2::open_weights(folder)?;
    gpt2::module(&config, &weights, Gpt2Options::default()).map(drop)
}

/// The tiny encoder with its tensors changed.
fn with_tensors(
    folder: &Path,
    change: impl Fn(&str) -> Option<(&'static str, DType)>,
) -> Result<(), ModelError> {
    let weights = MappedWeights::open(data("tiny_bert_odd")).expect("test data");
    let tensors = weights.tensors().iter().map(|tensor| (tensor.name(), tensor.view()));
    let tensors: Vec<(&str, TensorRef<'_>)> = tensors
        .flat_map(|(name, view)| match change(name) {
            Some((other, dtype)) if other != name => vec![(name, view), (other, TensorRef { dtype, ..view })],
            Some((_, dtype)) => vec![(name, TensorRef { dtype, ..view })],
            None => vec![(name, view)],
        })
        .collect();
    let mut file = fs::File::create(folder.join("model.safetensors")).expect("a writable folder");
    safetensors::write("test", &mut file, &tensors, &[]).expect("writable tensors");
    config(folder, "tiny_bert_odd", json!({}));
    build_bert(folder)
}

fn stories() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/stories")
}

/// The stories model with a cache of 8 positions.
fn generate(prompt: &[u32], options: GenerateOptions) -> Result<(), ModelError> {
    let mut generator = Generator::load(&cpu(), stories(), Some(8))?;
    generator.generate_tokens(&[prompt], &options, &mut |_, _| ControlFlow::Continue(())).map(drop)
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
    fs::write(path, text).expect("a writable folder");
}

// `Logits` is provoked beside the sampler, which no folder reaches alone.
error_cases! { ModelError in "../src/error.rs" but Logits:
    missing_config: Read, |dir| BertConfig::read(dir, UnknownFields::Refuse)
        => "DIR/config.json: cannot be read: No such file or directory (os error 2)";
    config_that_is_a_folder: Read, |dir| {
        fs::create_dir(dir.join("config.json")).expect("writable");
        BertConfig::read(dir, UnknownFields::Refuse)
    } => "DIR/config.json: cannot be read: it is not a regular file";
    huge_config: TooLarge, |dir| {
        write(dir, "config.json", &" ".repeat((4 << 20) + 1));
        BertConfig::read(dir, UnknownFields::Refuse)
    } => "DIR/config.json: has more than 4194304 bytes, the most that is read of such a file";
    truncated_config: Json, |dir| {
        write(dir, "config.json", "{\"vocab_size\": 6");
        BertConfig::read(dir, UnknownFields::Refuse)
    } => "DIR/config.json: is not valid JSON: EOF while parsing an object at line 1 column 16";
    nested_config: Json, |dir| {
        write(dir, "config.json", &"[".repeat(100_000));
        BertConfig::read(dir, UnknownFields::Refuse)
    } => "DIR/config.json: is not valid JSON: it is nested deeper than 64 levels";
    config_of_another_type: Json, |dir| {
        write(dir, "config.json", "[1]");
        Gpt2Config::read(dir, UnknownFields::Refuse)
    } => "DIR/config.json: is not valid JSON: it is not an object";
    relative_positions: Field, |dir| bert(dir, json!({"position_embedding_type": "relative_key"}))
        => "DIR/config.json: field \"position_embedding_type\" is \"relative_key\", expected \"absolute\" (nothing else is done here)";
    another_family: Field, |dir| bert(dir, json!({"model_type": "roberta"}))
        => "DIR/config.json: field \"model_type\" is \"roberta\", expected \"bert\" (nothing else is done here)";
    unknown_activation: Field, |dir| bert(dir, json!({"hidden_act": "snake"}))
        => "DIR/config.json: field \"hidden_act\" is \"snake\", expected one of gelu, gelu_fast, gelu_new, gelu_python, gelu_pytorch_tanh, hardswish, mish, quick_gelu, relu, sigmoid, silu, swish, tanh";
    huge_number: Field, |dir| bert(dir, json!({"hidden_size": 18446744073709551615u64}))
        => "DIR/config.json: field \"hidden_size\" is 18446744073709551615, expected a whole number from 1 to 1073741824";
    negative_number: Field, |dir| gpt2(dir, json!({"n_layer": -1}))
        => "DIR/config.json: field \"n_layer\" is -1, expected a whole number from 1 to 1073741824";
    negative_epsilon: Field, |dir| gpt2(dir, json!({"layer_norm_epsilon": -1e-5}))
        => "DIR/config.json: field \"layer_norm_epsilon\" is -0.00001, expected a finite number of at least 0";
    heads_that_do_not_divide: Field, |dir| gpt2(dir, json!({"n_head": 4}))
        => "DIR/config.json: field \"n_head\" is 4, expected a divisor of n_embd, which is 25";
    contexts_that_differ: Field, |dir| gpt2(dir, json!({"n_ctx": 12}))
        => "DIR/config.json: field \"n_ctx\" is 12, expected 24 (nothing else is done here)";
    text_for_a_flag: Field, |dir| gpt2(dir, json!({"scale_attn_weights": "yes"}))
        => "DIR/config.json: field \"scale_attn_weights\" is \"yes\", expected true or false";
    cross_attention: Field, |dir| gpt2(dir, json!({"add_cross_attention": true}))
        => "DIR/config.json: field \"add_cross_attention\" is true, expected false (nothing else is done here)";
    broken_end_tokens: Field, |dir| gpt2(dir, json!({"eos_token_id": [1, -2]}))
        => "DIR/config.json: field \"eos_token_id\" is [1,-2], expected a token or a list of tokens";
    two_poolings: Field, |dir| {
        write(dir, "modules.json", r#"[{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]"#);
        write(dir, "1_Pooling/config.json", r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#);
        SentenceSettings::read(dir, 21)
    } => "DIR/1_Pooling/config.json: field \"pooling_mode_cls_token\" is true, expected false, since another pooling is on";
    unknown_module: Field, |dir| {
        write(dir, "modules.json", r#"[{"path": "", "type": "a.Transformer"}, {"path": "2_Dense", "type": "a.Dense"}]"#);
        SentenceSettings::read(dir, 21)
    } => "DIR/modules.json: field \"type\" is Dense in \"2_Dense\", expected Transformer, Pooling or Normalize in a folder below";
    module_outside_the_folder: Field, |dir| {
        write(dir, "modules.json", r#"[{"path": "", "type": "a.Transformer"}, {"path": "../1_Pooling", "type": "a.Pooling"}]"#);
        SentenceSettings::read(dir, 21)
    } => "DIR/modules.json: field \"type\" is Pooling in \"../1_Pooling\", expected Transformer, Pooling or Normalize in a folder below";
    pooling_of_another_width: Field, |dir| {
        write(dir, "modules.json", r#"[{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]"#);
        write(dir, "1_Pooling/config.json", r#"{"word_embedding_dimension": 384}"#);
        SentenceSettings::read(dir, 21)
    } => "DIR/1_Pooling/config.json: field \"word_embedding_dimension\" is 384, expected 21 (nothing else is done here)";
    unknown_fields: UnknownFields, |dir| bert(dir, json!({"rotary_dim": 8, "alibi": true, "id2label": {"0": "a"}}))
        => "DIR/config.json: fields that are not known and may change results: alibi, rotary_dim; load with `UnknownFields::Ignore` if they do not";
    missing_weights: Weight, |dir| {
        config(dir, "tiny_bert_odd", json!({}));
        build_bert(dir)
    } => "DIR: found no weight file, expected model.safetensors, model.safetensors.index.json or one *.safetensors; check the folder";
    more_layers_than_weights: MissingTensor, |dir| bert(dir, json!({"num_hidden_layers": 1073741824}))
        => "DIR/model.safetensors: there is no tensor \"encoder.layer.2.attention.self.query.weight\", which the configuration asks for with shape [21, 21]; the closest name is \"encoder.layer.0.attention.self.query.weight\"";
    untied_without_projection: MissingTensor, |dir| {
        fs::copy(data("tiny_gpt2_scaled/model.safetensors"), dir.join("model.safetensors")).expect("writable");
        config(dir, "tiny_gpt2_scaled", json!({"tie_word_embeddings": false}));
        let config = Gpt2Config::read(dir, UnknownFields::Refuse)?;
        gpt2::module(&config, &gpt2::open_weights(dir)?, Gpt2Options::default())
    } => "DIR/model.safetensors: there is no tensor \"lm_head.weight\", which the configuration asks for with shape [71, 24]";
    another_vocabulary: TensorShape, |dir| bert(dir, json!({"vocab_size": 68}))
        => "DIR/model.safetensors: tensor \"embeddings.word_embeddings.weight\" has shape [67, 21], the configuration says [68, 21]";
    another_inner_width: TensorShape, |dir| gpt2(dir, json!({"n_inner": null}))
        => "DIR/model.safetensors: tensor \"transformer.h.0.mlp.c_fc.weight\" has shape [25, 37], the configuration says [25, 100]";
    integer_weights: TensorDtype, |dir| with_tensors(dir, |name| (name == "encoder.layer.1.output.LayerNorm.bias").then_some(("encoder.layer.1.output.LayerNorm.bias", DType::I32)))
        => "DIR/model.safetensors: tensor \"encoder.layer.1.output.LayerNorm.bias\" holds i32, expected f32, f16 or bf16";
    fewer_layers_than_weights: UnusedTensor, |dir| bert(dir, json!({"num_hidden_layers": 1}))
        => "DIR/model.safetensors: the configured model does not use tensor \"encoder.layer.1.attention.output.LayerNorm.bias\" (16 such tensors); does config.json belong to these weights?";
    relative_position_table: UnusedTensor, |dir| with_tensors(dir, |name| (name == "embeddings.LayerNorm.bias").then_some(("encoder.layer.0.attention.self.distance_embedding.weight", DType::F32)))
        => "DIR/model.safetensors: the configured model does not use tensor \"encoder.layer.0.attention.self.distance_embedding.weight\" (1 such tensors); does config.json belong to these weights?";
    one_tensor_twice: DuplicateTensor, |dir| with_tensors(dir, |name| (name == "embeddings.LayerNorm.bias").then_some(("bert.embeddings.LayerNorm.beta", DType::F32)))
        => "DIR/model.safetensors: tensors \"embeddings.LayerNorm.bias\" and \"bert.embeddings.LayerNorm.beta\" mean the same parameter; keep one of them";
    tokenizer_of_nothing: Tokenizer, |dir| {
        write(dir, "tokenizer.json", "{\"version\": \"1.0\"}");
        TextTokenizer::read(dir, None)
    } => "DIR/tokenizer.json: is not a tokenizer that can be loaded: Model missing. at line 1 column 18";
    text_beyond_all_bounds: Tokenize, |_dir| TextTokenizer::read(stories(), None)?.encode(&"a".repeat((64 << 20) + 1))
        => "the tokenizer failed: a text of 67108865 bytes is longer than the limit of 67108864";
    token_beyond_the_vocabulary: Token, |_dir| generate(&[1, 1024], GenerateOptions::default())
        => "token 1024 is not in the vocabulary of 1024 tokens; does tokenizer.json belong to this model?";
    prompt_beyond_the_cache: TooLong, |_dir| generate(&[1; 9], GenerateOptions::default())
        => "9 tokens do not fit the 8 positions of the cache";
    prompt_of_nothing: Request, |_dir| generate(&[], GenerateOptions::default())
        => "prompt: it has no tokens; start with an end token";
    negative_temperature: Request, |_dir| generate(&[1], GenerateOptions { temperature: -1.0, ..Default::default() })
        => "temperature: is -1, expected a finite number of at least 0";
    no_candidates: Request, |_dir| generate(&[1], GenerateOptions { top_k: Some(0), ..Default::default() })
        => "top_k: is 0, expected at least 1";
    probability_of_zero: Request, |_dir| generate(&[1], GenerateOptions { top_p: 0.0, ..Default::default() })
        => "top_p: is 0, expected more than 0 and at most 1";
    part_above_one: Request, |_dir| generate(&[1], GenerateOptions { min_p: f32::NAN, ..Default::default() })
        => "min_p: is NaN, expected 0 to 1";
    cache_beyond_the_positions: Request, |_dir| Generator::load(&cpu(), stories(), Some(513))
        => "cache: 513 positions; it may have 1 to 512";
    invalid_graph: Graph, |_dir| Err::<(), _>(ModelError::from(IrError::Invalid(vec![Diagnostic::new("%0 add", "is wrong")])))
        => "%0 add: is wrong";
    over_budget: Runtime, |_dir| {
        let options = SessionOptions { memory_budget: Some(1000), ..SessionOptions::default() };
        let session = Session::with(Device::CPU, options)?;
        Generator::load(&session, stories(), None).map_err(|error| match error {
            ModelError::Runtime(rlx_runtime::RuntimeError::Driver(DriverError::OverBudget { budget, .. })) => {
                assert_eq!(budget, 1000);
                ModelError::Runtime(rlx_runtime::RuntimeError::Option { option: "budget", reason: "too small".into() })
            }
            other => other,
        })
    } => "option budget: too small";
}

#[test]
fn unknown_fields_can_be_ignored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    config(folder.path(), "tiny_bert_odd", json!({"alibi": true}));
    let plain = BertConfig::read(data("tiny_bert_odd"), UnknownFields::Refuse).unwrap();
    assert_eq!(BertConfig::read(folder.path(), UnknownFields::Ignore).unwrap(), plain);
}

#[test]
fn embeddings_refuse_tokens_that_the_encoder_lacks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(data("tiny_bert_odd").join(file), folder.path().join(file)).expect("writable");
    }
    // The tokenizer of another model: its tokens reach beyond this one's.
    fs::copy(stories().join("tokenizer.json"), folder.path().join("tokenizer.json")).expect("writable");
    let mut embedder = TextEmbedder::load(&cpu(), folder.path()).unwrap();
    let error = embedder.embed(&["Once upon a time"]).unwrap_err();
    assert!(matches!(error, ModelError::Token { vocabulary: 67, .. }), "{error}");
    let error = embedder.embed(&[""]).unwrap_err().to_string();
    assert_eq!(error, "text: it has no tokens at all");
    let encoding = |ids: Vec<u32>, type_ids: Vec<u32>| [Encoding { ids, type_ids }];
    let error = embedder.embed_tokens(&encoding(vec![1; 21], vec![])).unwrap_err().to_string();
    assert_eq!(error, "21 tokens do not fit the 20 positions of the encoder");
    let error = embedder.embed_tokens(&encoding(vec![1], vec![2])).unwrap_err().to_string();
    assert_eq!(error, "type_ids: segment 2 is not one of the 2 that the model has");
    assert!(embedder.embed(&[]).unwrap().is_empty());
}

/// Changes one to four bytes of `bytes`, or cuts it; `state` is a linear congruential generator.
fn damage(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut next = |below: usize| {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) as usize % below
    };
    let mut damaged = bytes.to_vec();
    if next(4) == 0 {
        damaged.truncate(next(bytes.len()));
    }
    for _ in 0..1 + next(4) {
        if damaged.is_empty() {
            break;
        }
        let (place, byte) = (next(damaged.len()), next(256) as u8);
        damaged[place] = [byte, b'"', b'{', b'9'][next(4)];
    }
    damaged
}

#[test]
fn damaged_files_are_refused_or_read_without_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut state, mut refused) = (1, 0);
    let config = fs::read(data("tiny_bert_odd/config.json")).expect("test data");
    fs::copy(data("tiny_bert_odd/model.safetensors"), folder.path().join("model.safetensors"))
        .expect("writable");
    for _ in 0..2000 {
        fs::write(folder.path().join("config.json"), damage(&config, &mut state)).expect("writable");
        refused += usize::from(build_bert(folder.path()).is_err());
    }
    assert!(refused > 1000, "{refused} of 2000");
    let tokenizer = fs::read(stories().join("tokenizer.json")).expect("test data");
    let mut refused = 0;
    for _ in 0..60 {
        let parsed = TextTokenizer::parse("tokenizer.json", &damage(&tokenizer, &mut state), Some(8));
        match parsed {
            // What still loads must still cut text, or say why not.
            Ok(tokenizer) => drop(tokenizer.encode("Once upon a time, é 🙂")),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 10, "{refused} of 60");
}
