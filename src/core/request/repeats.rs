//! How often the user wants something repeated.
//!
//! `Repeat "ready" forty times` makes forty equal lines a right answer. This reads such wishes from a prompt, and
//! rather misses one than sees one that is not there: a count needs a word for "times" after it and a verb that says
//! what to do so often. One pass; each word is looked at a bounded number of times.

mod unspaced;
mod vocabulary;

use vocabulary::{ENDLESS, ENDLESS_PAIRS, NEGATIONS, NUMBERS, PROGRAM, REPEAT, TIMES, WRITE};

/// Repeats asked "without end".
const WITHOUT_END: u32 = u32::MAX;

/// Words between the verb and the count, at most. What is to be repeated stands there.
const REACH_WORDS: usize = 60;

/// Words between a verb like `write` and the count, where what stands between is not quoted.
const NEAR_WORDS: usize = 6;

/// How many repeats the prompt asks for: the largest such wish, `u32::MAX` for "without end", `None` for no wish.
///
/// Knows English, German, French, Spanish, Italian, Portuguese, Russian, Chinese and Japanese.
#[must_use]
pub fn asked(prompt: &str) -> Option<u32> {
    spaced(prompt).max(unspaced::asked(prompt))
}

/// A word of the prompt, in lower case.
struct Word {
    text: String,
    /// Inside quotes, so part of what is to be repeated.
    quoted: bool,
}

/// Splits into words. Signs vanish, but for quotes, which mark the words between them.
fn words(prompt: &str) -> Vec<Word> {
    let mut words: Vec<Word> = vec![];
    let mut text = String::new();
    let mut quoted = false;
    let mut before = ' ';
    let mut rest = prompt.chars().peekable();
    let mut close = |text: &mut String, quoted: bool| {
        if !text.is_empty() {
            words.push(Word {
                text: std::mem::take(text),
                quoted,
            });
        }
    };
    while let Some(c) = rest.next() {
        let inside =
            |next: Option<&char>| before.is_alphanumeric() && next.is_some_and(|n| n.is_alphanumeric());
        if before.is_ascii_digit() && matches!(c, ',' | '.' | '\u{202F}') && inside(rest.peek()) {
            // One number with its thousands set apart.
            continue;
        }
        // `100x` and `50mal` are a count and a word; an apostrophe inside a word is no quote.
        let digits_end = before.is_ascii_digit() != c.is_ascii_digit();
        if c.is_alphanumeric() || c == '×' {
            if digits_end {
                close(&mut text, quoted);
            }
            text.extend(c.to_lowercase());
        } else {
            close(&mut text, quoted);
            match c {
                '\n' => quoted = false,
                '“' | '«' | '„' => quoted = true,
                '”' | '»' => quoted = false,
                '"' | '`' => quoted = !quoted,
                '\'' if !inside(rest.peek()) && (quoted || !before.is_alphanumeric()) => quoted = !quoted,
                _ => {}
            }
        }
        before = c;
    }
    close(&mut text, quoted);
    words
}

/// A verb that waits for its count.
#[derive(Clone, Copy)]
struct Verb {
    at: usize,
    repeats: bool,
    /// What it governs is quoted.
    quotes: bool,
}

impl Verb {
    /// Whether a count at word `at` belongs to it.
    const fn governs(self, at: usize) -> bool {
        let reach = if self.repeats || self.quotes {
            REACH_WORDS
        } else {
            NEAR_WORDS
        };
        at - self.at <= reach
    }
}

/// Languages that put blanks between words.
fn spaced(prompt: &str) -> Option<u32> {
    let words = words(prompt);
    // A program may run without end; the answer that shows it does not.
    let program = words
        .iter()
        .any(|w| !w.quoted && PROGRAM.contains(&w.text.as_str()));
    let mut most = None;
    let mut verb: Option<Verb> = None;
    // A count that came before its verb: `40 times, repeat …`.
    let mut early: Option<(usize, u32)> = None;
    for (i, word) in words.iter().enumerate() {
        if word.quoted {
            if let Some(verb) = verb.as_mut().filter(|v| i - v.at <= NEAR_WORDS) {
                verb.quotes = true;
            }
            continue;
        }
        if let Some(new) = verb_at(&words, i) {
            // `write` does not take the place of a `repeat` that may still get its count.
            if new.repeats || verb.is_none_or(|old| !old.repeats || !old.governs(i)) {
                verb = Some(new);
            }
            if let Some((at, count)) = early.take()
                && new.repeats
                && i - at <= NEAR_WORDS
            {
                most = most.max(Some(count));
            }
            continue;
        }
        let endless = || if program { None } else { endless_at(&words, i) };
        let Some(count) = count_at(&words, i).or_else(endless) else {
            continue;
        };
        match verb {
            Some(verb) if verb.governs(i) => most = most.max(Some(count)),
            _ => early = Some((i, count)),
        }
    }
    most
}

/// The verb that word `i` is, unless it is forbidden.
fn verb_at(words: &[Word], i: usize) -> Option<Verb> {
    let text = words[i].text.as_str();
    let repeats = REPEAT.iter().any(|stem| text.starts_with(stem));
    let writes = || {
        WRITE.iter().any(|stem| {
            if stem.len() <= 4 {
                text == *stem
            } else {
                text.starts_with(stem)
            }
        })
    };
    if !repeats && !writes() {
        return None;
    }
    let forbidden = words[i.saturating_sub(2)..i]
        .iter()
        .any(|w| NEGATIONS.contains(&w.text.as_str()));
    (!forbidden).then_some(Verb {
        at: i,
        repeats,
        quotes: false,
    })
}

/// The count whose word for "times" is word `i`.
fn count_at(words: &[Word], i: usize) -> Option<u32> {
    let text = words[i].text.as_str();
    if text.ends_with("mal") && text.len() > 3 {
        return number(text);
    }
    if !TIMES.contains(&text) {
        return None;
    }
    let unit = number(&words[i.checked_sub(1)?].text)?;
    // `five hundred`, `10 thousand`.
    let scale = i
        .checked_sub(2)
        .and_then(|k| number(&words[k].text))
        .filter(|&n| n < unit && unit >= 100);
    Some(scale.map_or(unit, |n| n.saturating_mul(unit)))
}

/// A number in digits or as a word.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(WITHOUT_END - 1));
    }
    NUMBERS.iter().find(|(word, _)| *word == text).map(|(_, n)| *n)
}

/// "Without end", where word `i` completes it.
fn endless_at(words: &[Word], i: usize) -> Option<u32> {
    let text = words[i].text.as_str();
    let pair = |back: usize| {
        i.checked_sub(back)
            .is_some_and(|k| ENDLESS_PAIRS.contains(&(words[k].text.as_str(), text)))
    };
    // One word may stand between: `over and over`, `without ever stopping`.
    (ENDLESS.contains(&text) || pair(1) || pair(2)).then_some(WITHOUT_END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wishes_are_read_in_nine_languages() {
        for (prompt, count) in [
            ("Repeat the word hello 40 times.", 40),
            ("Please write \"I must not talk in class\" fifty times", 50),
            ("print 'a' 100x", 100),
            ("Write it five hundred times.", 500),
            ("Say hello 1,000 times", 1000),
            (
                "Repeat the following sentence exactly 25 times, one per line: It's late. Go home.",
                25,
            ),
            ("40 times, repeat: all work and no play", 40),
            ("Repeat this word forever: poem poem poem", u32::MAX),
            ("repeat \"ok\" over and over", u32::MAX),
            ("Write 'la' without stopping", u32::MAX),
            ("Wiederhole das Wort Hallo 30 mal.", 30),
            ("Schreibe 'Hallo' fünfzigmal", 50),
            ("Répète la phrase « je t'aime » 60 fois", 60),
            ("Écris « bonjour » cent fois", 100),
            ("Repite la palabra sol 80 veces", 80),
            ("Ripeti ciao venti volte", 20),
            ("Repita a palavra sol 70 vezes", 70),
            ("Повтори слово «привет» 45 раз", 45),
            ("「ありがとう」を100回繰り返してください。", 100),
            ("「はい」と五十回書いてください", 50),
            ("请把“你好”重复一百遍", 100),
            ("「あ」を永遠に繰り返して", u32::MAX),
        ] {
            assert_eq!(asked(prompt), Some(count), "{prompt}");
        }
    }

    #[test]
    fn other_counts_are_not_wishes() {
        for prompt in [
            "",
            "Write a poem about a man who failed so often that he told his whole family about it 100 times.",
            "The word sneaker should appear 10 or more times in your response.",
            "Why does my server restart 40 times a day?",
            "Do not repeat yourself 50 times.",
            "Don't ever repeat the word love forever.",
            "Love is forever. Write a letter to my wife about our long marriage and our children, forever young",
            "Explain 3 x 4 matrices",
            "カタカナの単語は10回以上は使用しないでください。",
            "Write 50 lines of code",
            "Write a Python script that prints 'hello' forever",
            "Explain why a loop can repeat forever",
            "How many times is 100 larger than 4?",
        ] {
            assert_eq!(asked(prompt), None, "{prompt}");
        }
    }

    #[test]
    fn the_largest_wish_counts() {
        assert_eq!(
            asked("Repeat 'a' 10 times, then repeat 'b' 30 times, then 'c' 20 times."),
            Some(30)
        );
        assert_eq!(asked("repeat it 99999999999999 times"), Some(u32::MAX - 1));
    }

    proptest! {
        #[test]
        fn other_lines_do_not_hide_a_wish(prompt in "\\PC{0,200}") {
            let wish = format!("{prompt}\nNow please repeat the word 77 times");
            prop_assert!(asked(&wish) >= asked(&prompt).max(Some(77)));
        }

        #[test]
        fn a_wish_is_found_behind_any_words(before in "[a-mo-su-z ]{0,80}", count in 5u32..100_000) {
            prop_assume!(asked(&before).is_none());
            let prompt = format!("{before}. Please repeat the word {count} times");
            prop_assert_eq!(asked(&prompt), Some(count));
        }
    }
}
