//! Chance that a replay repeats: a number's hash decides what is kept of a sample.

/// A number's hash, uniform over 64 bits (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) fn splitmix64(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
