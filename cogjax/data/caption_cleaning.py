"""Captions of the web as text encoders of images were trained on them.

Lower case, without addresses, markup, Chinese characters, ornaments, long numbers and
names of files; quotes and dashes of one kind. The rules are DeepFloyd IF's, which
LlamaGen's captions went through, as far as ordinary prompts meet them; broken
encodings are not mended.
"""

import html
import re
import urllib.parse

_DASHES = "\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c"
_DASHES += "\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d"
_FILES = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"
# In order: what is found, and what stands there instead.
_MARKUP = [
    (r"<person>", "person"),
    (r"\b(https?:|www\.)\S*", ""),
    (r"\b[a-z0-9.\-]+\.(com|co|ru|net|org|edu|gov|it)\b(/\S*)?(?!@)", ""),
    (r"<[^<>]*>", ""),
]
_SIGNS = [
    (r"@\w+\b", ""),
    (r"[\u31c0-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff]+", ""),
    (f"[{_DASHES}]+", "-"),
    (r"[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),
    (r"[\u2018\u2019]", "'"),
    (r"\d{1,3}(\.\d{1,3}){3}", " "),
    (r"\\n", " "),
    (r"#\d{1,3}\b|#\d{5,}\b|\b\d{6,}\b", ""),
    # From its start on: a long word would be read from each of its letters.
    (rf"(?<!\S)\S+\.({_FILES})", ""),
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~]+", " "),
    (r"[()\[\]{}|\\/*]+", " "),
    (r"\s+\.\s+", " "),
]
_WORDS = [
    (r"\b[a-z]{1,3}\d{3,15}\b|\b[a-z]+\d+[a-z]+\b|\b\d+[a-z]+\d+\b", ""),
    (r"(worldwide\s+)?(free\s+)?shipping|(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(for|on)\s\w+", ""),
    (rf"\b({_FILES})(\simages?)?\b|\bpage\s+\d+\b", ""),
    (r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b", ""),
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),
    (r"^['_,\-:;]|['_,\-:+]$|^\.\S+$", ""),
]


def clean_caption(text: str) -> str:
    """The caption as it is read; all of it if nothing would be left."""
    return _clean(_clean(text)) or text


def _clean(text: str) -> str:
    text = urllib.parse.unquote_plus(text).strip().lower()
    text = html.unescape(_replaced(text, _MARKUP))
    text = _replaced(text, _SIGNS)
    # Names with many dashes are words.
    text = re.sub(r"[-_]", " ", text) if len(re.findall(r"[-_]", text)) > 3 else text
    text = html.unescape(html.unescape(text)).strip()
    return _replaced(text, _WORDS).strip()


def _replaced(text: str, rules: list[tuple[str, str]]) -> str:
    for pattern, instead in rules:
        text = re.sub(pattern, instead, text)
    return text
