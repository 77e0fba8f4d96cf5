import { generateText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import { CohereClientV2 } from "cohere-ai";
import { Hono } from "hono";
import OpenAI from "openai";
console.log(
  typeof generateText,
  typeof createOpenAICompatible,
  typeof ChatOpenAI,
  typeof CohereClientV2,
  typeof Hono,
  typeof OpenAI,
);
