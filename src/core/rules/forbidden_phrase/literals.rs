//! All literals in one Aho-Corasick automaton (Aho and Corasick, 1975) with its failure links worked into the table.
//!
//! A node is the longest end of the text that begins a literal, so what must be held back is a figure per node. Case
//! is folded on the way in, scalar by scalar: expanding every spelling into the table would square its size.

use super::RAISED_MAX;
use super::settings::PhraseError;
use crate::error::Code;
use crate::limits::PHRASES_DFA_BYTES_MAX;
use crate::rule::Raised;
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
use std::collections::{HashMap, VecDeque};

const KEY: &str = "forbidden_phrase.literals";

/// What is known of a node.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    /// Length in bytes of the longest spelling of this beginning.
    bytes: u32,
    /// Bytes to hold back here: of this beginning, or where it is a whole literal, of its longest open end.
    hold: u32,
    /// The longest end of it that begins a literal too; 0 is the root.
    fail: u32,
    /// The nearest node on the chain of `fail` links, this one included, that is a whole literal; 0 when none is.
    whole: u32,
}

/// The automaton.
#[derive(Debug)]
pub(super) struct Literals {
    /// Column of each byte in `table`; all bytes that no literal has share column 0. ASCII case is folded here.
    columns: [u16; 256],
    width: usize,
    /// The next node, by node and column.
    table: Vec<u32>,
    nodes: Vec<Node>,
    /// Indices in the config of the literals that a node is.
    numbers: HashMap<u32, Vec<usize>>,
    /// Case variants beyond ASCII and what they fold to.
    variants: HashMap<char, char>,
}

/// The least and the longest of a scalar's spellings, and all of them.
fn spellings(scalar: char, case_insensitive: bool) -> (char, u32, Vec<char>) {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(scalar, scalar)]);
    if case_insensitive {
        class.case_fold_simple();
    }
    let all: Vec<char> = class
        .iter()
        .flat_map(|range| range.start()..=range.end())
        .collect();
    let longest = all.iter().map(|c| c.len_utf8() as u32).max().unwrap_or(1);
    (all.first().copied().unwrap_or(scalar), longest, all)
}

impl Literals {
    /// Compiles the list; `None` when it is empty.
    pub(super) fn compile(literals: &[String], case_insensitive: bool) -> Result<Option<Self>, PhraseError> {
        if literals.is_empty() {
            return Ok(None);
        }
        let mut this = Self {
            columns: [0; 256],
            width: 1,
            table: Vec::new(),
            nodes: vec![Node::default()],
            numbers: HashMap::new(),
            variants: HashMap::new(),
        };
        for scalar in literals.iter().flat_map(|literal| literal.chars()) {
            this.admit(scalar, case_insensitive);
        }
        this.table.resize(this.width, 0);
        for (number, literal) in literals.iter().enumerate() {
            let fail =
                |reason: &str, remedy| Err(PhraseError::new(KEY, Some(number), literal, reason, remedy));
            if literal.is_empty() {
                return fail("is empty", "Remove it: an empty text would forbid every answer.");
            }
            this.insert(number, literal, case_insensitive);
            if this.bytes_taken() > PHRASES_DFA_BYTES_MAX {
                let reason = format!("takes the list beyond {PHRASES_DFA_BYTES_MAX} bytes of memory");
                return fail(&reason, "Forbid fewer or shorter literals.");
            }
        }
        this.link();
        Ok(Some(this))
    }

    /// Memory of the table and the nodes.
    pub(super) fn bytes_taken(&self) -> usize {
        size_of_val(self.table.as_slice()) + size_of_val(self.nodes.as_slice())
    }

    /// Gives the bytes of a scalar their columns and notes its case variants.
    fn admit(&mut self, scalar: char, case_insensitive: bool) {
        let (folded, _, all) = spellings(scalar, case_insensitive);
        for &byte in folded.encode_utf8(&mut [0; 4]).as_bytes() {
            if self.columns[usize::from(byte)] == 0 {
                self.columns[usize::from(byte)] = self.width as u16;
                self.width += 1;
            }
        }
        for variant in all {
            if variant.is_ascii() {
                // The least variant of an ASCII letter is its upper case, so ASCII folds to ASCII.
                self.columns[variant as usize] = self.columns[folded as usize & 0xff];
            } else if variant != folded {
                self.variants.insert(variant, folded);
            }
        }
    }

    fn insert(&mut self, number: usize, literal: &str, case_insensitive: bool) {
        let mut node = 0;
        let mut bytes = 0;
        for scalar in literal.chars() {
            let (folded, longest, _) = spellings(scalar, case_insensitive);
            bytes += longest;
            for &byte in folded.encode_utf8(&mut [0; 4]).as_bytes() {
                let cell = node as usize * self.width + usize::from(self.columns[usize::from(byte)]);
                if self.table[cell] == 0 {
                    self.table[cell] = self.nodes.len() as u32;
                    self.nodes.push(Node {
                        bytes,
                        ..Node::default()
                    });
                    self.table.resize(self.nodes.len() * self.width, 0);
                }
                node = self.table[cell];
            }
        }
        self.numbers.entry(node).or_default().push(number);
    }

    /// Fills in the failure links, shallow nodes first, and with them every empty cell of the table.
    fn link(&mut self) {
        let mut due = VecDeque::from([0_u32]);
        while let Some(node) = due.pop_front() {
            let fail = self.nodes[node as usize].fail;
            let mut open = false;
            for column in 1..self.width {
                let cell = node as usize * self.width + column;
                // The root fails to itself, where an empty cell already says so.
                let otherwise = if node == 0 {
                    0
                } else {
                    self.table[fail as usize * self.width + column]
                };
                let child = self.table[cell];
                if child == 0 {
                    self.table[cell] = otherwise;
                } else {
                    open = true;
                    self.nodes[child as usize].fail = otherwise;
                    due.push_back(child);
                }
            }
            let shorter = self.nodes[fail as usize];
            let whole = if self.numbers.contains_key(&node) {
                node
            } else {
                shorter.whole
            };
            let this = &mut self.nodes[node as usize];
            this.hold = if open { this.bytes } else { shorter.hold };
            this.whole = whole;
        }
    }

    fn next(&self, node: u32, byte: u8) -> u32 {
        self.table[node as usize * self.width + usize::from(self.columns[usize::from(byte)])]
    }

    fn next_scalar(&self, node: u32, scalar: char) -> u32 {
        if scalar.is_ascii() {
            return self.next(node, scalar as u8);
        }
        let folded = self.variants.get(&scalar).copied().unwrap_or(scalar);
        folded
            .encode_utf8(&mut [0; 4])
            .bytes()
            .fold(node, |node, byte| self.next(node, byte))
    }
}

/// The automaton's place in one lane.
#[derive(Debug, Clone, Default)]
pub(super) struct LiteralTracker {
    node: u32,
    read: u64,
    /// The last place where nothing had to be held.
    idle_at: u64,
    found: usize,
}

impl LiteralTracker {
    pub(super) fn feed(&mut self, literals: &Literals, at: u64, text: &str, raised: &mut Vec<Raised>) {
        if self.found >= RAISED_MAX {
            return;
        }
        for (index, scalar) in text.char_indices() {
            self.node = literals.next_scalar(self.node, scalar);
            self.read = at + (index + scalar.len_utf8()) as u64;
            let node = literals.nodes[self.node as usize];
            if node.whole != 0 {
                self.report(literals, node.whole, raised);
            }
            if node.hold == 0 {
                self.idle_at = self.read;
            }
        }
    }

    /// Every literal that ends here, in the order of the config.
    fn report(&mut self, literals: &Literals, mut whole: u32, raised: &mut Vec<Raised>) {
        let mut here = Vec::new();
        while whole != 0 {
            let node = literals.nodes[whole as usize];
            here.extend(
                literals
                    .numbers
                    .get(&whole)
                    .into_iter()
                    .flatten()
                    .map(|&number| (number, node.bytes)),
            );
            whole = literals.nodes[node.fail as usize].whole;
        }
        here.sort_unstable();
        here.truncate(RAISED_MAX - self.found.min(RAISED_MAX));
        self.found += here.len();
        raised.extend(here.into_iter().map(|(number, bytes)| {
            // Exact unless a scalar has case variants of other lengths; then it may begin a few bytes early.
            let start = self.read.saturating_sub(u64::from(bytes)).max(self.idle_at);
            Raised::new(
                Code::ForbiddenPhrase,
                self.read,
                start..self.read,
                format!(
                    "a forbidden phrase of {} bytes: {KEY}[{number}]",
                    self.read - start
                ),
            )
        }));
    }

    pub(super) fn held_from(&self, literals: &Literals) -> Option<u64> {
        match literals.nodes[self.node as usize].hold {
            _ if self.found >= RAISED_MAX => None,
            0 => None,
            hold => Some(self.read.saturating_sub(u64::from(hold)).max(self.idle_at)),
        }
    }
}
