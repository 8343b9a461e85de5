"""ADDML 8.3: technical metadata of one table.

The facts are read in `formats/`. [Specification: ADDML is required for text/csv, with recordSeparator and
fieldSeparatingChar; the DPS compares the number of fieldDefinition elements with the columns of the first record.]
"""

from __future__ import annotations

from lxml import etree

from passari_dagster.sip.elements import add, qname
from passari_dagster.sip.formats.facts import FileFormat

_DEFINITION, _FILE_TYPE, _FIELD_TYPE = "table", "delimited", "string"
"""What refers to what; the names are free."""


def addml(parent: etree._Element, file_format: FileFormat, href: str) -> None:
    """Add the ADDML document of a CSV file to `parent`.

    Arguments:
        file_format: with its table.
        href: URL of the file in the package.

    Raises:
        ValueError: it has no table.
    """
    table = file_format.table
    if table is None:
        raise ValueError(f"{href} is no table")
    root = etree.SubElement(parent, qname("addml:addml"))
    files = add(add(root, "addml:dataset"), "addml:flatFiles")
    add(files, "addml:flatFile", None, {"name": href, "definitionReference": _DEFINITION})

    definitions = add(files, "addml:flatFileDefinitions")
    names = {"name": _DEFINITION, "typeReference": _FILE_TYPE}
    definition = add(definitions, "addml:flatFileDefinition", None, names)
    record = add(add(definition, "addml:recordDefinitions"), "addml:recordDefinition", None, {"name": "record"})
    fields = add(record, "addml:fieldDefinitions")
    for field in table.fields:
        add(fields, "addml:fieldDefinition", None, {"name": field, "typeReference": _FIELD_TYPE})

    types = add(files, "addml:structureTypes")
    file_type = add(add(types, "addml:flatFileTypes"), "addml:flatFileType", None, {"name": _FILE_TYPE})
    add(file_type, "addml:charset", file_format.charset)
    delimited = add(file_type, "addml:delimFileFormat")
    add(delimited, "addml:recordSeparator", table.record_separator)
    add(delimited, "addml:fieldSeparatingChar", table.delimiter)
    if table.quote is not None:
        add(delimited, "addml:quotingChar", table.quote)
    field_type = add(add(types, "addml:fieldTypes"), "addml:fieldType", None, {"name": _FIELD_TYPE})
    add(field_type, "addml:dataType", "string")
