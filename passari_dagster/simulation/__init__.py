"""A MuseumPlus and a DPS that speak the real protocols over loopback, with fault knobs.

For the demo and the tests only; nothing else imports it.
"""
