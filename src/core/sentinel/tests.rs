use super::*;
use crate::rules::CodePolicy;

struct Bomb;

impl Rule for Bomb {
    fn feed(&mut self, _at: u64, text: &str, _raised: &mut Vec<Raised>) {
        assert!(!text.contains("bomb"), "boom");
    }
}

fn sentinel(request: RequestFacts, on_failure: OnFailure) -> Sentinel {
    Sentinel::new(Arc::new(Rulebook::default()), Arc::new(request), on_failure)
}

const CONTENT: LaneId = LaneId::first(Channel::Content);

#[test]
fn a_rule_that_panics_becomes_a_finding_and_is_taken_off() {
    for (on_failure, action) in [(OnFailure::Open, Action::Note), (OnFailure::Closed, Action::Cut)] {
        let mut sentinel = sentinel(RequestFacts::default(), on_failure);
        let mut findings = Vec::new();
        sentinel.feed(CONTENT, "calm", &mut findings);
        sentinel.lanes[0].rules.push(Box::new(Bomb));
        sentinel.feed(CONTENT, "a bomb", &mut findings);
        sentinel.feed(CONTENT, "another bomb", &mut findings);
        let got: Vec<_> = findings.iter().map(|f| (f.code, f.action, f.offset)).collect();
        assert_eq!(got, [(Code::RuleFailed, action, 10)]);
    }
}

#[test]
fn a_demanded_json_value_that_never_came_is_truncated() {
    let mut sentinel = sentinel(
        RequestFacts {
            json: true,
            ..RequestFacts::default()
        },
        OnFailure::Open,
    );
    let mut findings = Vec::new();
    sentinel.feed(LaneId::first(Channel::Reasoning), "hmm", &mut findings);
    sentinel.finish(0, FinishReason::Stop, &mut findings);
    assert_eq!(
        findings.iter().map(|f| f.code).collect::<Vec<_>>(),
        [Code::TruncatedJson]
    );
}

#[test]
fn tool_calls_need_no_content() {
    let mut sentinel = sentinel(
        RequestFacts {
            json: true,
            ..RequestFacts::default()
        },
        OnFailure::Open,
    );
    let mut findings = Vec::new();
    sentinel.feed(LaneId::first(Channel::ToolArguments(0)), "{}", &mut findings);
    sentinel.finish(0, FinishReason::ToolCalls, &mut findings);
    assert!(findings.is_empty() && sentinel.finished());
}

#[test]
fn a_call_is_cleared_when_it_is_whole() {
    let mut sentinel = sentinel(RequestFacts::default(), OnFailure::Open);
    let mut findings = Vec::new();
    let policy = ReleasePolicy::default();
    let head = sentinel
        .feed(LaneId::first(Channel::ToolArguments(0)), "", &mut findings)
        .unwrap();
    let content = sentinel.feed(CONTENT, "text", &mut findings).unwrap();
    assert!(!sentinel.cleared(head, &policy) && sentinel.cleared(content, &policy));
    assert!(!sentinel.finished());
    sentinel.finish(0, FinishReason::ToolCalls, &mut findings);
    assert!(sentinel.cleared(head, &policy) && sentinel.finished());
}

#[test]
fn every_choice_must_finish() {
    let mut sentinel = sentinel(RequestFacts::default(), OnFailure::Open);
    let mut findings = Vec::new();
    sentinel.feed(CONTENT, "a", &mut findings);
    sentinel.feed(
        LaneId {
            choice: 1,
            channel: Channel::Content,
        },
        "b",
        &mut findings,
    );
    sentinel.finish(0, FinishReason::Stop, &mut findings);
    assert!(!sentinel.finished());
    sentinel.finish(1, FinishReason::Length, &mut findings);
    assert!(sentinel.finished());
}

#[test]
fn lanes_are_bounded() {
    let mut sentinel = sentinel(RequestFacts::default(), OnFailure::Open);
    let mut findings = Vec::new();
    for k in 0..LANES_MAX as u32 + 5 {
        sentinel.feed(LaneId::first(Channel::ToolArguments(k)), "{", &mut findings);
    }
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code, Code::RuleFailed);
}

/// Notes every feed as a forbidden phrase, and says "loop" for a loop.
struct Chatty;

impl Rule for Chatty {
    fn feed(&mut self, at: u64, text: &str, raised: &mut Vec<Raised>) {
        let code = if text == "loop" {
            Code::TokenLoop
        } else {
            Code::ForbiddenPhrase
        };
        let offset = at + text.len() as u64;
        raised.push(Raised::new(code, offset, at..offset, String::new()));
    }
}

#[test]
fn a_cut_after_many_notes_is_still_a_cut() {
    let mut book = Rulebook::default();
    let note = CodePolicy {
        enabled: true,
        severity: Severity::Minor,
        action: Action::Note,
        chosen: true,
    };
    book.set(Code::ForbiddenPhrase, note);
    let mut sentinel = Sentinel::new(Arc::new(book), Arc::default(), OnFailure::Open);
    let mut findings = Vec::new();
    sentinel.feed(CONTENT, "", &mut findings);
    sentinel.lanes[0].rules.push(Box::new(Chatty));
    for _ in 0..2 * FINDINGS_MAX {
        sentinel.feed(CONTENT, "x", &mut findings);
    }
    assert_eq!(findings.len(), FINDINGS_MAX);
    sentinel.feed(CONTENT, "loop", &mut findings);
    assert_eq!(findings.last().map(|f| f.code), Some(Code::TokenLoop));
}
