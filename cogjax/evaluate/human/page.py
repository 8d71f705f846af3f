"""The page for raters: one file, which asks nothing of any other place.

Its images, style and script stand in it, and its policy lets a browser run that script
alone and load nothing. What it knows is opaque: who drew what is in the key.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources

from cogjax.errors import UserError
from cogjax.evaluate.human.study import FORMS, POINTS, Study

MAX_BYTES = 200 << 20


def page(study: Study, sheets: Mapping[tuple[int, int], bytes], language: str) -> str:
    """The HTML of a study.

    Args:
      sheets: PNG of each (model, prompt); those of checks under `study.NOISE`.
      language: "en" or "zh", of the prompts.

    Raises:
      UserError: more than 200 MB, which a browser is slow to open.
    """
    form, images, items = FORMS[study.form], {}, []
    # All raters get the checks: only where others get a part need the page know them.
    parts = 0 < study.per_rater < len(study.prompts)
    for item in study.items:
        shown = {}
        for candidate, model in item.candidates.items():
            png = sheets[model, item.prompt]
            name = hashlib.sha256(study.id.encode() + png).hexdigest()[:12]
            images[name] = base64.b64encode(png).decode("ascii")
            shown[candidate] = name
        items.append(
            {
                "id": item.id,
                "prompt": item.prompt,
                "all": item.is_check or not parts,
                "candidates": shown,
            }
        )
    check_bytes(sum(map(len, images.values())))
    facts = {
        "page": study.id,
        "form": study.form,
        "language": language,
        "perRater": study.per_rater,
        "aspects": form.aspects,
        "choices": form.choices,
        "points": POINTS,
        "prompts": [prompt.text for prompt in study.prompts],
        "items": items,
        "images": dict(sorted(images.items())),
    }
    return _filled(facts)


def check_bytes(size: int) -> None:
    """UserError for more bytes of images than a page may have."""
    if size > MAX_BYTES:
        raise UserError(
            f"the page would have {size >> 20} MB, at most {MAX_BYTES >> 20}: take "
            "fewer prompts with --n, or fewer --num-images"
        )


def _filled(facts: Mapping) -> str:
    style, script = _file("style.css"), _file("texts.js") + _file("page.js")
    parts = {
        "policy": _policy(script, style),
        "style": style,
        # No text of a prompt can end the element that it stands in.
        "study": json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c"),
        "script": script,
    }
    # All at once: a prompt may hold the mark of another part.
    names = "|".join(parts)
    return re.sub(f"@({names})@", lambda mark: parts[mark[1]], _file("index.html"))


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; img-src data:; script-src '{_digest(script)}'; "
        f"style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _file(name: str) -> str:
    folder = resources.files("cogjax") / "evaluate" / "human" / "page"
    return (folder / name).read_text("utf-8")
