//! The resolved values under the types that the table of settings gives them.

use std::time::Duration;

use taskhost_core::protocol::auth::Digest;
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::rate::Rate;
use taskhost_core::{Disposition, NodeName, QueueKind, QueueName};

use super::resolve::Resolved;
use super::secret::{SecretText, SecretUrl};
use super::value::{Format, Level, Value};

/// The values of the table under the types that the table says they have.
pub(super) struct Typed<'a>(pub(super) &'a Resolved);

macro_rules! typed {
    ($(fn $name:ident -> $type:ty { $($pattern:pat => $value:expr),+ })+) => {
        impl Typed<'_> {
            $(pub(super) fn $name(&self, key: &str) -> $type {
                match self.0.value(key) {
                    $($pattern => $value,)+
                    other => unreachable!("the table of settings gives `{key}` another type: {other:?}"),
                }
            })+
        }
    };
}

typed! {
    fn bool -> bool { Value::Bool(value) => *value }
    fn optional_bool -> Option<bool> { Value::Bool(value) => Some(*value), Value::None => None }
    fn count -> u32 { Value::Count(value) => *value }
    fn optional_count -> Option<u32> { Value::Count(value) => Some(*value), Value::None => None }
    fn autoscale -> Option<(u32, u32)> { Value::Autoscale { max, min } => Some((*max, *min)), Value::None => None }
    fn duration -> Duration { Value::Duration(value) => *value }
    fn optional_duration -> Option<Duration> { Value::Duration(value) => Some(*value), Value::None => None }
    fn factor -> f64 { Value::Factor(value) => *value }
    fn bytes -> u64 { Value::Bytes(value) => *value }
    fn rate -> Option<Rate> { Value::Rate(rate, _) => Some(*rate), Value::None => None }
    fn url -> SecretUrl { Value::Url(url) => url.clone() }
    fn optional_url -> Option<SecretUrl> { Value::Url(url) => Some(url.clone()), Value::None => None }
    fn queue -> QueueName { Value::Queue(queue) => queue.clone() }
    fn disposition -> Disposition { Value::Disposition(disposition) => *disposition }
    fn queue_kind -> QueueKind { Value::QueueKind(kind) => *kind }
    fn serializer -> Serializer { Value::Serializer(serializer) => *serializer }
    fn serializers -> Vec<Serializer> { Value::Serializers(serializers) => serializers.clone() }
    fn text -> String { Value::Text(text) => text.clone() }
    fn pairs -> Vec<(String, String)> {
        Value::Texts(pairs) =>
            pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        Value::None => Vec::new()
    }
    fn optional_text -> Option<String> { Value::Text(text) => Some(text.clone()), Value::None => None }
    fn secret -> Option<SecretText> { Value::Secret(secret) => Some(secret.clone()), Value::None => None }
    fn digest -> Digest { Value::Digest(digest) => *digest }
    fn node -> NodeName { Value::Text(text) => NodeName::parse(text).expect("the name was parsed when it was resolved") }
    fn level -> Level { Value::Level(level) => *level }
    fn format -> Format { Value::Format(format) => *format }
}
