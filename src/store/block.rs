//! Blocks of columns: how numbers are packed, in a recording's segments and in the page alike.
//!
//! A block is a raw DEFLATE stream (RFC 1951: what Rust's `flate2` and a browser's `DecompressionStream` both read) of
//! `columns` columns, one after another. A column is
//!
//! ```text
//! form     1 byte    0 whole numbers, 1 their differences, 2 differences of differences, 3 floats as they are
//! scale    1 byte    whole numbers are the values times 10^scale
//! holes    1 byte    1 where some values are missing
//! width    1 byte    bytes a number takes
//! count    4 bytes   how many values, holes included (little-endian, as all numbers here)
//! present  (count+7)/8 bytes, only where holes = 1: bit i of byte i/8 is set where value i is there
//! planes   width x n bytes, n the number of values that are there: first the lowest byte of each, then the next ...
//! ```
//!
//! Whole numbers are zigzag-coded (0, -1, 1, -2 ... become 0, 1, 2, 3 ...), so that small ones of either sign leave the
//! upper planes empty; the planes then compress far better than the numbers one after another. The first difference is
//! taken against 0. Floats (form 3) are their eight bytes, IEEE 754. Everything round-trips to the bit, `NaN` standing
//! for a hole.

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use std::io::{Read, Write};

/// The largest number of values that a block's columns may claim together, so that a damaged or a hostile one can't ask
/// for all memory: 128 MB of them, 16 times what the writer seals at.
const COUNT_MAX: usize = 1 << 24;

/// The bytes that a block may inflate to: eight a value, and a quarter more for headers and the bits of holes.
const INFLATED_MAX: usize = COUNT_MAX * 10;

/// Whole numbers beyond this aren't exact in a float.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A block that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// It doesn't inflate.
    #[error("a block of samples does not inflate: {0}")]
    Inflate(#[from] std::io::Error),
    /// It inflates to something else than columns.
    #[error("a block of samples is damaged: {0}")]
    Damaged(&'static str),
}

/// Packs columns into a block. They may differ in length.
pub fn encode(columns: &[&[f64]]) -> Vec<u8> {
    let mut plain = Vec::new();
    for column in columns {
        encode_column(column, &mut plain);
    }
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(plain.len() / 4 + 16), Compression::default());
    // Writing to memory does not fail.
    let written = encoder.write_all(&plain);
    debug_assert!(written.is_ok());
    encoder.finish().unwrap_or_default()
}

/// Unpacks the columns of a block.
pub fn decode(block: &[u8]) -> Result<Vec<Vec<f64>>, BlockError> {
    let mut plain = Vec::with_capacity(block.len() * 4);
    DeflateDecoder::new(block).take(INFLATED_MAX as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > INFLATED_MAX {
        return Err(BlockError::Damaged("it inflates to more than is ever written"));
    }
    let mut rest = plain.as_slice();
    let mut columns = Vec::new();
    let mut room = COUNT_MAX;
    while !rest.is_empty() {
        let column = decode_column(&mut rest, room)?;
        room -= column.len();
        columns.push(column);
    }
    Ok(columns)
}

fn encode_column(values: &[f64], out: &mut Vec<u8>) {
    let present: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    let holes = present.len() < values.len();
    let (form, scale, numbers) = match decimal_scale(&present) {
        Some(scale) => {
            let whole: Vec<i64> = present.iter().map(|value| scaled(*value, scale)).collect();
            let (form, coded) = smallest_form(whole);
            (form, scale, coded)
        }
        None => (3, 0, present.iter().map(|value| value.to_bits()).collect()),
    };
    let widest = numbers.iter().fold(0u64, |all, number| all | number);
    let width = if form == 3 { 8 } else { (8 - widest.leading_zeros() as usize / 8).max(1) };
    out.extend([form, scale, u8::from(holes), width as u8]);
    out.extend((values.len() as u32).to_le_bytes());
    if holes {
        let mut bits = vec![0u8; values.len().div_ceil(8)];
        for (index, value) in values.iter().enumerate() {
            bits[index / 8] |= u8::from(!value.is_nan()) << (index % 8);
        }
        out.extend(bits);
    }
    for plane in 0..width {
        out.extend(numbers.iter().map(|number| (number >> (8 * plane)) as u8));
    }
}

/// Unpacks a column of at most `room` values.
fn decode_column(rest: &mut &[u8], room: usize) -> Result<Vec<f64>, BlockError> {
    let header = take(rest, 8)?;
    let (form, scale, holes, width) = (header[0], header[1], header[2] == 1, usize::from(header[3]));
    let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if form > 3 || scale > 9 || width == 0 || width > 8 || count > room {
        return Err(BlockError::Damaged("a column's header makes no sense"));
    }
    let present = if holes { Some(take(rest, count.div_ceil(8))?) } else { None };
    let is_there = |index: usize| present.is_none_or(|bits| bits[index / 8] >> (index % 8) & 1 == 1);
    let n = (0..count).filter(|index| is_there(*index)).count();
    let planes = take(rest, width * n)?;
    let mut values = Vec::with_capacity(count);
    let (mut previous, mut slope, mut next) = (0i64, 0i64, 0);
    for index in 0..count {
        if !is_there(index) {
            values.push(f64::NAN);
            continue;
        }
        let number = (0..width).fold(0u64, |all, plane| all | u64::from(planes[plane * n + next]) << (8 * plane));
        next += 1;
        if form == 3 {
            values.push(f64::from_bits(number));
            continue;
        }
        let coded = unzigzag(number);
        match form {
            0 => previous = coded,
            1 => previous = previous.wrapping_add(coded),
            _ => {
                slope = slope.wrapping_add(coded);
                previous = previous.wrapping_add(slope);
            }
        }
        values.push(previous as f64 / 10f64.powi(i32::from(scale)));
    }
    Ok(values)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], BlockError> {
    let (head, tail) = rest.split_at_checked(length).ok_or(BlockError::Damaged("it ends inside a column"))?;
    *rest = tail;
    Ok(head)
}

/// The number of decimals with which every value is a whole number again to the bit, at most 6; `None` where there is
/// none (and for -0, which a whole number can't be).
fn decimal_scale(values: &[f64]) -> Option<u8> {
    (0..=6u8).find(|scale| {
        values.iter().all(|value| {
            let whole = scaled(*value, *scale);
            (whole as f64).abs() < EXACT_MAX
                && (whole as f64 / 10f64.powi(i32::from(*scale))).to_bits() == value.to_bits()
        })
    })
}

fn scaled(value: f64, scale: u8) -> i64 {
    (value * 10f64.powi(i32::from(scale))).round() as i64
}

/// The form in which the numbers pack smallest, and the numbers in it.
fn smallest_form(whole: Vec<i64>) -> (u8, Vec<u64>) {
    let differences = |numbers: &[i64]| -> Vec<i64> {
        let before = std::iter::once(&0).chain(numbers);
        numbers.iter().zip(before).map(|(number, before)| number.wrapping_sub(*before)).collect()
    };
    let once = differences(&whole);
    let twice = differences(&once);
    let forms = [whole, once, twice].map(|numbers| numbers.into_iter().map(zigzag).collect::<Vec<u64>>());
    let sizes = forms.each_ref().map(|numbers| packed_bits(numbers));
    let best = (0..3).min_by(|a, b| sizes[*a].total_cmp(&sizes[*b])).unwrap_or(0);
    let [whole, once, twice] = forms;
    (best as u8, [whole, once, twice].into_iter().nth(best).unwrap_or_default())
}

/// About how many bits the planes of these numbers deflate to: the entropy of their bytes. The numbers' lengths would
/// mislead: differences of noise are shorter than the noise on average, and yet carry more.
fn packed_bits(numbers: &[u64]) -> f64 {
    let widest = numbers.iter().fold(0u64, |all, number| all | number);
    let planes = 8 - widest.leading_zeros() / 8;
    let bits_of = |plane| {
        let mut counts = [0u32; 256];
        for number in numbers {
            counts[usize::from((number >> (8 * plane)) as u8)] += 1;
        }
        let n = numbers.len() as f64;
        counts
            .iter()
            .map(|count| f64::from(*count))
            .filter(|count| *count > 0.0)
            .map(|c| c * (n / c).log2())
            .sum::<f64>()
    };
    (0..planes).map(bits_of).sum()
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(columns: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let slices: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        decode(&encode(&slices)).expect("decodes")
    }

    fn bits(columns: &[Vec<f64>]) -> Vec<Vec<u64>> {
        // All NaNs are the one hole.
        let bits = |value: &f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
        columns.iter().map(|column| column.iter().map(bits).collect()).collect()
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(columns in prop::collection::vec(prop::collection::vec(prop_oneof![
            any::<f64>(), (-1_000_000i64..1_000_000).prop_map(|n| n as f64), (0i64..9_000_000).prop_map(|n| n as f64 / 1000.0),
            Just(f64::NAN), Just(-0.0), Just(f64::INFINITY), Just(1.7e15)], 0..200), 0..5)) {
            prop_assert_eq!(bits(&round_trip(&columns)), bits(&columns));
        }

        #[test]
        fn damage_is_an_error_or_other_numbers_but_never_a_panic(mut block in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&block);
            block.splice(0..0, encode(&[&[1.0, 2.0, 3.5]]));
            let _ = decode(&block);
        }
    }

    #[test]
    fn a_block_that_inflates_without_end_is_refused() {
        let deflated = |piece: &[u8], times: usize| {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            for _ in 0..times {
                encoder.write_all(piece).expect("memory");
            }
            encoder.finish().expect("memory")
        };
        let zeros = deflated(&[0; 1 << 20], INFLATED_MAX / (1 << 20) + 1);
        assert!(zeros.len() < 1 << 20, "{}", zeros.len());
        assert!(matches!(decode(&zeros), Err(BlockError::Damaged("it inflates to more than is ever written"))));
        // Holes take a bit each and 64 once they are unpacked: each column may have so many, not all of them.
        let mut holes = vec![3, 0, 1, 8];
        holes.extend((COUNT_MAX as u32 / 2).to_le_bytes());
        holes.extend(vec![0; COUNT_MAX / 16]);
        assert_eq!(decode(&deflated(&holes, 2)).map(|columns| columns.len()).ok(), Some(2));
        assert!(decode(&deflated(&holes, 3)).is_err());
    }

    #[test]
    fn noise_takes_hardly_more_than_its_bits() {
        // 16 random bits a number: Knuth's MMIX generator.
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 48) as f64
        };
        let noise: Vec<f64> = (0..65_536).map(|_| next()).collect();
        let bytes = encode(&[&noise]).len() as f64 / 65_536.0;
        assert!(bytes < 2.1, "{bytes} bytes a number");
    }

    #[test]
    fn regular_times_take_next_to_nothing() {
        let times: Vec<f64> = (0..4096).map(|i| 1_795_457_048_123_457.0 + 5_000_000.0 * f64::from(i)).collect();
        let block = encode(&[&times]);
        assert!(block.len() < 128, "{} bytes", block.len());
    }
}
