"""HTML and XHTML."""

from __future__ import annotations

from passari_dagster_tests.sip.samples.sample import Broken, Sample

_BODY = '<body><h1>Äyräpää &amp; kesä</h1><p>5&nbsp;€<img src="a.png" alt="kirves"></p></body>'
_XBODY = _BODY.replace('kirves">', 'kirves"/>')


def _html5(body: str = _BODY, head: str = '<meta charset="utf-8"><title>Kirves</title>') -> bytes:
    return f"<!DOCTYPE html>\n<html lang='fi'><head>{head}</head>{body}</html>\n".encode()


def _html4(variant: str = "", body: str = _BODY, head: str = "", title: str = "Kirves") -> bytes:
    doctype = f'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01{variant}//EN" "http://www.w3.org/TR/html4/x.dtd">'
    return f"{doctype}\n<html><head>{head}<title>{title}</title></head>{body}</html>\n".encode()


def _xhtml(version: str = "1.0 Strict", body: str = _XBODY, encoding: str = "UTF-8") -> bytes:
    doctype = f'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML {version}//EN" "http://www.w3.org/TR/xhtml1/x.dtd">'
    page = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Kirves</title></head>{body}</html>'
    return f'<?xml version="1.0" encoding="{encoding}"?>\n{doctype}\n{page}\n'.encode(encoding)


_HTTP_EQUIV = '<meta http-equiv="Content-Type" content="text/html; charset={}">'
_4, _5 = "text/html; charset=UTF-8 4.01", "text/html; charset=UTF-8 5"
_X0, _X1 = "application/xhtml+xml; charset=UTF-8 1.0", "application/xhtml+xml; charset=UTF-8 1.1"
_LATIN_XHTML = "application/xhtml+xml; charset=ISO-8859-15 1.0"

SAMPLES = [
    Sample("sivu.html", _html5, _5),
    Sample("ilman.attachment", _html5, _5),
    Sample("bom.htm", lambda: b"\xef\xbb\xbf" + _html5(head="<title>x</title>"), _5),
    Sample("svg.html", lambda: _html5("<body><svg><title>x</title><g/></svg><my-tag></my-tag></body>"), _5),
    Sample("kaava.html", lambda: _html5("<body><math><mtable frame='solid'><mtr/></mtable></math></body>"), _5),
    Sample("ikuinen.html", lambda: _html5().replace(b"html>", b'html SYSTEM "about:legacy-compat">', 1), _5),
    Sample("vanha.html", _html4, _4),
    Sample("fontti.html", lambda: _html4(" Transitional", "<body><p><font size='2'>x</font></p></body>"), _4),
    Sample("kehys.html", lambda: _html4(" Frameset", "<frameset cols='1,1'><frame src='a'></frameset>"), _4),
    Sample("kertoo.html", lambda: _html4(head=_HTTP_EQUIV.format("utf-8")), _4),
    Sample("sivu.xhtml", _xhtml, _X0),
    Sample("sivu.html", lambda: _xhtml("1.0 Transitional", "<body><center>&auml;</center></body>"), _X0),
    Sample("kehys.xht", lambda: _xhtml("1.0 Frameset", "<frameset><frame src='a'/></frameset>"), _X0),
    Sample("latina.xhtml", lambda: _xhtml(encoding="ISO-8859-15"), _LATIN_XHTML),
    Sample("ruby.xhtml", lambda: _xhtml("1.1", "<body><p><ruby><rb>x</rb><rt>y</rt></ruby></p></body>"), _X1),
]

_DAMAGED, _DOCTYPE, _ENCODING = (
    "HTML file is not valid",
    "HTML file has no document type declaration",
    "HTML encoding not supported",
)
_LARGE = "Text file too large to be checked"
_DAMAGED_XML = "XML file is not well-formed"
_VERSION = "Version of file format not supported"
_BOMB = b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x" [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>'

BROKEN = [
    Broken("a.html", lambda: _html5("<body><p>x</div></body>"), _DAMAGED, "an end without a beginning"),
    Broken("a.html", lambda: _html5("<body><div>x</body>"), _DAMAGED, "an element that is not closed"),
    Broken("a.html", lambda: _html5("<body>&foo;</body>"), _DAMAGED, "an entity that does not exist"),
    Broken("a.html", lambda: _html5("<body><img src='a'></body>"), _DAMAGED, "an image without its text instead"),
    Broken("a.html", lambda: _html5("<body><p id='a'><b id='a'>x</b></p></body>"), _DAMAGED, "an id used twice"),
    Broken("a.html", lambda: _html5("<body><font>x</font></body>"), _DAMAGED, "an element of old in HTML 5"),
    Broken("a.html", lambda: _html5("<body><p align='left'>x</p></body>"), _DAMAGED, "an attribute of old in HTML 5"),
    Broken("a.html", lambda: _html5(head='<meta charset="utf-8">'), _DAMAGED, "no title"),
    Broken("a.html", lambda: _html5(head='<meta charset="utf-8"><title> </title>'), _DAMAGED, "an empty title"),
    Broken("a.html", lambda: _html5()[:-60], _DAMAGED, "cut off"),
    Broken("a.html", lambda: _html5() + b"x", _DAMAGED, "a text after the end"),
    Broken("a.html", lambda: b"<html><title>x</title></html>", _DOCTYPE, "no document type"),
    Broken("a.html", lambda: b"<p>x</p>", _DOCTYPE, "a part of a page"),
    Broken("a.html", lambda: b"kirves", _DOCTYPE, "a text"),
    Broken("a.html", lambda: _html5(head="<title>x</title>"), _ENCODING, "an encoding that is not declared"),
    Broken("a.html", lambda: _html5().replace(b"utf-8", b"utf-16"), _ENCODING, "declared as another encoding"),
    Broken("a.html", lambda: _html5().decode().encode("latin-1", "replace"), _ENCODING, "Latin 1"),
    Broken("a.html", lambda: _html5().decode().encode("utf-16"), _ENCODING, "UTF-16"),
    Broken("a.html", lambda: _html4(head=_HTTP_EQUIV.format("iso-8859-1")), _ENCODING, "4.01 declared as Latin 1"),
    Broken("a.html", lambda: _html4(body="<body><center>x</center></body>"), _DAMAGED, "a centre in 4.01 Strict"),
    Broken("a.html", lambda: _html4(body="<body><section>x</section></body>"), _DAMAGED, "HTML 5 in 4.01"),
    Broken("a.html", lambda: _html4().replace(b"4.01", b"3.2"), f"{_VERSION}: html", "HTML 3.2"),
    Broken("a.html", lambda: _html4().replace(b"4.01", b"4.0"), f"{_VERSION}: html", "HTML 4.0"),
    Broken("a.html", lambda: _html5("<body>" + "<div>" * 600 + "</body>"), _LARGE, "nested 600 deep"),
    Broken("a.html", lambda: _html5("<body>" + "<br>" * 110_000 + "</body>"), _LARGE, "110,000 elements"),
    Broken(
        "a.html",
        lambda: _html5("<body><p " + " ".join(f"a{n}" for n in range(200_000)) + "></body>"),
        _LARGE,
        "a tag of 200,000 attributes",
    ),
    Broken("a.html", lambda: _html5("<body>" + "x" * 4_000_000 + "</body>"), _LARGE, "4 MB"),
    Broken("a.xhtml", lambda: _xhtml(body="<body><p>x</body>"), _DAMAGED_XML, "XML"),
    Broken("a.xhtml", lambda: _xhtml(body="<body>&foo;</body>"), _DAMAGED_XML, "an entity that does not exist"),
    Broken("a.xhtml", lambda: _xhtml(body="<body><center>x</center></body>"), _DAMAGED, "a centre in Strict"),
    Broken("a.xhtml", lambda: _xhtml(body="<body><P>x</P></body>"), _DAMAGED, "capital letters"),
    Broken("a.xhtml", lambda: _xhtml().replace(b"<title>Kirves</title>", b""), _DAMAGED, "no title"),
    Broken("a.xhtml", lambda: _xhtml(encoding="ISO-8859-1", body="<body/>"), _ENCODING, "Latin 1, told to JHOVE"),
    Broken("a.xhtml", lambda: _BOMB + b"<html/>", _DOCTYPE, "a document type with entities of its own"),
    Broken("a.xhtml", lambda: b"<html xmlns='http://www.w3.org/1999/xhtml'/>", _DOCTYPE, "no document type"),
    Broken(
        "a.xhtml",
        lambda: b"<!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'/>",
        "File format not yet packaged: xhtml",
        "XHTML 5",
    ),
]
