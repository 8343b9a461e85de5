"""Archives that were attached: what is in them, and whether they can be unpacked without harm.

`unpack` is the way in; a module for each kind of archive tells its members. Nothing here knows where an archive came
from. The tar that we make ourselves is `sip/archive.py`.
"""
