"""Archives: ZIP made as a stream, read by its central directory.

`writer` makes one out of what `agent.save.walk.walk` finds, `reader` lists and unpacks one; the
rest are their parts: `records` (the ZIP records), `metadata` (what an entry remembers about a file),
`names` (which names may be restored), `deflate` (levels), `ordered` (threads, and order), `directory`.
"""
