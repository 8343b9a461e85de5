"""What a file is, from its bytes: MIME type, exact version, charset, technical metadata; and whether it is whole.

`identify` decides which module reads a file; each of those knows one format or family, and nothing of packages. What
the DPS accepts is data, in `accepted.csv`. How the facts are written into a SIP belongs to `sip/`.
"""
