/** Flags of Furiosa-LLM after 2026.1 that have nothing to act on here. */

import { type Flag, IDLE_GROUP as group } from "./flag.ts";
import { integer, jsonObject, number, words } from "./flag_values.ts";

const noDraft = "there is no speculative decoding";
const noMedia = "no model here reads images or videos, and a request that brings them is refused";
const oneSampler = "where tokens are chosen changes nothing";
const noOffload = "keys and values stay in the card's memory";
const offload = "experimental-kv-offload";

/** The rows of these flags. */
export const IDLE_LATER_FLAGS: readonly Flag[] = [
  {
    name: "fxb",
    group,
    value: "FILE",
    help: "wires are made here, from the weights of MODEL; a compiled artifact is not needed",
  },
  { name: "enable-npu-sampling", group, help: oneSampler },
  { name: "experimental-enable-npu-sampling", group, help: oneSampler },
  {
    name: "npu-io-cpus",
    group,
    value: "LIST",
    help: "--threads says how many processing elements there are",
  },
  {
    name: "experimental-aggressive-batching",
    group,
    help: "there is one scheduler",
  },
  {
    name: "experimental-speculative-config",
    aliases: ["-spec-config"],
    group,
    value: "JSON",
    help: noDraft,
    isJson: true,
    read: jsonObject('{"method": "mtp", "num_speculative_tokens": 1}'),
  },
  {
    name: `${offload}-host-memory-gb`,
    group,
    value: "GIGABYTES",
    help: noOffload,
    read: number(0),
  },
  {
    name: `${offload}-host-memory-ratio`,
    group,
    value: "RATIO",
    help: noOffload,
    read: number(0),
  },
  {
    name: `${offload}-write-through-threshold`,
    group,
    value: "COUNT",
    help: noOffload,
    read: integer(0),
  },
  { name: `${offload}-write-back`, group, help: noOffload },
  { name: `${offload}-overlap-l2-reload`, group, help: noOffload },
  {
    name: `${offload}-staging-memory-gb`,
    group,
    value: "GIGABYTES",
    help: noOffload,
    read: number(0),
  },
  { name: "image-limit-per-prompt", group, value: "COUNT", help: noMedia, read: integer(0) },
  { name: "video-limit-per-prompt", group, value: "COUNT", help: noMedia, read: integer(0) },
  { name: "allowed-local-media-path", group, value: "FOLDER", help: noMedia },
  {
    name: "allowed-media-domains",
    group,
    value: "LIST",
    help: noMedia,
    isJson: true,
    read: words("example.org"),
  },
  { name: "interleave-mm-strings", group, help: noMedia },
  {
    name: "media-io-kwargs",
    group,
    value: "JSON",
    help: noMedia,
    isJson: true,
    read: jsonObject('{"video": {"num_frames": 8}}'),
  },
  {
    name: "mm-processor-kwargs",
    group,
    value: "JSON",
    help: noMedia,
    isJson: true,
    read: jsonObject('{"max_pixels": 1003520}'),
  },
  {
    name: "mm-processor-cache-gb",
    group,
    value: "GIGABYTES",
    help: noMedia,
    read: number(0),
  },
];
