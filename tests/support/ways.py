"""The ways to run an engine."""

import asyncio

import pytest


def run(engine):
    engine.run()


def arun(engine):
    asyncio.run(engine.arun())


def arun_iter(engine):
    async def iterate():
        async for _ in engine.arun_iter():
            pass

    asyncio.run(iterate())


def run_iter(engine):
    for _ in engine.run_iter():
        pass


#: gives a test each of them
each = pytest.mark.parametrize("way", [run, arun, run_iter, arun_iter])
