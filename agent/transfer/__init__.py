"""Bytes in motion between the device and a provider: streams, connections, cancel, retries."""
