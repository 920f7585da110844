/** The canvases of the contract, by name. */

import { Signature, chain, chord, chunks, group, xmap, xstarmap } from "taskhost";

const call = (name: string, ...args: number[]) => new Signature(`t.${name}`).args(...args);
const add = (...args: number[]) => new Signature("contract.add").args(...args);
const doubled = () => [1, 2, 3].map((number) => add(number, number));

export function canvas(name: string): Signature {
  const a = (...args: number[]) => call("a", ...args);
  const [b, c, d, e, f] = ["b", "c", "d", "e", "f"].map((letter) => call(letter)) as [Signature, Signature, Signature, Signature, Signature];
  switch (name) {
    case "call":
      return a(1, 2).kwargs({ z: 3 });
    case "options":
      return a().options({ queue: "slow", priority: 5, countdown: 1.5, expires: 60, taskId: "abc" });
    case "immutable":
      return a(1).immutable();
    case "partial":
      return a(2).partial(1);
    case "link":
      return a().link(b).linkError(c);
    case "chain":
      return a(1).pipe(b, c);
    case "chain_group":
      return a(1).pipe(group(b, c), d);
    case "group":
      return group(a(1), a(2));
    case "chord":
      return chord([a(1), a(2)], b);
    case "chord_chain":
      return chord([a(1), a(2)], b).pipe(c);
    case "chunks":
      return chunks(a(), [[1, 2], [3, 4], [5, 6]], 2);
    case "map":
      return xmap(a(), [1, 2]);
    case "starmap":
      return xstarmap(a(), [[1, 2], [3, 4]]);
    case "stamp":
      return group(a(1), b.link(c)).stamp("tenant", "x");
    case "linked_chain":
      return a().pipe(b).link(c).linkError(d);
    case "linked_group":
      return group(a(), b).link(c).linkError(d);
    case "linked_chord":
      return chord([a(), b], c).link(d).linkError(e);
    case "nested":
      return a().pipe(group(b.pipe(c), group(d, e)), f);
    case "single":
      return chain(group(a()), b);
    case "become chain":
      return add(1, 2).pipe(add(10));
    case "become group":
      return group(doubled());
    case "become chord":
      return chord(doubled(), new Signature("contract.sum"));
    default:
      throw new RangeError(`no canvas is called ${name}`);
  }
}
