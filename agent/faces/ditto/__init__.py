"""The twin's face: Ditto commands that arrive over MQTT, and the messages that tell the twin."""
