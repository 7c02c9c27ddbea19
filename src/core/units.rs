//! Quantities with their unit in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A percentage, 0 to 100 inclusive, never NaN.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(f64);

impl Percent {
    /// Checks the range.
    ///
    /// # Errors
    /// A sentence when `value` is not a number from 0 to 100.
    pub fn try_new(value: f64) -> Result<Self, String> {
        if (0.0..=100.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{value} is not a percentage: use a number from 0 to 100"))
        }
    }

    /// Cuts `value` to the range; NaN becomes 0.
    #[must_use]
    pub fn clamped(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 100.0) })
    }

    /// The number, 0 to 100.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Percent {
    type Error = String;
    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::try_new(value)
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> f64 {
        percent.0
    }
}

impl std::str::FromStr for Percent {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        let value: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a percentage: use a number from 0 to 100"))?;
        Self::try_new(value)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}%", self.0)
    }
}

/// A server's weight in HAProxy: 0 (no new traffic) to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// No new traffic; health checks go on.
    pub const ZERO: Weight = Weight(0);
    /// The weight of a member that carries its full share.
    pub const FULL: Weight = Weight(100);

    /// Cuts `value` to HAProxy's range.
    #[must_use]
    pub fn clamped(value: u16) -> Self {
        Self(value.min(256))
    }

    /// The number, 0 to 256.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Weight {
    type Error = String;
    fn try_from(value: u16) -> Result<Self, Self::Error> {
        if value <= 256 {
            Ok(Self(value))
        } else {
            Err(format!("weight {value} is out of range: use 0 to 256"))
        }
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> u16 {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_refuses_what_is_not_one() {
        assert!("60".parse::<Percent>().is_ok());
        assert!("60%".parse::<Percent>().is_ok());
        for bad in ["101", "-1", "NaN", "inf", "", "%", "sixty"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad:?} must be refused");
        }
        assert!(Percent::clamped(f64::NAN).get() == 0.0 && Percent::clamped(250.0).get() == 100.0);
    }
}
