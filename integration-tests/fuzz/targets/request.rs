//! Any request body is read or refused in one sentence, and what is read is what `serde_json` sees.
#![no_main]

use aegis_core::limits::JSON_DEPTH_MAX;
use aegis_core::request::read;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    for depth_max in [JSON_DEPTH_MAX, 16] {
        match read(body, depth_max) {
            Ok(facts) => {
                assert!(facts.choices >= 1);
                // `Value` refuses numbers that no float holds, which are the upstream's business.
                let Ok(value) = serde_json::from_slice::<Value>(body) else {
                    continue;
                };
                assert_eq!(facts.stream, value["stream"] == true);
                assert_eq!(facts.model.as_deref(), value["model"].as_str());
                assert_eq!(u64::from(facts.choices), value["n"].as_u64().unwrap_or(1));
                let format = value["response_format"]["type"].as_str();
                assert_eq!(facts.json, matches!(format, Some("json_object" | "json_schema")));
                assert_eq!(
                    facts.tools,
                    value["tools"].as_array().is_some_and(|t| !t.is_empty())
                );
            }
            Err(bad) => {
                let shown = bad.to_string();
                assert!(!shown.contains(['\n', '\r', '\0']), "not one line: {shown:?}");
                assert!(shown.ends_with('.') && shown.len() < 2000, "{shown:?}");
            }
        }
    }
});
