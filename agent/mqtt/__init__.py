"""MQTT: the connection to the broker, Hono's topics, Ditto's envelopes, and the queue of messages."""
