"""The page for the person in front of the device: one HTML file, one stylesheet, one module, an icon."""
