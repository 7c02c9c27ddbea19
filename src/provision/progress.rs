//! What is told while things are made and removed.

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step has begun, in words: `create router lab-router`.
    Began(String),
    /// It is done; with what came of it, in words.
    Done(String),
    /// It has to be tried again, in words.
    Again(String),
    /// It failed, in words.
    Failed(String),
}

/// Is told of every event.
pub type Progress<'a> = &'a (dyn Fn(Event) + Send + Sync);
