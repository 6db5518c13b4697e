// Three JavaScript clients against BASE_URL. What each saw is written to SEEN_FILE as JSON.
import test from 'node:test';
import assert from 'node:assert';
import { writeFileSync } from 'node:fs';
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';

const base = process.env.BASE_URL;
const messages = [{ role: 'user', content: 'What is the weather in Lisbon?' }];
const seen = {};
const weather = {
  type: 'function',
  function: {
    name: 'weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};

test('openai: whole, streamed, and a tool call', async () => {
  const client = new OpenAI({ baseURL: base, apiKey: 'none' });
  const whole = await client.chat.completions.create({ model: 'scripted', messages });
  const stream = await client.chat.completions.create({ model: 'scripted', messages, stream: true });
  const words = [];
  for await (const chunk of stream) words.push(chunk.choices[0]?.delta?.content ?? '');
  const tool = await client.chat.completions.create({ model: 'scripted', messages, tools: [weather] });
  const response = await client.responses.create({ model: 'scripted', input: 'Hello' });
  assert.equal(words.join(''), whole.choices[0].message.content);
  seen.openai = [words, whole.usage, tool.choices[0].message.tool_calls, response.output_text];
});

test('ai: generateText and streamText', async () => {
  const model = createOpenAICompatible({ name: 'x', baseURL: base, apiKey: 'none' })('scripted');
  const whole = await generateText({ model, prompt: 'Hello' });
  const stream = streamText({ model, prompt: 'Hello' });
  const words = [];
  for await (const word of stream.textStream) words.push(word);
  assert.equal(words.join(''), whole.text);
  seen.ai = [words, whole.finishReason, await stream.finishReason];
});

test('anthropic: whole and streamed', async () => {
  const client = new Anthropic({ baseURL: base.replace(/\/v1$/, ''), apiKey: 'none' });
  const asked = { model: 'scripted', max_tokens: 100, messages };
  const whole = await client.messages.create(asked);
  const kinds = [];
  for await (const event of client.messages.stream(asked)) kinds.push(event.type);
  seen.anthropic = [whole.content, whole.usage, kinds];
});

test.after(() => writeFileSync(process.env.SEEN_FILE, JSON.stringify(seen)));
