"""What came with a stranger's notebook, made harmless: HTML is cleaned by nh3, and no page may run or load anything."""

import base64
import html
import re
from typing import Any

import nh3

#: of every page that is written: no script, no frame, nothing from elsewhere, whatever slipped through
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'\">"
)
TAGS = nh3.ALLOWED_TAGS | {"details", "summary", "section", "main"}
ATTRIBUTES = {"*": {"class", "style", "title", "align"}, "a": {"href"}, "td": {"colspan", "rowspan"}} | {
    "th": {"colspan", "rowspan", "scope"},
    "img": {"alt", "src", "width", "height"},
    "ol": {"start"},
}
STYLES = {
    *("color", "background", "background-color", "text-align", "vertical-align", "white-space", "display"),
    *("padding", "margin", "border", "border-collapse", "outline", "width", "height", "font", "font-size"),
    *("font-family", "font-weight", "line-height", "opacity"),
}
MARKUP = re.compile(r"<(?=[A-Za-z/!?])")
PLAIN = re.compile(r"</?(?:br|b|i|em|strong|sub|sup|code|kbd|details|summary)\s*/?>", re.I)


def clean_html(text: Any) -> str:
    """HTML with its text, tables, pictures and colours, and nothing that could run or be loaded."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return nh3.clean(
        text,
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_kept,
        url_schemes={"http", "https", "mailto", "data"},
        filter_style_properties=STYLES,
        link_rel="noopener noreferrer",
    )


def clean_markdown(text: str) -> str:
    """Markdown whose tags are shown as text, but for plain ones such as <br>; links that run something lead nowhere."""
    kept = [match.span()[0] for match in PLAIN.finditer(text)]
    text = MARKUP.sub(lambda match: "<" if match.start() in kept else "&lt;", text)
    return re.sub(r"(?i)\b(javascript|vbscript|data)\s*:", r"\1&#58;", text)


def clean_outputs(notebook: Any) -> None:
    """Clean the HTML and Markdown outputs of a notebook; scripts and widgets' state go, SVG becomes a picture."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for name in [name for name in data if name.startswith("application/")]:
                del data[name]
            if "image/svg+xml" in data:
                encoded = base64.b64encode(str(data.pop("image/svg+xml")).encode()).decode()
                data["text/html"] = f'<img alt="a drawing" src="data:image/svg+xml;base64,{encoded}">'
            if "text/html" in data:
                data["text/html"] = clean_html(data["text/html"])
            for name in ("text/markdown", "text/latex"):
                if name in data:
                    data[name] = clean_markdown(str(data[name]))


def escape(value: Any) -> str:
    """Text for HTML, in attributes, too."""
    return html.escape(str(value))


def _kept(tag: str, name: str, value: str) -> str | None:
    """A data: address is a picture's alone."""
    is_data = value.strip().lower().startswith("data:")
    if name == "src":
        return value if re.match(r"data:image/(png|jpeg|gif|svg\+xml);base64,", value.strip()) else None
    return None if is_data else value
