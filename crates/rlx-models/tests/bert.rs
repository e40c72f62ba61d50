//! Encoders against their golden results: the tiny random ones and MiniLM.

mod common;

use common::{cosine, cpu, data, floats, integers, ints, json, largest_difference, tokens};
use rlx_models::bert::{self, BertOutputs};
use rlx_models::{BertConfig, Encoding, SentenceSettings, TextEmbedder, UnknownFields};
use rlx_runtime::{Device, Session};
use serde_json::Value;

/// Runs a tiny encoder and compares every result that its golden file has.
fn check_tiny(name: &str) {
    let folder = data(name);
    let expected = json(folder.join("expected.json"));
    let config = BertConfig::read(&folder, UnknownFields::Refuse).unwrap();
    let weights = bert::open_weights(&folder).unwrap();
    let outputs = BertOutputs {
        last_hidden_state: true,
        pooler_output: expected.get("pooler_output").is_some(),
        sentence_embedding: Some(SentenceSettings::default()),
    };
    let module = bert::module(&config, &weights, outputs).unwrap();
    let mut compiled = cpu().compile_hir(&module).unwrap();
    weights.bind(&mut compiled).unwrap();
    let feeds =
        ["input_ids", "token_type_ids", "attention_mask"].map(|name| (name, integers(&expected[name])));
    let dims = [3, feeds[0].1.len() / 3];
    let inputs = feeds.each_ref().map(|(name, values)| (*name, ints(&dims, values)));
    let mut compared = 0;
    for (output, literal) in compiled.run_typed(&inputs).unwrap() {
        let found: Vec<f32> = literal.to_f64s().into_iter().map(|value| value as f32).collect();
        let difference = largest_difference(&found, &floats(&expected[&output]));
        assert!(difference <= 2e-5, "{name} {output}: off by {difference}");
        compared += 1;
    }
    assert_eq!(compared, 2 + usize::from(outputs.pooler_output));
}

#[test]
fn odd_extents_and_segments_agree() {
    check_tiny("tiny_bert_odd");
}

#[test]
fn gamma_and_beta_names_and_half_precision_agree() {
    check_tiny("tiny_bert_legacy");
}

#[test]
fn equal_layers_share_their_bodies() {
    let folder = data("tiny_bert_legacy");
    let config = BertConfig::read(&folder, UnknownFields::Refuse).unwrap();
    let weights = bert::open_weights(&folder).unwrap();
    let module = bert::module(&config, &weights, BertOutputs::default()).unwrap();
    let paths: Vec<&str> = module.blocks.iter().map(|block| block.path.as_str()).collect();
    assert_eq!(paths[..4], ["embeddings", "attention_mask", "encoder.layer.0.attention", "encoder.layer.0",]);
    assert_eq!((module.blocks.len(), module.bodies.len()), (2 + 2 * 3, 4));
    // The bounds of the blocks are those of the whole: no sequence is longer than the position table.
    let graph = module.lower().unwrap();
    assert_eq!(graph.symbols()["S"], rlx_ir::SymbolBounds { min: 1, max: Some(20) });
}

fn encodings(cases: &[Value]) -> Vec<Encoding> {
    cases.iter().map(|case| Encoding { ids: tokens(&case["ids"]), type_ids: vec![] }).collect()
}

fn check_embedding(case: &Value, found: &[f32]) {
    let expected = floats(&case["embedding"]);
    let difference = largest_difference(found, &expected);
    let angle = cosine(found, &expected);
    assert!(angle >= 0.999_999, "{}: cosine {angle}", case["text"]);
    assert!(difference <= 2e-6, "{}: off by {difference}", case["text"]);
}

/// MiniLM, and the golden cases.
fn minilm(what: &str, session: &Session) -> Option<(TextEmbedder, Vec<Value>)> {
    let folder = rlx_testkit::minilm(what)?;
    let cases = json(data("minilm_golden.json"))["cases"].as_array().expect("a list").clone();
    assert_eq!(cases.len(), 32);
    Some((TextEmbedder::load(session, folder).unwrap(), cases))
}

fn check_batch(embedder: &mut TextEmbedder, batch: &[Value]) {
    let found = embedder.embed_tokens(&encodings(batch)).unwrap();
    assert_eq!(found.len(), batch.len());
    batch.iter().zip(&found).for_each(|(case, found)| check_embedding(case, found));
}

#[test]
fn minilm_agrees_alone_and_in_padded_batches() {
    let Some((mut embedder, cases)) = minilm("sentence embeddings of MiniLM", &cpu()) else { return };
    for case in &cases {
        let text = case["text"].as_str().expect("a text");
        assert_eq!(embedder.encode(text).unwrap().ids, tokens(&case["ids"]), "tokens of {text:?}");
        check_embedding(case, &embedder.embed(&[text]).unwrap()[0]);
    }
    // One batch of everything pads most rows, some by more than 250 positions.
    for batch in [&cases[..], &cases[..7], &cases[10..13]] {
        check_batch(&mut embedder, batch);
    }
}

#[test]
fn minilm_agrees_on_the_gpu() {
    let what = "sentence embeddings of MiniLM on the gpu";
    let session = match Session::new(Device::GPU) {
        Ok(session) => session,
        Err(error) => return rlx_testkit::not_run(what, &error.to_string()),
    };
    let Some((mut embedder, cases)) = minilm(what, &session) else { return };
    // Short texts together, then one of 206 tokens.
    check_batch(&mut embedder, &cases[..8]);
    check_batch(&mut embedder, &cases[30..31]);
}
