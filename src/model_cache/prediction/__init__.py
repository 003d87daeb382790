"""The path of a prediction: from an input to an answer and an entry.

`flow` contains the steps and all decisions, as generators without I/O: they yield `effects` and
receive the results. `sync` is the driver that blocks the caller's thread, `asynchronous` the one
that waits in an event loop. Keys, entries and access to Redis are in `binding`, `entries` and
`stores`.
"""
