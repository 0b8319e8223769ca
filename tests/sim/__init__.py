"""The whole engine in one process and one thread, driven by a seed, watched by laws.

`scheduler` has the clock, the queue and the randomness; `ledger`, `network`, `bus`, `venue` with `venue_session`, and
`market` are the outside; `hosts` gives roles their incarnations, crashes, pauses and zombies; `world` is one run and
`engine`, `market` and `toys` are its kinds. `journal_laws`, `order_laws` and `signal_laws` judge after each event;
`plants` are bugs that they must see. `python -m tests.sim --help` runs seeds.
"""
