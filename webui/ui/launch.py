"""From the command line and the environment to a running page: address, home, access, models."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.catalogue import load_models, use_models
from webui.core.errors import StudioError
from webui.service import Access, Studio
from webui.storage import StudioConfig, load_config
from webui.ui.identity import LOOPBACK_HOSTS

DEFAULT_PORT = 7860


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Where the page listens, and what it works on."""

    host: str
    port: int | None
    """None: the first free one from 7860 on."""
    home: Path
    """The folder with `outputs/`, `presets/` and `studio.yaml`."""
    models: Mapping[str, Path]
    open_browser: bool
    sign_in: tuple[str, str] | None
    """The owner's name and password, from STUDIO_AUTH."""

    @property
    def access(self) -> Access:
        return Access(
            loopback=self.host in LOOPBACK_HOSTS,
            owner_user=self.sign_in[0] if self.sign_in else "",
        )

    def address(self) -> dict[str, Any]:
        """For `demo.launch`."""
        return {
            "server_name": self.host,
            "server_port": self.port,
            "inbrowser": self.open_browser,
            "auth": self.sign_in,
        }


def read_arguments(
    arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> Arguments:
    """Reads the command line; what is not there comes from the environment, as gradio names it."""
    # A Space is a public server: its proxy reaches the app from outside.
    usual = "0.0.0.0" if "SPACE_ID" in environment else "127.0.0.1"
    parser = argparse.ArgumentParser(
        prog="python app.py", description="VRAM Studio: plan, run and measure video models."
    )
    parser.add_argument(
        "--host",
        default=environment.get("GRADIO_SERVER_NAME", usual),
        help="address to listen on; 0.0.0.0 lets others in (default: this machine only)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=_port(environment.get("GRADIO_SERVER_PORT", "")),
        help=f"port to listen on (default: the first free one from {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--home", type=Path, default=Path.cwd(), help="folder for outputs and presets"
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=FOLDER", type=_model_folder,
        help="where the weights of a model are; may be given more than once",
    )  # fmt: skip
    parser.add_argument(
        "--open", action=argparse.BooleanOptionalAction, default=None,
        help="open the page in a browser (default: when there is a desktop)",
    )  # fmt: skip
    given = parser.parse_args(list(arguments))
    user, _, password = environment.get("STUDIO_AUTH", "").partition(":")
    if environment.get("STUDIO_AUTH") and not (user and password):
        parser.error("STUDIO_AUTH is NAME:PASSWORD; without both, everybody could come in")
    return Arguments(
        host=given.host,
        port=given.port,
        home=given.home.expanduser().resolve(),
        models=dict(given.model),
        open_browser=_has_desktop(environment) if given.open is None else given.open,
        sign_in=(user, password) if user and password else None,
    )


def build_studio(arguments: Arguments) -> Studio:
    """The studio on its home folder.

    A wrong configuration ends the program with one line that says what is wrong.
    """
    use_models(arguments.home / "models")
    try:
        config: StudioConfig = load_config(arguments.home, model_names=load_models())
        return Studio(
            arguments.home,
            access=arguments.access,
            config=config.with_models(arguments.models),
        )
    except StudioError as error:
        sys.exit(f"{error.message} {error.hint}")


def _port(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _model_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    path = Path(folder).expanduser()
    if not equals or name not in load_models() or not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"'{text}' is not NAME=FOLDER with a model of the catalogue "
            f"({', '.join(load_models())}) and a folder that exists"
        )
    return name, path.resolve()


def _has_desktop(environment: Mapping[str, str]) -> bool:
    if "SPACE_ID" in environment or not sys.stdout.isatty():
        return False
    return sys.platform in ("win32", "darwin") or "DISPLAY" in environment
