//! The last symbols of a lane, and where each of them stood.
//!
//! A symbol is one Unicode scalar, or one run of up to eight ASCII digits. Folding a number into one symbol lets
//! `item 9` and `item 10` line up, and its tag still tells them apart. Symbols are 16 bits wide, so eight thousand of
//! them cost 16 KiB:
//! - a scalar of the basic plane is itself;
//! - `D800..=DFFF`, which no scalar uses, is a number: three bits of length, eight bits of its value modulo 251;
//! - `E000..=EFFF` is a scalar beyond the basic plane, by its low twelve bits (all emoji stay distinct);
//! - `F000..=F7FF` is a private-use scalar, by its low eleven bits.
//!
//! The length in bytes follows from the symbol in every case, which is why folded kinds have ranges of their own.

use crate::limits::LOOP_PERIOD_MAX;

/// Symbols remembered: a power of two, and more than the longest period.
pub(super) const RING: usize = (LOOP_PERIOD_MAX + 64).next_power_of_two();

/// What every number looks like when its value does not matter.
pub(super) const NUMBER: u16 = 0xD800;

/// Longest run of digits folded into one symbol, in digits. Further digits are symbols of their own, so that a long
/// string of digits is compared digit by digit.
pub(super) const NUMBER_DIGITS_MAX: u8 = 8;

/// A mark of the byte and character position is kept every so many symbols.
const MARK_EVERY: u64 = 32;

/// The symbol of a scalar that is not part of a folded number.
pub(super) const fn of_scalar(c: char) -> u16 {
    let v = c as u32;
    if v < 0xD800 {
        v as u16
    } else if v >= 0x1_0000 {
        0xE000 | (v & 0xFFF) as u16
    } else if v <= 0xF8FF {
        0xF000 | (v & 0x7FF) as u16
    } else {
        v as u16
    }
}

/// The symbol of a number of `digits` digits (1 to 8) whose value modulo 251 is `residue`. Consecutive numbers
/// always differ.
pub(super) const fn of_number(digits: u8, residue: u8) -> u16 {
    NUMBER | ((digits.saturating_sub(1) & 7) as u16) << 8 | residue as u16
}

/// Whether the symbol is a folded number.
pub(super) const fn is_number(symbol: u16) -> bool {
    symbol & 0xF800 == NUMBER
}

/// The symbol with a number's value taken away.
pub(super) const fn plain(symbol: u16) -> u16 {
    if is_number(symbol) { NUMBER } else { symbol }
}

/// Characters the symbol stands for.
pub(super) const fn chars_of(symbol: u16) -> u32 {
    if is_number(symbol) {
        ((symbol >> 8) & 7) as u32 + 1
    } else {
        1
    }
}

/// Bytes of UTF-8 the symbol stands for.
pub(super) const fn bytes_of(symbol: u16) -> u32 {
    match symbol {
        0..=0x7F => 1,
        0x80..=0x7FF => 2,
        0xD800..=0xDFFF => chars_of(symbol),
        0xE000..=0xEFFF => 4,
        _ => 3,
    }
}

/// The scalar of a symbol, where the symbol tells: `None` for numbers and folded scalars.
pub(super) fn scalar_of(symbol: u16) -> Option<char> {
    if symbol & 0xF000 == 0xE000 {
        None
    } else {
        char::from_u32(u32::from(symbol))
    }
}

/// A place in the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Bytes of the lane before it.
    pub bytes: u64,
    /// Characters of the lane before it.
    pub chars: u64,
}

/// The last [`RING`] symbols. Grows with the lane, so a short lane costs little.
#[derive(Debug, Default)]
pub(super) struct History {
    symbols: Vec<u16>,
    /// Low halves of the place before each [`MARK_EVERY`]th symbol.
    marks: Vec<(u32, u32)>,
    /// Symbols pushed so far.
    count: u64,
    /// The place after the newest symbol.
    end: Place,
}

impl History {
    /// Symbols pushed so far; the newest has the index `count() - 1`.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The place after the newest symbol.
    pub(super) const fn end(&self) -> Place {
        self.end
    }

    /// Index of the oldest symbol still known.
    pub(super) const fn oldest(&self) -> u64 {
        self.count.saturating_sub(RING as u64)
    }

    /// Memory behind it, in bytes.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.symbols.capacity() * size_of::<u16>() + self.marks.capacity() * size_of::<(u32, u32)>()
    }

    /// Sets the place of the first symbol.
    pub(super) const fn start_at(&mut self, bytes: u64) {
        self.end.bytes = bytes;
    }

    /// Adds a symbol.
    #[inline]
    pub(super) fn push(&mut self, symbol: u16) {
        if self.count.is_multiple_of(MARK_EVERY) {
            self.mark();
        }
        let slot = self.count as usize % RING;
        self.symbols[slot] = symbol;
        self.count += 1;
        self.end.bytes += u64::from(bytes_of(symbol));
        self.end.chars += u64::from(chars_of(symbol));
    }

    /// Keeps the place of the next symbol, and makes room for it and those up to the next mark.
    #[inline(never)]
    fn mark(&mut self) {
        let mark = (self.end.bytes as u32, self.end.chars as u32);
        let slot = (self.count / MARK_EVERY) as usize % (RING / MARK_EVERY as usize);
        if slot < self.marks.len() {
            self.marks[slot] = mark;
        } else {
            self.marks.push(mark);
            self.symbols.resize(self.symbols.len() + MARK_EVERY as usize, 0);
        }
    }

    /// The symbol with this index, which must lie in `oldest()..count()`.
    #[inline]
    pub(super) fn at(&self, index: u64) -> u16 {
        self.symbols[index as usize % RING]
    }

    /// Whether [`Self::place`] is exact for symbol `index`.
    pub(super) const fn knows_place(&self, index: u64) -> bool {
        self.count <= RING as u64 || index >= self.oldest() + MARK_EVERY
    }

    /// The place before symbol `index`; where that is forgotten, the place of the oldest mark that is not.
    pub(super) fn place(&self, index: u64) -> Place {
        let index = index.max(self.oldest()).min(self.count);
        let mut from = index / MARK_EVERY * MARK_EVERY;
        if from < self.oldest() {
            from += MARK_EVERY;
        }
        if from >= self.count {
            return self.end;
        }
        let (bytes, chars) = self.marks[(from / MARK_EVERY) as usize % (RING / MARK_EVERY as usize)];
        let mut place = Place {
            bytes: self.end.bytes - u64::from((self.end.bytes as u32).wrapping_sub(bytes)),
            chars: self.end.chars - u64::from((self.end.chars as u32).wrapping_sub(chars)),
        };
        for i in from..index.max(from) {
            let symbol = self.at(i);
            place.bytes += u64::from(bytes_of(symbol));
            place.chars += u64::from(chars_of(symbol));
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn symbols_keep_their_length() {
        for c in [
            'a',
            'é',
            'あ',
            '\u{D7FF}',
            '\u{E000}',
            '\u{F8FF}',
            '\u{F900}',
            '\u{FFFF}',
            '😀',
            '\u{10FFFF}',
        ] {
            assert_eq!(bytes_of(of_scalar(c)) as usize, c.len_utf8(), "{c:?}");
            assert_eq!(chars_of(of_scalar(c)), 1);
        }
        assert_eq!((bytes_of(of_number(8, 250)), chars_of(of_number(1, 0))), (8, 1));
        assert_ne!(of_number(2, 46), of_number(2, 47));
        assert_eq!(plain(of_number(2, 46)), plain(of_number(3, 1)));
    }

    proptest! {
        #[test]
        fn places_are_true_for_all_that_is_remembered(seed in proptest::collection::vec(any::<char>(), 1..40), rounds in 1usize..600) {
            let mut history = History::default();
            history.start_at(7);
            let mut places = vec![];
            for c in seed.iter().cycle().take(seed.len() * rounds) {
                places.push(history.end());
                history.push(of_scalar(*c));
            }
            let full: usize = places.len();
            let bytes: usize = seed.iter().map(|c| c.len_utf8()).sum::<usize>() * rounds;
            prop_assert_eq!(history.end(), Place { bytes: 7 + bytes as u64, chars: full as u64 });
            for index in (history.oldest()..history.count()).filter(|i| history.knows_place(*i)).step_by(13) {
                prop_assert_eq!(history.place(index), places[index as usize]);
            }
        }
    }
}
