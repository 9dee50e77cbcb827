//! What a sound config cannot keep: settings that stand in each other's way. Nothing here stops the proxy.

use super::Config;
use aegis_core::capabilities::{Capabilities, Prefill};
use aegis_core::decide::Mode;
use aegis_core::release::Release;
use aegis_core::rule::Action;
use aegis_core::rules::CONFIGURABLE;

impl Config {
    /// One sentence for each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let corrections = &self.guard.corrections;
        if self.guard.policy.mode == Mode::Shadow {
            return Vec::new();
        }
        if corrections.corrections_max == 0 {
            return self.warn_uncorrected().into_iter().collect();
        }
        let mut warnings = Vec::new();
        let prefill = self.flavour.map(|flavour| Capabilities::from(flavour).prefill);
        if prefill == Some(Prefill::No) {
            warnings.push(
                "upstream.flavour = \"none\": a begun answer cannot be continued where it stands. Faults are corrected \
                 by redo and append only, and a stream whose upstream died goes on in a new turn."
                    .to_owned(),
            );
        }
        if self.guard.release.tool_arguments == Release::Rules {
            warnings.push(
                "release.tool_arguments = \"rules\": a tool call of which a part is out cannot be mended or corrected."
                    .to_owned(),
            );
        }
        warnings
    }

    /// `corrections_max = 0`, though findings ask for corrections.
    fn warn_uncorrected(&self) -> Option<String> {
        let book = &self.guard.rulebook;
        let asking: Vec<&str> = CONFIGURABLE
            .iter()
            .filter(|(code, _)| {
                let policy = book.policy(*code);
                policy.enabled && matches!(policy.action, Action::Correct | Action::Repair)
            })
            .map(|(code, _)| code.name())
            .collect();
        let fallback = format!("{:?}", self.guard.corrections.on_exhausted).to_lowercase();
        (!asking.is_empty()).then(|| {
            format!(
                "corrections.corrections_max = 0: what cannot be mended becomes corrections.on_exhausted = \
                 \"{fallback}\" for {}.",
                asking.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> String {
        Config::parse(text).unwrap().warnings().join("\n")
    }

    #[test]
    fn the_defaults_keep_what_they_promise() {
        assert_eq!(warnings(""), "");
    }

    #[test]
    fn what_stands_in_the_way_of_corrections_is_named() {
        let text = "[upstream]\nflavour = \"none\"\n[release]\ntool_arguments = \"rules\"";
        let all = warnings(text);
        for part in ["upstream.flavour", "release.tool_arguments"] {
            assert!(all.contains(part), "{all}");
        }
        assert_eq!(warnings(&format!("{text}\n[policy]\nmode = \"shadow\"")), "");
        let off = warnings("[corrections]\ncorrections_max = 0\non_exhausted = \"note\"");
        assert!(off.contains("\"note\" for broken_json, "), "{off}");
    }
}
