//! What the demo's primary writes: a few real paragraphs, chosen by the question, and their split into tokens.

/// Longest token, in characters; longer words are split, as a byte-pair vocabulary would.
const TOKEN_CHARS: usize = 7;

/// Longest part of a question that is echoed, in characters.
const TOPIC_CHARS: usize = 60;

/// Words that call for a paragraph, and the paragraph.
const PARAGRAPHS: &[(&[&str], &str)] = &[
    (
        &["sea", "ocean", "salt", "tide", "wave"],
        "Rain dissolves a little of every rock it runs over, and rivers carry that to the sea. The water leaves again as \
         vapour; the salt does not. After a few hundred million years of this the two sides balance: as much salt is \
         buried in the sea bed as the rivers bring. That is why the sea is salty and has stayed about as salty as it is.",
    ),
    (
        &["stream", "token", "sse", "model", "llm"],
        "A language model writes one token at a time, and a server can pass each one on the moment it exists. The reader \
         sees the first words after a fraction of a second instead of the whole answer after a minute. The price is that \
         nobody has read the end when the beginning is already out, so a fault has to be caught while it happens.",
    ),
    (
        &["proxy", "http", "server", "network", "guard"],
        "A proxy stands between two parties and speaks for each to the other. A good one is hard to notice: it keeps the \
         bytes as they are, passes on a hang-up at once, and adds no delay that anybody could measure. It earns its place \
         on the day something goes wrong, because it is the one that sees both sides.",
    ),
    (
        &["tea", "coffee", "bread", "cook", "recipe", "cake"],
        "Start with cold, fresh water and heat it only once. Green leaves want about eighty degrees and two minutes; black \
         ones take water off the boil and four. Pour the first cup before the pot turns bitter, and leave the milk to \
         those who ask for it. Most of the rest is patience and a warm pot.",
    ),
];

/// The paragraph for everything else.
const GENERAL: &str = "It helps to separate what is known from what is guessed. Begin with the one figure that can be \
    measured today, and write down how it was measured. Then change a single thing and measure again. Two honest numbers \
    say more than a page of opinion, and they tell you which question to ask next.";

/// Ways to open an answer; a further choice of the same request opens differently.
const OPENINGS: &[&str] = &[
    "On your question \"{}\":",
    "A short answer on \"{}\":",
    "What matters about \"{}\":",
    "About \"{}\", then:",
];

/// What the question is about, in its own words: without the polite start and the final mark.
pub(super) fn topic(question: &str) -> String {
    const LEADS: &[&str] = &[
        "please ",
        "tell me about ",
        "explain ",
        "describe ",
        "write about ",
        "give me ",
        "what is ",
    ];
    let line = question
        .lines()
        .map(str::trim)
        .find(|l| !l.is_empty())
        .unwrap_or("nothing in particular");
    let mut rest = line.trim_end_matches(['?', '.', '!', ' ']);
    // Compared by bytes of the ASCII leads, so `rest` is only ever cut behind one of them.
    while let Some(lead) = LEADS
        .iter()
        .find(|l| rest.get(..l.len()).is_some_and(|r| r.eq_ignore_ascii_case(l)))
    {
        rest = &rest[lead.len()..];
    }
    match rest.char_indices().nth(TOPIC_CHARS) {
        Some((end, _)) => format!("{} …", rest[..end].trim_end()),
        None => rest.to_owned(),
    }
}

/// A healthy answer to `question`; `variant` tells the choices of one request apart.
pub(super) fn answer(question: &str, variant: usize) -> String {
    let opening = OPENINGS[variant % OPENINGS.len()].replacen("{}", &topic(question), 1);
    format!("{opening} {}", paragraph(question))
}

/// Where the beginning of an [`answer`] stands in a prompt that is to be continued.
pub(super) fn answer_start(prompt: &str) -> Option<usize> {
    let (opening, _) = OPENINGS[0].split_once("{}")?;
    prompt.find(opening)
}

/// The answer after a tool has given `result`.
pub(super) fn tool_answer(question: &str, result: &str) -> String {
    let result = result.trim();
    let short = result
        .char_indices()
        .nth(200)
        .map_or(result, |(end, _)| &result[..end]);
    format!(
        "The tool answered: {short}. That settles \"{}\".",
        topic(question)
    )
}

/// The paragraph that fits the question's words.
pub(super) fn paragraph(question: &str) -> &'static str {
    let lower = question.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    let fits = |keys: &[&str]| {
        keys.iter().any(|k| {
            words
                .iter()
                .any(|w| w.strip_suffix('s').unwrap_or(w) == *k || w == k)
        })
    };
    PARAGRAPHS
        .iter()
        .find(|(keys, _)| fits(keys))
        .map_or(GENERAL, |(_, text)| text)
}

/// Splits a text into tokens as a byte-pair vocabulary roughly would: a word with the space before it, punctuation on
/// its own, long words in parts. The tokens joined are the text.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let mut letters = 0;
    for c in text.chars() {
        let joins = c.is_alphanumeric()
            && letters < TOKEN_CHARS
            && token.chars().all(|t| t == ' ' || t.is_alphanumeric());
        if !token.is_empty() && !joins {
            tokens.push(std::mem::take(&mut token));
            letters = 0;
        }
        token.push(c);
        letters += usize::from(c.is_alphanumeric());
    }
    if !token.is_empty() {
        tokens.push(token);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_join_to_the_text_and_carry_the_space_before_a_word() {
        let text = "The launch, \"uninterruptible\" — 42 °C.\n\nEnd";
        assert_eq!(tokens(text).concat(), text);
        assert_eq!(tokens("the sea, in part"), ["the", " sea", ",", " in", " part"]);
        assert_eq!(tokens("uninterruptible"), ["uninter", "ruptibl", "e"]);
    }

    #[test]
    fn an_answer_echoes_the_topic() {
        assert_eq!(
            topic("Please explain why the sea is salty?"),
            "why the sea is salty"
        );
        assert_eq!(topic("What is ångström?"), "ångström");
        assert!(topic(&"long ".repeat(40)).chars().count() <= TOPIC_CHARS + 2);
        let text = answer("How do tides work?", 0);
        assert!(
            text.starts_with("On your question \"How do tides work\": Rain dissolves"),
            "{text}"
        );
        assert_ne!(answer("x", 0), answer("x", 1));
        assert!(
            answer("Which season is best?", 0).ends_with("next."),
            "a season is not the sea"
        );
    }
}
