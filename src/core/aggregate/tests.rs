use super::*;
use serde_json::{Value, json};

mod property;

/// A stream of these events.
fn sse(events: &[&str]) -> String {
    events.iter().map(|data| format!("data: {data}\n\n")).collect()
}

fn whole(dialect: Dialect, stream: &str) -> Whole {
    let mut aggregate = Aggregate::new(dialect);
    aggregate.feed(stream.as_bytes()).unwrap();
    aggregate.finish()
}

#[track_caller]
fn body(dialect: Dialect, events: &[&str]) -> String {
    match whole(dialect, &sse(events)) {
        Whole::Body(body) => String::from_utf8(body).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn chat(events: &[&str]) -> Value {
    serde_json::from_str(&body(Dialect::Chat, events)).unwrap()
}

#[test]
fn a_chat_is_the_body_that_the_server_would_have_sent() {
    let rest =
        r#""created":7,"id":"c1","model":"m","system_fingerprint":"b1","object":"chat.completion.chunk""#;
    let chunk =
        |delta: &str| format!(r#"{{"choices":[{{"finish_reason":null,"index":0,"delta":{delta}}}],{rest}}}"#);
    let events = [
        chunk(r#"{"role":"assistant","content":null}"#),
        chunk(r#"{"reasoning_content":"Hm\n"}"#),
        chunk(r#"{"reasoning_content":"m."}"#),
        chunk(r#"{"content":" the"}"#),
        chunk(r#"{"content":" \"\u00e9nd\""}"#),
        format!(r#"{{"choices":[{{"finish_reason":"stop","index":0,"delta":{{}}}}],{rest}}}"#),
        format!(r#"{{"choices":[],{rest},"usage":{{"total_tokens":9}},"timings":{{"predicted_ms":1.50}}}}"#),
        "[DONE]".to_owned(),
    ];
    let events = events.each_ref().map(String::as_str);
    insta::assert_snapshot!(body(Dialect::Chat, &events), @r#"{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":" the \"\u00e9nd\"","reasoning_content":"Hm\nm."}}],"created":7,"model":"m","system_fingerprint":"b1","object":"chat.completion","usage":{"total_tokens":9},"id":"c1","timings":{"predicted_ms":1.50}}"#);
    // A byte order mark, comments, other line ends, names, and no end to the last event.
    let odd = sse(&events).replace(
        "data: {\"choices\":[]",
        ": ping\r\n\r\nevent: message\ndata: {\"choices\":[]",
    );
    let odd = ["\u{feff}", odd.trim_end()].concat();
    assert_eq!(whole(Dialect::Chat, &odd), whole(Dialect::Chat, &sse(&events)));
    let torn = odd.trim_end_matches("[DONE]").trim_end_matches("data: ");
    assert_eq!(whole(Dialect::Chat, torn.trim_end()), whole(Dialect::Chat, &odd));
}

#[test]
fn parallel_tool_calls_are_put_together() {
    let events = [
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"object":"chat.completion.chunk"}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"","function":{"name":null,"arguments":"\":1}"}},{"index":1,"function":{"arguments":"{}"},"x":1}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    ];
    insta::assert_snapshot!(body(Dialect::Chat, &events), @r#"{"choices":[{"finish_reason":"tool_calls","index":0,"message":{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"x\":1}"},"id":"a"},{"type":"function","function":{"name":"g","arguments":"{}"},"id":"b","x":1}]}}],"object":"chat.completion"}"#);
}

#[test]
fn calls_without_index_or_in_the_old_form() {
    let whole = chat(&[
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"name":"g"}}]}}]}"#,
    ]);
    let calls = &whole["choices"][0]["message"]["tool_calls"];
    assert_eq!(
        calls,
        &json!([
            {"type":"function","function":{"name":"f","arguments":"{}"},"id":"a"},
            {"type":"function","function":{"name":"g","arguments":""},"id":"b"}
        ])
    );
    let whole = chat(&[
        r#"{"choices":[{"delta":{"function_call":{"name":"f","arguments":"{\"a\""}}}]}"#,
        r#"{"choices":[{"delta":{"function_call":{"arguments":":1}"}}}]}"#,
    ]);
    let call = &whole["choices"][0]["message"]["function_call"];
    assert_eq!(call, &json!({"name": "f", "arguments": "{\"a\":1}"}));
}

#[test]
fn log_probabilities_are_joined() {
    let events = [
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.10}],"refusal":null}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"content":[{"token":"b"},{"token":"c"}],"refusal":null}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}"#,
    ];
    insta::assert_snapshot!(body(Dialect::Chat, &events), @r#"{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"ab"},"logprobs":{"content":[{"token":"a","logprob":-0.10},{"token":"b"},{"token":"c"}],"refusal":null}}]}"#);
    let events = [
        r#"{"choices":[{"index":0,"text":" a","logprobs":{"tokens":[" a"],"token_logprobs":[-1.0],"top_logprobs":[{" a":-1.0}],"text_offset":[0]},"finish_reason":null}],"object":"text_completion"}"#,
        r#"{"choices":[{"index":0,"text":" b","logprobs":{"tokens":[" b"],"token_logprobs":[-2.0],"top_logprobs":[null],"text_offset":[2]},"finish_reason":"stop"}],"object":"text_completion"}"#,
    ];
    insta::assert_snapshot!(body(Dialect::Completions, &events), @r#"{"choices":[{"text":" a b","index":0,"logprobs":{"tokens":[" a"," b"],"token_logprobs":[-1.0,-2.0],"top_logprobs":[{" a":-1.0},null],"text_offset":[0,2]},"finish_reason":"stop"}],"object":"text_completion"}"#);
}

#[test]
fn choices_stand_in_order_with_the_figures_of_the_first() {
    // As llama-server ends a chat with two choices: each with figures of its own.
    let events = [
        r#"{"choices":[{"index":1,"delta":{"content":"b"}}],"id":"x","created":5}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"a"}}],"id":"y","created":6}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"completion_tokens":1},"timings":{"n":1}}"#,
        r#"{"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}"#,
        r#"{"choices":[],"usage":{"completion_tokens":2},"timings":{"n":2}}"#,
    ];
    insta::assert_snapshot!(body(Dialect::Chat, &events), @r#"{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"a"}},{"finish_reason":"length","index":1,"message":{"role":"assistant","content":"b"}}],"created":5,"usage":{"completion_tokens":1},"id":"x","timings":{"n":1}}"#);
}

#[test]
fn the_last_figures_count_unless_they_are_less_general() {
    let running = |usage: &str| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}}}}],"usage":{usage},"timings":{usage}}}"#
        )
    };
    let whole = chat(&[&running("1"), &running("2"), &running("null")]);
    assert_eq!((&whole["usage"], &whole["timings"]), (&json!(2), &json!(2)));
    let total = r#"{"choices":[],"usage":3}"#;
    let whole = chat(&[&running("1"), total, &running("2")]);
    assert_eq!((&whole["usage"], &whole["timings"]), (&json!(3), &json!(2)));
}

#[test]
fn what_is_not_known_is_kept_and_what_only_streams_have_is_not() {
    let whole = chat(&[
        r#"{"choices":[{"index":0,"delta":{"content":"a","reasoning":"r","odd":"x"},"stop_reason":null,"token_ids":[1]}],"x":[1],"prompt_progress":{},"obfuscation":"aa","error":null}"#,
        r#"{"choices":[{"index":0,"delta":{"odd":"y","refusal":null},"stop_reason":7,"token_ids":[2,3],"finish_reason":""}],"x":null,"service_tier":"t"}"#,
    ]);
    assert_eq!(
        whole,
        json!({
            "choices": [{
                "finish_reason": null, "index": 0, "stop_reason": 7, "token_ids": [1, 2, 3],
                "message": {"role": "assistant", "content": "a", "reasoning": "r", "refusal": null, "odd": "y"},
            }],
            "x": [1], "service_tier": "t",
        })
    );
}

#[test]
fn a_delta_that_repeats_itself_as_a_message_is_read_once() {
    let whole = chat(&[
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"message":{"content":"a"}}]}"#,
        r#"{"choices":[{"index":0,"delta":null,"message":{"content":"b"}}]}"#,
    ]);
    assert_eq!(whole["choices"][0]["message"]["content"], "ab");
}

#[test]
fn the_servers_own_form() {
    let first =
        r#"{"index":0,"content":" a","tokens":[5],"stop":false,"completion_probabilities":[{"id":5}]}"#;
    let second =
        r#"{"index":0,"content":" b","tokens":[6],"stop":false,"completion_probabilities":[{"id":6}]}"#;
    let last = r#"{"index":0,"content":"","tokens":[],"stop":true,"generation_settings":{"n":1.50,"stream":true},"stop_type":"limit"}"#;
    insta::assert_snapshot!(body(Dialect::Completions, &[first, second, last]), @r#"{"index":0,"content":" a b","tokens":[],"stop":true,"generation_settings":{"n":1.50,"stream":false},"stop_type":"limit","completion_probabilities":[{"id":5},{"id":6}]}"#);
    let other = |event: &str| event.replace("\"index\":0", "\"index\":1");
    let events = ["null", &other(first), first, &other(last), last];
    let whole: Value = serde_json::from_str(&body(Dialect::Completions, &events)).unwrap();
    let answers: Vec<_> = whole
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (&a["index"], &a["content"]))
        .collect();
    assert_eq!(answers, [(&json!(0), &json!(" a")), (&json!(1), &json!(" a"))]);
}

#[test]
fn an_error_is_the_answer() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    let error = r#"{"error":{"message":"boom","code":500}}"#;
    let json = error.to_owned();
    assert_eq!(
        whole(
            Dialect::Chat,
            &sse(&[text, error, "[DONE]", r#"{"error":"later"}"#])
        ),
        Whole::Error { json }
    );
    assert_eq!(
        whole(Dialect::Chat, "event: error\ndata: {\"message\":\"boom\"}\n\n"),
        Whole::Error {
            json: r#"{"error":{"message":"boom"}}"#.to_owned()
        }
    );
}

#[test]
fn nothing_is_empty() {
    for stream in [
        "",
        ": ping\n\n",
        "data: [DONE]\n\n",
        "data: {\"choices\":[],\"usage\":{}}\n\n",
        "data: {\"x\":1}\n\n",
    ] {
        assert_eq!(whole(Dialect::Chat, stream), Whole::Empty, "{stream}");
    }
    assert_eq!(
        chat(&[r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#])["choices"][0]["message"],
        json!({"role": "assistant", "content": ""})
    );
}

#[test]
fn after_the_end_nothing_counts() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    assert_eq!(chat(&[text, "[DONE]", text]), chat(&[text]));
}

#[test]
fn an_unreadable_frame_is_told_and_left_out() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    for odd in [
        "nonsense",
        "[1]",
        r#"{"choices":3}"#,
        r#"{"choices":[{"delta":{"content":5}}]}"#,
        r#"{"choices":[{"delta":{"content":["a"]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":{}}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":5}}]}}]}"#,
    ] {
        let mut aggregate = Aggregate::new(Dialect::Chat);
        let result = aggregate.feed(sse(&[text, odd, text]).as_bytes());
        assert!(result.is_err(), "{odd}");
        let Whole::Body(body) = aggregate.finish() else {
            panic!("{odd}");
        };
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], "aa", "{odd}");
    }
}

#[test]
fn values_of_an_unknown_shape_are_kept_as_they_came() {
    let choice =
        |members: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},{members}}}]}}"#);
    let answer = chat(&[
        &choice(r#""logprobs":5,"token_ids":7"#),
        &choice(r#""logprobs":null,"token_ids":{"x":8}"#),
    ]);
    let odd = &answer["choices"][0];
    assert_eq!(
        (&odd["logprobs"], &odd["token_ids"]),
        (&json!(5), &json!({"x": 8}))
    );
    // What can be put together counts more, and no name stands there twice.
    let events = sse(&[
        &choice(r#""logprobs":{"content":null,"n":1},"token_ids":[1]"#),
        &choice(r#""logprobs":{"content":5},"token_ids":2"#),
        &choice(r#""logprobs":"x","token_ids":[3]"#),
    ]);
    let Whole::Body(body) = whole(Dialect::Chat, &events) else {
        panic!("{events}");
    };
    let body = String::from_utf8(body).unwrap();
    assert!(
        body.contains(r#""logprobs":{"content":5,"n":1},"token_ids":[1,3]}"#),
        "{body}"
    );
    assert_eq!(body.matches("token_ids").count(), 1, "{body}");
}

#[test]
fn whether_the_answer_came_to_its_end_is_known() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}"#;
    let other = r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#;
    let native = r#"{"content":"a","stop":false}"#;
    let last = r#"{"content":"","stop":true}"#;
    for (events, finished) in [
        (vec![text, "[DONE]"], false),
        (vec![text, other, text], true),
        (vec![native], false),
        (vec![native, last], true),
    ] {
        let mut aggregate = Aggregate::new(Dialect::Chat);
        // The last event has no blank line yet.
        aggregate.feed(sse(&events).trim_end().as_bytes()).unwrap();
        aggregate.close();
        assert_eq!(aggregate.is_finished(), finished, "{events:?}");
    }
}

#[test]
fn choices_calls_and_frames_are_bounded() {
    let choice = |index: usize| format!(r#"{{"choices":[{{"index":{index},"text":"a"}}]}}"#);
    let native = |index: usize| format!(r#"{{"index":{index},"content":"a"}}"#);
    let call =
        |index: usize| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{index}}}]}}}}]}}"#);
    let events: [&dyn Fn(usize) -> String; 3] = [&choice, &native, &call];
    for event in events {
        let mut aggregate = Aggregate::new(Dialect::Completions);
        for index in 0..LANES_MAX {
            aggregate.feed(sse(&[&event(index)]).as_bytes()).unwrap();
        }
        assert!(aggregate.feed(sse(&[&event(LANES_MAX)]).as_bytes()).is_err());
        aggregate.feed(sse(&[&event(0)]).as_bytes()).unwrap();
    }
    let mut aggregate = Aggregate::new(Dialect::Chat);
    assert!(aggregate.feed(&vec![b'x'; FRAME_BYTES_MAX + 1]).is_err());
    assert_eq!(aggregate.bytes(), 0);
    assert!(aggregate.feed(b"\n\n").is_err(), "what follows cannot be framed");
    assert!(aggregate.is_unframed());
    let mut aggregate = Aggregate::new(Dialect::Chat).with_frame_bytes_max(2 * FRAME_BYTES_MAX);
    aggregate.feed(&vec![b'x'; FRAME_BYTES_MAX + 1]).unwrap();
}

#[test]
fn what_is_held_is_counted() {
    let mut aggregate = Aggregate::new(Dialect::Chat);
    let event = sse(&[r#"{"choices":[{"index":0,"delta":{"content":"0123456789"}}],"id":"x"}"#]);
    for _ in 0..100 {
        aggregate.feed(event.as_bytes()).unwrap();
    }
    assert!((1000..1100).contains(&aggregate.bytes()), "{}", aggregate.bytes());
}
