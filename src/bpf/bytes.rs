//! Numbers as the kernel's programs wrote them: in the machine's byte order, at fixed places.

pub(crate) fn at<const BYTES: usize>(row: &[u8], at: usize) -> [u8; BYTES] {
    std::array::from_fn(|index| row[at + index])
}

pub(crate) fn u16_at(row: &[u8], place: usize) -> u16 {
    u16::from_ne_bytes(at(row, place))
}

pub(crate) fn u32_at(row: &[u8], place: usize) -> u32 {
    u32::from_ne_bytes(at(row, place))
}

pub(crate) fn u64_at(row: &[u8], place: usize) -> u64 {
    u64::from_ne_bytes(at(row, place))
}

/// A kernel's `dev_t` as major and minor number.
pub(crate) fn device_at(row: &[u8], place: usize) -> (u32, u32) {
    let device = u32_at(row, place);
    (device >> 20, device & 0xf_ffff)
}
