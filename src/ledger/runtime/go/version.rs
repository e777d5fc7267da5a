//! Which Go a program was compiled by: it says so itself, stripped or not.
//!
//! Format: `src/debug/buildinfo` of Go. Sixteen bytes of head; since 1.18 the version's text stands behind them, before an address
//! led to it.

use super::memory::Pages;

/// Where it stands.
pub(super) const SECTION: &str = ".go.buildinfo";

const MAGIC: &[u8; 14] = b"\xff Go buildinf:";

/// Set in the last byte of the head where the text follows.
const IS_INLINE: u8 = 2;

/// The head's length, filled up.
const HEAD_BYTES: u64 = 32;

/// The longest that a version may be: those of development have a hash and a date.
const VERSION_BYTES_MAX: u64 = 128;

/// The version by what stands at an address: `1.19.8`.
pub(super) fn at(memory: &Pages<'_>, address: u64) -> Option<String> {
    let head = memory.bytes::<16>(address)?;
    if !head.starts_with(MAGIC) {
        return None;
    }
    let (text, length) = if head[15] & IS_INLINE != 0 {
        let [length] = memory.bytes::<1>(address + HEAD_BYTES)?;
        // A length of more than seven bits takes a second byte; no release has one.
        (address + HEAD_BYTES + 1, u64::from(length))
    } else {
        let string = memory.word(address + 16)?;
        (memory.word(string)?, memory.word(string.checked_add(8)?)?)
    };
    let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length < VERSION_BYTES_MAX)?];
    memory.read(text, &mut bytes)?;
    let version = String::from_utf8(bytes).ok()?;
    // `go1.22.1 X:experiment`
    Some(version.strip_prefix("go")?.split(' ').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    /// Memory that begins at zero.
    struct Bytes(Vec<u8>);

    impl Memory for Bytes {
        fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
            let from = self.0.get(address as usize..)?;
            into.iter_mut().zip(from.iter().chain(std::iter::repeat(&0))).for_each(|(to, from)| *to = *from);
            Some(())
        }
    }

    fn version(flags: u8, rest: &[u8]) -> Option<String> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([8, flags]);
        bytes.extend(rest);
        at(&Pages::of(&Bytes(bytes)), 0)
    }

    #[test]
    fn the_text_follows_or_is_led_to() {
        let inline = [&[0; 16][..], b"\x08go1.19.8\x05other"].concat();
        assert_eq!(version(2, &inline).as_deref(), Some("1.19.8"));
        let words = [24_u64, 40, 6].map(u64::to_le_bytes).concat();
        assert_eq!(version(0, &[&words[..], b"go1.16"].concat()).as_deref(), Some("1.16"));
        assert_eq!(version(2, &[&[0; 16][..], b"\xffgo1"].concat()), None);
        assert_eq!(at(&Pages::of(&Bytes(vec![0; 64])), 0), None);
    }
}
