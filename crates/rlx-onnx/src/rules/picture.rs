//! `ImageDecoder`: pictures whose bytes are known: PNG, BMP and the PNM formats.
//!
//! Files are untrusted: sizes are checked against a limit and against the bytes that are there before anything is
//! allocated. JPEG, JPEG 2000, TIFF and WebP are refused.

use super::encoders::literal;
use super::{Rule, rule};
use crate::context::Context;
use crate::node::{Node, Outcome, Stop};
use crate::value::Tensor;
use rlx_ir::{DType, Literal};

pub(super) const RULES: &[Rule] = &[rule("ImageDecoder", &[20], decode)];

/// Most pixels of a picture.
const MOST_PIXELS: usize = 1 << 27;

/// A picture as rows of red, green and blue.
struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
}

fn decode<'m>(cx: &mut Context<'m>, node: &Node<'m>) -> Outcome<'m> {
    if node.dtype(0)? != DType::U8 || node.rank(0)? != 1 {
        let ty = node.tensor(0)?.ty();
        return Err(Stop::Invalid(format!("operand 0 is {ty}, expected the bytes of a file")));
    }
    let bytes = node.literal(cx, 0)?;
    let picture = match bytes.bytes() {
        [0x89, b'P', b'N', b'G', ..] => png(bytes.bytes()),
        [b'B', b'M', ..] => bmp(bytes.bytes()),
        [b'P', b'2' | b'3' | b'5' | b'6', ..] => pnm(bytes.bytes()),
        [0xff, 0xd8, ..] => return Err(refused("JPEG")),
        [b'I', b'I', ..] | [b'M', b'M', ..] => return Err(refused("TIFF")),
        [b'R', b'I', b'F', b'F', ..] => return Err(refused("WebP")),
        [0, 0, 0, 12, b'j', b'P', ..] | [0xff, 0x4f, ..] => return Err(refused("JPEG 2000")),
        _ => return Err(Stop::Refused("pictures of an unknown format are not decoded".into())),
    };
    let picture = picture.map_err(Stop::Invalid)?;
    let gray = |[r, g, b]: [u8; 3]| {
        // The weights of ITU-R BT.601, in 16 bits.
        let sum = 19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b);
        ((sum + 0x8000) >> 16) as u8
    };
    let pixels = picture.pixels.into_iter();
    let (channels, data): (usize, Vec<u8>) = match node.string_or("pixel_format", "RGB")?.as_str() {
        "RGB" => (3, pixels.flatten().collect()),
        "BGR" => (3, pixels.flat_map(|[r, g, b]| [b, g, r]).collect()),
        "Grayscale" => (1, pixels.map(gray).collect()),
        other => return Err(Stop::Invalid(format!("there is no pixel_format {other:?}"))),
    };
    let dims = [picture.height, picture.width, channels];
    Ok(vec![Tensor::literal(literal(Literal::from_bytes(DType::U8, &dims, &data))?).into()])
}

fn refused<'m>(format: &str) -> Stop<'m> {
    Stop::Refused(format!("pictures in {format} are not decoded"))
}

/// The number of pixels, if that many are decoded.
fn area(width: usize, height: usize) -> Result<usize, String> {
    let area = width.checked_mul(height).filter(|&area| area > 0 && area <= MOST_PIXELS);
    area.ok_or_else(|| format!("a picture of {width} x {height} pixels is not decoded"))
}

fn png(bytes: &[u8]) -> Result<Picture, String> {
    let wrong = |error: png::DecodingError| format!("a broken PNG file: {error}");
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(wrong)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    area(width, height)?;
    let size = reader.output_buffer_size().ok_or("a picture that is too large")?;
    let mut data = vec![0; size];
    let info = reader.next_frame(&mut data).map_err(wrong)?;
    let channels = info.color_type.samples();
    let pixel = |sample: &[u8]| match *sample {
        [gray] | [gray, _] => [gray; 3],
        [r, g, b, ..] => [r, g, b],
        [] => [0; 3],
    };
    let pixels: Vec<[u8; 3]> = data[..info.buffer_size()].chunks_exact(channels).map(pixel).collect();
    if pixels.len() != width * height {
        return Err("a broken PNG file: pixels are missing".into());
    }
    Ok(Picture { width, height, pixels })
}

fn bmp(bytes: &[u8]) -> Result<Picture, String> {
    let number = |at: usize, width: usize| -> Result<usize, String> {
        let part = bytes.get(at..at + width).ok_or("a BMP file that ends in its header")?;
        Ok(part.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
    };
    let (offset, header, width) = (number(10, 4)?, number(14, 4)?, number(18, 4)?);
    let height = number(22, 4)? as u32 as i32;
    let (bits, compression) = (number(28, 2)?, number(30, 4)?);
    if header < 40 || compression != 0 || !matches!(bits, 8 | 24 | 32) {
        return Err(format!("BMP files with {bits} bits in compression {compression} are not decoded"));
    }
    let (rows, is_upward) = (height.unsigned_abs() as usize, height > 0);
    area(width, rows)?;
    let stride = (width * bits / 8).div_ceil(4) * 4;
    let palette = bytes.get(14 + header..offset).unwrap_or_default();
    let mut pixels = vec![];
    for row in 0..rows {
        let row = if is_upward { rows - 1 - row } else { row };
        let start = offset.saturating_add(row * stride);
        let line = bytes.get(start..start + width * bits / 8).ok_or("a BMP file that ends in its pixels")?;
        for sample in line.chunks_exact(bits / 8) {
            let color = match sample {
                [index] => palette.get(4 * usize::from(*index)..).unwrap_or_default(),
                color => color,
            };
            match *color {
                [b, g, r, ..] => pixels.push([r, g, b]),
                _ => return Err("a BMP file with a color that is not in its palette".into()),
            }
        }
    }
    Ok(Picture { width, height: rows, pixels })
}

/// Words of a PNM header, and where they end.
struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn number(&mut self) -> Result<usize, String> {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'#' => {
                    let line = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
                    self.at = line.map_or(self.bytes.len(), |length| self.at + length);
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => break,
            }
        }
        let digits = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(&self.bytes[self.at..self.at + digits]).unwrap_or_default();
        self.at += digits;
        text.parse().map_err(|_| "a PNM file without a number where one belongs".to_string())
    }
}

fn pnm(bytes: &[u8]) -> Result<Picture, String> {
    let mut words = Words { bytes, at: 2 };
    let (width, height, most) = (words.number()?, words.number()?, words.number()?);
    let channels = if matches!(bytes[1], b'3' | b'6') { 3 } else { 1 };
    let count = area(width, height)? * channels;
    if !(1..=255).contains(&most) {
        return Err(format!("PNM files with samples up to {most} are not decoded"));
    }
    let scaled = |sample: usize| ((sample.min(most) * 255 + most / 2) / most) as u8;
    let samples: Vec<u8> = match bytes[1] {
        b'2' | b'3' => {
            if count > bytes.len() {
                return Err("a PNM file that ends in its pixels".into());
            }
            (0..count).map(|_| words.number().map(scaled)).collect::<Result<_, _>>()?
        }
        _ => {
            let start = words.at + 1;
            let part = bytes.get(start..start + count).ok_or("a PNM file that ends in its pixels")?;
            part.iter().map(|&sample| scaled(sample.into())).collect()
        }
    };
    let pixel = |sample: &[u8]| match *sample {
        [r, g, b] => [r, g, b],
        [gray, ..] => [gray; 3],
        [] => [0; 3],
    };
    Ok(Picture { width, height, pixels: samples.chunks_exact(channels).map(pixel).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_pixels_are_read() {
        let picture = pnm(b"P3\n# two\n2 1\n15\n15 0 3  1 2 # three\n 15").expect("a picture");
        assert_eq!((picture.width, picture.height), (2, 1));
        assert_eq!(picture.pixels, [[255, 0, 51], [17, 34, 255]]);
        let picture = pnm(b"P5 2 1 255\n\x07\xff").expect("a picture");
        assert_eq!(picture.pixels, [[7; 3], [255; 3]]);
    }

    #[test]
    fn broken_pictures_are_errors() {
        for file in
            [&b"P6 9999999 9999999 255\n"[..], b"P6 2 2 255\nabc", b"P2 2 2 255 1 2 3", b"P5", b"P5 0 1 1 "]
        {
            assert!(pnm(file).is_err());
        }
        assert!(bmp(b"BM").is_err() && png(b"\x89PNG\r\n").is_err());
        // A header that tells of more than there is.
        let mut file = vec![b'B', b'M', 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0];
        file.extend([4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 24, 0, 0, 0, 0, 0]);
        file.resize(60, 0);
        assert!(bmp(&file).is_err());
    }
}
