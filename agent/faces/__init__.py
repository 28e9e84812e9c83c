"""How others see the engine: the feature of the digital twin, the socket of the device, a text file."""
