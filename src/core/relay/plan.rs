//! Whether there can be a hidden request for a finding, and which.

use super::held::{HeldFrame, spaces_at_end, text_bytes, with};
use super::{Relay, Source};
use crate::capabilities::{Capabilities, Flavour, Prefill};
use crate::continuation::{Ask, NotInjectable, Original, Wanted, injectable, plan};
use crate::decide::{Decision, Finding, Mode, Unavailable, wanted};
use crate::error::Code;
use crate::event::Channel;
use crate::limits::DRAFT_BYTES_MAX;
use crate::release::Release;

/// A hidden request that can be made.
pub(super) struct Planned {
    pub(super) ask: Ask,
    /// What the upstream is told, and of which channel.
    pub(super) correction: Option<(String, Option<Channel>)>,
    /// Held frames, from the oldest, that are sound.
    pub(super) keep: usize,
}

/// What the upstream is told of a fault.
struct Correction {
    text: Option<String>,
    /// The channel that is at fault.
    fault: Option<Channel>,
}

impl Relay {
    fn unavailable(&self, why: impl Into<String>) -> Unavailable {
        Unavailable {
            code: Code::NotInjectable,
            why: why.into(),
            fallback: self.guard.corrections.on_not_injectable,
        }
    }

    /// Whether an answer that is lost would be asked for again.
    pub(super) fn may_ask_after_loss(&self, detail: &str) -> bool {
        let finding = self.stream_finding(Code::UpstreamLost, detail.to_owned());
        let policy = self.guard.rulebook.policy(Code::UpstreamLost);
        policy.enabled
            && matches!(wanted(&finding), Decision::Correct | Decision::Repair)
            && self.guard.policy.mode == Mode::Enforce
            && self.planned(&finding).is_ok()
    }

    /// The hidden request for a finding.
    pub(super) fn planned(&self, finding: &Finding) -> Result<Planned, Unavailable> {
        let most = self.guard.corrections.corrections_max;
        if self.attempt >= most {
            return Err(Unavailable {
                code: Code::CorrectionsExhausted,
                why: format!("{} of {most} corrections are used up", self.attempt),
                fallback: self.guard.corrections.on_exhausted,
            });
        }
        let Some(source) = &self.source else {
            return Err(self.unavailable("there is no upstream to ask"));
        };
        if self.blind {
            return Err(self.unavailable("a frame of the answer could not be read"));
        }
        if self.told.finish {
            return Err(self.unavailable("the answer has been finished"));
        }
        if self.unframed {
            return Err(self.unavailable("the frames can no longer be told apart"));
        }
        if finding.lane.is_some_and(|lane| lane.choice != 0) {
            return Err(self.unavailable(NotInjectable::SeveralChoices.to_string()));
        }
        let keep = self.sound_frames(finding);
        let known = self.capabilities(source);
        let planned = self.plan_with(source, known, finding, keep).or_else(|why| {
            if source.known.get().is_some() {
                return Err(why);
            }
            // Nothing is known yet: the stream may wait for that, if there is a server for which there would be a plan.
            self.plan_with(source, Flavour::LlamaServer.into(), finding, keep)
        });
        planned.map_err(|why| self.unavailable(why.to_string()))
    }

    /// Another hidden request for a finding of which one was planned before: all that is held since then is sound.
    pub(super) fn planned_anew(&self, finding: &Finding) -> Result<Planned, NotInjectable> {
        let source = self.source.as_ref().ok_or(NotInjectable::Unreadable)?;
        self.plan_with(source, self.capabilities(source), finding, self.held.len())
    }

    /// What the upstream is told of a finding. A corrected request that broke off before it said a word is made again with
    /// its correction: without it, the fault would be as well.
    fn correction(&self, finding: &Finding) -> Correction {
        let unheard = || self.correction.clone().filter(|_| self.pending.is_some());
        let fault = finding.lane.map(|lane| lane.channel);
        let own = self.guard.corrections.texts.correction(finding);
        match own.map(|text| (text, fault)).or_else(unheard) {
            Some((text, fault)) => Correction {
                text: Some(text),
                fault,
            },
            None => Correction { text: None, fault },
        }
    }

    fn plan_with(
        &self,
        source: &Source,
        known: Capabilities,
        finding: &Finding,
        keep: usize,
    ) -> Result<Planned, NotInjectable> {
        if self.told.other {
            return Err(NotInjectable::OtherLanes);
        }
        let call_released = self.told.call && !self.shadows_calls();
        // Before the text is copied.
        injectable(
            &self.request,
            call_released,
            finding.lane.map(|lane| lane.channel),
        )?;
        let released = self.told.draft().ok_or(NotInjectable::TooLong)?;
        if text_bytes(released, self.held.iter().take(keep)) > DRAFT_BYTES_MAX {
            return Err(NotInjectable::TooLong);
        }
        let sound = with(released, self.held.iter().take(keep));
        let Correction { text, fault } = self.correction(finding);
        let original = Original {
            body: &source.body,
            dialect: self.dialect,
            facts: &self.request,
        };
        let wishes = Wanted {
            released,
            sound: &sound,
            call_released,
            fault,
            correction: text.as_deref(),
            placement: self.guard.corrections.placement,
        };
        let ask = plan(&original, &known, &wishes)?;
        let correction = text.map(|text| (text, fault));
        Ok(Planned {
            ask,
            correction,
            keep,
        })
    }

    /// The mode is shadow, and calls would be held if it were not.
    fn shadows_calls(&self) -> bool {
        let complete = self.guard.release.tool_arguments == Release::Complete;
        self.guard.policy.mode == Mode::Shadow && complete
    }

    fn capabilities(&self, source: &Source) -> Capabilities {
        let mut known = source.known.get().unwrap_or_default();
        if self.prefill_refused {
            known.prefill = Prefill::No;
            known.closes_reasoning = false;
        }
        known
    }

    /// How many of the held frames are sound: those before the fault, before any tool call (a call is whole or nothing)
    /// and before a finish, back to the last one that text can go on from.
    fn sound_frames(&self, finding: &Finding) -> usize {
        let mut keep = 0;
        for frame in &self.held {
            let faulty = frame.marks.iter().any(|held| {
                let lane = held.lane;
                lane.choice != 0 || finding.lane == Some(lane) && held.mark.at > finding.sound_to
            });
            if faulty || frame.call || frame.finish {
                break;
            }
            keep += 1;
        }
        keep - spaces_at_end(self.held.iter().take(keep).map(HeldFrame::space))
    }
}
