//! Finds periods in a growing text, each within a few symbols of the start of its second round.
//!
//! A hash of the last sixteen symbols is looked up at every symbol and stored at every fourth. A hit proposes a
//! distance; the text itself decides. A proposal is followed symbol by symbol until it breaks, and its start is found
//! by going backward, so that a late hit costs no delay. The gear hash (shift and add, so that old symbols fall out
//! by themselves) is that of content-defined chunking.

use super::Settings;
use super::evidence::{self, Need, Surroundings, Texture};
use super::history::{History, Place, bytes_of, plain, scalar_of};
use crate::limits::LOOP_PERIOD_MAX;

/// Symbols that must match before a period is followed: the window of the hash.
const WINDOW: u64 = 16;
/// A hash is stored for every so many symbols.
const STORE_EVERY: u64 = 4;
/// Size of the index at first and in the end, in bits.
const INDEX_BITS: [u32; 2] = [7, 10];
/// The index grows when the lane has this many symbols.
const INDEX_GROWS_AT: u64 = 512;
/// Periods followed at one time.
const FOLLOWED_MAX: usize = 6;
/// Backward steps: earned per symbol, and saved up at most. Bounds the work on text made to be slow.
const STEPS_PER_SYMBOL: u32 = 8;
const STEPS_SAVED_MAX: u32 = 16 * 1024;
/// The start of a run is looked up once the run has this many symbols; most runs end before.
const LOCATE_AT: u32 = 24;
/// Symbols before a run that are looked at to see whether it continues a base64 string.
const BLOB_BEFORE: u64 = 32;

/// A proven loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loop {
    /// Byte of the lane at which the first repeat starts.
    pub start: u64,
    /// Byte of the lane at which it ends.
    pub first_end: u64,
    /// Characters of the latest repeat.
    pub period_chars: u32,
    /// Whole repeats so far.
    pub repeats: u32,
    /// Only the numbers in it change.
    pub counting: bool,
}

/// What the search needs to know beside the text.
pub(super) struct Scene<'a> {
    pub settings: &'a Settings,
    /// Repeats that the user asked for.
    pub asked: Option<u32>,
    /// Inside code.
    pub code: bool,
}

/// One way in which a period holds: exactly, or but for its numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Symbols that equal the one a period earlier, up to the newest.
    matched: u32,
    /// The value of `matched` at which to look again.
    next: u32,
    start: Option<Place>,
    terms: Option<Terms>,
}

/// What is known of a run once it is long enough.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// The evidence wanted.
    need: Need,
    /// The smallest period, in symbols.
    root: u32,
    /// The latest repeat of it, in characters.
    chars: u32,
    /// The first repeat of it, in bytes; 0 where that is forgotten.
    first_bytes: u32,
}

impl Run {
    const fn new(matched: u32) -> Self {
        Self {
            matched,
            next: LOCATE_AT,
            start: None,
            terms: None,
        }
    }

    /// Goes on to what is due: find the start, then the terms, then compare.
    fn review(&mut self, history: &History, period: u32, counting: bool, scene: &Scene<'_>) -> Option<Loop> {
        let start_index = history
            .count()
            .saturating_sub(u64::from(self.matched) + u64::from(period));
        let start = *self.start.get_or_insert_with(|| history.place(start_index));
        if self.matched < period * 2 {
            self.next = period * 2;
            return None;
        }
        let terms = match self.terms {
            Some(terms) => terms,
            None => {
                let Some(terms) = terms_of(history, period, counting, start_index, scene) else {
                    self.next = u32::MAX;
                    return None;
                };
                *self.terms.insert(terms)
            }
        };
        let Terms { need, root, .. } = terms;
        let repeats = self.matched.saturating_add(period) / root;
        let so_far = history.end().chars - start.chars;
        if repeats >= need.repeats && so_far >= u64::from(need.chars) {
            return Some(Loop {
                start: start.bytes,
                first_end: start.bytes + u64::from(terms.first_bytes),
                period_chars: terms.chars,
                repeats,
                counting,
            });
        }
        // A symbol has at most eight characters, so the next look cannot come too late.
        let short_chars = u64::from(need.chars).saturating_sub(so_far) / 8;
        let short_symbols = need
            .repeats
            .saturating_mul(root)
            .saturating_sub(self.matched.saturating_add(period));
        self.next = self
            .matched
            .saturating_add(short_symbols.max(short_chars as u32).max(1));
        None
    }
}

/// The smallest period within `period`, and the evidence it needs. `start` is the symbol at which the run begins.
fn terms_of(history: &History, period: u32, counting: bool, start: u64, scene: &Scene<'_>) -> Option<Terms> {
    let root = root_of(history, period, counting);
    let texture = Texture::read(history, u64::from(root));
    let around = Surroundings {
        code: scene.code,
        blob: after_blob(history, start),
    };
    let mut need = if counting {
        evidence::counting(&texture, around, scene.settings)
    } else {
        evidence::exact(&texture, around, scene.settings)
    }?;
    if let Some(asked) = scene.asked {
        need.repeats = need.repeats.max(asked.min(super::ASKED_MAX).saturating_add(3));
    }
    Some(Terms {
        need,
        root,
        chars: texture.chars,
        first_bytes: first_bytes(history, counting, start, u64::from(root)),
    })
}

/// The length of the first repeat in bytes, where a run of period `root` begins at symbol `start`.
///
/// All repeats of an exact run are equally long. Where numbers change, the first one itself must be remembered, which
/// only fails for periods of thousands of symbols; then no repeat counts as sound.
fn first_bytes(history: &History, counting: bool, start: u64, root: u64) -> u32 {
    let from = match (counting, history.knows_place(start)) {
        (false, _) => history.count() - root,
        (true, true) => start,
        (true, false) => return 0,
    };
    (from..from + root).map(|i| bytes_of(history.at(i))).sum()
}

/// The smallest divisor of `period` that is a period of the last `period` symbols too.
fn root_of(history: &History, period: u32, counting: bool) -> u32 {
    let end = history.count();
    let first = end - u64::from(period);
    let holds = |shorter: u32| {
        (first + u64::from(shorter)..end).all(|i| {
            let (a, b) = (history.at(i), history.at(i - u64::from(shorter)));
            a == b || (counting && plain(a) == plain(b))
        })
    };
    let (mut root, mut left, mut factor) = (period, period, 2);
    while left > 1 {
        if factor * factor > left {
            factor = left;
        }
        if !left.is_multiple_of(factor) {
            factor += 1;
            continue;
        }
        left /= factor;
        if holds(root / factor) {
            root /= factor;
        }
    }
    root
}

/// Whether the symbols before `start` look like the inside of base64 or hex.
fn after_blob(history: &History, start: u64) -> bool {
    let Some(from) = start.checked_sub(BLOB_BEFORE) else {
        return false;
    };
    from >= history.oldest()
        && (from..start).all(|i| {
            let symbol = plain(history.at(i));
            symbol == super::history::NUMBER
                || scalar_of(symbol)
                    .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_'))
        })
}

/// A distance at which the text equals itself just now.
#[derive(Debug, Clone, Copy)]
struct Followed {
    period: u32,
    /// Numbers may differ.
    counting: Run,
    /// Numbers must not.
    exact: Run,
}

/// The periods of one lane.
#[derive(Debug, Default)]
pub(super) struct Search {
    hash: u64,
    /// By hash: 16 further bits of it above the low 16 bits of (symbol index + 1) where it was last stored. What is too
    /// old to be in the history does not match there.
    index: Vec<u32>,
    followed: Vec<Followed>,
    /// Backward steps left.
    steps: u32,
    /// The symbol up to which they were earned.
    paid_to: u64,
}

impl Search {
    /// Memory behind it, in bytes.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.index.capacity() * size_of::<u32>() + self.followed.capacity() * size_of::<Followed>()
    }

    /// Takes the newest symbol of `history` into the hash; gives the period that the index proposes, or 0.
    #[inline]
    pub(super) fn propose(&mut self, history: &History, symbol: u16) -> u32 {
        self.hash = gear(self.hash, symbol);
        let last = history.count() - 1;
        if last < WINDOW {
            return 0;
        }
        if self.index.is_empty() || last == INDEX_GROWS_AT {
            self.rebuild(history, INDEX_BITS[usize::from(last >= INDEX_GROWS_AT)]);
        }
        let slot = slot_of(self.hash, self.index.len());
        let seen = self.index[slot];
        let here = entry_of(self.hash, last);
        if last.is_multiple_of(STORE_EVERY) {
            self.index[slot] = here;
        }
        // Only where the further bits agree is it worth to look at the text.
        if (here ^ seen) >> 16 == 0 {
            u32::from((here as u16).wrapping_sub(seen as u16))
        } else {
            0
        }
    }

    /// Whether there is nothing to do for a symbol that proposes nothing.
    #[inline]
    pub(super) const fn is_idle(&self) -> bool {
        self.followed.is_empty()
    }

    /// Takes the newest symbol into all that is followed, and follows `proposed`, a period or 0, from now on.
    #[inline(never)]
    pub(super) fn advance(&mut self, history: &History, proposed: u32, scene: &Scene<'_>) -> Option<Loop> {
        let last = history.count() - 1;
        let found = if self.followed.is_empty() {
            None
        } else {
            self.follow(history, last, scene)
        };
        if found.is_none() && proposed != 0 {
            self.admit(history, last, proposed, scene)
        } else {
            found
        }
    }

    /// Takes the newest symbol, number `last`, into all that is followed.
    fn follow(&mut self, history: &History, last: u64, scene: &Scene<'_>) -> Option<Loop> {
        let symbol = history.at(last);
        let mut found = None;
        self.followed.retain_mut(|f| {
            let earlier = history.at(last - u64::from(f.period));
            if earlier != symbol && plain(earlier) != plain(symbol) {
                return false;
            }
            f.counting.matched = f.counting.matched.saturating_add(1);
            if earlier == symbol {
                f.exact.matched = f.exact.matched.saturating_add(1);
            } else {
                f.exact = Run::new(0);
            }
            found = found.or_else(|| look(f, history, scene));
            true
        });
        found
    }

    /// Follows `period` from now on, where the text bears it out.
    fn admit(&mut self, history: &History, last: u64, period: u32, scene: &Scene<'_>) -> Option<Loop> {
        if period as usize > LOOP_PERIOD_MAX
            || last < u64::from(period) + WINDOW
            || self.followed.iter().any(|f| f.period == period)
        {
            return None;
        }
        let mut new = self.trace(history, last, period)?;
        let found = look(&mut new, history, scene);
        if self.followed.len() < FOLLOWED_MAX {
            self.followed.push(new);
        } else if let Some(least) = self.followed.iter_mut().min_by_key(|f| f.counting.matched)
            && least.counting.matched < new.counting.matched
        {
            *least = new;
        }
        found
    }

    /// Goes backward from symbol `last` for as long as the period holds; `None` when that is less than the window.
    fn trace(&mut self, history: &History, last: u64, period: u32) -> Option<Followed> {
        let earned = (last - self.paid_to).min(u64::from(STEPS_SAVED_MAX)) as u32 * STEPS_PER_SYMBOL;
        self.steps = (self.steps + earned).min(STEPS_SAVED_MAX);
        self.paid_to = last;
        let distance = u64::from(period);
        let reach = (last + 1 - distance).saturating_sub(history.oldest());
        let (mut matched, mut exact, mut same) = (0u32, 0u32, true);
        while u64::from(matched) < reach {
            let i = last - u64::from(matched);
            let (a, b) = (history.at(i), history.at(i - distance));
            if a != b {
                if plain(a) != plain(b) {
                    break;
                }
                same = false;
            }
            if matched >= WINDOW as u32 {
                if self.steps == 0 {
                    break;
                }
                self.steps -= 1;
            }
            matched += 1;
            exact += u32::from(same);
        }
        (matched >= WINDOW as u32).then(|| Followed {
            period,
            counting: Run::new(matched),
            exact: Run::new(exact),
        })
    }

    /// Makes the index anew with `1 << bits` slots from what is remembered.
    #[cold]
    fn rebuild(&mut self, history: &History, bits: u32) {
        self.index = vec![0; 1 << bits];
        let mut hash = 0;
        for i in history.oldest()..history.count() - 1 {
            hash = gear(hash, history.at(i));
            if i + 1 >= WINDOW && i.is_multiple_of(STORE_EVERY) {
                let slot = slot_of(hash, self.index.len());
                self.index[slot] = entry_of(hash, i);
            }
        }
    }
}

/// Reviews the runs that are due.
#[inline]
fn look(f: &mut Followed, history: &History, scene: &Scene<'_>) -> Option<Loop> {
    if f.exact.matched >= f.exact.next
        && let Some(found) = f.exact.review(history, f.period, false, scene)
    {
        return Some(found);
    }
    if f.counting.matched >= f.counting.next {
        f.counting.review(history, f.period, true, scene)
    } else {
        None
    }
}

/// Adds a symbol to the hash; what was added sixteen symbols ago falls out.
const fn gear(hash: u64, symbol: u16) -> u64 {
    (hash << 4).wrapping_add((plain(symbol) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// What the index keeps of a hash stored at symbol `i`.
const fn entry_of(hash: u64, i: u64) -> u32 {
    ((hash >> 32) as u32 & 0xFFFF_0000) | (i + 1) as u32 & 0xFFFF
}

/// The slot of a hash in an index of `len` slots, a power of two: its high bits, to which all sixteen symbols add.
const fn slot_of(hash: u64, len: usize) -> usize {
    (hash >> (64 - len.trailing_zeros())) as usize
}
