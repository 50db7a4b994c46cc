//! The macro that defines `Limits` and its groups, and the bounds of the types of limits.

use std::num::NonZeroU32;
use std::time::Duration;

use super::RetentionRule;

/// Defines `Limits` and its groups. The doc comment of a limit is shown by rustdoc and is also
/// stored in `Limits::DESCRIPTIONS`, for programs such as `stentor config explain`.
macro_rules! limits {
    (@most) => { Limits::DURATION_MAX };
    (@most $most:expr) => { $most };
    ($(
        $(#[doc = $about:literal])+
        $group:ident: $Group:ident {
            $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr $(, at most $most:expr)?;)+
        }
    )+) => {
        /// Bounds and time limits of one server, grouped by what they bound.
        ///
        /// ```
        /// let limits = stentor::Limits::with(|limits| limits.recovery.sessions_max = 1_000);
        /// ```
        ///
        /// A duration longer than [`DURATION_MAX`](Self::DURATION_MAX) is lowered to that value, so
        /// [`Duration::MAX`] may stand for "never". Ages of what the queue stores are lowered to
        /// [`AGE_MAX`](Self::AGE_MAX).
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[doc = $about])+ pub $group: $Group,)+
        }

        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $Group {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                    pub $name: $type,
                )+
            }

            impl Default for $Group {
                fn default() -> Self {
                    Self { $($name: $default,)+ }
                }
            }
        )+

        impl Limits {
            /// Path (`"recovery.window"`) and description of every limit. The first paragraph of a
            /// description states what is limited. A second paragraph, if there is one, explains
            /// the default.
            pub const DESCRIPTIONS: &'static [(&'static str, &'static str)] = &[$($(
                (concat!(stringify!($group), ".", stringify!($name)), concat!($($doc, "\n"),+)),
            )+)+];

            /// Lowers every duration that exceeds its maximum to that value.
            pub(crate) fn bounded(mut self) -> Self {
                $($(self.$group.$name.bound(limits!(@most $($most)?));)+)+
                self
            }
        }
    };
}
pub(super) use limits;

/// Type of a limit. Only durations have a maximum value.
pub(super) trait Bounded {
    fn bound(&mut self, _most: Duration) {}
}

impl Bounded for usize {}
impl Bounded for u32 {}
impl Bounded for u8 {}
impl Bounded for Option<usize> {}
impl Bounded for Option<NonZeroU32> {}

impl Bounded for Duration {
    fn bound(&mut self, most: Duration) {
        *self = (*self).min(most);
    }
}

impl Bounded for Option<Duration> {
    fn bound(&mut self, most: Duration) {
        self.iter_mut().for_each(|duration| duration.bound(most));
    }
}

impl Bounded for Vec<Duration> {
    fn bound(&mut self, most: Duration) {
        self.iter_mut().for_each(|duration| duration.bound(most));
    }
}

impl Bounded for Vec<RetentionRule> {
    fn bound(&mut self, most: Duration) {
        self.iter_mut().for_each(|rule| rule.max_age.bound(most));
    }
}
