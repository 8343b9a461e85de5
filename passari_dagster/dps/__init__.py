"""The Digital Preservation Service: sending packages, asking where they are, reading verdicts and reports.

What crosses the wire to the DPS belongs here. What a package holds is known by `sip`; what a verdict means for
an object is known by `workflow`. `Dps` is all that other packages use. The SSH and HTTP libraries are imported
with the first request, since most processes that load this package never make one.
"""

from passari_dagster.dps.faults import DpsUnreachableError, PackageExistsError
from passari_dagster.dps.service import Dps
from passari_dagster.dps.verdicts import Finding, Place, Verdict, Waiting

__all__ = ["Dps", "DpsUnreachableError", "Finding", "PackageExistsError", "Place", "Verdict", "Waiting"]
