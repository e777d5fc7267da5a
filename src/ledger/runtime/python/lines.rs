//! From an instruction of a code object to its line: the three forms in which CPython has kept that.

/// How a version writes its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineTable {
    /// 3.8 and 3.9, `co_lnotab`: pairs of a step in bytes and a step in lines (Objects/lnotab_notes.txt).
    Steps,
    /// 3.10, `co_linetable`: pairs of a length in bytes and a step in lines (PEP 626).
    Ranges,
    /// 3.11 and later, `co_linetable`: entries of several forms (Objects/locations.md).
    Locations,
}

/// An entry of 3.10 that has no line.
const NO_LINE: i8 = -128;

impl LineTable {
    /// The line of the instruction at `offset` bytes from the first; `None` where it has none, or the table is not to be read.
    pub(super) fn line_at(self, table: &[u8], first_line: u32, offset: u32) -> Option<u32> {
        let line = match self {
            LineTable::Steps => steps(table, i64::from(first_line), i64::from(offset)),
            LineTable::Ranges => ranges(table, i64::from(first_line), i64::from(offset))?,
            LineTable::Locations => locations(table, i64::from(first_line), i64::from(offset))?,
        };
        u32::try_from(line).ok().filter(|line| *line > 0)
    }
}

fn steps(table: &[u8], mut line: i64, offset: i64) -> i64 {
    let mut reached = 0;
    for pair in table.chunks_exact(2) {
        reached += i64::from(pair[0]);
        if reached > offset {
            break;
        }
        line += i64::from(pair[1].cast_signed());
    }
    line
}

fn ranges(table: &[u8], mut line: i64, offset: i64) -> Option<i64> {
    let mut reached = 0;
    for pair in table.chunks_exact(2) {
        let step = pair[1].cast_signed();
        reached += i64::from(pair[0]);
        line += if step == NO_LINE { 0 } else { i64::from(step) };
        if offset < reached {
            return (step != NO_LINE).then_some(line);
        }
    }
    None
}

fn locations(table: &[u8], mut line: i64, offset: i64) -> Option<i64> {
    let mut reached = 0;
    let mut bytes = table.iter().copied().peekable();
    while let Some(head) = bytes.next() {
        // An instruction's unit is two bytes.
        reached += 2 * (i64::from(head & 7) + 1);
        let form = head >> 3 & 15;
        let step = match form {
            0..=9 => Some(0),
            10..=12 => Some(i64::from(form) - 10),
            13 | 14 => Some(signed(varint(&mut bytes)?)),
            _ => None,
        };
        line += step.unwrap_or(0);
        if offset < reached {
            return step.map(|_| line);
        }
        // Columns are of no interest here: the next entry is the next byte with its highest bit set.
        while bytes.next_if(|byte| byte & 0x80 == 0).is_some() {}
    }
    None
}

/// Six bits a byte, the lowest first; the seventh says that more follow.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut value = 0;
    for shift in (0..30).step_by(6) {
        let byte = bytes.next()?;
        value |= u32::from(byte & 63) << shift;
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

/// The lowest bit is the sign.
fn signed(value: u32) -> i64 {
    let size = i64::from(value >> 1);
    if value & 1 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_step_of_many_lines_is_several_pairs() {
        // Line 10 at first, 11 from byte 4, and 311 from byte 8: 127 + 127 + 46.
        let table = [4, 1, 4, 127, 0, 127, 0, 46];
        let at = |offset| LineTable::Steps.line_at(&table, 10, offset);
        assert_eq!([at(0), at(3), at(4), at(7), at(8), at(400)], [10, 10, 11, 11, 311, 311].map(Some));
        // A loop goes back.
        assert_eq!(LineTable::Steps.line_at(&[2, 3, 2, 0xfe], 1, 4), Some(2));
    }

    #[test]
    fn a_range_may_have_no_line() {
        let table = [4, 0, 2, 0x80, 6, 5, 2, 0xff];
        let at = |offset| LineTable::Ranges.line_at(&table, 10, offset);
        assert_eq!(
            [at(0), at(3), at(4), at(6), at(11), at(12), at(14)],
            [Some(10), Some(10), None, Some(15), Some(15), Some(14), None]
        );
    }

    #[test]
    fn locations_of_every_form() {
        // Short, of one unit and the same line; one line on, of two; without columns, 100 back (201 = 3 << 6 | 9), of one; long, 1000 on
        // (2000 = 31 << 6 | 16), of eight; none.
        let table = [
            0x80,
            0x11,
            0x80 | 11 << 3 | 1,
            3,
            9,
            0x80 | 13 << 3,
            0x40 | 9,
            3,
            0x80 | 14 << 3 | 7,
            0x40 | 16,
            31,
            0,
            1,
            2,
            0x80 | 15 << 3,
        ];
        let at = |offset| LineTable::Locations.line_at(&table, 200, offset);
        assert_eq!([at(0), at(2), at(5), at(6), at(8), at(23)], [200, 201, 201, 101, 1101, 1101].map(Some));
        assert_eq!([at(24), at(26)], [None, None]);
    }

    proptest! {
        /// What stands in another process' memory may be anything.
        #[test]
        fn junk_is_no_harm(table in proptest::collection::vec(any::<u8>(), 0..200), first: u32, offset: u32) {
            for form in [LineTable::Steps, LineTable::Ranges, LineTable::Locations] {
                form.line_at(&table, first, offset);
            }
        }
    }
}
