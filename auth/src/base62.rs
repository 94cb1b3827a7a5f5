//! Bytes as letters and digits, of a length that depends on their number alone.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many characters `bytes` bytes take: the least number of digits that holds every value.
pub(crate) const fn width(bytes: usize) -> usize {
    // log2(62) is 5.954196…
    (bytes * 8 * 1_000_000).div_ceil(5_954_196)
}

/// The bytes as one big-endian number in base 62, with leading zeros.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![0; width(bytes.len())];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = ALPHABET[rest as usize];
    }
    digits.into_iter().map(char::from).collect()
}

/// The `N` bytes that [`encode`] wrote; `None` for any other text.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != width(N) {
        return None;
    }
    let mut number = [0u8; N];
    for letter in text.bytes() {
        let mut carry = ALPHABET.iter().position(|&known| known == letter)? as u32;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = (value & 255) as u8;
            carry = value >> 8;
        }
        if carry > 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        assert_eq!((width(4), width(32), width(56)), (6, 43, 76));
        assert_eq!(encode(&[0, 0, 0, 61]), "00000z");
        assert_eq!(encode(&[0, 0, 0, 62]), "000010");
        for bytes in [[0; 32], [255; 32], [7; 32]] {
            let text = encode(&bytes);
            assert_eq!((text.len(), decode(&text)), (43, Some(bytes)));
        }
    }

    #[test]
    fn what_is_not_of_it() {
        for text in ["", "00000", "0000000", "00000-", "00000é", "zzzzzz"] {
            assert_eq!(decode::<4>(text), None, "{text}");
        }
    }
}
