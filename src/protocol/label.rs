//! Enums whose values are labels: of metrics, of log lines.

/// An enum that counts can be kept by.
pub(crate) trait Label: Copy + 'static {
    /// Every value, in the order of declaration.
    const ALL: &'static [Self];

    /// The text of the label in metrics and log lines.
    fn as_str(self) -> &'static str;

    /// The position in [`ALL`](Self::ALL).
    fn index(self) -> usize;
}

/// Declares an enum with the label of each value.
macro_rules! labels {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$about:meta])* $value:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$about])* $value,)+ }

        impl $name {
            pub(crate) const COUNT: usize = [$($label),+].len();

            /// The text of this value, in metrics and log lines.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $label,)+
                }
            }
        }

        impl $crate::protocol::label::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn as_str(self) -> &'static str {
                Self::as_str(self)
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use labels;
