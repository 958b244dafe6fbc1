"""Read the page as a browser shows it."""

import html
import re


def text_of(markup):
    """Read as a browser shows it: only blocks are set apart."""
    inline = re.sub(r"</?(strong|em|small|code|abbr|span|a)\b[^>]*>", "", markup)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", inline)).split())


def rows_of(markup, heading):
    """Read the cells of the first table behind a heading, row by row."""
    table = re.search(r"<table>(.*?)</table>", markup[markup.index(heading) :], re.S)[1]
    rows = re.findall(r"<tr.*?</tr>", table, re.S)
    return [[text_of(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows]
