"""Runs the shim's entry points, as they were compiled for a Mac, in an emulated processor over a
stand-in for libSystem: what arrives there, what is answered, errno. `scripts/macos` calls it:

    emulate.py ARCH LIBRARY JOB-MAKER SIGNATURES

JOB-MAKER is macos-es' example `job`. Nothing of macOS takes part."""

import sys
import traceback

import directories
import places
import programs
from machine import Failed
from system import Ended
from world import *


@test
def the_pairs_are_those_of_the_signatures(world):
    bases = {name.split("$")[0] for name in world.entries}
    assert bases == set(SIGNATURES), bases ^ set(SIGNATURES)


def before_the_constructor():
    """Every entry point hands on what it was given, in the registers and on the stack, and gives back
    what it got: one test each."""
    world = World(start=False)
    for name in sorted(world.entries):
        def one(_unused, name=name):
            kinds = signature(name)[0]
            arguments = fill(world, kinds, None)
            world.watched = {a.encode() for a in arguments if isinstance(a, str)}
            original = {"dlopen": "dlopen_from"}.get(name, name)
            if original != name:
                # It is told who calls: the address that the call returns to.
                undo = world.watch("dlopen_from", 0x1234)
                world.system.calls = []
                assert world.call(name, "/real/x", 2) == 0x1234
                undo()
                (_, known, texts), = world.system.calls
                assert (texts[0], known[1] & 0xFFFFFFFF, known[2]) == (b"/real/x", 2, 0x6_0000_0000)
                return
            world.passes(name, arguments)
        one.__name__ = f"{name} before the constructor"
        yield one
    world.end()


def a_process_without_a_job_is_left_alone():
    world = World(start=False)
    world.start(["PATH=/bin"])
    world.watched = {f"{AT}/f".encode()}
    world.passes("open", [f"{AT}/f", 0, 0])
    world.end()


def a_job_that_cannot_be_had_ends_the_process():
    for content, word in ((None, b"can't be read"), (b"vrift shim 9\0", b"not understood"), (b"", b"not understood")):
        world = World(start=False)
        if content is None:
            world.job.unlink()
        else:
            world.job.write_bytes(content)
        try:
            world.start([f"VRIFT_SHIM_JOB={world.job}"])
            raise AssertionError("it goes on")
        except Ended as ended:
            assert ended.args[0] & 0xFF == 125
        told = b"".join(texts[0] for name, _, texts in world.system.calls if name == "stderr")
        assert word in told and str(world.job).encode() in told and told.count(b"\n") == 1, told
        world.end()


def main():
    passed = failed = 0

    def run(name, does):
        nonlocal passed, failed
        try:
            does()
            passed += 1
        except (Exception, Ended) as error:
            failed += 1
            print(f"{arch}: {name}: {error or type(error).__name__}")
            if not isinstance(error, (AssertionError, Failed)) or not str(error):
                traceback.print_exc(limit=-3, file=sys.stdout)
    world = World(start=False)
    pairs = len(world.entries)
    world.end()
    for one in before_the_constructor():
        run(one.__name__, lambda one=one: one(None))
    for one in TESTS:
        def with_world(one=one):
            world = World()
            try:
                one(world)
            finally:
                world.end()
        run(one.__name__, with_world)
    for one in (programs.restricted_programs_are_refused, programs.restricted_programs_are_given_clones,
                a_process_without_a_job_is_left_alone, a_job_that_cannot_be_had_ends_the_process):
        run(one.__name__, one)
    print(f"{arch}: {pairs} entry points emulated")
    print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed; 0 ignored")
    return 1 if failed or not passed else 0


sys.exit(main())
