"""The format ZIP: `writer` makes an archive as a stream, `reader` reads one by its central directory."""
