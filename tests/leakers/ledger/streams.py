"""An asyncio client: streams.py PORT. The driver opens in a task of its own, for which the task of the culprit waits."""

import asyncio
import os
import sys

from smallrpc import Client

forgotten = []
port = int(sys.argv[1])


async def fetch_invoice():
    client = await Client.connect(port)  # opener: fetch_invoice
    await client.ask(b"invoice\n")  # last use: fetch_invoice
    print("leaked", os.getpid(), client.writer.get_extra_info("socket").fileno(), flush=True)
    forgotten.append(client)


async def fetch_address():
    client = await Client.connect(port)
    await client.ask(b"address\n")
    client.writer.close()


async def serve_order(turn):
    if turn % 3 == 1:
        await asyncio.create_task(fetch_address())
    if turn % 5 == 0:
        await asyncio.create_task(fetch_invoice())  # awaits: serve_order


async def main():
    print(os.getpid(), flush=True)
    for turn in range(10**9):
        await asyncio.gather(serve_order(turn), asyncio.sleep(0.1))


asyncio.run(main())
