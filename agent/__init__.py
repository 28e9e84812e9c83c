"""The edge-backup agent: commands over MQTT, archives in a provider, restores all or nothing."""

__version__ = "0.1.0"
