"""Make an engine for a flow, from whatever describes one, and run it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from taskflowx import _names, exceptions
from taskflowx._util import arguments
from taskflowx.atom import Atom
from taskflowx.engines import base as bases, engine as engines, factories

if TYPE_CHECKING:
    from typing import Unpack

    from taskflowx.engines.engine import ActionEngine
    from taskflowx.engines.options import EngineOptions
    from taskflowx.flow import Member
    from taskflowx.persistence import base, models

ENGINES_NAMESPACE = "taskflowx.engines"
ENGINE_DEFAULT = "default"


def _default_engine(
    flow: Member, flow_detail: models.FlowDetail, backend: base.Backend | None, options: EngineOptions
) -> ActionEngine:
    """Make the engine of programs that ask for none: the serial one, unless they say where calls are to run."""
    make = engines.SerialActionEngine if options.get("executor") is None else engines.ActionEngine
    return make(flow, flow_detail, backend, options)


_ENGINES: dict[str, Callable[..., ActionEngine]] = {
    ENGINE_DEFAULT: _default_engine,
    "serial": engines.SerialActionEngine,
    "parallel": engines.ParallelActionEngine,
}


def _engine_class(namespace: str, name: str) -> Callable[..., Any]:
    """Return what makes an engine of that name: one of ours, or one that a package registers as an entry point."""
    own = _ENGINES if _names.ours(namespace) == ENGINES_NAMESPACE else {}
    if name in own:
        return own[name]
    registered = _names.plugins(namespace)
    if name in registered:
        return registered[name].load()  # type: ignore[no-any-return]
    known = sorted({*own, *registered})
    raise exceptions.NotFound(f"Could not find engine '{name}', the known ones are {known}")


def _read_engine(engine: Any, options: EngineOptions) -> tuple[str, EngineOptions]:
    """Return the name of the engine that is meant, and its options, of which those that are given by name count first.

    TaskFlow takes an address, too: 'parallel://?max_workers=2&executor=threads'; its conductors pass None on.
    """
    if engine is None:
        return ENGINE_DEFAULT, options
    if not isinstance(engine, str) or ":" not in engine:
        return engine, options
    from urllib import parse  # few write an engine as an address

    address = parse.urlsplit(engine)
    if not address.scheme:
        return engine, options
    written: dict[str, Any] = {
        name: int(text) if text.isdecimal() else text for name, text in parse.parse_qsl(address.query)
    }
    for name in ("username", "password", "hostname", "port"):  # for engines of other packages
        if (part := getattr(address, name)) is not None:
            written[name] = part
    return address.scheme, cast("EngineOptions", {**written, **options})


def _fetch_backend(backend: Any) -> base.Backend | None:
    """Return the store that is meant; one that is named here, and that is new, is made ready.

    :raises NotFound: when there is no such store
    :raises StorageFailure: when it cannot be used
    """
    if backend is None or hasattr(backend, "get_connection"):
        return backend  # type: ignore[no-any-return]
    from taskflowx.persistence import backends  # a run that is kept nowhere needs none

    return backends.fetch_ready(backend)


def _make_detail(flow: Member, book: models.LogBook | None, backend: base.Backend | None) -> models.FlowDetail:
    from taskflowx.utils import persistence_utils

    return persistence_utils.create_flow_detail(flow, book=book, backend=backend)


def load(
    flow: Member,
    store: Mapping[str, Any] | None = None,
    flow_detail: models.FlowDetail | None = None,
    book: models.LogBook | None = None,
    backend: str | Mapping[str, Any] | base.Backend | None = None,
    namespace: str = ENGINES_NAMESPACE,
    engine: str | None = ENGINE_DEFAULT,
    **kwargs: Unpack[EngineOptions],
) -> ActionEngine:
    """Make an engine for a flow.

    :param flow: what to run
    :param store: values for the arguments of atoms, by name; they are held as they are, never copied
    :param flow_detail: the record to go on from; made when there is none
    :param book: where a record that is made is put
    :param backend: the store of the record: None keeps it in memory; otherwise a `Backend`, its connection string such
        as 'sqlite:///path', or a dict of settings with the key `connection`
    :param namespace: the group of entry points in which the engine is looked up
    :param engine: 'serial', 'parallel', or 'default', which is 'serial' unless an `executor` is given; with options as
        an address, such as 'parallel://?max_workers=2'; None is 'default'
    :param kwargs: options of the engine, see `taskflowx.engines.engine.ActionEngine`
    :raises NotFound: when there is no such engine
    :raises ValueError, TypeError: when there is no such option or executor
    """
    arguments.check_type("namespace", namespace, str, "the name of a group of entry points")
    if store:
        store = arguments.to_named_values("store", store)
    if flow_detail is not None:
        arguments.check_like("flow_detail", flow_detail, ("name", "meta"), "a FlowDetail")
    if book is not None:
        arguments.check_like("book", book, ("add", "uuid"), "a LogBook")
    if isinstance(flow, Atom):
        flow._tfx_signature  # noqa: B018 - says so if its constructor is not that of an atom
    engine, options = _read_engine(engine, kwargs)
    make = _engine_class(namespace, engine)
    opened = _fetch_backend(backend)
    owned = None if opened is backend else opened
    try:
        if flow_detail is None:
            flow_detail = _make_detail(flow, book, opened)
        made: ActionEngine = make(flow, flow_detail, opened, options)
        if store:
            made.storage.inject(store)
    except BaseException:
        if owned is not None:
            owned.close()
        raise
    if owned is not None:
        made.owned_backend = owned
    return made


def run(
    flow: Member,
    store: Mapping[str, Any] | None = None,
    flow_detail: models.FlowDetail | None = None,
    book: models.LogBook | None = None,
    backend: str | Mapping[str, Any] | base.Backend | None = None,
    namespace: str = ENGINES_NAMESPACE,
    engine: str | None = ENGINE_DEFAULT,
    **kwargs: Unpack[EngineOptions],
) -> dict[str, Any]:
    """Make an engine for a flow, run it, and return name -> value of everything that was provided.

    The arguments are those of `load`.

    :raises Exception: the failure when the flow has failed; a `WrappedFailure` for several
    """
    made = load(flow, store, flow_detail, book, backend, namespace, engine, **kwargs)
    try:
        made.run()
        return made.storage.fetch_all()
    finally:
        if isinstance(made, bases.Engine):
            made.close()


def save_factory_details(
    flow_detail: models.FlowDetail,
    flow_factory: Callable[..., Any] | str,
    factory_args: Iterable[Any] | None,
    factory_kwargs: Mapping[str, Any] | None,
    backend: str | Mapping[str, Any] | base.Backend | None = None,
) -> None:
    """Keep in the record how its flow is made, so that it can be made again.

    :param flow_factory: a function that can be imported by its name, or that name
    :param factory_args: positional arguments for it
    :param factory_kwargs: keyword arguments for it
    :param backend: the store of the record, to which what is kept is written
    :raises ValueError: when the function cannot be imported by its name
    """
    arguments.check_like("flow_detail", flow_detail, ("name", "meta"), "a FlowDetail")
    args, keywords = factories.checked_arguments(factory_args, factory_kwargs)
    name = factories.name_of(flow_factory)
    factories.register(name)
    flow_detail.meta[factories.META] = {"name": name, "args": args, "kwargs": keywords}
    store = _fetch_backend(backend)
    if store is not None:
        with contextlib.closing(store.get_connection()) as connection:
            connection.update_flow_details(flow_detail)


def load_from_factory(
    flow_factory: Callable[..., Any] | str,
    factory_args: Iterable[Any] | None = None,
    factory_kwargs: Mapping[str, Any] | None = None,
    store: Mapping[str, Any] | None = None,
    book: models.LogBook | None = None,
    backend: str | Mapping[str, Any] | base.Backend | None = None,
    namespace: str = ENGINES_NAMESPACE,
    engine: str | None = ENGINE_DEFAULT,
    **kwargs: Unpack[EngineOptions],
) -> ActionEngine:
    """Make an engine for the flow that a function makes, and keep in the record how to make it again.

    :param flow_factory: a function that can be imported by its name, or that name
    :param factory_args: positional arguments for it
    :param factory_kwargs: keyword arguments for it

    The other arguments are those of `load`.

    :raises ValueError: when the function cannot be imported by its name
    """
    args, keywords = factories.checked_arguments(factory_args, factory_kwargs)
    name = factories.name_of(flow_factory)
    factory = factories.import_by_name(name) if isinstance(flow_factory, str) else flow_factory
    flow = factory(*args, **keywords)
    backend = _fetch_backend(backend)
    flow_detail = _make_detail(flow, book, backend)
    save_factory_details(flow_detail, name, args, keywords, backend)
    return load(flow, store, flow_detail, None, backend, namespace, engine, **kwargs)


def flow_from_detail(
    flow_detail: models.FlowDetail, *, allowed_factories: Iterable[str | Callable[..., Any]] | None = None
) -> Member:
    """Make the flow of a record again, by the factory that the record names.

    :param allowed_factories: which factories may be called: functions, or dotted names of functions, modules and
        packages. By default these are the functions that this process has given to `save_factory_details` or
        `load_from_factory`, and those of the program: in the package of the code that calls this, and of the program
        that was started; or beside their files, if they are in no package
    :raises ValueError: when the record does not say how, or names a factory that is not allowed
    :raises InvalidFormat: when what the record says is of another shape
    :raises ImportError: when the factory cannot be imported
    """
    return _flow_from_detail(flow_detail, allowed_factories, sys._getframe(1))


def _flow_from_detail(
    flow_detail: models.FlowDetail, allowed: Iterable[str | Callable[..., Any]] | None, caller: FrameType
) -> Member:
    arguments.check_like("flow_detail", flow_detail, ("name", "uuid", "meta"), "a FlowDetail")
    known = f"flow {flow_detail.name} {flow_detail.uuid}"
    name, args, keywords = factories.read(flow_detail.meta.get(factories.META), known)
    make = factories.find(name, known, factories.Own(caller) if allowed is None else factories.Listed(allowed))
    made: Member = make(*args, **keywords)
    return made


def load_from_detail(
    flow_detail: models.FlowDetail,
    store: Mapping[str, Any] | None = None,
    backend: str | Mapping[str, Any] | base.Backend | None = None,
    namespace: str = ENGINES_NAMESPACE,
    engine: str | None = ENGINE_DEFAULT,
    *,
    allowed_factories: Iterable[str | Callable[..., Any]] | None = None,
    **kwargs: Unpack[EngineOptions],
) -> ActionEngine:
    """Make an engine that goes on from a record whose flow was made by a factory.

    :param allowed_factories: which factories may be called, see `flow_from_detail`

    The other arguments are those of `load`.

    :raises ValueError: when the record does not say how its flow is made, or names a factory that is not allowed
    :raises InvalidFormat: when what the record says is of another shape
    :raises ImportError: when the factory cannot be imported
    """
    flow = _flow_from_detail(flow_detail, allowed_factories, sys._getframe(1))
    return load(flow, store, flow_detail, None, backend, namespace, engine, **kwargs)
