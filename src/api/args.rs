//! The conversion between Rust values and the arguments of an event. One value is one argument, a
//! tuple is several, and `()` is none. The conversion needs no macros for each arity, since serde
//! distinguishes tuples from all other types.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde::ser::{Impossible, Serialize, Serializer};
use serde_json::Error;

use crate::protocol::socketio::packet::Args;

/// A type to which the arguments of an event can be converted: any [`DeserializeOwned`] type, or
/// the received [`Args`] themselves.
///
/// A tuple reads one argument for each element and ignores further arguments. Any other type reads
/// the first argument.
///
/// A missing argument is read as `null`, so that an `Option` becomes `None`, also in a tuple.
/// JavaScript's `undefined` is sent as `null` as well. A lone surrogate, which is legal in
/// JavaScript's strings only, is read as U+FFFD. [`Args`] preserve lone surrogates.
pub trait FromArgs: Sized {
    /// Reads the arguments.
    fn from_args(args: Args) -> Result<Self, Error>;
}

impl FromArgs for Args {
    fn from_args(args: Args) -> Result<Self, Error> {
        Ok(args)
    }
}

impl<T: DeserializeOwned> FromArgs for T {
    fn from_args(args: Args) -> Result<Self, Error> {
        T::deserialize(ArgsDeserializer(&args.well_formed()))
    }
}

/// A type that can be sent as the arguments of an event: any [`Serialize`] type, or received
/// [`Args`].
///
/// An implementation of your own returns either arguments that it borrows, `self.args.to_args()`,
/// or arguments that it creates, `(1, "a").to_args().map(OutgoingArgs::into_owned)`.
pub trait ToArgs {
    /// Writes the arguments.
    fn to_args(&self) -> Result<OutgoingArgs<'_>, Error>;
}

/// Arguments of an outgoing event: JSON values separated by commas, and attachments.
#[derive(Debug)]
pub struct OutgoingArgs<'a> {
    json: Cow<'a, str>,
    inside: Range<usize>,
    /// Binary data to which placeholders in the JSON refer.
    pub(crate) attachments: Cow<'a, [Bytes]>,
}

impl OutgoingArgs<'_> {
    /// Returns a copy that borrows nothing, for an implementation of [`ToArgs`] that creates the
    /// values that it sends.
    pub fn into_owned(self) -> OutgoingArgs<'static> {
        OutgoingArgs {
            json: self.json.into_owned().into(),
            inside: self.inside,
            attachments: self.attachments.into_owned().into(),
        }
    }

    pub(crate) fn json(&self) -> &str {
        &self.json[self.inside.clone()]
    }
}

impl ToArgs for Args {
    fn to_args(&self) -> Result<OutgoingArgs<'_>, Error> {
        let json = self.json();
        Ok(OutgoingArgs { inside: 0..json.len(), json: json.into(), attachments: self.attachments().into() })
    }
}

impl ToArgs for &Args {
    fn to_args(&self) -> Result<OutgoingArgs<'_>, Error> {
        (**self).to_args()
    }
}

impl<T: Serialize> ToArgs for T {
    fn to_args(&self) -> Result<OutgoingArgs<'_>, Error> {
        let json = serde_json::to_string(self)?;
        let inside = match self.serialize(ShapeProbe) {
            Err(Shape::Tuple) => 1..json.len() - 1,
            Err(Shape::Unit) => 0..0,
            Err(Shape::One) | Ok(()) => 0..json.len(),
        };
        Ok(OutgoingArgs { json: json.into(), inside, attachments: Cow::default() })
    }
}

/// The outermost shape of a value. It is returned as an error, so that serialization stops
/// immediately.
#[derive(Debug)]
enum Shape {
    Unit,
    One,
    Tuple,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Shape {}

impl serde::ser::Error for Shape {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::One
    }
}

/// Finds the outermost shape of a value.
struct ShapeProbe;

macro_rules! one {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$ok, Shape> {
            Err(Shape::One)
        })*
    };
}

type Never = Impossible<(), Shape>;

impl Serializer for ShapeProbe {
    type Ok = ();
    type Error = Shape;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    one! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_unit(self) -> Result<(), Shape> {
        Err(Shape::Unit)
    }

    fn serialize_tuple(self, _: usize) -> Result<Never, Shape> {
        Err(Shape::Tuple)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Never, Shape> {
        Err(Shape::Tuple)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Shape> {
        Err(Shape::One)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Shape> {
        Err(Shape::One)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Shape> {
        Err(Shape::One)
    }
}

/// Deserializes a tuple from all arguments, and any other type from the first argument.
struct ArgsDeserializer<'a>(&'a Args);

/// Generates methods that delegate to the first argument, or to [`MissingArg`] if there is none.
macro_rules! first_argument {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Error> {
            match self.0.get(0) {
                Some(text) => serde_json::Deserializer::from_str(text).$method($($argument,)* visitor),
                None => MissingArg(0).$method($($argument,)* visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for ArgsDeserializer<'de> {
    type Error = Error;

    first_argument! {
        deserialize_any();
        deserialize_option();
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_newtype_struct(name: &'static str);
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(EachArg { args: self.0, next: 0, length })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit_struct seq map struct
        identifier ignored_any
    }
}

/// The arguments in order, padded with missing arguments up to the number of elements of the type.
struct EachArg<'a> {
    args: &'a Args,
    next: usize,
    length: usize,
}

impl<'de> SeqAccess<'de> for EachArg<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let at = self.next;
        self.next += 1;
        match self.args.get(at) {
            Some(text) => seed.deserialize(&mut serde_json::Deserializer::from_str(text)).map(Some),
            None if at < self.length => seed.deserialize(MissingArg(at)).map(Some),
            None => Ok(None),
        }
    }
}

/// A missing argument with its index. The argument is read as `null`, which is an error for a type
/// without `null`.
struct MissingArg(usize);

impl<'de> Deserializer<'de> for MissingArg {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit().map_err(|_: Error| serde::de::Error::custom(format!("argument {} is missing", self.0 + 1)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    fn written<T: ToArgs>(value: T) -> String {
        value.to_args().unwrap().json().to_owned()
    }

    fn args(elements: &[&str]) -> Args {
        Args::from_elements(elements.iter().map(ToString::to_string))
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Chat {
        text: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Level {
        Low,
    }

    #[test]
    fn one_value_is_one_argument_and_a_tuple_is_several() {
        assert_eq!(written("ok"), r#""ok""#);
        assert_eq!(written(vec![1, 2]), "[1,2]");
        assert_eq!(written((1, "a", [2])), r#"1,"a",[2]"#);
        assert_eq!(written(&Chat { text: "hi".into() }), r#"{"text":"hi"}"#);
        assert_eq!(written(None::<u8>), "null");
        assert_eq!(written(Level::Low), r#""Low""#);
        assert_eq!(written(()), "");
        let raw = args(&["1", "{}"]);
        assert_eq!(written(&raw), "1,{}");
        assert_eq!(written(raw), "1,{}");
    }

    #[test]
    fn arguments_are_read_by_the_shape_of_the_type() {
        assert_eq!(Chat::from_args(args(&[r#"{"text":"hi"}"#])).unwrap(), Chat { text: "hi".into() });
        assert_eq!(<(u8, String)>::from_args(args(&["1", r#""a""#, "null"])).unwrap(), (1, "a".into()));
        assert_eq!(Vec::<u8>::from_args(args(&["[1,2]"])).unwrap(), [1, 2]);
        assert_eq!(Option::<u8>::from_args(args(&[])).unwrap(), None);
        assert_eq!(Option::<u8>::from_args(args(&["7"])).unwrap(), Some(7));
        assert_eq!(Level::from_args(args(&[r#""Low""#])).unwrap(), Level::Low);
        <()>::from_args(args(&[])).unwrap();
        assert_eq!(Args::from_args(args(&["1"])).unwrap(), args(&["1"]));
    }

    #[test]
    fn an_own_type_passes_on_args_that_it_holds_or_makes() {
        struct Held(Args);
        impl ToArgs for Held {
            fn to_args(&self) -> Result<OutgoingArgs<'_>, Error> {
                self.0.to_args()
            }
        }
        struct Made(u8);
        impl ToArgs for Made {
            fn to_args(&self) -> Result<OutgoingArgs<'_>, Error> {
                (self.0, "made").to_args().map(OutgoingArgs::into_owned)
            }
        }
        assert_eq!(written(Held(args(&["1", "{}"]))), "1,{}");
        assert_eq!(written(Made(7)), r#"7,"made""#);
    }

    // JavaScript's `undefined` is sent as `null`, or is omitted at the end of the arguments.
    #[test]
    fn null_and_a_missing_argument_are_read_as_none() {
        type Optional = (u8, Option<String>, Option<Wrapped>);
        #[derive(Debug, PartialEq, Deserialize)]
        struct Wrapped(Option<u8>);
        #[derive(Debug, PartialEq, Deserialize)]
        struct Given(u8, #[serde(default)] Option<u8>);
        for given in [&["1"][..], &["1", "null"], &["1", "null", "null"], &["1", "null", "null", "7"]] {
            assert_eq!(Optional::from_args(args(given)).unwrap(), (1, None, None), "{given:?}");
            assert_eq!(Given::from_args(args(&given[..given.len().min(2)])).unwrap(), Given(1, None), "{given:?}");
        }
        assert_eq!(
            Optional::from_args(args(&["1", r#""a""#, "2"])).unwrap(),
            (1, Some("a".into()), Some(Wrapped(Some(2))))
        );
        assert_eq!(<(Option<u8>, u8)>::from_args(args(&["null", "2"])).unwrap(), (None, 2));
        assert_eq!(Option::<u8>::from_args(args(&["null"])).unwrap(), None);
        assert_eq!(Wrapped::from_args(args(&[])).unwrap(), Wrapped(None));
        assert_eq!(serde_json::Value::from_args(args(&[])).unwrap(), serde_json::Value::Null);
        assert_eq!(<(u8, ())>::from_args(args(&["1"])).unwrap(), (1, ()));
    }

    #[test]
    fn lone_surrogates_are_read_as_replacement_characters() {
        let sent = args(&[r#""a\ud83d""#, r#"{"text":"\udc00","\ud800":1}"#]);
        assert_eq!(String::from_args(sent.clone()).unwrap(), "a\u{fffd}");
        let expected = serde_json::json!({"text": "\u{fffd}", "\u{fffd}": 1});
        assert_eq!(<(String, serde_json::Value)>::from_args(sent.clone()).unwrap(), ("a\u{fffd}".into(), expected));
        assert_eq!(Chat::from_args(sent.skip(1)).unwrap(), Chat { text: "\u{fffd}".into() });
        assert_eq!(Args::from_args(sent.clone()).unwrap(), sent, "raw arguments are unchanged");
    }

    #[test]
    fn missing_or_wrong_arguments_are_errors() {
        assert!(u8::from_args(args(&[])).unwrap_err().to_string().contains("argument 1 is missing"));
        let missing = <(u8, u8)>::from_args(args(&["1"])).unwrap_err();
        assert_eq!(missing.to_string(), "argument 2 is missing");
        assert!(u8::from_args(args(&[r#""a""#])).is_err());
    }
}
