//! Whole streams, as the client gets them: the frames of the first answer untouched, those of the later one behind them.

use super::*;
use crate::event::FinishReason;

const SPENT: Spent = Spent {
    kept: 3,
    discarded: 4,
    prefilled: 3,
};

/// The frames of a text, without the ends of their lines.
fn frames(text: &str) -> Vec<Bytes> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| Bytes::from(format!("{line}\n\n"))).collect()
}

/// The client's stream of a first answer, of which so much was released, and a later one.
fn joined(dialect: Dialect, first: &str, joint: Joint, later: &str) -> String {
    let mut out = frames(first);
    let identity = Identity::read(dialect, &out[0]);
    assert!(identity.is_some());
    let mut splice = Splice::new(dialect, identity, joint, SPENT);
    out.extend(spliced(&mut splice, frames(later)));
    splice.end(&mut out);
    shown(&out)
}

#[test]
fn a_chat_on_llama_server() {
    let first = r#"
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"The"}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" river"}}],"created":11,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}
    "#;
    let later = r#"
        :
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":12,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk","prompt_progress":{"total":20,"cache":3,"processed":20,"time_ms":7}}
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":12,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"Hm."}}],"created":12,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"The"}}],"created":12,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" river flows"}}],"created":13,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" \"on\".\n"}}],"created":13,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":13,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk"}
        data: {"choices":[],"created":13,"id":"chatcmpl-2","model":"m2","system_fingerprint":"b1","object":"chat.completion.chunk","usage":{"completion_tokens":5,"prompt_tokens":20,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":19}},"timings":{"cache_n":3,"prompt_per_token_ms":0.16555555555555557}}
        data: [DONE]
    "#;
    let joint = Joint {
        reasoning: Shown::Dropped,
        ..echo("The river")
    };
    insta::assert_snapshot!(joined(Dialect::Chat, first, joint, later), @r#"
    data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}

    data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"The"}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}

    data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" river"}}],"created":11,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}

    :

    data: {"choices":[{"finish_reason":null,"index":0,"delta":{}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk","prompt_progress":{"total":20,"cache":3,"processed":20,"time_ms":7}}

    data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" flows"}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}

    data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" \"on\".\n"}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}

    data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk"}

    data: {"choices":[],"created":10,"id":"chatcmpl-1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk","usage":{"completion_tokens":12,"prompt_tokens":17,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":17},"completion_tokens_details":{"rejected_prediction_tokens":4}},"timings":{"cache_n":3,"prompt_per_token_ms":0.16555555555555557}}

    data: [DONE]
    "#);
}

#[test]
fn a_chat_on_vllm_with_usage_in_every_frame() {
    let first = r#"
        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":9,"completion_tokens":0}}
        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"content":"The"},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1}}
    "#;
    let later = r#"
        data: {"id":"chatcmpl-2","object":"chat.completion.chunk","created":20,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":15,"total_tokens":15,"completion_tokens":0}}
        data: {"id":"chatcmpl-2","object":"chat.completion.chunk","created":20,"model":"m","choices":[{"index":0,"delta":{"content":" end"},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":15,"total_tokens":16,"completion_tokens":1}}
        data: {"id":"chatcmpl-2","object":"chat.completion.chunk","created":20,"model":"m","choices":[],"usage":null}
        data: [DONE]
    "#;
    insta::assert_snapshot!(joined(Dialect::Chat, first, Joint::default(), later), @r#"
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":9,"completion_tokens":0}}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"content":"The"},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1}}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":19,"completion_tokens":7,"completion_tokens_details":{"rejected_prediction_tokens":4}}}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"content":" end"},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":20,"completion_tokens":8,"completion_tokens_details":{"rejected_prediction_tokens":4}}}

    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":10,"model":"m","choices":[],"usage":null}

    data: [DONE]
    "#);
}

#[test]
fn a_completion() {
    let first = r#"
        data: {"choices":[{"text":"Once","index":0,"logprobs":null,"finish_reason":null}],"created":10,"model":"m","system_fingerprint":"b1","object":"text_completion","id":"cmpl-1"}
    "#;
    let later = r#"
        data: {"choices":[{"text":" ","index":0,"logprobs":null,"finish_reason":null}],"created":20,"model":"m","system_fingerprint":"b1","object":"text_completion","id":"cmpl-2"}
        data: {"choices":[{"text":" upon","index":0,"logprobs":null,"finish_reason":null}],"created":20,"model":"m","system_fingerprint":"b1","object":"text_completion","id":"cmpl-2"}
        data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"created":20,"model":"m","system_fingerprint":"b1","object":"text_completion","usage":{"completion_tokens":3,"prompt_tokens":2,"total_tokens":5},"id":"cmpl-2"}
        data: [DONE]
    "#;
    let joint = Joint {
        spaced: " ".to_owned(),
        ..Joint::default()
    };
    insta::assert_snapshot!(joined(Dialect::Completions, first, joint, later), @r#"
    data: {"choices":[{"text":"Once","index":0,"logprobs":null,"finish_reason":null}],"created":10,"model":"m","system_fingerprint":"b1","object":"text_completion","id":"cmpl-1"}

    data: {"choices":[{"text":" upon","index":0,"logprobs":null,"finish_reason":null}],"created":10,"model":"m","system_fingerprint":"b1","object":"text_completion","id":"cmpl-1"}

    data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"created":10,"model":"m","system_fingerprint":"b1","object":"text_completion","usage":{"completion_tokens":10,"prompt_tokens":0,"total_tokens":10,"completion_tokens_details":{"rejected_prediction_tokens":4}},"id":"cmpl-1"}

    data: [DONE]
    "#);
}

#[test]
fn a_completion_in_llama_servers_own_format() {
    let first = r#"
        data: {"index":0,"content":"er","tokens":[272],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":2}
    "#;
    let later = r#"
        data: {"index":0,"content":"er","tokens":[272],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":3}
        data: {"index":0,"content":" of","tokens":[294],"stop":false,"id_slot":-1,"tokens_predicted":2,"tokens_evaluated":3}
        data: {"index":0,"content":"","tokens":[],"id_slot":3,"stop":true,"model":"m","tokens_predicted":2,"tokens_evaluated":3,"stop_type":"limit","timings":{"cache_n":1}}
    "#;
    insta::assert_snapshot!(joined(Dialect::Completions, first, echo("er"), later), @r#"
    data: {"index":0,"content":"er","tokens":[272],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":2}

    data: {"index":0,"content":" of","tokens":[294],"stop":false,"id_slot":-1,"tokens_predicted":2,"tokens_evaluated":3}

    data: {"index":0,"content":"","tokens":[],"id_slot":3,"stop":true,"model":"m","tokens_predicted":9,"tokens_evaluated":0,"stop_type":"limit","timings":{"cache_n":1}}
    "#);
}

#[test]
fn frames_that_are_made() {
    let made = |dialect, first: &str| {
        let identity = Identity::read(dialect, &frames(first)[0]).unwrap();
        let channels: &[Channel] = match dialect {
            Dialect::Chat => &[
                Channel::Content,
                Channel::Reasoning,
                Channel::Refusal,
                Channel::ToolArguments(2),
            ],
            Dialect::Completions => &[Channel::Content],
        };
        let mut out: Vec<Bytes> = channels
            .iter()
            .map(|channel| identity.text(*channel, "\"}\n"))
            .collect();
        let reasons = [
            FinishReason::Stop,
            FinishReason::Length,
            FinishReason::ToolCalls,
            FinishReason::ContentFilter,
        ];
        out.extend(reasons.map(|reason| identity.finish(reason)));
        out.push(identity.usage(7, 3, 0));
        out.push(identity.usage(0, 3, 4));
        for frame in &out {
            assert!(dialect.frame(frame).unwrap().error.is_none());
        }
        shown(&out)
    };
    let chat = r#"data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"role":"assistant"}}],"usage":null,"x":[1]}"#;
    insta::assert_snapshot!(made(Dialect::Chat, chat), @r#"
    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"content":"\"}\n"},"finish_reason":null}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"\"}\n"},"finish_reason":null}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"refusal":"\"}\n"},"finish_reason":null}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":2,"function":{"arguments":"\"}\n"}}]},"finish_reason":null}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"length"}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}],"x":[1]}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[],"x":[1],"usage":{"completion_tokens":3,"prompt_tokens":7,"total_tokens":10}}

    data: {"id":"i","object":"chat.completion.chunk","created":10,"model":"m","choices":[],"x":[1],"usage":{"completion_tokens":7,"prompt_tokens":0,"total_tokens":7,"completion_tokens_details":{"rejected_prediction_tokens":4}}}
    "#);
    let legacy =
        r#"data: {"choices":[{"text":"a","index":0}],"object":"text_completion","id":"i","timings":{}}"#;
    insta::assert_snapshot!(made(Dialect::Completions, legacy), @r#"
    data: {"choices":[{"text":"\"}\n","index":0,"logprobs":null,"finish_reason":null}],"object":"text_completion","id":"i"}

    data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"object":"text_completion","id":"i"}

    data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"object":"text_completion","id":"i"}

    data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"tool_calls"}],"object":"text_completion","id":"i"}

    data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"content_filter"}],"object":"text_completion","id":"i"}

    data: {"choices":[],"object":"text_completion","id":"i","usage":{"completion_tokens":3,"prompt_tokens":7,"total_tokens":10}}

    data: {"choices":[],"object":"text_completion","id":"i","usage":{"completion_tokens":7,"prompt_tokens":0,"total_tokens":7,"completion_tokens_details":{"rejected_prediction_tokens":4}}}
    "#);
    let native =
        r#"data: {"index":0,"content":"a","tokens":[1],"stop":false,"id_slot":-1,"tokens_predicted":1}"#;
    insta::assert_snapshot!(made(Dialect::Completions, native), @r#"
    data: {"index":0,"content":"\"}\n","tokens":[],"stop":false,"id_slot":-1}

    data: {"index":0,"content":"","tokens":[],"stop":true,"id_slot":-1,"stop_type":"eos","stopping_word":""}

    data: {"index":0,"content":"","tokens":[],"stop":true,"id_slot":-1,"stop_type":"limit","stopping_word":""}

    data: {"index":0,"content":"","tokens":[],"stop":true,"id_slot":-1,"stop_type":"eos","stopping_word":""}

    data: {"index":0,"content":"","tokens":[],"stop":true,"id_slot":-1,"stop_type":"eos","stopping_word":""}

    :

    :
    "#);
}

#[test]
fn an_identity_is_read_from_a_chunk_and_nothing_else() {
    let read = |dialect, frame: &str| Identity::read(dialect, frame.as_bytes());
    let frames = [
        "",
        ":\n\n",
        "data: [DONE]\n\n",
        "data: {\"error\":{},\"choices\":[]}\n\n",
        "data: {}\n\n",
        "data: 1\n\n",
        "data: {\"choices\":1}\n\n",
    ];
    for frame in frames {
        assert_eq!(read(Dialect::Chat, frame), None, "{frame}");
        assert_eq!(read(Dialect::Completions, frame), None, "{frame}");
    }
    assert_eq!(read(Dialect::Chat, "data: {\"content\":\"a\"}\n\n"), None);
    let ollama =
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"reasoning\":\"a\"}}]}\n\n";
    let text = read(Dialect::Chat, ollama).unwrap().text(Channel::Reasoning, "b");
    assert!(shown(&[text]).contains("\"reasoning\":\"b\""));
}

#[test]
fn usage_is_changed_only_where_it_is_a_whole_number() {
    let spent = |usage: &Value, spent| {
        let frame = data(&json!({"choices": [], "usage": usage}));
        let mut splice = Splice::new(Dialect::Chat, None, Joint::default(), spent);
        value(&spliced(&mut splice, [frame])[0])["usage"].clone()
    };
    for odd in [
        json!(null),
        json!({}),
        json!([1]),
        json!({"completion_tokens": 1.5, "prompt_tokens": "9", "total_tokens": null}),
        json!({"completion_tokens": -1, "x": {"completion_tokens": 1}}),
    ] {
        assert_eq!(spent(&odd, SPENT), odd);
    }
    let usage = json!({"total_tokens": 25, "prompt_tokens": 2, "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 1, "rejected_prediction_tokens": 2},
        "prompt_tokens_details": {"cached_tokens": 2}});
    assert_eq!(
        spent(&usage, SPENT),
        json!({"total_tokens": 12, "prompt_tokens": 0, "completion_tokens": 12,
            "completion_tokens_details": {"reasoning_tokens": 1, "rejected_prediction_tokens": 6},
            "prompt_tokens_details": {"cached_tokens": 0}})
    );
    assert_eq!(spent(&usage, Spent::default()), usage);
    let kept = Spent {
        kept: 1,
        ..Spent::default()
    };
    assert_eq!(
        spent(
            &json!({"completion_tokens": 5, "completion_tokens_details": null}),
            kept
        ),
        json!({"completion_tokens": 6, "completion_tokens_details": null})
    );
    let discarded = Spent {
        discarded: 1,
        ..Spent::default()
    };
    assert_eq!(
        spent(
            &json!({"completion_tokens": 5, "completion_tokens_details": null}),
            discarded
        ),
        json!({"completion_tokens": 6, "completion_tokens_details": {"rejected_prediction_tokens": 1}})
    );
}
