"""A log that looks like those of real services: 70 % JSON, 20 % text, 8 % logfmt, 2 % Java traces, by bytes.

    python3 Benchmarks/logs/generate.py FILE [--megabytes 1000] [--seed 1]

The same seed gives the same bytes. A block of 16 MB is drawn line by line and written again and again: what is measured
afterwards does not look for repetitions. The last line holds END.
"""

import argparse
import json
import pathlib
import random

END = "end-of-the-log-7f3a"
BLOCK = 16_000_000
SHARES = {"json": 0.70, "text": 0.20, "logfmt": 0.08, "trace": 0.02}
LEVELS = ["debug", "info", "info", "info", "info", "warn", "error"]
PATHS = ["/api/orders", "/api/orders/{n}", "/api/cart/items", "/health", "/static/app.{n}.js", "/api/users/{n}/profile"]
WORDS = ("request handled cache miss connection pool order shipped payment accepted user session refreshed index "
         "rebuilt slow query retry scheduled worker started queue drained template rendered ünïcode 日本 file").split()
CLASSES = ["com.example.shop.OrderService", "com.example.shop.cart.CartController", "org.springframework.web.Dispatcher",
           "com.zaxxer.hikari.pool.HikariPool", "java.util.concurrent.ThreadPoolExecutor"]


class Writer:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.milliseconds = 1_767_225_600_000

    def stamp(self):
        self.milliseconds += self.random.randrange(4)
        seconds, rest = divmod(self.milliseconds, 1000)
        minutes, seconds = divmod(seconds % 86400, 60)
        return f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{rest:03}Z"

    def words(self, low, high):
        return " ".join(self.random.choice(WORDS) for _ in range(self.random.randint(low, high)))

    def path(self):
        return self.random.choice(PATHS).replace("{n}", str(self.random.randrange(100_000)))

    def json(self):
        draw = self.random
        record = {
            "time": self.stamp(), "level": draw.choice(LEVELS), "msg": self.words(3, 12),
            "service": draw.choice(["shop", "cart", "payments"]), "request_id": f"{draw.getrandbits(128):032x}",
            "method": draw.choice(["GET", "GET", "POST"]), "path": self.path(),
            "status": draw.choice([200, 200, 200, 204, 404, 500]), "duration_ms": round(draw.expovariate(0.05), 3)}
        if draw.random() < 0.4:
            record["user"] = {"id": draw.randrange(10**6), "agent": "Mozilla/5.0 (X11; Linux x86_64) \"quoted\""}
        if draw.random() < 0.2:
            record["tags"] = [draw.choice(WORDS) for _ in range(3)]
        if draw.random() < 0.1:
            record["query"] = f"SELECT *\n  FROM orders\n WHERE id = {draw.randrange(10**6)}"
        return json.dumps(record, ensure_ascii=False) + "\n"

    def text(self):
        draw = self.random
        if draw.random() < 0.5:
            return (f"10.0.{draw.randrange(256)}.{draw.randrange(256)} - - [01/Jan/2026:10:00:00 +0000] "
                    f"\"GET {self.path()} HTTP/1.1\" {draw.choice([200, 304, 404])} {draw.randrange(10**5)} \"-\" "
                    f"\"curl/8.{draw.randrange(20)}\"\n")
        level = draw.choice(["INFO", "WARN", "DEBUG"])
        return f"{self.stamp()} {level} [worker-{draw.randrange(16)}] {self.words(6, 20)}\n"

    def logfmt(self):
        draw = self.random
        return (f"ts={self.stamp()} level={draw.choice(LEVELS)} msg=\"{self.words(3, 8)}\" caller=main.go:{draw.randrange(999)} "
                f"path={self.path()} status={draw.choice([200, 404])} took={draw.randrange(900)}ms\n")

    def trace(self):
        draw = self.random
        frames = "".join(
            f"\tat {draw.choice(CLASSES)}.{draw.choice(WORDS)}({draw.choice(['Order', 'Cart'])}.java:{draw.randrange(900)})\n"
            for _ in range(draw.randint(8, 30)))
        return (f"{self.stamp()} ERROR [http-nio-8080-exec-{draw.randrange(20)}] request failed\n"
                f"java.lang.IllegalStateException: {self.words(2, 6)}\n{frames}"
                f"Caused by: java.sql.SQLException: {self.words(2, 5)}\n{frames[:frames.find(chr(10)) + 1]}\t... 17 more\n")


def block(seed, size=BLOCK):
    """`size` bytes or a little more, in which every kind has its share of the bytes."""
    writer = Writer(seed)
    written = dict.fromkeys(SHARES, 0)
    lines = []
    while (total := sum(written.values())) < size:
        # Whoever is the furthest behind its share; a little chance, so that runs of a kind come about.
        kind = (max(SHARES, key=lambda k: SHARES[k] * (total + 1) - written[k]) if writer.random.random() < 0.7
                else writer.random.choices(list(SHARES), [SHARES[k] / (20 if k == "trace" else 1) for k in SHARES])[0])
        text = getattr(writer, kind)().encode()
        written[kind] += len(text)
        lines.append(text)
    return b"".join(lines)


def write(path, megabytes, seed=1):
    """Writes the file; returns its lines and bytes."""
    size = int(megabytes * 1_000_000)
    piece = block(seed, min(BLOCK, size))
    lines, done = 0, 0
    with open(path, "wb") as out:
        while done < size:
            if len(piece) > size - done:
                piece = piece[:piece.index(b"\n", size - done - 1) + 1]
            out.write(piece)
            done += len(piece)
            lines += piece.count(b"\n")
        last = json.dumps({"level": "info", "msg": END}).encode() + b"\n"
        out.write(last)
    return lines + 1, done + len(last)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("%d lines, %d bytes" % write(options.file, options.megabytes, options.seed))
