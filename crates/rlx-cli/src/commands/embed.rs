//! `rlx embed`: sentences to vectors.

use crate::options::DeviceArgs;
use crate::report::Table;
use crate::{Usage, progress};
use anyhow::Context;
use rlx::CompileOptions;
use rlx::models::TextEmbedder;
use serde_json::json;
use std::io::{Read, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  rlx embed --model all-MiniLM-L6-v2 \"A first sentence.\" \"And a second.\"
  rlx embed --model all-MiniLM-L6-v2 --file sentences.txt --json > vectors.jsonl
  echo \"One per line\" | rlx embed --model all-MiniLM-L6-v2 --file -";

/// Arguments of `rlx embed`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Sentences; one that is too long for the model is cut to its first tokens
    texts: Vec<String>,
    /// Folder with a BERT-class encoder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Take a sentence from every line of this file that is not blank, too; - is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Sentences that run together
    #[arg(long, default_value_t = 16)]
    batch: usize,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one line of JSON per sentence: text and embedding
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.batch == 0 {
        return Err(Usage("--batch 0: expected at least one sentence".into()).into());
    }
    let texts = texts(args)?;
    if texts.is_empty() {
        return Err(Usage("there is no sentence to embed; give some, or --file FILE".into()).into());
    }
    let session = args.device.session(CompileOptions::default())?;
    let mut embedder =
        progress::while_running("loading the model", || TextEmbedder::load(&session, &args.model))?;
    let bar = progress::bar("embedding", texts.len() as u64);
    let mut table = Table::new(&["text", ">width", "first values", ""]);
    for batch in texts.chunks(args.batch) {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        for (text, vector) in batch.iter().zip(embedder.embed(&batch)?) {
            if args.json {
                writeln!(out, "{}", json!({ "text": text, "embedding": vector }))?;
            } else {
                let first: Vec<String> = vector.iter().take(4).map(|value| format!("{value:+.4}")).collect();
                let text: String = text.chars().take(48).collect();
                table.row([text, vector.len().to_string(), first.join(" "), "...".into()]);
            }
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    if args.json { Ok(()) } else { Ok(table.print(out)?) }
}

fn texts(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut texts = args.texts.clone();
    let Some(path) = &args.file else { return Ok(texts) };
    let lines = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        text
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    texts.extend(lines.lines().filter(|line| !line.trim().is_empty()).map(str::to_string));
    Ok(texts)
}
