"""Makes submission information packages (SIP) for the national DPS, in process.

What a package consists of belongs here: formats, METS, signature, tar, and the directory where it is made. Where the
files come from and where the package goes does not. The way in is `build.build_sip`.
"""
