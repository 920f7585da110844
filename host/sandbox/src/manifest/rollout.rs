//! `[rollout]` of a manifest: on how many attempts, for how long and with how many failures a new version is
//! tried.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use taskhost_core::RolloutTerms;

/// The table as it is written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    percent: Percent,
    #[serde(rename = "for")]
    period: Period,
    max_failure_rate: Rate,
}

impl File {
    pub(super) fn into_terms(self) -> RolloutTerms {
        RolloutTerms { percent: self.percent.0, period: self.period.0, max_failure_rate: self.max_failure_rate.0 }
    }
}

#[derive(Debug)]
struct Percent(f64);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        let wrong = || de::Error::invalid_value(de::Unexpected::Float(number), &"a number above 0, up to 100");
        (number > 0.0 && number <= 100.0).then_some(Self(number)).ok_or_else(wrong)
    }
}

#[derive(Debug)]
struct Rate(f64);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        let wrong = || de::Error::invalid_value(de::Unexpected::Float(number), &"a number from 0 to 1");
        (0.0..=1.0).contains(&number).then_some(Self(number)).ok_or_else(wrong)
    }
}

/// A time such as `90s`, `5m` or `1h`, or a number of seconds.
#[derive(Debug)]
struct Period(Duration);

impl Period {
    fn parse(text: &str) -> Option<Self> {
        let unit_at = text.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(text.len());
        let factor = match text[unit_at..].trim() {
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        Self::seconds(text[..unit_at].trim().parse::<f64>().ok()? * factor)
    }

    fn seconds(seconds: f64) -> Option<Self> {
        Duration::try_from_secs_f64(seconds).ok().filter(|period| !period.is_zero()).map(Self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;
        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"5m\", or a number of seconds")
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Period, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Period, E> {
                Period::seconds(seconds).ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                Period::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(PeriodVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_how_a_version_is_tried() {
        let read = |text: &str| toml::from_str::<File>(text).map(File::into_terms);
        let terms = RolloutTerms { percent: 10.0, period: Duration::from_secs(300), max_failure_rate: 0.02 };
        assert_eq!(read("percent = 10\nfor = \"5m\"\nmax_failure_rate = 0.02").expect("valid"), terms);
        let terms = RolloutTerms { percent: 0.5, period: Duration::from_secs(90), max_failure_rate: 0.0 };
        assert_eq!(read("percent = 0.5\nfor = 90\nmax_failure_rate = 0").expect("valid"), terms);
        for (text, expected) in [
            ("percent = 0\nfor = 1\nmax_failure_rate = 0", "a number above 0, up to 100"),
            ("percent = 1\nfor = \"soon\"\nmax_failure_rate = 0", "a time such as \"5m\""),
            ("percent = 1\nfor = 0\nmax_failure_rate = 0", "a time such as \"5m\""),
            ("percent = 1\nfor = 1\nmax_failure_rate = 2", "a number from 0 to 1"),
            ("percent = 1\nfor = 1", "missing field `max_failure_rate`"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
