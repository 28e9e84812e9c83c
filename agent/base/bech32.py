"""The spelling of age's keys: Bech32. Pure. Source: BIP 173."""

LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LETTERS = 6
_MAX_LETTERS = 90


def decode(text: str) -> tuple[str, bytes]:
    """Return the prefix, in its own case, and the data. Raises ValueError, without the text."""
    prefix, _, letters = text.rpartition("1")
    if not prefix or len(letters) < _CHECKSUM_LETTERS or len(text) > _MAX_LETTERS or not text.isascii():
        raise ValueError("not a key")
    if text not in (text.lower(), text.upper()):
        raise ValueError("a key is written in one case")
    values = [LETTERS.find(letter) for letter in letters.lower()]
    if min(values) < 0 or checksum(expanded(prefix.lower()) + values) != 1:
        raise ValueError("a key with a wrong checksum: copy it again")
    return prefix, _octets(values[:-_CHECKSUM_LETTERS])


def decode_key(text: str, prefix: str) -> bytes:
    """Return the 32 bytes of a key with this prefix. Raises ValueError, without the text."""
    found, key = decode(text)
    if found != prefix or len(key) != 32:
        raise ValueError(f"expected a key that begins with '{prefix}1'")
    return key


def expanded(prefix: str) -> list[int]:
    codes = prefix.encode("ascii")
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def checksum(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                check ^= term
    return check


def _octets(values: list[int]) -> bytes:
    """Join groups of five bits to octets; the bits left over are fewer than a group, and zero."""
    number = 0
    for value in values:
        number = number << 5 | value
    rest = len(values) * 5 % 8
    if rest >= 5 or number & ((1 << rest) - 1):
        raise ValueError("a key with too many bits")
    return (number >> rest).to_bytes(len(values) * 5 // 8, "big")
