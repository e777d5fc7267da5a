//! A section of debug information that is read page by page as it is asked for: of hundreds of megabytes a few addresses need a few pages.

use gimli::{Error, LittleEndian, Reader, ReaderOffsetId, Result};
use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// How much is read at once, in bytes. The begin of every unit is read, so that larger ones would come to all of it.
const PAGE_BYTES: usize = 8 << 10;

/// One section. Its pages stay until it is dropped as a whole.
pub(super) struct Section {
    file: Option<Arc<File>>,
    /// Where it begins in its file, in bytes.
    offset: u64,
    bytes: usize,
    /// How long a page is; the last one may be shorter.
    page_bytes: usize,
    pages: Box<[OnceLock<Box<[u8]>>]>,
    read_bytes: AtomicUsize,
}

/// A piece of a section, that gimli reads from.
#[derive(Clone)]
pub(super) struct Piece {
    section: Arc<Section>,
    start: usize,
    end: usize,
}

impl Section {
    /// One that stands in a file as it is.
    pub(super) fn in_file(file: Arc<File>, offset: u64, bytes: usize) -> Self {
        let pages = (0..bytes.div_ceil(PAGE_BYTES)).map(|_| OnceLock::new()).collect();
        let read_bytes = AtomicUsize::new(0);
        Section { file: Some(file), offset, bytes, page_bytes: PAGE_BYTES, pages, read_bytes }
    }

    /// One that had to be decompressed, all of it.
    pub(super) fn in_memory(bytes: &[u8]) -> Self {
        let page = OnceLock::from(Box::from(bytes));
        let read_bytes = AtomicUsize::new(bytes.len());
        let page_bytes = bytes.len().max(1);
        Section { file: None, offset: 0, bytes: bytes.len(), page_bytes, pages: Box::from([page]), read_bytes }
    }

    /// How much of it is in memory, in bytes.
    pub(super) fn read_bytes(&self) -> usize {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// What there is from a place up to the end of its page.
    fn from(&self, at: usize) -> Result<&[u8]> {
        let end = || Error::UnexpectedEof(ReaderOffsetId(self.offset + at as u64));
        let number = at / self.page_bytes;
        let place = self.pages.get(number).ok_or_else(end)?;
        let page = match (place.get(), &self.file) {
            (Some(page), _) => page,
            (None, None) => return Err(end()),
            (None, Some(file)) => {
                let start = number * self.page_bytes;
                let mut page = vec![0; self.page_bytes.min(self.bytes - start)];
                file.read_exact_at(&mut page, self.offset + start as u64).map_err(|_| Error::Io)?;
                self.read_bytes.fetch_add(page.len(), Ordering::Relaxed);
                place.get_or_init(|| page.into())
            }
        };
        page.get(at % self.page_bytes..).ok_or_else(end)
    }
}

impl Piece {
    /// All of a section.
    pub(super) fn whole(section: Arc<Section>) -> Self {
        let end = section.bytes;
        Piece { section, start: 0, end }
    }

    fn too_short(&self) -> Error {
        Error::UnexpectedEof(self.offset_id())
    }

    /// What of it stands on one page, from its begin.
    fn first(&self) -> Result<&[u8]> {
        let page = self.section.from(self.start)?;
        Ok(&page[..page.len().min(self.end - self.start)])
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Piece({}..{})", self.start, self.end)
    }
}

impl Reader for Piece {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn empty(&mut self) {
        self.end = self.start;
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len() {
            return Err(self.too_short());
        }
        self.end = self.start + len;
        Ok(())
    }

    fn offset_from(&self, base: &Self) -> usize {
        self.start - base.start
    }

    fn offset_id(&self) -> ReaderOffsetId {
        ReaderOffsetId(self.section.offset + self.start as u64)
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        let at = usize::try_from(id.0.checked_sub(self.offset_id().0)?).ok()?;
        (at <= self.len()).then_some(at)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let mut rest = self.clone();
        while rest.start < rest.end {
            let here = rest.first()?;
            if let Some(at) = here.iter().position(|found| *found == byte) {
                return Ok(rest.start + at - self.start);
            }
            rest.start += here.len();
        }
        Err(self.too_short())
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        if len > self.len() {
            return Err(self.too_short());
        }
        self.start += len;
        Ok(())
    }

    fn split(&mut self, len: usize) -> Result<Self> {
        let mut first = self.clone();
        first.truncate(len)?;
        self.start += len;
        Ok(first)
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        if self.start == self.end {
            return Ok(Cow::Borrowed(&[]));
        }
        let first = self.first()?;
        if first.len() == self.len() {
            return Ok(Cow::Borrowed(first));
        }
        let mut all = vec![0; self.len()];
        self.clone().read_slice(&mut all)?;
        Ok(Cow::Owned(all))
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        match self.to_slice()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Error::BadUtf8),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Error::BadUtf8),
        }
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        Ok(match self.to_slice()? {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    fn read_slice(&mut self, buf: &mut [u8]) -> Result<()> {
        if buf.len() > self.len() {
            return Err(self.too_short());
        }
        let mut done = 0;
        while done < buf.len() {
            let here = self.first()?;
            let piece = here.len().min(buf.len() - done);
            buf[done..done + piece].copy_from_slice(&here[..piece]);
            (self.start, done) = (self.start + piece, done + piece);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_stands_on_two_pages_reads_as_one() {
        let mut file = tempfile::tempfile().unwrap();
        let mut bytes: Vec<u8> = (0..PAGE_BYTES * 2 + 100).map(|at| (at % 251) as u8 | 1).collect();
        bytes[PAGE_BYTES + 3] = 0;
        file.write_all(b"before").unwrap();
        file.write_all(&bytes).unwrap();
        let section = Arc::new(Section::in_file(Arc::new(file), 6, bytes.len()));
        let whole = Piece::whole(section.clone());
        assert_eq!(section.read_bytes(), 0);
        let mut piece = whole.clone();
        piece.skip(PAGE_BYTES - 5).unwrap();
        let text = piece.read_null_terminated_slice().unwrap();
        assert_eq!(text.to_slice().unwrap(), &bytes[PAGE_BYTES - 5..PAGE_BYTES + 3]);
        assert_eq!(piece.offset_from(&whole), PAGE_BYTES + 4);
        assert_eq!(section.read_bytes(), PAGE_BYTES * 2);
        piece.skip(piece.len() - 1).unwrap();
        assert_eq!(piece.read_u8().unwrap(), bytes[bytes.len() - 1]);
        assert!(piece.read_u8().is_err() && piece.skip(1).is_err() && piece.find(0).is_err());
        assert_eq!(Piece::whole(Arc::new(Section::in_memory(&bytes))).to_slice().unwrap(), bytes);
    }
}
