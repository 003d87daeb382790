"""The way of one prediction: from an input to an answer, and to an entry.

`flow` holds the steps and every decision, as generators that do no I/O: they yield what they need
(`effects`) and are sent the result. `sync` is the driver that waits in the caller's thread,
`asynchronous` the one that waits in an event loop. What makes two inputs the same, what an entry
looks like and how Redis is reached is decided elsewhere: in `binding`, `codec` and `stores`.
"""
