//! Sentences to vectors, and how alike they are.
//!
//! ```text
//! cargo run --release -p rlx --example embed -- path/to/all-MiniLM-L6-v2 "A cat sits." "A dog runs."
//! ```

use rlx::models::TextEmbedder;
use rlx::{Device, Session};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("expected the folder of a BERT-class model, then sentences")?;
    let sentences: Vec<String> = arguments.collect();
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();

    let session = Session::new(Device::CPU)?;
    let mut embedder = TextEmbedder::load(&session, folder)?;
    let vectors = embedder.embed(&sentences)?;
    for (first, a) in sentences.iter().zip(&vectors) {
        for (second, b) in sentences.iter().zip(&vectors) {
            let alike: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
            println!("{alike:+.3}  {first}  |  {second}");
        }
    }
    Ok(())
}
