//! What the scripted upstream says about its own state: `/health` and `/slots`.

use crate::script::{EndHow, Framing, Script};

/// How `/health` or `/slots` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// 200; `/slots` shows all slots idle.
    #[default]
    Ok,
    /// `/slots` only: one slot is busy and its counters grow with each look.
    BusyProgress,
    /// `/slots` only: one slot is busy and its counters stand still.
    BusyStuck,
    /// 503, as while a model loads.
    Unavailable,
    /// 404.
    Missing,
    /// The connection is closed without an answer.
    Closed,
    /// No answer, ever.
    Hang,
}

/// The answer to a look at `/health` or `/slots`; `ok` is the body where all is well.
pub(crate) fn answer(how: Probe, ok: &[u8]) -> Script {
    let json = "application/json; charset=utf-8";
    match how {
        Probe::Ok | Probe::BusyProgress | Probe::BusyStuck => Script::answer(200, json, Framing::Length, ok),
        Probe::Unavailable => {
            let body = br#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
            Script::answer(503, json, Framing::Length, body)
        }
        Probe::Missing => Script::answer(404, json, Framing::Length, b"{}"),
        Probe::Closed => Script {
            no_head: Some(EndHow::Drop),
            ..Script::default()
        },
        Probe::Hang => Script {
            no_head: Some(EndHow::Hang),
            ..Script::default()
        },
    }
}

/// `/slots` as llama-server writes it, the members that tell progress.
pub(crate) fn slots(how: Probe, look: u64) -> String {
    let busy = matches!(how, Probe::BusyProgress | Probe::BusyStuck);
    let step = if how == Probe::BusyProgress { look } else { 0 };
    let idle = r#"{"id":1,"n_ctx":4096,"speculative":false,"is_processing":false}"#;
    format!(
        r#"[{{"id":0,"n_ctx":4096,"speculative":false,"is_processing":{busy},"id_task":7,"n_prompt_tokens":9000,"n_prompt_tokens_processed":{},"n_prompt_tokens_cache":0,"next_token":[{{"has_next_token":{busy},"has_new_line":false,"n_remain":-1,"n_decoded":{step}}}]}},{idle}]"#,
        100 + 50 * step
    )
}
