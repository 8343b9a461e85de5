"""`python -m passari_dagster.sip.archives.seven_table MOST < FILE`: the table of a 7z archive, as JSON.

py7zr reads it, in this process of its own: the table is compressed itself, by any method, and may ask for any amount
of memory and time. `sevenzips` calls this, and reads the content. [Source: 7-Zip, 7zFormat.txt and Methods.txt.]
"""

from __future__ import annotations

import json
import resource
import stat
import sys
from typing import Any, BinaryIO, cast

from passari_dagster.sip import problems
from passari_dagster.sip.archives.member import CarefulFile

_MEMORY, _SECONDS = 600 * 1024 * 1024, 60  # of address space, of CPU
_CODERS, _PROPERTIES, _NAME = 8, 16, 1100  # more than can be unpacked


def table(stream: BinaryIO, most: int) -> dict[str, Any]:
    """Folders (compressed streams) and members of an archive, or its `fault`.

    Arguments:
        most: members that are told, and one more if there are more.

    Raises:
        OSError: a fault of the file system.
    """
    import py7zr
    from py7zr.exceptions import PasswordRequired

    stream.seek(0)
    file = CarefulFile(stream, None, problems.ARCHIVE_DAMAGED)
    try:
        with py7zr.SevenZipFile(cast("BinaryIO", file)) as archive:
            return _table(archive, most)
    except PasswordRequired:
        return {"fault": "encrypted"}
    except Exception as error:  # of any kind, py7zr declares none
        if file.fault is not None:
            raise file.fault from None
        return {"fault": f"{type(error).__name__}: {error}"[:300]}


def _table(archive: Any, most: int) -> dict[str, Any]:
    streams: Any = getattr(archive.header, "main_streams", None)
    folders = streams.unpackinfo.folders if streams is not None else []
    places, told = {id(folder): number for number, folder in enumerate(folders)}, []
    at, stream = archive.afterheader + (streams.packinfo.packpos if streams is not None else 0), 0
    if len(folders) > most:
        return {"fault": f"more than {most} compressed streams"}
    for folder in folders:
        sizes = streams.packinfo.packsizes[stream : stream + len(folder.packed_indices)]
        told.append(
            {
                "coders": {
                    coder["method"].hex(): (coder["properties"] or b"")[:_PROPERTIES].hex()
                    for coder in folder.coders[:_CODERS]
                },
                "start": at,
                "packed": sum(sizes) if len(sizes) == 1 else None,
                "size": folder.get_unpack_size(),
            }
        )
        at, stream = at + sum(sizes), stream + len(sizes)
    members: list[dict[str, Any]] = []
    for file in archive.files:
        if len(members) > most:
            break
        written = file.lastwritetime
        members.append(
            {
                "name": file.filename[:_NAME],
                "size": file.uncompressed,
                "folder": places[id(file.folder)] if file.folder is not None else None,
                "crc": file.crc32,
                "modified": written.totimestamp() if written is not None else None,
                "directory": bool(file.is_directory),
                "link": bool(file.is_symlink or file.is_junction),
                "special": file.st_fmt not in (None, 0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK),
            }
        )
    return {"folders": told, "members": members}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, 2 * _SECONDS))
    json.dump(table(sys.stdin.buffer, int(sys.argv[1])), sys.stdout)
