//! Plays a script in time: as the body of a stream, or at once at the end. No task of its own: the connection's task
//! drives it, and a client that leaves drops it, which frees the slot.

use super::frames::Frames;
use super::script::{Ending, Script};
use super::slots::Claim;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The primary "dies": the connection must drop without a proper end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the demo's primary drops this connection, as asked")]
pub(super) struct Died;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Waiting for the prompt to be processed.
    Prompt,
    /// The token with this number is next.
    Token(usize),
    /// No more bytes, and no end either.
    Wedged,
    /// The end.
    Over,
}

/// A body that writes the frames of a script as its time comes.
#[derive(Debug)]
pub(super) struct Playback {
    script: Script,
    frames: Frames,
    claim: Claim,
    timer: Pin<Box<Sleep>>,
    step: Step,
    first_token: Instant,
}

impl Playback {
    /// Starts now; `claim` is held until the body is dropped.
    pub(super) fn new(script: Script, frames: Frames, claim: Claim) -> Self {
        let first_token = Instant::now() + script.prompt_time;
        Self {
            script,
            frames,
            claim,
            timer: Box::pin(sleep_until(first_token)),
            step: Step::Prompt,
            first_token,
        }
    }

    /// Writes the token with number `at` of every choice, and the ends of those that have no more. `Err` where the
    /// script has the connection drop.
    fn beat(&mut self, at: usize) -> Result<BytesMut, Died> {
        let mut out = BytesMut::new();
        let predicted = self.first_token.elapsed();
        let longest = self
            .script
            .choices
            .iter()
            .map(|c| c.pieces.len())
            .max()
            .unwrap_or(0);
        for (index, choice) in self.script.choices.iter().enumerate() {
            if at == 0 {
                self.frames.role(index, &mut out);
            }
            match choice.pieces.get(at) {
                Some(piece) => {
                    self.frames.piece(index, piece, &mut out);
                    self.claim.decoded(index, at + 1);
                }
                None if at > choice.pieces.len() => {}
                None => match choice.ending {
                    Ending::Die => return Err(Died),
                    Ending::Wedge => self.step = Step::Wedged,
                    Ending::Stop | Ending::Length | Ending::ToolCalls => {
                        self.frames.finish(index, choice, predicted, &mut out);
                    }
                },
            }
        }
        if self.step == Step::Wedged {
            self.claim.wedge();
        } else if at < longest {
            self.step = Step::Token(at + 1);
            // From the deadline, not from now: a late wake-up does not slow the stream down.
            let next = self.timer.deadline() + self.script.pace;
            self.timer.as_mut().reset(next);
        } else {
            let tokens = self.script.choices.iter().map(|c| c.pieces.len()).sum();
            self.frames.done(tokens, predicted, &mut out);
            self.step = Step::Over;
        }
        Ok(out)
    }
}

impl http_body::Body for Playback {
    type Data = Bytes;
    type Error = Died;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Died>>> {
        loop {
            let at = match self.step {
                Step::Over => return Poll::Ready(None),
                // No waker: only the client's leaving ends this, and that drops the body.
                Step::Wedged => return Poll::Pending,
                Step::Prompt => {
                    ready!(self.timer.as_mut().poll(cx));
                    self.claim.generating();
                    0
                }
                Step::Token(at) => {
                    ready!(self.timer.as_mut().poll(cx));
                    at
                }
            };
            match self.beat(at) {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.freeze())))),
                Err(died) => {
                    self.step = Step::Over;
                    return Poll::Ready(Some(Err(died)));
                }
            }
        }
    }
}

/// Plays the script without showing anything and gives the whole body, as for `stream: false`.
///
/// # Errors
/// [`Died`] where the script has the connection drop. A script that stalls never returns.
pub(super) async fn play_whole(script: &Script, frames: &Frames, claim: Claim) -> Result<Bytes, Died> {
    let mut at = Instant::now() + script.prompt_time;
    sleep_until(at).await;
    claim.generating();
    let longest = script.choices.iter().map(|c| c.pieces.len()).max().unwrap_or(0);
    for token in 1..=longest {
        at += script.pace;
        sleep_until(at).await;
        for (index, choice) in script.choices.iter().enumerate() {
            claim.decoded(index, token.min(choice.pieces.len()));
        }
    }
    if script.choices.iter().any(|c| c.ending == Ending::Die) {
        return Err(Died);
    }
    if script.choices.iter().any(|c| c.ending == Ending::Wedge) {
        claim.wedge();
        std::future::pending::<()>().await;
    }
    let predicted: Duration = script.pace * u32::try_from(longest).unwrap_or(u32::MAX);
    Ok(frames.whole(&script.choices, predicted))
}
