//! Reading along bytes of which only the first are known.

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `length` bytes; `None` where there are not as many.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// The next four bytes, the highest first.
    pub(super) fn be32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// The next four bytes, the lowest first.
    pub(super) fn le32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().copied().map(u32::from_le_bytes)
    }

    /// A string up to its zero byte, which is passed over; `None` without one.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let taken = self.take(length)?;
        self.take(1)?;
        Some(taken)
    }

    /// A string as before; without a zero byte all that is left, and true.
    pub(super) fn string_or_rest(&mut self) -> (&'a [u8], bool) {
        let rest = self.0;
        match self.string() {
            Some(text) => (text, false),
            None => (std::mem::take(&mut self.0), !rest.is_empty()),
        }
    }
}

/// True for text as people and programs write it: no control characters but white space. Bytes that are no UTF-8 may stand
/// in it, for databases have other encodings.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes.iter().any(|byte| (*byte < 0x20 && !b"\t\n\r\x0c".contains(byte)) || *byte == 0x7f)
}

/// As text; a character that was cut at the end is left out, other bytes that are no text become `�`.
pub(super) fn text(bytes: &[u8]) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    };
    String::from_utf8_lossy(whole).into_owned()
}
