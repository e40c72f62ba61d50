//! `rlx explain` and `rlx inspect`: every node accounted for, pictures complete in themselves.

mod common;

use common::{fails, json, succeeds};
use rlx::weights::{TensorRef, safetensors};
use std::fs;

#[test]
fn every_node_is_accounted_for() {
    for (model, nodes) in [("layer.rlx", 6), ("sum.rlx", 5), ("blocks.rlx", 7)] {
        let story = json(&["explain", model, "--json"]);
        let all = story["nodes"].as_array().unwrap();
        assert_eq!(all.len(), nodes, "{model}");
        let counted: u64 =
            story["fates"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(counted as usize, nodes, "{model}");
        let steps = story["steps"].as_array().unwrap().len() as u64;
        for node in all.iter().filter(|node| node["fate"] == "step") {
            let of_node = node["steps"].as_array().unwrap();
            assert!(
                !of_node.is_empty() && of_node.iter().all(|step| step.as_u64().unwrap() < steps),
                "{node}"
            );
        }
    }
}

#[test]
fn the_memory_plan_has_the_peak_and_the_sum() {
    let story = json(&["explain", "layer.rlx", "--json", "--dim", "B=8"]);
    let (arena, apart) = (story["arena_bytes"].as_u64().unwrap(), story["apart_bytes"].as_u64().unwrap());
    let ends = story["slots"].as_array().unwrap().iter();
    let end =
        ends.map(|slot| slot["offset"].as_u64().unwrap() + slot["bytes"].as_u64().unwrap()).max().unwrap();
    // The input, then three values that fusion makes one.
    assert_eq!(apart, 8 * 3 * 4 + 3 * 8 * 2 * 4);
    assert!(arena >= end && arena < apart, "arena {arena}, end {end}, apart {apart}");
    // The bias; the matrix gives way to its packed form.
    assert_eq!(story["memory"]["weights"], 8);
    assert!(story["memory"]["prepared"].as_u64() >= Some(24));
    let larger = json(&["explain", "layer.rlx", "--json", "--dim", "B=64"]);
    assert!(larger["arena_bytes"].as_u64() > Some(arena));
}

#[test]
fn text_names_stages_steps_and_the_way_of_one_node() {
    let text = succeeds(&["explain", "blocks.rlx"]);
    for part in ["hir: 2 blocks, 1 bodies", "layers.1", "peak arena", "passes", "decompose_unclaimed"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let why = succeeds(&["explain", "layer.rlx", "--why", "%5"]);
    assert!(why.starts_with("%5 activation : f32[B, 2]\n") && why.contains("ends as: step"), "{why}");
    assert_eq!(
        fails(2, &["explain", "layer.rlx", "--why", "9"]),
        "error: --why 9: the graph has nodes 0 to 5\n"
    );
}

#[test]
fn stages_are_printed_as_text_that_parses() {
    let hir = succeeds(&["explain", "blocks.rlx", "--stage", "hir"]);
    rlx::ir::text::parse_module(&hir).unwrap();
    for stage in ["graph", "optimized"] {
        let graph = succeeds(&["explain", "blocks.rlx", "--stage", stage]);
        rlx::ir::text::parse_graph(&graph).unwrap();
    }
    assert!(succeeds(&["explain", "blocks.rlx", "--stage", "lir"]).starts_with("lir \"two layers\""));
    assert_eq!(
        fails(1, &["explain", "layer.rlx", "--stage", "hir"]),
        "error: layer is one graph (mir), it has no named blocks\n"
    );
}

#[test]
fn pictures_are_complete_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (html, svg) = (folder.path().join("m.html"), folder.path().join("m.svg"));
    succeeds(&["explain", "blocks.rlx", "--html", html.to_str().unwrap(), "--svg", svg.to_str().unwrap()]);
    let (html, svg) = (fs::read_to_string(html).unwrap(), fs::read_to_string(svg).unwrap());
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    assert_eq!(html.matches("<svg").count(), 2);
    assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    for outside in ["src=", "href=", "@import", "<script"] {
        assert!(!html.contains(outside) && !svg.contains(outside), "{outside}");
    }
}

#[test]
fn graphs_and_weights_are_inspected() {
    let text = succeeds(&["inspect", "layer.rlx"]);
    for part in ["mir \"layer\", 6 nodes", "param layer.w : f32[3, 2]", "symbol B in [1, 64]", "matmul  "] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let blocks = json(&["inspect", "blocks.rlx", "--json"]);
    assert_eq!(blocks["blocks"][1], serde_json::json!({ "path": "layers.1", "body": "layer" }));
    assert_eq!(blocks["params"][1]["name"], "layers.1.w");
    let stories = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/stories/model.safetensors");
    let weights = json(&["inspect", stories, "--json"]);
    let bytes = |list: &str| -> u64 {
        weights[list].as_array().unwrap().iter().map(|entry| entry["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(Some(bytes("tensors")), weights["total_bytes"].as_u64());
    assert_eq!(bytes("tensors"), bytes("blocks"));
    assert!(succeeds(&["inspect", stories]).contains(" tensors, "));
    let folder = tempfile::tempdir().unwrap();
    let commented = folder.path().join("commented.rlx");
    let text = fs::read_to_string(common::models().join("layer.rlx")).unwrap();
    fs::write(&commented, format!("{0}\n{0}{text}", "; a long introduction".repeat(1000) + "\n")).unwrap();
    assert!(succeeds(&["inspect", commented.to_str().unwrap()]).starts_with("mir \"layer\", 6 nodes\n"));
    let damaged = folder.path().join("damaged");
    fs::write(&damaged, "no weights").unwrap();
    let error = fails(1, &["inspect", damaged.to_str().unwrap()]);
    assert!(error.starts_with("error: ") && error.contains("damaged"), "{error}");
}

#[test]
fn names_of_a_file_do_not_drive_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    let tensor = TensorRef { dtype: rlx::DType::U8, dims: &[0], bytes: &[] };
    let metadata = [("note", "one\n\u{1b}[31mtwo")];
    let mut file = fs::File::create(&path).unwrap();
    safetensors::write("odd", &mut file, &[("w\u{1b}[2J", tensor)], &metadata).unwrap();
    let text = succeeds(&["inspect", path.to_str().unwrap()]);
    assert!(text.contains("w\\u{1b}[2J") && text.contains("metadata note: one\\n\\u{1b}[31mtwo\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}
