//! The wire format of protocol buffers: bytes to numbered fields.
//!
//! Reads no field's content; never copies and never reads past the end. Groups, which no message of
//! Kubernetes has, are refused.

/// What a field holds on the wire.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Payload<'a> {
    Varint(u64),
    /// A string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// 64 bits, of which only doubles are.
    Double(f64),
    /// 32 bits: no field that we know is written so.
    Fixed,
}

/// The fields of a message that are still to be read.
pub(super) struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field with its number, or what is wrong with the bytes.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Payload<'a>)>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| "a field number exceeds 32 bits")?;
        if number == 0 {
            return Err("a field has the number 0");
        }
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Double(self.double()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ENDS)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Payload::Fixed)?,
            _ => return Err("a field has a wire type that is not supported"),
        };
        Ok(Some((number, payload)))
    }

    /// The next number of a packed list.
    pub(super) fn packed(&mut self) -> Result<Option<u64>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number exceeds 64 bits")
    }

    fn double(&mut self) -> Result<f64, &'static str> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(ENDS)?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ENDS)?;
        self.rest = rest;
        Ok(taken)
    }
}

const ENDS: &str = "the bytes end inside a field";
