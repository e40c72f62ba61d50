//! `rlx generate`: text from a decoder, streamed.
//!
//! Without `--model` it is the small model of this repository, which the
//! program carries with it.

use crate::options::DeviceArgs;
use crate::{progress, report};
use rlx::models::{FinishReason, GenerateOptions, Generator, Gpt2Config, TextTokenizer, UnknownFields, gpt2};
use rlx::{BytesWeightLoader, CompileOptions, Session};
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  rlx generate \"Once upon a time\"
  rlx generate \"Once upon a time\" --temperature 0.8 --top-p 0.95 --seed 7
  rlx generate --model gpt2 \"The weather\" --max-tokens 40 --json";

/// The bundled model.
const CONFIG: &[u8] = include_bytes!("../../../../models/stories/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../../../models/stories/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../../../../models/stories/model.safetensors");

/// Arguments of `rlx generate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The text to continue
    prompt: String,
    /// Folder with a GPT-2-class model [default: the small story model inside this program]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Most new tokens
    #[arg(long, default_value_t = 200)]
    max_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Only the so many likeliest tokens
    #[arg(long)]
    top_k: Option<usize>,
    /// Only the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Only tokens with at least this part of the likeliest one's probability
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Key of the random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print the whole result as JSON at the end
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let session = args.device.session(CompileOptions::default())?;
    let mut generator = progress::while_running("loading the model", || match &args.model {
        Some(folder) => Ok(Generator::load(&session, folder, None)?),
        None => bundled(&session),
    })?;
    let options = GenerateOptions {
        max_new_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        seed: args.seed,
        stop_tokens: None,
    };
    let mut written = Ok(());
    let mut write = |text: &str| {
        if args.json {
            return ControlFlow::Continue(());
        }
        written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    // The prompt is shown once it is known to be fit.
    let mut shown = false;
    let (text, generated) = generator.generate(&args.prompt, &options, &mut |piece| {
        if !shown {
            shown = true;
            if let ControlFlow::Break(()) = write(&args.prompt) {
                return ControlFlow::Break(());
            }
        }
        write(piece)
    })?;
    if !shown {
        // A break is kept in `written`.
        let _ = write(&args.prompt);
    }
    written?;
    if args.json {
        let finish = match generated.finish {
            FinishReason::EndToken => "end token",
            FinishReason::MaxTokens => "max tokens",
            FinishReason::ContextFull => "context full",
            FinishReason::Stopped => "stopped",
        };
        let result =
            json!({ "prompt": args.prompt, "text": text, "tokens": generated.tokens, "finish": finish });
        return report::json(out, &result);
    }
    Ok(writeln!(out)?)
}

/// The model inside the program.
fn bundled(session: &Session) -> anyhow::Result<Generator> {
    let config = serde_json::from_slice(CONFIG)?;
    let config = Gpt2Config::parse("the bundled config.json", config, UnknownFields::Refuse)?;
    let tokenizer = TextTokenizer::parse("the bundled tokenizer.json", TOKENIZER, None)?;
    let weights = BytesWeightLoader::from_safetensors(WEIGHTS.to_vec())?;
    let weights = gpt2::weights_of(Arc::new(weights))?;
    Ok(Generator::from_parts(session, config, tokenizer, &weights, None)?)
}
