//! How many requests a second: more while it is busy, fewer while it is calm, and still fewer where guests do not get calm by that.
//!
//! An emulated guest's CPU depends on its host: what is a seventh of it on one is a third on another, which never calms down.

/// What is asked for while it is calm, of the mean.
const CALM: f64 = 0.8;
/// The least that a slow host is asked for, of the mean.
const LEAST: f64 = 0.3;
/// Where CPU shall be after an ease, of the threshold.
const AIM: f64 = 0.75;

/// The two rates around their mean, requests a second.
#[derive(Debug)]
pub(super) struct Tide {
    mean: f64,
    calm: f64,
}

impl Tide {
    pub(super) fn new(mean: f64) -> Self {
        Self { mean, calm: CALM * mean }
    }

    /// The rate while it is calm.
    pub(super) fn calm(&self) -> f64 {
        self.calm
    }

    /// The rate while it is busy, which is about as long: what calm asks for less, this asks for more.
    pub(super) fn busy(&self) -> f64 {
        2.0 * self.mean - self.calm
    }

    /// A calm that CPU does not follow: lowers its rate for good, by what CPU is too high. Whether it did, which it does not
    /// where CPU is low already or nothing less can be asked for.
    pub(super) fn ease(&mut self, cpu: f64, low: f64) -> bool {
        let eased = (self.calm * AIM * low / cpu).max(LEAST * self.mean);
        // What is not a number compares as false.
        let is_less = cpu > low && eased < self.calm;
        if is_less {
            self.calm = eased;
        }
        is_less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(tide: &Tide) -> [u32; 2] {
        [tide.calm().round() as u32, tide.busy().round() as u32]
    }

    #[test]
    fn a_fast_host_is_not_eased() {
        let mut tide = Tide::new(300.0);
        for cpu in [0.0, 5.0, 20.0, f64::NAN] {
            assert!(!tide.ease(cpu, 20.0), "{cpu}");
        }
        assert_eq!(rates(&tide), [240, 360]);
    }

    #[test]
    fn a_slow_host_is_eased_by_what_is_too_much_and_makes_up_for_it() {
        let mut tide = Tide::new(300.0);
        assert!(tide.ease(30.0, 20.0));
        assert_eq!(rates(&tide), [120, 480]);
        assert!(!tide.ease(15.0, 20.0), "it has become calm");
        // It goes on from there, as far as is sensible.
        assert!(tide.ease(21.0, 20.0));
        assert_eq!(rates(&tide), [90, 510]);
        assert!(!tide.ease(100.0, 20.0), "this is the least");
    }
}
