//! The text of the mock upstream's streams: ordinary words in an order that never becomes periodic.

/// Common English words. Drawn at random they make text that is realistic in length and bytes, and that no loop rule
/// may take for a loop.
const WORDS: &str = "the of and to in is that for it was on with as be at by this from or have an they which one you \
were all her she there would their we him been has when who will no more if out so up said what its about than into \
them can only other time new some could these two may first then do any like my now over such our man me even most \
made after also did many off before must well back through years much where your way down should because long each \
just state people those too mister how little good world make very year still see work life being against between \
under never day same another know while last might great old since come go came right used take three himself few \
house use during without again place around however home small found thought went say part once general high upon \
school every does got united left number course war until always away something fact water less public put think \
almost hand enough far took head yet government system set better told nothing night end why called eyes find going \
look asked later point knew next program city business give group toward days young let room word social present \
given several order national possible rather second face per among form important often things looked early white \
case large big need four within felt along children saw best church ever least power development light thing \
seemed family interest want members mind country area others done turned although open god service certain kind \
problem began different door thus help sense means whole matter itself across quite river window machine server \
token stream buffer answer question reason simple memory signal engine garden winter summer market bridge letter";

/// Deals out token texts: mostly a space and a word, sometimes punctuation, as a tokenizer would.
#[derive(Debug)]
pub(crate) struct Deck {
    words: Vec<&'static str>,
    state: u64,
}

impl Deck {
    /// A deck whose order depends on `seed` alone.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            words: WORDS.split_ascii_whitespace().collect(),
            state: seed ^ 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// The next token's text: needs no JSON escape.
    pub(crate) fn next_token(&mut self) -> (&'static str, &'static str) {
        // The 64-bit linear congruential generator of Knuth's MMIX; its upper bits are good enough to shuffle words.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let draw = (self.state >> 33) as usize;
        match draw % 16 {
            0 => ("", "."),
            1 => ("", ","),
            _ => (" ", self.words[(draw / 16) % self.words.len()]),
        }
    }
}
