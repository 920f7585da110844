"""The canvases of the contract, by name."""

from typing import Any

from taskhost import Signature, chain, chord, chunks, group, signature, xmap, xstarmap


def named(name: str) -> Signature:
    a, b, c, d, e, f = (signature(f"t.{letter}") for letter in "abcdef")

    def of(*args: Any, **kwargs: Any) -> Signature:
        return signature("t.a", args, kwargs)

    match name:
        case "call":
            return of(1, 2, z=3)
        case "options":
            return a.set(queue="slow", priority=5, countdown=1.5, expires=60, task_id="abc")
        case "immutable":
            return of(1).set(immutable=True)
        case "partial":
            return of(2).clone((1,))
        case "link":
            a.link(b)
            return a.on_error(c)
        case "chain":
            return of(1) | b | c
        case "chain_group":
            return of(1) | group(b, c) | d
        case "group":
            return group(of(1), of(2))
        case "chord":
            return chord([of(1), of(2)], b)
        case "chord_chain":
            return chord([of(1), of(2)], b) | c
        case "chunks":
            return chunks(a, [[1, 2], [3, 4], [5, 6]], 2)
        case "map":
            return xmap(a, [1, 2])
        case "starmap":
            return xstarmap(a, [[1, 2], [3, 4]])
        case "stamp":
            b.link(c)
            return group(of(1), b).stamp(tenant="x")
        case "linked_chain":
            return linked(a | b, c, d)
        case "linked_group":
            return linked(group(a, b), c, d)
        case "linked_chord":
            return linked(chord([a, b], c), d, e)
        case "nested":
            return a | group(b | c, group(d, e)) | f
        case "single":
            return chain(group(a), b)
        case _:
            raise ValueError(f"no canvas is called {name}")


def linked(canvas: Signature, callback: Signature, errback: Signature) -> Signature:
    canvas.link(callback)
    canvas.link_error(errback)
    return canvas


def sums(name: str, add: Any, total: Any) -> Signature:
    match name:
        case "chain":
            return add.s(1, 2) | add.s(10)
        case "group":
            return group(add.s(i, i) for i in range(1, 4))
        case "chord":
            return chord((add.s(i, i) for i in range(1, 4)), total.s())
        case _:
            raise ValueError(f"no canvas is called {name}")
