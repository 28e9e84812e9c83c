"""The faces of the engine: the feature of the digital twin, HTTP, the socket of the device, metrics."""
