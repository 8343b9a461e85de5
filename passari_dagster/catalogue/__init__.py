"""The museum database: what is known of every object, and every change of it.

Tables, questions and guarded changes belong here. MuseumPlus, the DPS, files and Dagster do not.
"""
