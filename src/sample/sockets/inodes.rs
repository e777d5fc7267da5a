//! Maps and sets by inode, at a tick's price: every row of a kernel's table is looked up in one.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Something by inode.
pub(in crate::sample) type InodeMap<V> = HashMap<u64, V, InodeHash>;

/// Inodes.
pub(in crate::sample) type InodeSet = HashSet<u64, InodeHash>;

/// How the maps and sets are hashed.
pub(in crate::sample) type InodeHash = BuildHasherDefault<InodeHasher>;

/// One multiplication. The kernel hands out inodes and ports in runs, and nobody chooses the numbers of many of them, so
/// this needs no defence against keys that are made to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sample) struct InodeHasher(u64);

/// 2^64 divided by the golden ratio: it spreads a run of numbers evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for InodeHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes a bucket by the low bits, and those are the best mixed ones once they are turned round.
        self.0 = (self.0 ^ number).wrapping_mul(GOLDEN).rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn a_run_of_inodes_is_spread_over_the_buckets() {
        let buckets = 1 << 14;
        for step in [1, 2, 1024, 4096] {
            let hash = InodeHash::default();
            let taken: HashSet<u64> = (0..buckets / 2).map(|n| hash.hash_one(219_232 + n * step) % buckets).collect();
            assert!(taken.len() as u64 > buckets / 4, "{} of {buckets} buckets for steps of {step}", taken.len());
        }
    }
}
