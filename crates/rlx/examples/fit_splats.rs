//! Fits a 3-D scene of Gaussian splats to pictures of another one, by gradients through the renderer.
//!
//! Writes `wanted`, `before` and `after` of each view as PNG to a folder and tells the peak signal-to-noise ratio.
//!
//! ```text
//! cargo run --release -p rlx --example fit_splats -- target/splats
//! ```

use rlx::ir::attr::Real;
use rlx::ir::ops::ReduceKind;
use rlx::ir::sample::Generator;
use rlx::train::{StepOptions, training_step};
use rlx::{CompiledGraph, DType, Device, Graph, Literal, Session, TensorRef, TensorType, Value};
use std::error::Error;
use std::fs::{File, create_dir_all};
use std::path::{Path, PathBuf};

const SIDE: usize = 40;
const UPDATES: usize = 300;
/// Turns of the camera around the scene, in radians.
const TURNS: [f64; 3] = [-0.6, 0.0, 0.6];
/// Params of a scene of `n` splats, with what follows `n` in their shapes.
const PARAMS: [(&str, &[usize]); 5] =
    [("positions", &[3]), ("log_scales", &[3]), ("rotations", &[4]), ("opacities", &[]), ("colours", &[3])];

type Scene = Vec<(&'static str, Literal)>;

fn f32s(dims: &[usize], values: &[f64]) -> Literal {
    Literal::floats(DType::F32, dims, values).expect("one value per element")
}

/// Splats around the origin: coloured ones to be found, or grey ones to begin with.
fn scene(count: usize, coloured: bool, seed: u64) -> Scene {
    let mut random = Generator::new(seed);
    let mut fill = |name: &'static str, tail: &[usize], low: f64, high: f64| {
        let dims = [&[count], tail].concat();
        let values: Vec<f64> =
            (0..dims.iter().product()).map(|_| low + (high - low) * random.unit()).collect();
        (name, f32s(&dims, &values))
    };
    let (low, high) = if coloured { (0.0, 1.0) } else { (0.5, 0.5) };
    PARAMS
        .iter()
        .map(|&(name, tail)| match name {
            "positions" => fill(name, tail, -1.0, 1.0),
            "log_scales" => fill(name, tail, -1.6, -1.0),
            "rotations" => fill(name, tail, 0.2, 1.0),
            "opacities" => fill(name, tail, 0.0, 2.0),
            _ => fill(name, tail, low, high),
        })
        .collect()
}

/// From the world to a camera that is four units away and looks at the origin.
fn view(turn: f64) -> Literal {
    let (sin, cos) = turn.sin_cos();
    let rows = [[cos, 0.0, sin, 0.0], [0.0, 1.0, 0.0, 0.0], [-sin, 0.0, cos, 4.0], [0.0, 0.0, 0.0, 1.0]];
    f32s(&[4, 4], rows.as_flattened())
}

/// Image `[SIDE, SIDE, 4]` of the params of a scene of `count` splats, seen by the input `view`.
fn render(graph: &mut Graph, count: usize) -> Value {
    let [positions, scales, rotations, opacities, colours] = PARAMS.map(|(name, tail)| {
        graph.param(name, TensorType::new(DType::F32, [&[count], tail].concat().as_slice()))
    });
    let view = graph.input_f32("view", [4, 4]);
    let side = SIDE as f64;
    let intrinsics = graph.constant(f32s(&[4], &[side, side, side / 2.0, side / 2.0]));
    let (near, cutoff, threshold) = (Real(0.1), Real(1.0 / 255.0), Real(1e-4));
    graph.gaussian_splat_render(
        positions,
        scales,
        rotations,
        opacities,
        view,
        intrinsics,
        Some(colours),
        None,
        SIDE,
        SIDE,
        8usize,
        near,
        cutoff,
        threshold,
    )
}

fn renderer(session: &Session, scene: &Scene) -> Result<CompiledGraph, Box<dyn Error>> {
    let mut graph = Graph::new("render");
    let image = render(&mut graph, scene[0].1.dims()[0]);
    graph.output("image", image);
    let mut compiled = session.compile(graph.finish()?)?;
    for (name, values) in scene {
        compiled.set_param_typed(name, TensorRef::from(values))?;
    }
    Ok(compiled)
}

fn images(session: &Session, scene: &Scene) -> Result<Vec<Literal>, Box<dyn Error>> {
    let mut compiled = renderer(session, scene)?;
    TURNS
        .iter()
        .map(|&turn| {
            let view = view(turn);
            Ok(compiled.run_typed(&[("view", TensorRef::from(&view))])?.remove(0).1)
        })
        .collect()
}

/// An update of the scene towards the input `wanted`: its loss is the mean squared difference.
fn update(session: &Session, scene: &Scene) -> Result<CompiledGraph, Box<dyn Error>> {
    let mut graph = Graph::new("fit");
    let image = render(&mut graph, scene[0].1.dims()[0]);
    let wanted = graph.input_f32("wanted", [SIDE, SIDE, 4]);
    let miss = graph.sub(image, wanted);
    let square = graph.mul(miss, miss);
    let loss = graph.reduce(square, ReduceKind::Mean, vec![0usize, 1, 2], false);
    graph.output("loss", loss);
    let step =
        training_step(&graph.finish()?, "loss", &PARAMS.map(|(name, _)| name), &StepOptions::default())?;
    let mut compiled = session.compile(step)?;
    let states = compiled.states().ok_or("the device keeps no state")?;
    for (name, values) in scene {
        states.bind_handle(name, TensorRef::from(values))?;
    }
    Ok(compiled)
}

/// Peak signal-to-noise ratio in decibels, over all images.
fn psnr(found: &[Literal], wanted: &[Literal]) -> f64 {
    let pairs = found.iter().zip(wanted).flat_map(|(a, b)| a.to_f64s().into_iter().zip(b.to_f64s()));
    let (sum, count) = pairs.fold((0.0, 0.0), |(sum, count), (a, b)| (sum + (a - b) * (a - b), count + 1.0));
    -10.0 * (sum / count).log10()
}

fn write_png(path: &Path, image: &Literal) -> Result<(), Box<dyn Error>> {
    let mut encoder = png::Encoder::new(File::create(path)?, SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Rgb);
    let shown = |linear: f64| (255.0 * linear.clamp(0.0, 1.0).powf(1.0 / 2.2)).round() as u8;
    let pixels: Vec<u8> = image
        .to_f64s()
        .chunks_exact(4)
        .flat_map(|rgba| [0, 1, 2].map(|channel| shown(rgba[channel])))
        .collect();
    Ok(encoder.write_header()?.write_image_data(&pixels)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/splats".into()));
    create_dir_all(&folder)?;
    let session = Session::new(Device::CPU)?;
    let wanted = images(&session, &scene(12, true, 1))?;
    let mut fitted = scene(24, false, 2);
    let before = images(&session, &fitted)?;

    let mut step = update(&session, &fitted)?;
    for number in 0..UPDATES {
        let rate = Literal::scalar_f32(0.03 * (1.0 - number as f32 / UPDATES as f32));
        let (view, wanted) = (view(TURNS[number % TURNS.len()]), &wanted[number % TURNS.len()]);
        let feeds = [("view", &view), ("wanted", wanted), ("learning_rate", &rate)]
            .map(|(name, literal)| (name, TensorRef::from(literal)));
        let outputs = step.run_typed(&feeds)?;
        if number % 50 == 0 {
            let loss = outputs.iter().find(|(name, _)| name == "loss").ok_or("the step has a loss")?;
            println!("update {number:>3}  loss {:.5}", loss.1.to_f64s()[0]);
        }
    }
    let states = step.states().ok_or("the device keeps no state")?;
    for (name, values) in &mut fitted {
        *values = states.read_handle(name)?;
    }
    let after = images(&session, &fitted)?;

    for (name, images) in [("wanted", &wanted), ("before", &before), ("after", &after)] {
        for (number, image) in images.iter().enumerate() {
            write_png(&folder.join(format!("{name}-{number}.png")), image)?;
        }
    }
    let (start, end) = (psnr(&before, &wanted), psnr(&after, &wanted));
    println!("{start:.1} dB before, {end:.1} dB after {UPDATES} updates; pictures in {}", folder.display());
    if end > start + 6.0 { Ok(()) } else { Err("the scene was not found".into()) }
}
