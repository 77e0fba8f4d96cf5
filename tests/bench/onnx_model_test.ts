import { assertEquals } from "@std/assert";
import { matmulModel } from "../../bench/peers/onnx_model.ts";

/** The fields of a protobuf message: number → values, varints as numbers, the rest as bytes. */
function parse(bytes: Uint8Array): Map<number, (number | Uint8Array)[]> {
  const fields = new Map<number, (number | Uint8Array)[]>();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1;; scale *= 128) {
      const byte = bytes[at++] as number;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const first = varint();
    let value: number | Uint8Array = first;
    if (key % 8 !== 0) {
      value = bytes.subarray(at, at + first);
      at += first;
    }
    const number = Math.floor(key / 8);
    fields.set(number, [...fields.get(number) ?? [], value]);
  }
  return fields;
}

Deno.test("The ONNX file holds one MatMul and its weight, byte for byte", () => {
  const weight = Float32Array.from({ length: 300 }, (_, i) => i / 7);
  const model = parse(matmulModel(4, 20, 15, weight));
  const graph = parse(model.get(7)![0] as Uint8Array);
  const node = parse(graph.get(1)![0] as Uint8Array);
  assertEquals(new TextDecoder().decode(node.get(4)![0] as Uint8Array), "MatMul");
  assertEquals(node.get(1)!.length, 2);
  const initializer = parse(graph.get(5)![0] as Uint8Array);
  assertEquals(initializer.get(1), [20, 15]);
  assertEquals(initializer.get(2), [1]);
  assertEquals(initializer.get(9)![0], new Uint8Array(weight.buffer));
});
