//! The names of the demo's models: one for each fault.
//!
//! Asked again, with a correction or with the beginning of an answer, every model but the stubborn one does well.

/// The names a request can put into `model`. An unknown name is [`Model::Healthy`], as a server with one model would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// Answers in prose, in JSON or with a tool call, as asked.
    Healthy,
    /// Says where it will look, then calls a tool.
    ToolCall,
    /// Processes its prompt for a while, then answers.
    SlowStart,
    /// Repeats one sentence.
    Loop,
    /// Repeats two sentences of reasoning and never gets to the answer.
    ReasoningLoop,
    /// Forgets a comma in its JSON.
    BrokenJson,
    /// Stops before its JSON is closed.
    TruncatedJson,
    /// Calls a tool with arguments that stop inside a string.
    BrokenCall,
    /// Says [`super::FORBIDDEN_PHRASE`].
    Forbidden,
    /// Tokens stop, the connection stays, and the slot is idle: the primary has lost the request.
    Stall,
    /// The connection drops.
    Death,
    /// Repeats one sentence, and does so again however it is asked.
    Stubborn,
}

impl Model {
    /// Every model, the healthy ones first.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Healthy,
        Self::ToolCall,
        Self::SlowStart,
        Self::Loop,
        Self::ReasoningLoop,
        Self::BrokenJson,
        Self::TruncatedJson,
        Self::BrokenCall,
        Self::Death,
        Self::Stubborn,
        Self::Forbidden,
        Self::Stall,
    ];

    /// The name in `model`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "demo",
            Self::ToolCall => "demo-tool-call",
            Self::SlowStart => "demo-slow-start",
            Self::Loop => "demo-loop",
            Self::ReasoningLoop => "demo-reasoning-loop",
            Self::BrokenJson => "demo-broken-json",
            Self::TruncatedJson => "demo-truncated-json",
            Self::Forbidden => "demo-forbidden",
            Self::Stall => "demo-stall",
            Self::Death => "demo-death",
            Self::BrokenCall => "demo-broken-call",
            Self::Stubborn => "demo-stubborn",
        }
    }

    /// The model of that name.
    pub(super) fn named(name: &str) -> Self {
        Self::ALL
            .iter()
            .copied()
            .find(|m| m.name() == name)
            .unwrap_or(Self::Healthy)
    }
}
