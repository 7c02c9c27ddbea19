//! What goes wrong and when: every mishap is a function of the seed, its kind and its number or second, and of nothing else. So a
//! life can be lived again with some of its mishaps left out, and the others strike as before: that is how a story is shrunk.

use std::collections::BTreeSet;

use fastrand::Rng;
use lbsidecar::core::time::Timestamp;

macro_rules! mishaps {
    ($($(#[$doc:meta])* $name:ident $per_mille:literal $where:ident $words:literal;)*) => {
        /// Everything that can go wrong, and what others do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum What { $($name,)* }

        impl What {
            pub(crate) const ALL: &[What] = &[$(What::$name,)*];

            /// In words, its chance in a thousand (each second, or each call), and where it may strike.
            fn is(self) -> (&'static str, u32, Where) {
                match self { $(What::$name => ($words, $per_mille, Where::$where),)* }
            }

            /// Whether clients may notice.
            pub(crate) fn is_violent(self) -> bool {
                self.is().2 == Where::Violent
            }
        }
    };
}

/// In which lives a mishap may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In all: no client may lose a request by it.
    Always,
    /// Only in violent ones: here clients may lose requests.
    Violent,
}

mishaps! {
    // Calls: the chance is for each call.
    LostReply 80 Always "the answer is lost";
    Refused 100 Always "HAProxy does not take it";
    Unauthorized 25 Always "the call is answered 401";
    Forbidden 20 Always "the call is answered 403";
    Conflict 25 Always "the call is answered 409";
    NoQuota 20 Always "the call is answered 413";
    TooMany 25 Always "the call is answered 429";
    ServerError 50 Always "the call is answered 5xx";
    DoneButError 50 Always "the call is done, and answered 5xx";
    Duplicate 60 Always "the call arrives twice";
    DoubleAnswer 60 Always "the answer arrives twice";
    Delay 60 Always "the call takes long";
    BuildError 400 Always "the build ends in ERROR";
    BuildForEver 250 Always "the build never ends";
    DeafClone 300 Always "the clone's service never answers";
    SlowDelete 400 Always "the deletion takes long";
    StuckDelete 200 Always "the deletion is stuck";
    ListLag 400 Always "the new VM is missing from lists for a while";
    NoRoom 300 Always "there is no room for a clone";
    CrashBeforeAct 40 Always "the daemon dies between deciding and acting";
    CrashAtEntry 40 Always "the daemon dies as a stage begins";
    // Each second.
    StaleList 30 Always "Nova's list is an old one";
    NoSample 20 Always "libvirt does not answer";
    StaleSample 20 Always "libvirt answers with old counters";
    CounterReset 5 Always "a VM's counters start again from zero";
    Migration 4 Always "a VM moves to another host";
    HostBusy 4 Always "the host has no CPU time to spare";
    LbSilent 15 Always "HAProxy does not answer us";
    CloudSilent 10 Always "Nova does not answer";
    ApiAway 2 Always "the API is away";
    Reload 8 Always "somebody reloads HAProxy";
    Crash 8 Always "the daemon is killed";
    DiskFull 3 Always "the state cannot be saved";
    Command 8 Always "the operator says something";
    Lock 3 Always "somebody locks or unlocks a VM";
    Weight 5 Always "somebody sets a weight by hand";
    Edit 2 Always "somebody edits HAProxy's file";
    Load 17 Always "the load changes";
    // When the daemon starts again.
    ClockStep 300 Always "the clock was set meanwhile";
    StateLost 40 Always "the state file is lost";
    StateOld 60 Always "the state file cannot be read, the one before is taken";
    // Each second; clients may notice.
    Kill 2 Violent "a VM is deleted by somebody";
    PowerOff 2 Violent "a VM is switched off";
    Hang 2 Violent "a VM's service hangs";
    Reboot 2 Violent "a VM reboots";
    Pause 2 Violent "a VM is paused";
    NovaError 2 Violent "Nova says ERROR of a VM";
    HaproxyCrash 3 Violent "HAProxy crashes and starts again";
    HaproxyDown 2 Violent "HAProxy is down";
    VipAway 2 Violent "somebody moves the service address";
    Disable 3 Violent "somebody disables a server";
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.is().0)
    }
}

/// One thing that goes wrong: its kind, and the second or the number of the call at which it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mishap {
    pub(crate) what: What,
    pub(crate) key: u64,
}

/// The dice of one life.
#[derive(Debug)]
pub(crate) struct Fates {
    seed: u64,
    chances: Vec<u32>,
    calls: Vec<u64>,
    only: Option<BTreeSet<Mishap>>,
    /// What struck, in order.
    pub(crate) struck: Vec<Mishap>,
    /// Fine weather: nothing strikes.
    pub(crate) calm: bool,
}

impl Fates {
    /// Some lives see every misfortune, most a few. `only` leaves out all mishaps but these.
    pub(crate) fn new(seed: u64, violent: bool, only: Option<BTreeSet<Mishap>>) -> Self {
        let mut rng = Rng::with_seed(mix(seed, 0, 1));
        let all = rng.u8(0..10) == 0;
        let chances = What::ALL.iter().map(|what| {
            let (_, per_mille, place) = what.is();
            let seen = rng.u8(0..4) == 0 || all || *what == What::Load;
            if seen && (violent || place == Where::Always) { per_mille } else { 0 }
        });
        let chances = chances.collect();
        Self { seed, chances, calls: vec![0; What::ALL.len()], only, struck: Vec::new(), calm: false }
    }

    /// Whether it strikes at this second; then with the dice for its details.
    pub(crate) fn at(&mut self, now: Timestamp, what: What) -> Option<Rng> {
        self.strikes(what, now.0 / 1000)
    }

    /// Whether it strikes at the next call of its kind; then with the dice for its details.
    pub(crate) fn next(&mut self, what: What) -> Option<Rng> {
        let count = self.calls.get_mut(what as usize)?;
        *count += 1;
        let key = *count;
        self.strikes(what, key)
    }

    fn strikes(&mut self, what: What, key: u64) -> Option<Rng> {
        let chance = *self.chances.get(what as usize)?;
        if chance == 0 || self.calm {
            return None;
        }
        let mut dice = Rng::with_seed(mix(self.seed, what as u64 + 2, key));
        let mishap = Mishap { what, key };
        if dice.u32(0..1000) >= chance || self.only.as_ref().is_some_and(|only| !only.contains(&mishap)) {
            return None;
        }
        self.struck.push(mishap);
        Some(dice)
    }

    /// Dice for what is no mishap: how long things take, how long sessions last.
    pub(crate) fn noise(&self, stream: u64, key: u64) -> Rng {
        Rng::with_seed(mix(self.seed, stream + 1000, key))
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014) over the three.
fn mix(seed: u64, stream: u64, key: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(stream.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(key.wrapping_mul(0x8cb9_2ba7_2f3d_8dd7));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
