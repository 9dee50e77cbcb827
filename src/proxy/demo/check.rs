//! Whether a row of the tour came out as its case says.

use super::cases::{Answer, Case, Direct, Guarded};
use super::client::{End, Received};
use super::records::Record;
use super::request::CORRECTION_START;

impl Case {
    /// What is not as expected, one sentence each. `records` is what Aegis says it did.
    pub(super) fn mismatches(
        &self,
        direct: &Received,
        guarded: &Received,
        records: &[Record],
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        self.as_meant(direct, &mut wrong);
        one_answer(guarded, &mut wrong);
        match self.guarded {
            Guarded::Same => same(direct, guarded, &mut wrong),
            Guarded::Whole(answer) => whole(&answer(), guarded, &mut wrong),
            Guarded::Cut { code, left } => {
                let left = left.map(|text| text());
                was_cut(code, left.as_deref(), direct, guarded, &mut wrong);
            }
        }
        let said: Vec<String> = records.iter().map(Record::to_string).collect();
        if said != self.records {
            wrong.push(format!(
                "the incidents should be {:?}, but are {said:?}",
                self.records
            ));
        }
        wrong
    }

    /// The primary did what the row is about.
    fn as_meant(&self, direct: &Received, wrong: &mut Vec<String>) {
        let as_meant = match self.direct {
            Direct::Complete => direct.looks_complete(),
            Direct::Endless | Direct::Silent => {
                direct.end == End::Left && direct.finish.is_none() && !direct.text().is_empty()
            }
            Direct::Dropped => matches!(direct.end, End::Broken(_)) && direct.finish.is_none(),
        };
        if !as_meant {
            wrong.push(format!(
                "the primary should have been {:?}, but: {}",
                self.direct,
                direct.ending()
            ));
        }
    }
}

/// However many requests it took, it is one answer, and nothing in it tells of them.
fn one_answer(guarded: &Received, wrong: &mut Vec<String>) {
    if guarded.garbled > 0 {
        wrong.push(format!("{} frames through Aegis cannot be read", guarded.garbled));
    }
    for (what, count) in [
        ("role", guarded.roles),
        ("id", guarded.ids.len()),
        ("finish", guarded.finishes),
        ("usage", guarded.usages),
    ] {
        if count > 1 {
            wrong.push(format!("{count} times a {what} in one answer"));
        }
    }
    if guarded.raw.contains(CORRECTION_START) {
        wrong.push("the correction reached the client".to_owned());
    }
}

fn same(direct: &Received, guarded: &Received, wrong: &mut Vec<String>) {
    complete(guarded, wrong);
    if direct.impersonal() != guarded.impersonal() {
        wrong.push("the bytes through Aegis differ from the primary's".to_owned());
    }
}

fn complete(guarded: &Received, wrong: &mut Vec<String>) {
    if !guarded.looks_complete() {
        wrong.push(format!(
            "a complete answer was expected through Aegis, but: {}",
            guarded.ending()
        ));
    } else if (guarded.roles, guarded.usages) != (1, 1) {
        wrong.push("the answer lacks its role or its usage".to_owned());
    }
}

fn whole(answer: &Answer, guarded: &Received, wrong: &mut Vec<String>) {
    complete(guarded, wrong);
    if guarded.content != answer.content {
        wrong.push(format!(
            "the content should be {:?}, but is {:?}",
            answer.content, guarded.content
        ));
    }
    if guarded.calls != answer.calls {
        wrong.push(format!(
            "the tool calls should be {:?}, but are {:?}",
            answer.calls, guarded.calls
        ));
    }
    if !answer.reasoning.starts_with(&guarded.reasoning)
        || guarded.reasoning.is_empty() && !answer.reasoning.is_empty()
    {
        wrong.push(format!(
            "the reasoning should begin {:?}, but is {:?}",
            answer.reasoning, guarded.reasoning
        ));
    }
    if guarded
        .finish
        .as_deref()
        .is_some_and(|finish| finish != answer.finish)
    {
        wrong.push(format!(
            "the finish_reason should be {}, but: {}",
            answer.finish,
            guarded.ending()
        ));
    }
}

fn was_cut(code: &str, left: Option<&str>, direct: &Received, guarded: &Received, wrong: &mut Vec<String>) {
    match &guarded.error {
        Some(error) if error.code == code => {}
        Some(error) => wrong.push(format!("{code} was expected, but the error is {}", error.code)),
        None => wrong.push(format!("{code} was expected, but: {}", guarded.ending())),
    }
    if guarded.error.is_some() && (!guarded.done || guarded.end != End::Whole) {
        wrong.push("the cut stream lacks its [DONE] or its proper end".to_owned());
    }
    if guarded.error.is_some() && guarded.finish.is_some() {
        wrong.push("the cut stream also has a finish_reason".to_owned());
    }
    let begins = match left {
        Some(left) => guarded.content == left,
        None => !guarded.content.is_empty() && direct.content.starts_with(&guarded.content),
    };
    if !begins || !guarded.reasoning.is_empty() || !guarded.calls.is_empty() {
        wrong.push(match left {
            Some(left) => format!("before the cut should be {left:?}, but is {:?}", guarded.text()),
            None => "what came through Aegis is not the beginning of the primary's answer".to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::client::WireError;
    use super::super::model::Model;
    use super::*;

    fn case(model: Model) -> &'static Case {
        CASES
            .iter()
            .find(|c| c.model == model)
            .expect("every model has a row")
    }

    fn complete(content: &str) -> Received {
        Received {
            status: 200,
            raw: content.to_owned(),
            ids: vec!["chatcmpl-1".to_owned()],
            content: content.to_owned(),
            finish: Some("stop".to_owned()),
            finishes: 1,
            done: true,
            roles: 1,
            usages: 1,
            ..Received::new()
        }
    }

    fn cut_off(content: &str, code: &str) -> Received {
        let error = Some(WireError {
            code: code.to_owned(),
            message: "m".to_owned(),
        });
        Received {
            finish: None,
            finishes: 0,
            usages: 0,
            error,
            ..complete(content)
        }
    }

    /// The records that the case expects.
    fn records(case: &Case) -> Vec<Record> {
        let read = |line: &&str| {
            let mut words = line.split(' ').map(str::to_owned);
            let (code, decision) = (words.next(), words.next());
            Record {
                code: code.expect("a code"),
                decision: decision.expect("a decision"),
                plan: words.next().zip(words.next()),
            }
        };
        case.records.iter().map(read).collect()
    }

    fn wrong(case: &Case, direct: &Received, guarded: &Received) -> String {
        case.mismatches(direct, guarded, &records(case)).join("; ")
    }

    fn each_is_named(case: &Case, direct: &Received, flaws: Vec<(Received, &str)>) {
        for (guarded, named) in flaws {
            let wrong = wrong(case, direct, &guarded);
            assert!(wrong.contains(named), "{named:?} is not in {wrong:?}");
        }
    }

    #[test]
    fn a_good_cut_is_as_expected_and_each_flaw_is_named() {
        let case = case(Model::Forbidden);
        let code = "A403_forbidden_phrase";
        let Guarded::Cut { left: Some(left), .. } = case.guarded else {
            panic!("a cut")
        };
        let direct = complete(&format!("{} the", left()));
        let good = cut_off(&left(), code);
        assert_eq!(wrong(case, &direct, &good), "");
        let flaws = vec![
            (
                cut_off(&left(), "A203_stall"),
                "A403_forbidden_phrase was expected, but the error is A203_stall",
            ),
            (cut_off(&direct.content, code), "before the cut should be"),
            (cut_off("Between", code), "before the cut should be"),
            (
                Received {
                    done: false,
                    ..good.clone()
                },
                "[DONE]",
            ),
            (
                Received {
                    finish: Some("stop".into()),
                    ..good.clone()
                },
                "finish_reason",
            ),
            (
                Received {
                    garbled: 1,
                    ..good.clone()
                },
                "cannot be read",
            ),
            (
                direct.clone(),
                "A403_forbidden_phrase was expected, but: finish stop",
            ),
        ];
        each_is_named(case, &direct, flaws);
        assert!(
            case.mismatches(&direct, &good, &[])
                .join("; ")
                .contains("incidents")
        );
        let stubborn = super::tests::case(Model::Stubborn);
        let endless = Received {
            end: End::Left,
            ..cut_off("round round round", "")
        };
        let cut = |text: &str| cut_off(text, "A201_token_loop");
        assert_eq!(wrong(stubborn, &endless, &cut("round round")), "");
        assert!(wrong(stubborn, &endless, &cut("round rround")).contains("not the beginning"));
    }

    #[test]
    fn a_good_correction_is_as_expected_and_each_flaw_is_named() {
        let case = case(Model::ReasoningLoop);
        let Guarded::Whole(answer) = case.guarded else {
            panic!("a whole answer")
        };
        let answer = answer();
        let direct = Received {
            end: End::Left,
            ..cut_off("round round", "")
        };
        let good = Received {
            reasoning: answer.reasoning[..80].to_owned(),
            ..complete(&answer.content)
        };
        assert_eq!(wrong(case, &direct, &good), "");
        let with = |change: fn(&mut Received)| {
            let mut received = good.clone();
            change(&mut received);
            received
        };
        let flaws = vec![
            (with(|r| r.roles = 2), "2 times a role"),
            (with(|r| r.ids.push("chatcmpl-2".into())), "2 times a id"),
            (with(|r| r.finishes = 2), "2 times a finish"),
            (with(|r| r.usages = 2), "2 times a usage"),
            (with(|r| r.usages = 0), "lacks its role or its usage"),
            (
                with(|r| r.raw = format!("{CORRECTION_START} …]")),
                "the correction reached",
            ),
            (
                with(|r| r.content.push_str(" as it is.")),
                "the content should be",
            ),
            (with(|r| r.reasoning.push('x')), "the reasoning should begin"),
            (with(|r| r.reasoning.clear()), "the reasoning should begin"),
            (
                with(|r| r.finish = Some("length".into())),
                "the finish_reason should be stop",
            ),
            (
                with(|r| r.calls.push(("f".into(), "{}".into()))),
                "the tool calls should be",
            ),
            (
                cut_off(&answer.content, "A201_token_loop"),
                "a complete answer was expected",
            ),
        ];
        each_is_named(case, &direct, flaws);
        let abandoned = Record {
            plan: Some(("resume".into(), "failed".into())),
            ..records(case).remove(0)
        };
        let wrong = case.mismatches(&direct, &good, &[abandoned]).join("; ");
        assert!(wrong.contains("resume failed"), "{wrong}");
    }

    #[test]
    fn a_healthy_answer_must_pass_unchanged() {
        let case = case(Model::Healthy);
        assert_eq!(wrong(case, &complete("salt"), &complete("salt")), "");
        assert!(wrong(case, &complete("salt"), &complete("sal")).contains("the bytes"));
        let cut = cut_off("salt", "A201_token_loop");
        assert!(wrong(case, &complete("salt"), &cut).contains("a complete answer was expected"));
    }
}
