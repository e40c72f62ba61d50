//! The block-quantised formats as one table: where the bits of an element stand in its block, and what scales them.
//!
//! Every format has one meaning, `scale[group] code - min[group]` in `f32`, rounded after each operation, so that
//! [`BlockFormat::decode`] is the definition of the formats bit for bit (that of the `gguf` package of llama.cpp).
//! [`BlockFormat::unpack`] stops before the products, for kernels that multiply the codes as integers.
//! What the table does not say is how good numbers are chosen; [`BlockFormat::encode`] offers the plain formats.

use crate::dtype::DType;
use half::f16;

/// Most elements of a block.
pub const LARGEST_BLOCK: usize = 256;
/// Most groups of a block.
pub const MOST_GROUPS: usize = 16;

/// A field of `bits` bits per element. Runs of `run` elements lie in `run` bytes one after the other; as many runs
/// share those bytes as fields fit a byte, the first in the lowest bits.
#[derive(Clone, Copy, Debug)]
struct Plane {
    at: usize,
    bits: usize,
    run: usize,
    /// Runs before the first element.
    skip: usize,
}

const fn plane(at: usize, bits: usize, run: usize) -> Plane {
    Plane { at, bits, run, skip: 0 }
}

impl Plane {
    /// First byte and lowest bit of run `index`.
    fn place(self, index: usize) -> (usize, usize) {
        let (index, per_byte) = (index + self.skip, 8 / self.bits);
        (self.at + index / per_byte * self.run, index % per_byte * self.bits)
    }

    fn mask(self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }

    /// Adds the fields, moved up by `up` bits, to `out`.
    fn read(self, block: &[u8], up: usize, out: &mut [u8]) {
        for (index, run) in out.chunks_mut(self.run).enumerate() {
            let (start, low) = self.place(index);
            for (to, from) in run.iter_mut().zip(&block[start..]) {
                *to |= ((from >> low) & self.mask()) << up;
            }
        }
    }

    /// Adds the bits from `up` on of `codes` to the fields.
    fn write(self, block: &mut [u8], up: usize, codes: &[u8]) {
        for (index, run) in codes.chunks(self.run).enumerate() {
            let (start, low) = self.place(index);
            for (from, to) in run.iter().zip(&mut block[start..]) {
                *to |= ((from >> up) & self.mask()) << low;
            }
        }
    }
}

/// A number of a block.
#[derive(Clone, Copy, Debug)]
enum Factor {
    One,
    F16(usize),
    F32(usize),
    /// Half the power of two with this stored exponent.
    HalfE8M0(usize),
}

impl Factor {
    fn read(self, block: &[u8]) -> f32 {
        match self {
            Factor::One => 1.0,
            Factor::F16(at) => f16::from_le_bytes([block[at], block[at + 1]]).to_f32(),
            Factor::F32(at) => f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]),
            Factor::HalfE8M0(at) => half_e8m0(block[at]),
        }
    }
}

fn half_e8m0(exponent: u8) -> f32 {
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (u32::from(exponent) - 1) << 23 })
}

/// Half of an unsigned e4m3 number whose NaN counts as 0.
fn half_e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from((code >> 3) & 15), f32::from(code & 7));
    match (code, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa * 2f32.powi(-10),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 8),
    }
}

/// The numbers by which the scale (and the minimum) of a block are multiplied, one per group.
#[derive(Clone, Copy, Debug)]
enum Scales {
    One,
    /// Fields less an offset, and fields for the minima.
    Fields {
        low: Plane,
        high: Option<Plane>,
        offset: u8,
        mins: Option<Plane>,
    },
    /// Eight pairs of six bits in twelve bytes.
    SixBits(usize),
    HalfE4M3(usize),
}

/// What the bits of an element stand for.
#[derive(Clone, Copy, Debug)]
enum Codes {
    /// The integer less this.
    Less(u8),
    Table(&'static [i8; 16]),
}

/// How numbers become codes.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    /// The number farthest from 0 becomes the lowest code of `2 n`.
    Signed(u8),
    /// The codes `0..=n` from the least number to the largest.
    FromLeast(u8),
    /// The number farthest from 0 becomes 127 or -127.
    Even,
    /// The nearest entry of the table, under a power of two.
    Nearest,
    /// Not offered.
    None,
}

/// A block-quantised format.
#[derive(Clone, Copy, Debug)]
pub struct BlockFormat {
    /// Its dtype, which says how many elements and bytes a block has.
    pub dtype: DType,
    /// Elements that share a scale.
    pub group: usize,
    low: Plane,
    high: Option<Plane>,
    codes: Codes,
    scale: Factor,
    /// What is subtracted; the sign is turned where the format adds it.
    min: Option<(Factor, f32)>,
    scales: Scales,
    encoding: Encoding,
}

/// A block with its fields apart.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// Integers of the elements.
    pub codes: [i8; LARGEST_BLOCK],
    /// What the integers of each group are multiplied by.
    pub scales: [f32; MOST_GROUPS],
    /// What is subtracted then, per group.
    pub mins: [f32; MOST_GROUPS],
}

impl Default for Unpacked {
    fn default() -> Unpacked {
        Unpacked { codes: [0; LARGEST_BLOCK], scales: [0.0; MOST_GROUPS], mins: [0.0; MOST_GROUPS] }
    }
}

/// The non-linear codes of `IQ4_NL` and `IQ4_XS`.
static CURVE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the values of f4e2m1.
static TWICE_E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 32 elements of four bits, with one scale before them.
const SMALL: BlockFormat = BlockFormat {
    dtype: DType::Q4_0,
    group: 32,
    low: plane(2, 4, 16),
    high: None,
    codes: Codes::Less(8),
    scale: Factor::F16(0),
    min: None,
    scales: Scales::One,
    encoding: Encoding::Signed(8),
};
/// 256 elements without an encoding.
const LARGE: BlockFormat = BlockFormat { encoding: Encoding::None, ..SMALL };
const ADDED_MIN: Option<(Factor, f32)> = Some((Factor::F16(2), -1.0));
const SIX_BIT_SCALES: BlockFormat = BlockFormat {
    scale: Factor::F16(0),
    min: Some((Factor::F16(2), 1.0)),
    scales: Scales::SixBits(4),
    codes: Codes::Less(0),
    ..LARGE
};

static FORMATS: [BlockFormat; 15] = [
    SMALL,
    BlockFormat {
        dtype: DType::Q4_1,
        low: plane(4, 4, 16),
        codes: Codes::Less(0),
        min: ADDED_MIN,
        encoding: Encoding::FromLeast(15),
        ..SMALL
    },
    BlockFormat {
        dtype: DType::Q5_0,
        low: plane(6, 4, 16),
        high: Some(plane(2, 1, 1)),
        codes: Codes::Less(16),
        encoding: Encoding::Signed(16),
        ..SMALL
    },
    BlockFormat {
        dtype: DType::Q5_1,
        low: plane(8, 4, 16),
        high: Some(plane(4, 1, 1)),
        codes: Codes::Less(0),
        min: ADDED_MIN,
        encoding: Encoding::FromLeast(31),
        ..SMALL
    },
    BlockFormat {
        dtype: DType::Q8_0,
        low: plane(2, 8, 32),
        codes: Codes::Less(0),
        encoding: Encoding::Even,
        ..SMALL
    },
    BlockFormat {
        dtype: DType::Q2K,
        group: 16,
        low: plane(16, 2, 32),
        codes: Codes::Less(0),
        scale: Factor::F16(80),
        min: Some((Factor::F16(82), 1.0)),
        scales: Scales::Fields {
            low: plane(0, 4, 16),
            high: None,
            offset: 0,
            mins: Some(Plane { skip: 1, ..plane(0, 4, 16) }),
        },
        ..LARGE
    },
    BlockFormat {
        dtype: DType::Q3K,
        group: 16,
        low: plane(32, 2, 32),
        high: Some(plane(0, 1, 32)),
        codes: Codes::Less(4),
        scale: Factor::F16(108),
        scales: Scales::Fields { low: plane(96, 4, 8), high: Some(plane(104, 2, 4)), offset: 32, mins: None },
        ..LARGE
    },
    BlockFormat { dtype: DType::Q4K, low: plane(16, 4, 32), ..SIX_BIT_SCALES },
    BlockFormat { dtype: DType::Q5K, low: plane(48, 4, 32), high: Some(plane(16, 1, 32)), ..SIX_BIT_SCALES },
    BlockFormat {
        dtype: DType::Q6K,
        group: 16,
        low: plane(0, 4, 64),
        high: Some(plane(128, 2, 32)),
        codes: Codes::Less(32),
        scale: Factor::F16(208),
        scales: Scales::Fields { low: plane(192, 8, 16), high: None, offset: 0, mins: None },
        ..LARGE
    },
    BlockFormat {
        dtype: DType::Q8K,
        group: 256,
        low: plane(4, 8, 256),
        codes: Codes::Less(0),
        scale: Factor::F32(0),
        ..LARGE
    },
    BlockFormat { dtype: DType::Iq4Nl, codes: Codes::Table(&CURVE), ..LARGE },
    BlockFormat {
        dtype: DType::Iq4Xs,
        low: plane(8, 4, 16),
        codes: Codes::Table(&CURVE),
        scales: Scales::Fields { low: plane(4, 4, 1), high: Some(plane(2, 2, 1)), offset: 32, mins: None },
        ..LARGE
    },
    BlockFormat {
        dtype: DType::Mxfp4,
        low: plane(1, 4, 16),
        codes: Codes::Table(&TWICE_E2M1),
        scale: Factor::HalfE8M0(0),
        encoding: Encoding::Nearest,
        ..SMALL
    },
    BlockFormat {
        dtype: DType::Nvfp4,
        group: 16,
        low: plane(4, 4, 8),
        codes: Codes::Table(&TWICE_E2M1),
        scale: Factor::One,
        scales: Scales::HalfE4M3(0),
        ..LARGE
    },
];

impl BlockFormat {
    /// The format of a dtype; `None` for dtypes that are no block format.
    pub fn of(dtype: DType) -> Option<&'static BlockFormat> {
        FORMATS.iter().find(|format| format.dtype == dtype)
    }

    /// Can numbers be brought into this format?
    pub fn encodes(&self) -> bool {
        !matches!(self.encoding, Encoding::None)
    }

    /// Takes a block apart. `block` has the bytes of one.
    pub fn unpack(&self, block: &[u8], out: &mut Unpacked) {
        let (elements, _) = self.dtype.storage_unit();
        let mut raw = [0u8; LARGEST_BLOCK];
        self.low.read(block, 0, &mut raw[..elements]);
        if let Some(high) = self.high {
            high.read(block, self.low.bits, &mut raw[..elements]);
        }
        for (code, raw) in out.codes[..elements].iter_mut().zip(&raw) {
            *code = match self.codes {
                Codes::Less(offset) => raw.wrapping_sub(offset) as i8,
                Codes::Table(table) => table[usize::from(raw & 15)],
            };
        }
        self.factors(block, out);
    }

    /// The scales and minima of the groups.
    fn factors(&self, block: &[u8], out: &mut Unpacked) {
        let groups = self.dtype.block_elements() / self.group;
        let scale = self.scale.read(block);
        let min = self.min.map_or(0.0, |(min, sign)| min.read(block) * sign);
        let (mut scales, mut mins) = ([0u8; MOST_GROUPS], [0u8; MOST_GROUPS]);
        let (scales, mins) = (&mut scales[..groups], &mut mins[..groups]);
        out.mins[..groups].fill(min);
        match self.scales {
            Scales::One => return out.scales[..groups].fill(scale),
            Scales::HalfE4M3(at) => {
                let codes = out.scales[..groups].iter_mut().zip(&block[at..]);
                return codes.for_each(|(scale, &code)| *scale = half_e4m3(code));
            }
            Scales::SixBits(at) => {
                let bytes = &block[at..at + 12];
                for index in 0..4 {
                    let (scale, min, rest) = (bytes[index], bytes[index + 4], bytes[index + 8]);
                    (scales[index], mins[index]) = (scale & 63, min & 63);
                    (scales[index + 4], mins[index + 4]) =
                        ((rest & 15) | (scale >> 6 << 4), (rest >> 4) | (min >> 6 << 4));
                }
            }
            Scales::Fields { low, high, offset, mins: fields } => {
                low.read(block, 0, scales);
                if let Some(high) = high {
                    high.read(block, low.bits, scales);
                }
                scales.iter_mut().for_each(|scale| *scale = scale.wrapping_sub(offset));
                if let Some(fields) = fields {
                    fields.read(block, 0, mins);
                }
            }
        }
        for index in 0..groups {
            out.scales[index] = scale * f32::from(scales[index] as i8);
            if self.min.is_some() {
                out.mins[index] = min * f32::from(mins[index]);
            }
        }
    }

    /// The numbers of whole blocks. `out` has as many elements as `blocks` hold.
    pub fn decode(&self, blocks: &[u8], out: &mut [f32]) {
        let (elements, bytes) = self.dtype.storage_unit();
        let mut unpacked = Unpacked::default();
        for (block, out) in blocks.chunks_exact(bytes).zip(out.chunks_exact_mut(elements)) {
            self.unpack(block, &mut unpacked);
            let groups = out.chunks_exact_mut(self.group).zip(unpacked.codes.chunks_exact(self.group));
            for (group, (out, codes)) in groups.enumerate() {
                let (scale, min) = (unpacked.scales[group], unpacked.mins[group]);
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = scale * f32::from(code) - min;
                }
            }
        }
    }

    /// The blocks of `numbers`, of which there are whole blocks, as the `gguf` package makes them. A block with a
    /// NaN decodes to NaN throughout, but for MXFP4, which has none, to zeros. Formats that do not
    /// [encode](Self::encodes) leave zeros.
    pub fn encode(&self, numbers: &[f32], out: &mut [u8]) {
        let (elements, bytes) = self.dtype.storage_unit();
        for (numbers, block) in numbers.chunks_exact(elements).zip(out.chunks_exact_mut(bytes)) {
            block.fill(0);
            let mut codes = [0u8; LARGEST_BLOCK];
            let codes = &mut codes[..elements];
            let head = self.encode_block(numbers, codes);
            self.low.write(block, 0, codes);
            if let Some(high) = self.high {
                high.write(block, self.low.bits, codes);
            }
            let first = self.high.map_or(self.low.at, |high| high.at.min(self.low.at));
            block[..first].copy_from_slice(&head[..first]);
        }
    }

    /// The codes of a block; returns the bytes before its fields.
    fn encode_block(&self, numbers: &[f32], codes: &mut [u8]) -> [u8; 4] {
        let pair = |a: f32, b: f32| {
            let ([a0, a1], [b0, b1]) = (f16::from_f32(a).to_le_bytes(), f16::from_f32(b).to_le_bytes());
            [a0, a1, b0, b1]
        };
        let inverse = |scale: f32| if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let farther = |far: f32, x: f32| if far.is_nan() || x.abs() <= far.abs() { far } else { x };
        let farthest = numbers.iter().copied().reduce(farther).unwrap_or(0.0);
        let pairs = codes.iter_mut().zip(numbers);
        match self.encoding {
            Encoding::Signed(half) => {
                let scale = farthest / -f32::from(half);
                let (inverse, middle) = (inverse(scale), f32::from(half) + 0.5);
                pairs.for_each(|(code, x)| *code = ((x * inverse + middle) as u8).min(2 * half - 1));
                pair(scale, 0.0)
            }
            Encoding::FromLeast(most) => {
                let nan = farthest.is_nan();
                let least = numbers.iter().fold(f32::INFINITY, |least, &x| least.min(x));
                let largest = numbers.iter().fold(f32::NEG_INFINITY, |largest, &x| largest.max(x));
                let scale = if nan { f32::NAN } else { (largest - least) / f32::from(most) };
                let inverse = inverse(scale);
                pairs.for_each(|(code, x)| *code = (((x - least) * inverse + 0.5) as u8).min(most));
                pair(scale, least)
            }
            Encoding::Even => {
                let scale = farthest.abs() / 127.0;
                let inverse = inverse(scale);
                pairs.for_each(|(code, x)| *code = (x * inverse).round() as i8 as u8);
                pair(scale, 0.0)
            }
            Encoding::Nearest => {
                let far = farthest.abs();
                let exponent = if far > 0.0 { (far.log2().floor() + 125.0) as u8 } else { 0 };
                let exponent = if far.is_nan() { 255 } else { exponent };
                let scale = half_e8m0(exponent);
                for (code, x) in pairs {
                    let off = |code: usize| (scale * f32::from(TWICE_E2M1[code]) - x).abs();
                    *code =
                        (1..16).fold(0, |best, code| if off(code) < off(best) { code } else { best }) as u8;
                }
                [exponent, 0, 0, 0]
            }
            Encoding::None => [0; 4],
        }
    }
}
