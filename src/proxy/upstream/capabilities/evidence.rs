//! What a server says about itself, and which flavour it is by that. Pure: fed with answers, it never asks.

use crate::upstream::inquiry::Reply;
use aegis_core::capabilities::Flavour;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// `owned_by` in `/v1/models`, as each server writes it.
const OWNERS: &[(&str, Flavour)] = &[
    ("llamacpp", Flavour::LlamaServer),
    ("vllm", Flavour::Vllm),
    ("sglang", Flavour::Sglang),
    ("library", Flavour::Ollama),
    ("tabbyapi", Flavour::Tabbyapi),
    ("organization_owner", Flavour::LmStudio),
];

/// A model that the server lists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Listed {
    pub(crate) id: String,
    #[serde(default)]
    owned_by: String,
    /// Further names of it (llama-server).
    #[serde(default)]
    aliases: Vec<String>,
}

/// llama-server's `/props`, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Props {
    /// Only llama-server has it; others that imitate its `/props` do not.
    pub(crate) build_info: String,
    #[serde(default)]
    pub(crate) total_slots: Option<u32>,
    #[serde(default)]
    pub(crate) chat_template: String,
}

/// What a server said about itself so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    server: Option<String>,
    /// `/v1/models` was not shown this time, which says nothing about the server: the key, the load, its health.
    pub(crate) withheld: Option<StatusCode>,
    pub(crate) models: Vec<Listed>,
    pub(crate) props: Option<Props>,
    /// As the server names it, without the server's name.
    pub(crate) version: Option<String>,
    ollama: bool,
    lm_studio: bool,
}

/// A flavour, and what gave it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) flavour: Flavour,
    pub(crate) by: String,
}

/// An answer of the expected shape. The status alone says nothing: LM Studio answers paths that it does not know with 200.
fn read<T: DeserializeOwned>(reply: &Reply) -> Option<T> {
    let body = Some(&reply.body).filter(|_| reply.status.is_success())?;
    serde_json::from_slice(body).ok()
}

impl Evidence {
    /// Takes the answer to `/v1/models`.
    pub(crate) fn models(&mut self, reply: &Reply) {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Listed>,
        }
        self.server.clone_from(&reply.server);
        self.withheld = Some(reply.status).filter(|status| {
            let passing = matches!(
                *status,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
            );
            passing || status.is_server_error()
        });
        if let Some(list) = read::<List>(reply) {
            self.models = list.data;
        }
    }

    /// Takes the answer to `/`.
    pub(crate) fn root(&mut self, reply: &Reply) {
        self.ollama = reply.body.as_ref() == b"Ollama is running";
    }

    /// Takes the answer to `/props`.
    pub(crate) fn props(&mut self, reply: &Reply) {
        self.props = read(reply);
        if let Some(props) = &self.props {
            self.version = Some(props.build_info.clone());
        }
    }

    /// Takes the answer to `/api/v0/models`.
    pub(crate) fn lm_studio_models(&mut self, reply: &Reply) {
        #[derive(Deserialize)]
        struct Model {
            #[serde(rename = "compatibility_type")]
            _format: String,
        }
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        self.lm_studio = read::<List>(reply).is_some_and(|list| !list.data.is_empty());
    }

    /// Takes an answer with a `version` in it: of `/version`, `/api/version` or `/get_server_info`.
    pub(crate) fn version(&mut self, reply: &Reply) {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        if let Some(read) = read::<Version>(reply) {
            self.version = Some(read.version);
        }
    }

    /// The flavour, as far as what was said shows it. That a llama-server is an old one does not show here.
    pub(crate) fn flavour(&self, model: Option<&str>) -> Option<Told> {
        let told = |flavour, by: String| Some(Told { flavour, by });
        if let Some((owner, flavour)) = self.owner(model) {
            return told(flavour, format!("/v1/models says owned_by {owner:?}"));
        }
        if let Some(server) = self.server.as_deref().filter(|server| *server == "llama.cpp") {
            return told(Flavour::LlamaServer, format!("the Server header is {server:?}"));
        }
        if self.ollama {
            return told(Flavour::Ollama, "/ says \"Ollama is running\"".to_owned());
        }
        if let Some(props) = &self.props {
            let by = format!("/props has build_info {:?}", props.build_info);
            return told(Flavour::LlamaServer, by);
        }
        if self.lm_studio {
            let by = "/api/v0/models lists models with a compatibility_type".to_owned();
            return told(Flavour::LmStudio, by);
        }
        None
    }

    /// The owner of the model that is asked for; of the first that has a known owner where none is, or it is not listed.
    fn owner(&self, model: Option<&str>) -> Option<(&str, Flavour)> {
        let known = |listed: &Listed| {
            let owner = OWNERS
                .iter()
                .find(|(name, _)| listed.owned_by.eq_ignore_ascii_case(name));
            owner.map(|(_, flavour)| *flavour)
        };
        let asked = |listed: &&Listed| {
            model.is_some_and(|model| listed.id == model || listed.aliases.iter().any(|alias| alias == model))
        };
        match self.models.iter().find(asked) {
            Some(listed) => known(listed).map(|flavour| (listed.owned_by.as_str(), flavour)),
            None => self
                .models
                .iter()
                .find_map(|listed| Some((listed.owned_by.as_str(), known(listed)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str) -> Reply {
        Reply {
            status: StatusCode::OK,
            server: None,
            body: body.to_owned().into(),
        }
    }

    fn owned(owner: &str) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.models(&reply(&format!(
            r#"{{"object":"list","data":[{{"id":"m","object":"model","owned_by":"{owner}"}}]}}"#
        )));
        evidence
    }

    fn flavour(evidence: &Evidence) -> Option<Flavour> {
        evidence.flavour(None).map(|told| told.flavour)
    }

    #[test]
    fn owners_tell_the_flavour() {
        for (owner, expected) in [
            ("llamacpp", Some(Flavour::LlamaServer)),
            ("vllm", Some(Flavour::Vllm)),
            ("sglang", Some(Flavour::Sglang)),
            ("library", Some(Flavour::Ollama)),
            ("tabbyAPI", Some(Flavour::Tabbyapi)),
            ("organization_owner", Some(Flavour::LmStudio)),
            ("koboldcpp", None),
            ("openai", None),
        ] {
            assert_eq!(flavour(&owned(owner)), expected, "{owner}");
        }
    }

    #[test]
    fn the_owner_of_the_model_that_is_asked_for_counts() {
        let mut evidence = Evidence::default();
        evidence.models(&reply(
            r#"{"data":[{"id":"a","owned_by":"vllm"},{"id":"b","owned_by":"someone","aliases":["c"]},{"id":"d","owned_by":"sglang"}]}"#,
        ));
        let of = |model| evidence.flavour(model).map(|told| told.flavour);
        assert_eq!(of(Some("d")), Some(Flavour::Sglang));
        assert_eq!(of(Some("c")), None);
        assert_eq!(of(Some("unlisted")), Some(Flavour::Vllm));
        assert_eq!(of(None), Some(Flavour::Vllm));
    }

    #[test]
    fn llama_server_is_known_by_its_header_or_its_props() {
        let mut evidence = owned("someone");
        evidence.props(&reply(
            r#"{"build_info":"b11669","total_slots":4,"chat_template":"{{ x }}"}"#,
        ));
        assert_eq!(flavour(&evidence), Some(Flavour::LlamaServer));
        assert_eq!(evidence.version.as_deref(), Some("b11669"));

        let mut evidence = Evidence::default();
        evidence.models(&Reply {
            status: StatusCode::UNAUTHORIZED,
            server: Some("llama.cpp".into()),
            body: "{}".into(),
        });
        assert_eq!(flavour(&evidence), Some(Flavour::LlamaServer));
    }

    #[test]
    fn a_list_that_is_not_shown_is_told_from_one_that_is_not_there() {
        for (status, withheld) in [
            (200, false),
            (401, true),
            (403, true),
            (404, false),
            (429, true),
            (502, true),
        ] {
            let mut evidence = Evidence::default();
            evidence.models(&Reply {
                status: StatusCode::from_u16(status).unwrap(),
                server: None,
                body: "{}".into(),
            });
            assert_eq!(evidence.withheld.is_some(), withheld, "{status}");
        }
    }

    #[test]
    fn imitations_and_empty_talk_tell_nothing() {
        let mut evidence = owned("koboldcpp");
        evidence.props(&reply(r#"{"total_slots":1,"chat_template":"x"}"#));
        evidence.root(&reply("<html></html>"));
        let unexpected = reply(r#"{"error":"Unexpected endpoint or method. (GET /api/v0/models)"}"#);
        evidence.lm_studio_models(&unexpected);
        evidence.version(&unexpected);
        assert_eq!((flavour(&evidence), evidence.version), (None, None));
    }

    #[test]
    fn ollama_and_lm_studio_have_pages_of_their_own() {
        let mut evidence = owned("somebody");
        evidence.root(&reply("Ollama is running"));
        evidence.version(&reply(r#"{"version":"0.12.6"}"#));
        assert_eq!(flavour(&evidence), Some(Flavour::Ollama));
        assert_eq!(evidence.version.as_deref(), Some("0.12.6"));

        let mut evidence = owned("somebody");
        evidence.lm_studio_models(&reply(r#"{"data":[{"id":"m","compatibility_type":"gguf"}]}"#));
        assert_eq!(flavour(&evidence), Some(Flavour::LmStudio));
    }
}
