//! A series as the page carries it: layers of blocks, the envelope's levels and below them the samples.

use super::PageSeries;
use crate::model::{Gap, Points, Timestamp};
use crate::store::block;
use crate::store::envelope::{self, Bucket};
use serde::Serialize;
use std::io::{self, Write};

/// Samples in a block: a view of 64,000, about the most that are drawn one by one, touches two, each of which a browser
/// decodes in a few milliseconds. A quarter of it would pack 16 random bits into 2.16 bytes, this into 2.07: the planes
/// of a block share the compressor's tables where they are shorter than its own blocks.
const SAMPLES_A_BLOCK: usize = 65_536;

/// Buckets in a block: six columns, so a quarter of the samples.
const BUCKETS_A_BLOCK: usize = 16_384;

/// The layers of one series.
pub(super) struct Layers<'a> {
    /// Its place on the page.
    index: usize,
    points: &'a Points,
    levels: Vec<envelope::Level>,
}

/// A layer, as the page's facts describe it.
#[derive(Serialize)]
pub(super) struct Layer {
    /// The most samples that one of its items stands for; 1 for the samples themselves.
    samples: usize,
    /// First and last moment and the number of items of each block, whose id is `s{series}l{layer}b{block}`.
    blocks: Vec<(Timestamp, Timestamp, usize)>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(index: usize, series: &PageSeries<'a>, gaps: &[Gap]) -> Self {
        let of_it = |gap: &&Gap| gap.series.as_ref().is_none_or(|name| *name == series.series.name);
        let gaps: Vec<Gap> = gaps.iter().filter(of_it).cloned().collect();
        Layers { index, points: series.points, levels: envelope::levels(series.points, &gaps) }
    }

    /// The coarsest first, the samples last.
    pub(super) fn describe(&self) -> Vec<Layer> {
        let level = |level: &envelope::Level| Layer {
            samples: level.samples,
            blocks: level.buckets.chunks(BUCKETS_A_BLOCK).filter_map(bounds_of_buckets).collect(),
        };
        let samples = Layer {
            samples: 1,
            blocks: self.points.times.chunks(SAMPLES_A_BLOCK).filter_map(bounds_of_samples).collect(),
        };
        self.levels.iter().map(level).chain([samples]).collect()
    }

    /// Writes the layer that the whole series is drawn from.
    pub(super) fn write_coarsest(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.levels.is_empty() { self.write_samples(out) } else { self.write_level(out, 0) }
    }

    /// Writes all other layers.
    pub(super) fn write_finer(&self, out: &mut dyn Write) -> io::Result<()> {
        (1..self.levels.len()).try_for_each(|layer| self.write_level(out, layer))?;
        if self.levels.is_empty() { Ok(()) } else { self.write_samples(out) }
    }

    /// Columns: times in microseconds, values.
    fn write_samples(&self, out: &mut dyn Write) -> io::Result<()> {
        let blocks = self.points.times.chunks(SAMPLES_A_BLOCK).zip(self.points.values.chunks(SAMPLES_A_BLOCK));
        for (number, (times, values)) in blocks.enumerate() {
            let times: Vec<f64> = times.iter().copied().map(microseconds).collect();
            self.write_block(out, self.levels.len(), number, &[&times, values])?;
        }
        Ok(())
    }

    /// Columns: first and last time in microseconds, minimum, median, maximum, holes (1 before, 2 inside, 3 both).
    fn write_level(&self, out: &mut dyn Write, layer: usize) -> io::Result<()> {
        for (number, buckets) in self.levels[layer].buckets.chunks(BUCKETS_A_BLOCK).enumerate() {
            let column = |of: fn(&Bucket) -> f64| -> Vec<f64> { buckets.iter().map(of).collect() };
            let columns = [
                column(|bucket| microseconds(bucket.first)),
                column(|bucket| microseconds(bucket.last)),
                column(|bucket| bucket.min),
                column(|bucket| bucket.median),
                column(|bucket| bucket.max),
                column(|bucket| f64::from(u8::from(bucket.hole_before) + 2 * u8::from(bucket.hole_inside))),
            ];
            self.write_block(out, layer, number, &columns.each_ref().map(Vec::as_slice))?;
        }
        Ok(())
    }

    fn write_block(&self, out: &mut dyn Write, layer: usize, number: usize, columns: &[&[f64]]) -> io::Result<()> {
        let id = format_args!("s{}l{layer}b{number}", self.index);
        let text = base64(&block::encode(columns));
        writeln!(out, "<script type=\"application/octet-stream\" id=\"{id}\">{text}</script>")
    }
}

fn microseconds(at: Timestamp) -> f64 {
    at.0 as f64
}

fn bounds_of_samples(times: &[Timestamp]) -> Option<(Timestamp, Timestamp, usize)> {
    Some((*times.first()?, *times.last()?, times.len()))
}

fn bounds_of_buckets(buckets: &[Bucket]) -> Option<(Timestamp, Timestamp, usize)> {
    Some((buckets.first()?.first, buckets.last()?.last, buckets.len()))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |number, index| number << 8 | three.get(index).copied().map_or(0, u32::from));
        for digit in 0..4 {
            let there = digit <= three.len();
            text.push(if there { DIGITS[(number >> (18 - 6 * digit) & 63) as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_the_vectors_of_rfc_4648() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
