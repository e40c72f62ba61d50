//! The small GPT of `compare_training.py` in candle: prints one line of JSON per update.
//!
//! Built outside the workspace: `cargo new compare_training_candle`, this file as its `src/main.rs`, and
//! `cargo add candle-core@0.11 candle-nn@0.11 anyhow`, then
//! `RUSTFLAGS="-C target-cpu=native" cargo build --release`. Called with the folder that the recipe writes, and the
//! number of updates.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss, ops};
use std::collections::HashMap;

const LAYERS: usize = 4;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const BATCH: usize = 8;
const LENGTH: usize = 128;
const VOCABULARY: usize = 4096;

struct Weights(HashMap<String, Var>);

impl Weights {
    fn get(&self, name: &str, part: &str) -> anyhow::Result<&Tensor> {
        let found = self.0.get(&format!("{name}.{part}"));
        Ok(found.ok_or_else(|| anyhow::anyhow!("no tensor {name}.{part}"))?.as_tensor())
    }

    fn norm(&self, x: &Tensor, name: &str) -> anyhow::Result<Tensor> {
        // `LayerNorm` takes a path without gradient where it can.
        Ok(ops::layer_norm_slow(x, self.get(name, "weight")?, self.get(name, "bias")?, 1e-5)?)
    }

    fn linear(&self, x: &Tensor, name: &str) -> anyhow::Result<Tensor> {
        let rows = x.reshape((BATCH * LENGTH, x.dim(D::Minus1)?))?;
        let y = rows.matmul(self.get(name, "weight")?)?.broadcast_add(self.get(name, "bias")?)?;
        Ok(y.reshape((BATCH, LENGTH, y.dim(1)?))?)
    }

    fn loss(&self, ids: &Tensor, labels: &Tensor, mask: &Tensor) -> anyhow::Result<Tensor> {
        let (heads, extent) = (HEADS, WIDTH / HEADS);
        let rows =
            self.get("wte", "weight")?.embedding(&ids.flatten_all()?)?.reshape((BATCH, LENGTH, WIDTH))?;
        let mut x = rows.broadcast_add(self.get("wpe", "weight")?)?;
        for layer in 0..LAYERS {
            let name = |part: &str| format!("h.{layer}.{part}");
            let qkv = self.linear(&self.norm(&x, &name("ln_1"))?, &name("attn.c_attn"))?;
            let qkv =
                qkv.reshape((BATCH, LENGTH, 3, heads, extent))?.permute((2, 0, 3, 1, 4))?.contiguous()?;
            let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
            let scores = (q.matmul(&k.t()?.contiguous()?)? * (1.0 / (extent as f64).sqrt()))?;
            let shares = ops::softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
            let mixed = shares.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((BATCH, LENGTH, WIDTH))?;
            x = (x + self.linear(&mixed, &name("attn.c_proj"))?)?;
            let wide = self.linear(&self.norm(&x, &name("ln_2"))?, &name("mlp.c_fc"))?.gelu_erf()?;
            x = (&x + self.linear(&wide, &name("mlp.c_proj"))?)?;
        }
        let last = self.norm(&x, "ln_f")?.reshape((BATCH * LENGTH, WIDTH))?;
        let logits =
            last.matmul(&self.get("lm_head", "weight")?.t()?)?.reshape((BATCH * LENGTH, VOCABULARY))?;
        Ok(loss::cross_entropy(&logits, &labels.flatten_all()?)?)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, updates] = &arguments[..] else { anyhow::bail!("usage: FOLDER UPDATES") };
    let load = |name: &str| candle_core::safetensors::load(format!("{folder}/{name}"), &Device::Cpu);
    let weights = load("model.safetensors")?;
    let weights: Result<HashMap<String, Var>, _> = weights
        .into_iter()
        .map(|(name, tensor)| Ok::<_, candle_core::Error>((name, Var::from_tensor(&tensor)?)))
        .collect();
    let weights = Weights(weights?);
    let batches = load("batches.safetensors")?;
    let batch = |name: &str, update: usize| -> candle_core::Result<Tensor> {
        batches[name].get(update)?.to_dtype(DType::U32)
    };
    let later = |at: usize| if at % LENGTH > at / LENGTH { f32::NEG_INFINITY } else { 0.0 };
    let mask = Tensor::from_vec((0..LENGTH * LENGTH).map(later).collect(), (LENGTH, LENGTH), &Device::Cpu)?;
    let params = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(weights.0.values().cloned().collect(), params)?;
    for update in 0..updates.parse()? {
        let loss = weights.loss(&batch("input_ids", update)?, &batch("labels", update)?, &mask)?;
        optimizer.backward_step(&loss)?;
        println!("{{\"step\": {}, \"loss\": {}}}", update + 1, loss.to_scalar::<f32>()?);
    }
    Ok(())
}
