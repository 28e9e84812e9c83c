"""Ids that become levels of MQTT topics and Ditto paths."""


def valid_level(text: str) -> bool:
    """Return True for one level of a topic or a path: printable, without `/`, wildcards and spaces."""
    return bool(text) and text.isprintable() and not set("/+# ") & set(text)


def valid_device_id(device_id: str) -> bool:
    """Return True for `<namespace>:<name>` without characters that would break a topic."""
    namespace, _, name = device_id.partition(":")
    return bool(namespace and name) and valid_level(device_id)
