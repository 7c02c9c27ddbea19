//! Placeholder, replaced by the module's own text.

pub mod settings;
