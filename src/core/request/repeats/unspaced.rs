//! Wishes in Chinese and Japanese, which put no blanks between words.

use super::WITHOUT_END;

/// Characters looked at on either side of a count.
const REACH_CHARS: usize = 60;

/// A count with its measure word, and a verb near it on either side.
pub(super) fn asked(prompt: &str) -> Option<u32> {
    const REPEAT: &[&str] = &[
        "繰り返",
        "繰返",
        "くり返",
        "くりかえ",
        "重复",
        "重複",
        "反复",
        "反復",
        "リピート",
    ];
    const WRITE: &[&str] = &[
        "書い", "書く", "书写", "写", "说", "說", "言っ", "打印", "输出", "輸出", "出力", "唱え",
    ];
    const ENDLESS: &[&str] = &["永遠に", "永远", "无限", "無限", "不停", "一直", "延々", "ずっと"];
    if prompt.is_ascii() {
        return None;
    }
    let chars: Vec<char> = prompt.chars().collect();
    let mut most = None;
    let mut skip_to = 0;
    for (i, &c) in chars.iter().enumerate() {
        if i < skip_to || (c as u32) < 0x2E80 {
            continue;
        }
        let count = match c {
            '回' | '次' | '遍' | '度' => kanji_count(&chars[i.saturating_sub(8)..i]),
            '永' | '无' | '無' | '不' | '一' | '延' | 'ず' => ENDLESS
                .iter()
                .any(|word| starts_with(&chars[i..], word))
                .then_some(WITHOUT_END),
            _ => None,
        };
        let Some(count) = count else { continue };
        let around: String = chars[i.saturating_sub(REACH_CHARS)..(i + REACH_CHARS).min(chars.len())]
            .iter()
            .collect();
        let quoted = around.contains(['「', '“', '"', '『', '\'', '‘']);
        if REPEAT.iter().any(|v| around.contains(v)) || (quoted && WRITE.iter().any(|v| around.contains(v))) {
            most = most.max(Some(count));
        }
        // Keeps the work linear in a prompt made of counts.
        skip_to = i + 4;
    }
    most
}

/// Whether `chars` begin with `word`.
fn starts_with(chars: &[char], word: &str) -> bool {
    word.chars()
        .zip(chars.iter().map(Some).chain(std::iter::repeat(None)))
        .all(|(a, b)| Some(&a) == b)
}

/// The number at the end of `chars`: ASCII, full-width or Chinese digits.
fn kanji_count(chars: &[char]) -> Option<u32> {
    let from = chars
        .iter()
        .rposition(|c| digit(*c).is_none() && ten_power(*c).is_none())
        .map_or(0, |i| i + 1);
    let (mut total, mut ones, mut any) = (0u32, 0u32, false);
    for &c in &chars[from..] {
        any = true;
        if let Some(power) = ten_power(c) {
            total = total.saturating_add(ones.max(1).saturating_mul(power));
            ones = 0;
        } else if let Some(d) = digit(c) {
            ones = ones.saturating_mul(10).saturating_add(d);
        }
    }
    any.then(|| total.saturating_add(ones))
}

fn ten_power(c: char) -> Option<u32> {
    match c {
        '十' => Some(10),
        '百' => Some(100),
        '千' => Some(1000),
        '万' | '萬' => Some(10_000),
        _ => None,
    }
}

fn digit(c: char) -> Option<u32> {
    match c {
        '０'..='９' => Some(c as u32 - '０' as u32),
        _ => c.to_digit(10).or_else(|| {
            "〇一二三四五六七八九"
                .chars()
                .position(|k| k == c)
                .map(|n| n as u32)
        }),
    }
}
