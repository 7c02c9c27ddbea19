//! The demo: scale-out, split and handover, twice, under load. Not there yet.
