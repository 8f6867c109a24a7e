"""A busy app: busy.py PORT LINES_PER_SECOND. Answers `/` at once and `/slow` after three seconds, echoes what comes after
an Upgrade, and writes numbered lines all the while; on TERM it writes how many they were and ends."""

import asyncio
import os
import signal
import sys


async def pause(seconds):
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"upgrade: websocket" in head.lower():
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                while piece := await reader.read(4096):
                    writer.write(piece)
                break
            if head.startswith(b"GET /slow "):
                await pause(3)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    loop, ended, count = asyncio.get_running_loop(), asyncio.Event(), 0
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=512)
    began, rate = loop.time(), int(sys.argv[2])
    while not ended.is_set():
        due = int((loop.time() - began) * rate)
        # No more at a time than the pipe takes at once: the lines must not hold up the answers.
        due = min(due, count + 200)
        if due > count:
            text = b"".join(b"line-%d-of-a-busy-app\n" % number for number in range(count, due))
            while text:
                text = text[os.write(1, text):]
            count = due
        await pause(0.01)
    os.write(1, b"busy-wrote-%d-lines\n" % count)


asyncio.run(main())
