//! Enums used as label values in metrics and log lines.

/// An enum of label values. Each value is also an index into an array of counters.
pub(crate) trait Label: Copy + 'static {
    const ALL: &'static [Self];

    fn as_str(self) -> &'static str;

    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$about:meta])* $value:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$about])* $value,)+ }

        impl $name {
            pub(crate) const COUNT: usize = [$($label),+].len();

            /// Text of this value in metrics and log lines.
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
