"""MuseumPlus (zetcom ria-ws): what the museum's catalogue holds, over HTTP.

Here: the client, searching, reading module items, attachments, and the preservation log field. Not here: what is
done with all this, and any database of our own.
"""
