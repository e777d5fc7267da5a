"""Waits in the middle of many sorts of frames, having said what the interpreter itself says that they are."""
import asyncio
import contextlib
import functools
import json
import os
import socket
import sys
import threading


def say(case):
    rows, frame = [], sys._getframe(1)
    while frame:
        code = frame.f_code
        rows.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno])
        frame = frame.f_back
    line = json.dumps({"case": case, "thread": threading.get_native_id(), "frames": rows}) + "\n"
    os.write(1, line.encode())  # One write: threads say it at the same time.


def wait(case):
    say(case); os.read(0, 1)


def logged(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)
    return wrapper


class Session:
    def __init__(self, case):
        self.commit(case)

    @logged
    def commit(self, case):
        Session.flush(case)

    @classmethod
    def flush(cls, case):
        cls.größe(case)

    @staticmethod
    def größe(case):
        for _ in produce(case):
            pass


def produce(case):
    with open(os.devnull):
        yield from inner(case)


def inner(case):
    yield wait(case)


def 接続(case):
    [Session(one) for one in [case]]


def through_c(case):
    json.loads('{"a": {}}', object_hook=lambda _: sorted([case], key=接続))


def of_many_lines(case):
    total = 0
@LINES@
    return (
        total,
        through_c(
            case
        ),
    )


def deep(case, depth):
    if depth:
        return deep(case, depth - 1)
    wait(case)


def send(case, connection):
    say(case); connection.send(b"x")


def one(case, connection):
    return send(case, connection)


def two(case, connection):
    return send(case, connection)


async def query(case, connection):
    send(case, connection)


async def handler(case, connection):
    await asyncio.sleep(0)
    await query(case, connection)


async def request(case, connection):
    return await asyncio.create_task(handler(case, connection))  # awaits


@contextlib.asynccontextmanager
async def transaction(case, connection):
    await asyncio.wait_for(asyncio.create_task(request(case, connection)), 60)  # awaits
    yield


async def endpoint(case, connection):
    async with transaction(case, connection):  # awaits
        pass


async def server(case, connection):
    await asyncio.gather(endpoint(case, connection), asyncio.sleep(0))  # awaits


if __name__ == "__main__":
    case = sys.argv[1]
    if case == "nested":
        of_many_lines(case)
    elif case == "deep":
        deep(case, 150)
    elif case == "threads":
        threads = [threading.Thread(target=deep, args=(case, depth)) for depth in range(4)]
        [thread.start() for thread in threads]
        through_c(case)
    elif case == "sends":
        connection, kept = socket.socketpair()
        wait("ready")
        for caller in [one, two] * 50:
            caller(case, connection)
        wait("done")
    elif case == "tasks":
        connection, kept = socket.socketpair()
        for _ in range(2):
            wait("ready")
            asyncio.run(server(case, connection))
        wait("done")
