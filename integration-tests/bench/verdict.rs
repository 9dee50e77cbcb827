//! What a client of the fault run must have got: one right answer, once.

use serde_json::Value;

use crate::failure::{At as _, Failure, failure};
use crate::faulty::{Fault, LOOP, answer, arguments, before_loop, loop_end};

/// Repeats of a loop that may have reached the client before it was certain: the rule needs four.
const LOOP_REPEATS_MAX: usize = 4;

/// The body of an answer in chunks.
pub(crate) fn dechunked(bytes: &[u8]) -> Result<String, Failure> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return failure("no head");
    };
    let (mut rest, mut body) = (&bytes[head + 4..], Vec::new());
    loop {
        let Some(line) = memchr::memmem::find(rest, b"\r\n") else {
            return failure("the body breaks off");
        };
        let length = std::str::from_utf8(&rest[..line]).at("chunk")?;
        let length = usize::from_str_radix(length, 16).at("chunk")?;
        if length == 0 {
            return String::from_utf8(body).at("body");
        }
        let Some(chunk) = rest.get(line + 2..line + 2 + length) else {
            return failure("a chunk breaks off");
        };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + length..).unwrap_or_default();
    }
}

/// One right answer, once. Gives how many bytes of repeats are in it.
pub(crate) fn check(fault: Fault, number: u64, body: &str) -> Result<usize, Failure> {
    let (mut text, mut call) = (String::new(), String::new());
    let (mut ids, mut roles, mut finishes, mut done) = (Vec::new(), 0, 0, 0);
    for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            done += 1;
            continue;
        }
        let value: Value = serde_json::from_str(data).at("chunk")?;
        if let Some(error) = value.get("error") {
            return failure(format!("an error: {error}"));
        }
        let id = value["id"].to_string();
        if !ids.contains(&id) {
            ids.push(id);
        }
        let choice = &value["choices"][0];
        roles += usize::from(choice["delta"]["role"].is_string());
        finishes += usize::from(choice["finish_reason"].is_string());
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        let piece = &choice["delta"]["tool_calls"][0]["function"]["arguments"];
        call.push_str(piece.as_str().unwrap_or_default());
    }
    if (ids.len(), roles, finishes, done) != (1, 1, 1, 1) {
        return failure(format!(
            "ids {ids:?}, roles {roles}, finishes {finishes}, [DONE] {done}"
        ));
    }
    let right = match fault {
        Fault::None | Fault::Drop => (text == answer(number).concat()).then_some(0),
        Fault::Tool => (call == arguments(number) && text.is_empty()).then_some(0),
        Fault::Loop => looped(number, &text),
    };
    right.ok_or_else(|| Failure(format!("text {text:?}, call {call:?}")))
}

/// As many repeats as were needed to be sure, then the corrected end, which knows where it stands. Gives the bytes of the
/// repeats.
fn looped(number: u64, text: &str) -> Option<usize> {
    let before = before_loop(number);
    let end = (before.len()..text.len()).find(|at| text.get(*at..) == Some(&loop_end(*at)))?;
    let repeats = text.get(before.len()..end)?;
    let right = text.starts_with(&before) && LOOP.repeat(LOOP_REPEATS_MAX).starts_with(repeats);
    (right && !repeats.is_empty()).then_some(repeats.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_too_much_or_too_few_shows() {
        let before = before_loop(7);
        let text = |repeats: &str, kept: usize| format!("{before}{repeats}{}", loop_end(kept));
        for repeats in [LOOP.to_owned(), LOOP.repeat(3), LOOP[..20].to_owned()] {
            let kept = before.len() + repeats.len();
            assert_eq!(looped(7, &text(&repeats, kept)), Some(repeats.len()));
            assert_eq!(
                looped(7, &text(&format!("{LOOP}{repeats}"), kept)),
                None,
                "doubled"
            );
            assert_eq!(looped(7, &text(&repeats[1..], kept)), None, "lost");
            assert_eq!(looped(8, &text(&repeats, kept)), None, "of another stream");
        }
        let many = LOOP.repeat(LOOP_REPEATS_MAX + 1);
        assert_eq!(looped(7, &text(&many, before.len() + many.len())), None);
        assert_eq!(looped(7, &text("", before.len())), None, "there was no loop");
        assert_eq!(looped(7, &before), None, "no end");
    }
}
