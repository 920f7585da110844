"""Draws two pictures, for whoever has none at hand. Needs nothing but Python."""

import pathlib
import struct
import zlib


def png(width, height, colour):
    """A PNG file of these pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"".join(bytes(colour(x, y)) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def harbour(x, y):
    """The sea below the sky, with a sun."""
    if (x - 600) ** 2 + (y - 180) ** 2 < 80**2:
        return 255, 220, 90
    return (40, 90 + y // 8, 160) if y > 300 else (120 + y // 4, 170 + y // 8, 240)


def noise(x, y):
    """What no encoder likes."""
    value = (x * 7919 + y * 104729) * 2654435761
    return value >> 8 & 255, value >> 16 & 255, value >> 24 & 255


folder = pathlib.Path("pictures")
folder.mkdir(exist_ok=True)
(folder / "harbour.png").write_bytes(png(800, 600, harbour))
(folder / "noise.png").write_bytes(png(320, 640, noise))
