//! `rlx devices`: what there is to run on.

use crate::report::{self, Table};
use serde_json::{Value, json};
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  rlx devices
  rlx devices --json";

/// Arguments of `rlx devices`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let list = rlx::devices();
    if args.json {
        let list: Vec<Value> = list
            .iter()
            .map(|status| match &status.info {
                Ok(info) => json!({
                    "device": status.device.to_string(), "available": true, "name": info.name,
                    "memory": info.memory, "features": info.features,
                }),
                Err(reason) => {
                    json!({ "device": status.device.to_string(), "available": false, "reason": reason })
                }
            })
            .collect();
        return report::json(out, &json!(list));
    }
    let mut table = Table::new(&["device", "available", "what"]);
    for status in &list {
        let (available, what) = match &status.info {
            Ok(info) => {
                let memory = info.memory.map(report::bytes);
                let what = [Some(info.name.clone()), memory, Some(info.features.join(" "))];
                let what: Vec<_> = what.into_iter().flatten().filter(|part| !part.is_empty()).collect();
                ("yes", what.join(", "))
            }
            Err(reason) => ("no", reason.clone()),
        };
        table.row([status.device.to_string(), available.into(), what]);
    }
    Ok(table.print(out)?)
}
