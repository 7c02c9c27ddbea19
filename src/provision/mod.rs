//! From an empty project to one that a pool can live in, and back.
//!
//! ```text
//!  look ──Seen──► plan (pure) ──Plan: steps, notes, obstacles──► apply ──► Neutron, Nova
//!                                                                  │ after a lost answer: look and plan again;
//!                                                                  ▼ a step that is no longer in the plan is done
//!  inventory ──Inventory: everything with our mark──► remove
//! ```
//! Everything that is made carries the pool's mark from the call on that makes it: at Neutron in the description, at servers in
//! the metadata, at images in the properties, at a key pair in the comment of its public key. So a run that was cut off is found again
//! by the next one, and by `cleanup`, which removes what carries the mark and nothing else.

mod apply;
mod error;
mod inventory;
mod keys;
mod plan;
mod progress;
mod remove;
mod rules;
mod seen;
pub mod settings;

pub use self::{
    apply::{Outcome, Pace, apply},
    error::{ProvisionError, StepError},
    inventory::{Inventory, Item, Scope, inventory},
    keys::KeyError,
    plan::{Action, Plan, Step, plan},
    progress::{Event, Progress},
    remove::{Removed, remove},
    seen::{Seen, look},
};
