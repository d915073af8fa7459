"""What is to be read: uploaded files, or for the owner a path; counted before it is planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from webui.core.documents import ALL, MAX_UPLOAD_BYTES, DocumentCard, DocumentRequest
from webui.core.errors import NotAllowed
from webui.core.request import Request
from webui.storage.files import named_path
from webui.ui.page import Page, Visit
from webui.ui.parse_form import Form, request_data
from webui.ui.uploading import VISITOR_BYTES
from webui.ui.uploads import received_files
from webui.ui.words import parse as words


@contextmanager
def chosen_input(page: Page, form: Form, files: Any, visit: Visit) -> Iterator[str]:
    """The path of what is to be read, empty where there is nothing; for the block alone.

    Args:
        page: the studio.
        form: with the owner's `folder`.
        files: what the browser says it has uploaded.
        visit: who asks.

    Raises:
        NotAllowed: a path of somebody who does not own the machine.
        BadInput: files that are none, or that cannot be read together.
    """
    received = received_files(files, "input")
    folder = str(form.get("folder") or "").strip().replace("\x00", "")
    if received:
        most_bytes = MAX_UPLOAD_BYTES if visit.owner else VISITOR_BYTES
        with page.studio.documents.one_input(received, most_bytes) as path:
            yield str(path)
    elif folder and not visit.owner:
        raise NotAllowed(words.OWNERS_FOLDER, words.UPLOAD_INSTEAD)
    else:
        yield str(named_path(folder)) if folder else ""


def request_for(page: Page, form: Form, model: DocumentCard, path: str) -> Request:
    """What is to run.

    Raises:
        BadInput: names the first wrong field.
    """
    pages = form.get("pages") or ALL
    return page.studio.parse({**request_data(form, model), "pages": pages, "input": path})


def count_input(
    page: Page, form: Form, model: DocumentCard, files: Any, visit: Visit
) -> Mapping[str, Any]:
    """`pages`, `height` and `width` of what is chosen; empty where nothing is.

    Raises:
        StudioError: it cannot be used.
    """
    with chosen_input(page, form, files, visit) as path:
        if not path:
            return {}
        asked = request_for(page, form, model, path)
        known = page.studio.documents.look(asked, visit.visitor, page.limits(visit))
    assert isinstance(known, DocumentRequest)
    return {"pages": known.pages, "height": known.height, "width": known.width}
