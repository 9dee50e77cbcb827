//! Text without end and without repetition, for floods.

/// Words that do not repeat in any period: a small generator (xorshift) with a fixed seed.
#[derive(Debug)]
pub struct Words(u64);

impl Default for Words {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Words {
    /// The next word, 3 to 10 letters and a space.
    pub fn word(&mut self, into: &mut String) {
        let mut bits = self.step();
        for _ in 0..3 + self.step() % 8 {
            into.push(char::from(b'a' + (bits % 26) as u8));
            bits /= 26;
        }
        into.push(' ');
    }

    const fn step(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
