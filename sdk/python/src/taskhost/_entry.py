"""Makes a plugin of a module: imports it, and whatever else its tasks may import later.

Runs while the component is built. What it leaves in memory is what every task starts from: a component has no folder of
modules, so nothing can be imported afterwards.
"""

from __future__ import annotations

import dis
import importlib
import io
import linecache
import os
import sys
from collections.abc import Iterator
from types import CodeType, ModuleType
from typing import Any, NoReturn

from . import _failure, _log
from ._task import registry

__all__ = ["load"]

# What Python's own library imports when it is first used, for all that one would not think of.
_LATER = """_strptime encodings.ascii encodings.latin_1 encodings.utf_8_sig encodings.utf_16 encodings.utf_16_le encodings.utf_16_be
encodings.utf_32 encodings.cp1252 encodings.idna encodings.punycode encodings.raw_unicode_escape encodings.unicode_escape
encodings.hex_codec encodings.base64_codec""".split()


class BuildError(Exception):
    """The module cannot be made a plugin; the text is for its author."""


def load(module: str, into: dict[str, Any]) -> None:
    """Imports the module with its tasks and puts what componentize-py looks for into a namespace. What goes wrong is a
    BuildError."""
    # A number may have as many digits as its client likes; the sandbox bounds what that costs.
    sys.set_int_max_str_digits(0)
    _failure.name_from(_folders())
    try:
        importlib.import_module(module)
        if not registry:
            raise BuildError(f"{module}.py declares no task: write `@task` above a function (`from taskhost import task`)")
        for name in _LATER:
            _try(name)
        _import_nested()
        _keep_sources()
        _keep_zones()
        _log.install()
        from . import _component, _host

        if "taskhost.http" in sys.modules:
            from . import _exchange as _  # it puts itself where it belongs
        _host.answer_with(_component.Component())
        _component.export(into)
        _check(module)
    except BaseException as error:
        _give_up(error)


def _check(module: str) -> None:
    """What the host would ask first can be answered."""
    from ._guest import described

    for _ in described(registry):
        pass


def _give_up(error: BaseException) -> NoReturn:
    if isinstance(error, BuildError):
        text = f"{error}\n"
    else:
        if isinstance(error, ModuleNotFoundError):
            error.add_note(
                f"Is it installed in the project's .venv (`.venv/bin/pip install {(error.name or '').partition('.')[0]}`)? A"
                " component can hold packages that are pure Python, or built for wasm32-wasi."
            )
        text = "".join(_failure.lines(error))
    # componentize-py prints it with a traceback of ours and one of its own; whoever called it looks for the marks.
    raise BuildError(f"\n{BEGIN}\n{text}{END}\n") from None


BEGIN, END = "<<<taskhost", "taskhost>>>"
"""Between these stands the text for the author."""


# Where componentize-py has put Python's own modules, those that it generates, and its own.
_TOOLS = ("/python/", "/world/", "/bundled/")


def _folders() -> list[str]:
    """Where modules come from that are the user's."""
    return [path for path in sys.path if path and not f"{path}/".startswith(_TOOLS)]


def _foreign(module: ModuleType) -> str | None:
    """The source file of a module that is the user's, or of a package that he uses."""
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py") or file.startswith((*_TOOLS, os.path.dirname(__file__))):
        return None
    return file


def _import_nested() -> None:
    """Imports what modules import inside of functions, which they could not when they run."""
    seen: set[str] = set()
    while new := [name for name in list(sys.modules) if name not in seen]:
        for name in new:
            seen.add(name)
            module = sys.modules[name]
            if isinstance(module, ModuleType) and _foreign(module) is not None:
                for wanted in _nested(module):
                    _try(wanted)


def _nested(module: ModuleType) -> list[str]:
    """What the functions of a module import. Read from what it was compiled to: a syntax tree would leave megabytes of
    rubbish in the component."""
    try:
        code = module.__spec__.loader.get_code(module.__name__)  # type: ignore[union-attr]
    except Exception:
        return []
    wanted = []
    waiting = [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    while waiting:
        inner = waiting.pop()
        waiting.extend(constant for constant in inner.co_consts if isinstance(constant, CodeType))
        for name, level, names in _imports(inner):
            wanted += _resolved(name, level, names, module)
    return wanted


def _imports(code: CodeType) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """The imports of a function: the module, how far up it is, and what is taken from it."""
    if not any(opcode == _IMPORT for opcode in code.co_code[::2]):
        return
    before: list[Any] = [None, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level, names = before
            yield instruction.argval, level if isinstance(level, int) else 0, names if isinstance(names, tuple) else ()
        before = [before[1], instruction.argval]


_IMPORT = dis.opmap["IMPORT_NAME"]


def _resolved(name: str, level: int, names: tuple[str, ...], module: ModuleType) -> list[str]:
    if level:
        package = (module.__package__ or "").split(".")
        name = ".".join([*package[: len(package) - level + 1], *([name] if name else [])])
    # What is imported from a package may be a module of it.
    return [name, *(f"{name}.{one}" for one in names)] if name else []


def _try(name: str) -> None:
    if name in sys.modules:
        return
    parent, _, last = name.rpartition(".")
    if parent and (parent not in sys.modules or not hasattr(sys.modules[parent], "__path__")):
        return  # no module of it, or one whose package could not be imported
    if parent and hasattr(sys.modules[parent], last):
        return
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001  (perhaps the function never runs, and perhaps it expects that)
        pass


def _keep_zones() -> None:
    """Takes along the time zones of the package tzdata, if there is one: zoneinfo would look for its files later."""
    zones = sys.modules.get("zoneinfo._common")
    if zones is None:
        return
    try:
        folder = os.path.join(os.path.dirname(importlib.import_module("tzdata").__file__ or ""), "zoneinfo")
    except ImportError:
        return
    kept = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                content = file.read()
            if content.startswith(b"TZif"):
                kept[os.path.relpath(os.path.join(path, name), folder).replace(os.sep, "/")] = content

    def load(key: str) -> io.BytesIO:
        if key not in kept:
            raise zones.ZoneInfoNotFoundError(f"No time zone found with key {key}")
        return io.BytesIO(kept[key])

    zones.load_tzdata = load


def _keep_sources() -> None:
    """Has tracebacks show lines of code, whose files are not there later."""
    for module in list(sys.modules.values()):
        file = _foreign(module) if isinstance(module, ModuleType) else None
        if file is None:
            continue
        try:
            with open(file, encoding="utf-8", errors="replace") as source:
                lines = source.readlines()
        except OSError:
            continue
        # Without a time of change nobody asks the file for it.
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
